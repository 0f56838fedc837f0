//! Netlink messages as bytes: a header, a fixed part, attributes. The kernel's numbers stand here and nowhere else.

use std::net::IpAddr;

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_GETLINK: u16 = 18;
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
pub(super) const RTM_GETADDR: u16 = 22;
pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_DELROUTE: u16 = 25;
pub(super) const RTM_GETROUTE: u16 = 26;
pub(super) const RTM_NEWNEIGH: u16 = 28;
pub(super) const RTM_DELNEIGH: u16 = 29;
pub(super) const RTM_NEWRULE: u16 = 32;
pub(super) const RTM_DELRULE: u16 = 33;

pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;

pub(super) const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_ACK: u16 = 0x4;
pub(super) const NLM_F_DUMP_INTERRUPTED: u16 = 0x10;
pub(super) const NLM_F_REPLACE: u16 = 0x100;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLM_F_CREATE: u16 = 0x400;

pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_TXQLEN: u16 = 13;
pub(super) const IFLA_OPERSTATE: u16 = 16;

pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
pub(super) const IFA_FLAGS: u16 = 8;
pub(super) const IFA_F_NODAD: u32 = 0x02;
pub(super) const IFA_F_DADFAILED: u32 = 0x08;
pub(super) const IFA_F_DEPRECATED: u32 = 0x20;
pub(super) const IFA_F_TENTATIVE: u32 = 0x40;
pub(super) const IFA_F_NOPREFIXROUTE: u32 = 0x200;

pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_PRIORITY: u16 = 6;
pub(super) const RTA_MULTIPATH: u16 = 9;
pub(super) const RTA_TABLE: u16 = 15;
pub(super) const RTN_UNICAST: u8 = 1;
pub(super) const RTN_UNREACHABLE: u8 = 7;
pub(super) const RT_SCOPE_UNIVERSE: u8 = 0;
pub(super) const RT_SCOPE_LINK: u8 = 253;
pub(super) const RT_TABLE_MAIN: u32 = 254;
pub(super) const RTNH_F_DEAD: u32 = 1;

pub(super) const NDA_DST: u16 = 1;
pub(super) const NTF_PROXY: u8 = 0x08;

pub(super) const FRA_PRIORITY: u16 = 6;
pub(super) const FRA_FWMARK: u16 = 10;
pub(super) const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
pub(super) const FRA_TABLE: u16 = 15;
pub(super) const FRA_PROTOCOL: u16 = 21;
pub(super) const FR_ACT_TO_TABLE: u8 = 1;

const HEADER: usize = 16;

/// A message to the kernel. All fields are in the machine's byte order, as netlink wants them.
pub(super) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A message with its fixed part.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self { bytes }
    }

    /// Adds an attribute.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        // Values here are numbers, names and addresses: far below 64 KiB.
        self.bytes
            .extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self
    }

    /// Adds an attribute that is a number of 32 bits.
    pub(super) fn with_number(self, kind: u16, value: u32) -> Self {
        self.with(kind, &value.to_ne_bytes())
    }

    /// Adds an attribute that is an address.
    pub(super) fn with_address(self, kind: u16, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.with(kind, &address.octets()),
            IpAddr::V6(address) => self.with(kind, &address.octets()),
        }
    }

    /// The whole message.
    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// A message from the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

impl<'a> Reply<'a> {
    /// The error number of an acknowledgement, 0 for success; `None` for any other message.
    pub(super) fn error(&self) -> Option<i32> {
        match self.kind {
            NLMSG_ERROR => number(self.body, 0).map(|code| (code as i32).wrapping_neg()),
            NLMSG_DONE => Some((number(self.body, 0).unwrap_or(0) as i32).wrapping_neg()),
            _ => None,
        }
    }

    /// The attributes behind a fixed part of `fixed` bytes.
    pub(super) fn attributes(&self, fixed: usize) -> Attributes<'a> {
        Attributes {
            rest: self.body.get(fixed..).unwrap_or_default(),
        }
    }
}

/// All messages of one read.
pub(super) fn replies(mut bytes: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(number(bytes, 0)?).ok()?;
        let message = bytes.get(..length).filter(|_| length >= HEADER)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Reply {
            kind: short(message, 4)?,
            flags: short(message, 6)?,
            sequence: number(message, 8)?,
            body: &message[HEADER..],
        })
    })
}

/// The attributes of a message, as (kind, value).
#[derive(Clone, Debug)]
pub(super) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(short(self.rest, 0)?);
        // The upper two bits say that it is nested or in network byte order.
        let kind = short(self.rest, 2)? & 0x3fff;
        let value = self.rest.get(4..length)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A number of 32 bits at an offset.
pub(super) fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..offset + 4)?;
    Some(u32::from_ne_bytes(field.try_into().ok()?))
}

/// A number of 16 bits at an offset.
pub(super) fn short(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..offset + 2)?;
    Some(u16::from_ne_bytes(field.try_into().ok()?))
}

/// An address of 4 or 16 bytes.
pub(super) fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = Request::new(RTM_NEWLINK, NLM_F_ACK, &[7; 16])
            .with(IFLA_IFNAME, b"eth0\0")
            .with_number(IFLA_MTU, 1500)
            .finish(9);
        bytes.extend(Request::new(RTM_DELADDR, 0, &[]).finish(10));
        let all: Vec<_> = replies(&bytes).collect();
        assert_eq!(
            all.iter()
                .map(|reply| (reply.kind, reply.sequence))
                .collect::<Vec<_>>(),
            [(RTM_NEWLINK, 9), (RTM_DELADDR, 10)]
        );
        let attributes: Vec<_> = all[0].attributes(16).collect();
        assert_eq!(attributes[0], (IFLA_IFNAME, b"eth0\0".as_slice()));
        assert_eq!(number(attributes[1].1, 0), Some(1500));
    }

    #[test]
    fn whatever_arrives_is_read_without_panic() {
        for length in 0..64u8 {
            for byte in [0, 1, 4, 16, 17, 255] {
                let bytes = vec![byte; usize::from(length)];
                for reply in replies(&bytes) {
                    let _ = (reply.error(), reply.attributes(16).count());
                }
                let mut framed = Request::new(NLMSG_ERROR, 0, &bytes).finish(0);
                framed.truncate(framed.len().saturating_sub(usize::from(byte % 5)));
                for reply in replies(&framed) {
                    let _ = (reply.error(), reply.attributes(8).count());
                }
            }
        }
    }
}
