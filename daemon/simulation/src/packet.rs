//! IP packets as hosts make them and as they must arrive: IPv4 and IPv6, TCP with Linux's options, UDP, ICMP echo.
//!
//! A table of formats: writing and reading stand side by side. Reading checks everything that a receiving kernel checks.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

/// What a packet leaves to be done, as the virtio header of a TUN device says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The transport checksum holds only the sum of the pseudo header.
    pub needs_checksum: bool,
    /// The transport checksum was verified by somebody before.
    pub verified: bool,
    /// A super-segment, to be cut into payloads of this many bytes.
    pub segment_size: Option<u16>,
}

/// A packet between a host and the tunnel.
#[derive(Clone, Debug)]
pub struct Packet {
    /// What is left to be done.
    pub offload: Offload,
    /// From the IP header on.
    pub bytes: Bytes,
}

/// The two ends of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Who sends.
    pub source: SocketAddr,
    /// Who receives.
    pub destination: SocketAddr,
}

impl Ends {
    /// The way back.
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
        }
    }
}

/// TCP flag.
pub const FIN: u8 = 1;
/// TCP flag.
pub const SYN: u8 = 2;
/// TCP flag.
pub const PSH: u8 = 8;
/// TCP flag.
pub const ACK: u8 = 16;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// Fields of a TCP header. Timestamps are always on, as Linux has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpHeader {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Flags.
    pub flags: u8,
    /// Window as written, to be shifted by the scale.
    pub window: u16,
    /// Timestamp value and echo.
    pub timestamps: (u32, u32),
    /// Up to three selective acknowledgements.
    pub sack: Vec<(u32, u32)>,
    /// With a SYN: the maximum segment size (SACK permitted and a window scale come along).
    pub maximum_segment: Option<u16>,
}

/// A TCP packet with payload written by `fill`; a super-segment if the payload is longer than `segment`.
pub fn tcp(
    ends: Ends,
    identification: u16,
    header: &TcpHeader,
    payload: usize,
    segment: u16,
    fill: impl FnOnce(&mut [u8]),
) -> Packet {
    let options = match (header.maximum_segment, header.sack.len()) {
        (Some(_), _) => 20,
        (None, 0) => 12,
        (None, blocks) => 16 + 8 * blocks,
    };
    let mut bytes = ip(ends, TCP, identification, 20 + options + payload);
    let start = bytes.len();
    bytes.resize(start + 20, 0);
    let tcp = &mut bytes[start..];
    tcp[0..2].copy_from_slice(&ends.source.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&ends.destination.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&header.sequence.to_be_bytes());
    tcp[8..12].copy_from_slice(&header.acknowledgement.to_be_bytes());
    tcp[12] = (((20 + options) / 4) as u8) << 4;
    tcp[13] = header.flags;
    tcp[14..16].copy_from_slice(&header.window.to_be_bytes());
    if let Some(maximum) = header.maximum_segment {
        bytes.extend_from_slice(&[2, 4]);
        bytes.extend_from_slice(&maximum.to_be_bytes());
        bytes.extend_from_slice(&[4, 2]);
    } else {
        bytes.extend_from_slice(&[1, 1]);
    }
    bytes.extend_from_slice(&[8, 10]);
    bytes.extend_from_slice(&header.timestamps.0.to_be_bytes());
    bytes.extend_from_slice(&header.timestamps.1.to_be_bytes());
    if header.maximum_segment.is_some() {
        bytes.extend_from_slice(&[1, 3, 3, 10]);
    } else if !header.sack.is_empty() {
        bytes.extend_from_slice(&[1, 1, 5, 2 + 8 * header.sack.len() as u8]);
        for (from, to) in &header.sack {
            bytes.extend_from_slice(&from.to_be_bytes());
            bytes.extend_from_slice(&to.to_be_bytes());
        }
    }
    let body = bytes.len();
    bytes.resize(body + payload, 0);
    fill(&mut bytes[body..]);
    // What a kernel hands to a device that sums: the pseudo header's sum, not inverted.
    let sum = fold(pseudo(ends, TCP, bytes.len() - start));
    bytes[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
    Packet {
        offload: Offload {
            needs_checksum: true,
            verified: false,
            segment_size: (payload > usize::from(segment)).then_some(segment),
        },
        bytes: bytes.into(),
    }
}

/// A UDP packet, summed.
pub fn udp(ends: Ends, identification: u16, dscp: u8, payload: &[u8]) -> Packet {
    let mut bytes = ip(ends, UDP, identification, 8 + payload.len());
    set_dscp(&mut bytes, dscp);
    let start = bytes.len();
    bytes.extend_from_slice(&ends.source.port().to_be_bytes());
    bytes.extend_from_slice(&ends.destination.port().to_be_bytes());
    bytes.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(payload);
    let sum = !fold(pseudo(ends, UDP, bytes.len() - start) + words(&bytes[start..]));
    bytes[start + 6..start + 8].copy_from_slice(&(if sum == 0 { 0xffff } else { sum }).to_be_bytes());
    summed(bytes)
}

/// An ICMP echo request or reply; ports of `ends` are not written.
pub fn echo(ends: Ends, request: bool, identifier: u16, sequence: u16, payload: &[u8]) -> Packet {
    let v6 = ends.source.is_ipv6();
    let protocol = if v6 { ICMP6 } else { ICMP };
    let mut bytes = ip(ends, protocol, sequence, 8 + payload.len());
    let start = bytes.len();
    let kind = match (v6, request) {
        (false, true) => 8,
        (false, false) => 0,
        (true, true) => 128,
        (true, false) => 129,
    };
    bytes.extend_from_slice(&[kind, 0, 0, 0]);
    bytes.extend_from_slice(&identifier.to_be_bytes());
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(payload);
    let covered = if v6 {
        pseudo(ends, protocol, bytes.len() - start)
    } else {
        0
    };
    let sum = !fold(covered + words(&bytes[start..]));
    bytes[start + 2..start + 4].copy_from_slice(&sum.to_be_bytes());
    summed(bytes)
}

fn summed(bytes: Vec<u8>) -> Packet {
    Packet {
        offload: Offload::default(),
        bytes: bytes.into(),
    }
}

fn ip(ends: Ends, protocol: u8, identification: u16, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40 + length);
    match (ends.source.ip(), ends.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend_from_slice(&[0x45, 0]);
            bytes.extend_from_slice(&((20 + length) as u16).to_be_bytes());
            bytes.extend_from_slice(&identification.to_be_bytes());
            bytes.extend_from_slice(&[0x40, 0, 64, protocol, 0, 0]);
            bytes.extend_from_slice(&source.octets());
            bytes.extend_from_slice(&destination.octets());
            let sum = !fold(words(&bytes));
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            bytes.extend_from_slice(&[0x60, 0, 0, 0]);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
            bytes.extend_from_slice(&[protocol, 64]);
            bytes.extend_from_slice(&source.octets());
            bytes.extend_from_slice(&destination.octets());
        }
        _ => unreachable!("both ends of a flow have the same address family"),
    }
    bytes
}

fn set_dscp(bytes: &mut [u8], dscp: u8) {
    if bytes[0] >> 4 == 4 {
        bytes[1] = dscp << 2;
        bytes[10..12].fill(0);
        let sum = !fold(words(&bytes[..20]));
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        bytes[0] = 0x60 | (dscp >> 2);
        bytes[1] = dscp << 6;
    }
}

/// A packet as its receiver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// Ports are zero for ICMP.
    pub ends: Ends,
    /// Differentiated services code point.
    pub dscp: u8,
    /// What it carries.
    pub body: Body<'a>,
}

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A TCP segment.
    Tcp(TcpHeader, &'a [u8]),
    /// A UDP payload.
    Udp(&'a [u8]),
    /// An ICMP echo.
    Echo {
        /// Not a reply.
        request: bool,
        /// Which program.
        identifier: u16,
        /// Which one.
        sequence: u16,
        /// What came along.
        payload: &'a [u8],
    },
}

/// Reads a packet and checks lengths, checksums and the offload's claims; an error says what is wrong.
pub fn read(packet: &Packet) -> Result<View<'_>, &'static str> {
    let bytes = &packet.bytes[..];
    let (source, destination, protocol, dscp, start) = match bytes.first().map(|first| first >> 4) {
        Some(4) if bytes.len() >= 20 => {
            if bytes[0] != 0x45 {
                return Err("IPv4 options appeared");
            }
            if fold(words(&bytes[..20])) != 0xffff {
                return Err("IPv4 header checksum is wrong");
            }
            if usize::from(word(bytes, 2)) != bytes.len() {
                return Err("IPv4 length is wrong");
            }
            let address = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).map(IpAddr::from);
            (address(12), address(16), bytes[9], bytes[1] >> 2, 20)
        }
        Some(6) if bytes.len() >= 40 => {
            if usize::from(word(bytes, 4)) + 40 != bytes.len() {
                return Err("IPv6 length is wrong");
            }
            (
                <[u8; 16]>::try_from(&bytes[8..24]).map(IpAddr::from),
                <[u8; 16]>::try_from(&bytes[24..40]).map(IpAddr::from),
                bytes[6],
                (bytes[0] & 15) << 2 | bytes[1] >> 6,
                40,
            )
        }
        _ => return Err("not an IP packet"),
    };
    let (Ok(source), Ok(destination)) = (source, destination) else {
        return Err("not an IP packet");
    };
    let mut ends = Ends {
        source: SocketAddr::new(source, 0),
        destination: SocketAddr::new(destination, 0),
    };
    let transport = &bytes[start..];
    if transport.len() < 8 {
        return Err("the transport header is cut");
    }
    check_sum(packet.offload, ends, protocol, transport)?;
    let body = match protocol {
        TCP => {
            ends.source.set_port(word(transport, 0));
            ends.destination.set_port(word(transport, 2));
            read_tcp(packet.offload, bytes.len(), transport)?
        }
        UDP => {
            ends.source.set_port(word(transport, 0));
            ends.destination.set_port(word(transport, 2));
            if usize::from(word(transport, 4)) != transport.len() {
                return Err("UDP length is wrong");
            }
            Body::Udp(&transport[8..])
        }
        ICMP | ICMP6 => Body::Echo {
            request: matches!(transport[0], 8 | 128),
            identifier: word(transport, 4),
            sequence: word(transport, 6),
            payload: &transport[8..],
        },
        _ => return Err("another protocol than was sent"),
    };
    Ok(View { ends, dscp, body })
}

fn read_tcp(offload: Offload, length: usize, tcp: &[u8]) -> Result<Body<'_>, &'static str> {
    let header_length = usize::from(tcp.get(12).copied().unwrap_or(0) >> 4) * 4;
    if header_length < 20 || header_length > tcp.len() {
        return Err("TCP header length is wrong");
    }
    let payload = &tcp[header_length..];
    match offload.segment_size {
        Some(size) if size == 0 || payload.len() <= usize::from(size) => {
            return Err("a super-segment no larger than its segments");
        }
        None if length > 1500 => return Err("larger than the MTU without segmentation"),
        _ => {}
    }
    let mut header = TcpHeader {
        sequence: long(tcp, 4),
        acknowledgement: long(tcp, 8),
        flags: tcp[13],
        window: word(tcp, 14),
        ..TcpHeader::default()
    };
    let mut options = &tcp[20..header_length];
    while let [kind, rest @ ..] = options {
        match kind {
            0 => break,
            1 => options = rest,
            _ => {
                let size = usize::from(rest.first().copied().unwrap_or(0));
                if size < 2 || size > options.len() {
                    return Err("a TCP option has a wrong length");
                }
                let (option, next) = options.split_at(size);
                match (kind, size) {
                    (2, 4) => header.maximum_segment = Some(word(option, 2)),
                    (8, 10) => header.timestamps = (long(option, 2), long(option, 6)),
                    (5, _) => {
                        let blocks = option[2..].chunks_exact(8);
                        header.sack = blocks.map(|block| (long(block, 0), long(block, 4))).collect();
                    }
                    _ => {}
                }
                options = next;
            }
        }
    }
    Ok(Body::Tcp(header, payload))
}

fn check_sum(offload: Offload, ends: Ends, protocol: u8, transport: &[u8]) -> Result<(), &'static str> {
    let covered = if protocol == ICMP {
        0
    } else {
        pseudo(ends, protocol, transport.len())
    };
    if offload.needs_checksum {
        let at = if protocol == TCP { 16 } else { 6 };
        if transport.len() < at + 2 || word(transport, at) != fold(covered) {
            return Err("the sum of the pseudo header is wrong");
        }
    } else if !offload.verified && fold(covered + words(transport)) != 0xffff {
        return Err("the transport checksum is wrong");
    }
    Ok(())
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn pseudo(ends: Ends, protocol: u8, length: usize) -> u64 {
    let addresses = match (ends.source.ip(), ends.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            words(&source.octets()) + words(&destination.octets())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            words(&source.octets()) + words(&destination.octets())
        }
        _ => 0,
    };
    addresses + u64::from(protocol) + length as u64
}

fn words(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(4);
    let mut sum: u64 = (chunks.by_ref())
        .map(|chunk| u64::from(u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]])))
        .sum();
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        sum += u64::from(u32::from_be_bytes(last));
    }
    sum
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The segments that a network card makes of a super-segment; a packet that is none is returned as it is. Checksums
/// stay to be done.
pub fn segments(packet: &Packet) -> Vec<Packet> {
    let Some(size) = packet.offload.segment_size else {
        return vec![packet.clone()];
    };
    let Ok(View {
        ends,
        body: Body::Tcp(header, payload),
        ..
    }) = read(packet)
    else {
        return vec![packet.clone()];
    };
    let first_identification = if ends.source.is_ipv4() {
        word(&packet.bytes, 4)
    } else {
        0
    };
    let count = payload.len().div_ceil(usize::from(size));
    (payload.chunks(usize::from(size)).enumerate())
        .map(|(index, part)| {
            let mut header = header.clone();
            header.sequence = header.sequence.wrapping_add(index as u32 * u32::from(size));
            if index + 1 < count {
                header.flags &= !(PSH | FIN);
            }
            let identification = first_identification.wrapping_add(index as u16);
            tcp(ends, identification, &header, part.len(), size, |out| {
                out.copy_from_slice(part)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(v6: bool) -> Ends {
        let address = |text: &str| text.parse().expect("an address");
        if v6 {
            Ends {
                source: address("[fd07::2]:1000"),
                destination: address("[2001:db8::1]:80"),
            }
        } else {
            Ends {
                source: address("10.7.0.2:1000"),
                destination: address("192.0.2.1:80"),
            }
        }
    }

    fn header() -> TcpHeader {
        TcpHeader {
            sequence: 7,
            acknowledgement: 9,
            flags: ACK | PSH,
            window: 500,
            timestamps: (1, 2),
            sack: vec![(100, 200), (300, 400)],
            maximum_segment: None,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for v6 in [false, true] {
            let packet = tcp(ends(v6), 1, &header(), 100, 1448, |out| out.fill(5));
            let view = read(&packet).expect("valid");
            assert_eq!(view.ends, ends(v6));
            assert_eq!(view.body, Body::Tcp(header(), &[5; 100][..]));
            let packet = udp(ends(v6), 1, 46, &[1, 2, 3]);
            let view = read(&packet).expect("valid");
            assert_eq!((view.dscp, view.body), (46, Body::Udp(&[1, 2, 3])));
            let packet = echo(ends(v6), true, 3, 4, &[9; 7]);
            assert!(matches!(
                read(&packet).expect("valid").body,
                Body::Echo {
                    request: true,
                    sequence: 4,
                    ..
                }
            ));
        }
    }

    #[test]
    fn damage_is_seen() {
        let packet = udp(ends(false), 1, 0, &[7; 100]);
        for at in 0..packet.bytes.len() {
            let mut bytes = packet.bytes.to_vec();
            bytes[at] ^= 0x10;
            assert!(read(&summed(bytes)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_super_segment_falls_into_its_segments() {
        let mut wanted = header();
        wanted.sack.clear();
        let packet = tcp(ends(false), 1, &wanted, 3000, 1448, |out| {
            crate::payload::fill(1, 0, out)
        });
        let parts = segments(&packet);
        assert_eq!(parts.len(), 3);
        let mut offset = 0;
        for (index, part) in parts.iter().enumerate() {
            let Ok(View {
                body: Body::Tcp(header, payload),
                ..
            }) = read(part)
            else {
                panic!("segment {index}");
            };
            assert_eq!(u64::from(header.sequence), 7 + offset);
            assert!(crate::payload::matches(1, offset, payload));
            assert_eq!(header.flags & PSH != 0, index == 2);
            offset += payload.len() as u64;
        }
        assert_eq!(offset, 3000);
    }
}
