//! A header that pieces are compared with: what both ends of a context keep.

use crate::inner::packet::protocol;

/// Bytes of padded timestamps: two NOP, kind, length, two values.
pub(super) const TIMESTAMPS_LEN: usize = 12;
/// Bytes of an IPv6 and a TCP header with timestamps.
pub(super) const TEMPLATE_MAX: usize = 40 + 20 + TIMESTAMPS_LEN;

/// The fields of one piece's header that change within a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::inner) struct Variable {
    pub sequence: u32,
    pub acknowledgement: u32,
    pub window: u16,
    pub timestamps: [u32; 2],
    pub tcp_flags: u8,
    pub traffic_class: u8,
    pub identification: u16,
    pub segment_size: u16,
}

/// A full header: IP without options, TCP with at most padded timestamps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Template {
    bytes: [u8; TEMPLATE_MAX],
    len: u8,
    /// Low bits of the unit offset that belongs to the sequence number.
    pub offset: u32,
    pub variable: Variable,
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Where a header begins with padded timestamps. `header` is IP and TCP header, the former of `ip_len` bytes.
fn has_timestamps(header: &[u8], ip_len: usize) -> bool {
    header.len() >= ip_len + 20 + TIMESTAMPS_LEN && header[ip_len + 20..].starts_with(&[1, 1, 8, 10])
}

pub(super) fn ip_len(header: &[u8]) -> usize {
    if header[0] >> 4 == 4 { 20 } else { 40 }
}

/// Bytes of `header` that a template of it holds; the options behind are sent with every piece.
pub(super) fn covered(header: &[u8]) -> usize {
    let ip = ip_len(header);
    ip + 20
        + if has_timestamps(header, ip) {
            TIMESTAMPS_LEN
        } else {
            0
        }
}

/// The changing fields of a header of `covered` bytes or more.
pub(in crate::inner) fn variable(header: &[u8], segment_size: u16) -> Variable {
    let ipv4 = header[0] >> 4 == 4;
    let ip = ip_len(header);
    let tcp = &header[ip..];
    Variable {
        sequence: u32_at(tcp, 4),
        acknowledgement: u32_at(tcp, 8),
        window: u16_at(tcp, 14),
        timestamps: if has_timestamps(header, ip) {
            [u32_at(tcp, 24), u32_at(tcp, 28)]
        } else {
            [0; 2]
        },
        tcp_flags: tcp[13],
        traffic_class: if ipv4 {
            header[1]
        } else {
            header[0] << 4 | header[1] >> 4
        },
        identification: if ipv4 { u16_at(header, 4) } else { 0 },
        segment_size,
    }
}

/// Whether the identification must be kept: IPv4 that may be fragmented.
pub(super) fn keeps_identification(header: &[u8]) -> bool {
    header[0] >> 4 == 4 && header[6] & 0x40 == 0
}

/// Whether two headers differ in nothing but changing fields, options behind the timestamps, and computed fields.
pub(super) fn same_constants(a: &[u8], b: &[u8]) -> bool {
    if a[0] >> 4 != b[0] >> 4 {
        return false;
    }
    let ip = ip_len(a);
    let network = if ip == 20 {
        a[6..10] == b[6..10] && a[12..20] == b[12..20]
    } else {
        a[1] & 15 == b[1] & 15 && a[2..4] == b[2..4] && a[6..40] == b[6..40]
    };
    network && a[ip..ip + 4] == b[ip..ip + 4] && has_timestamps(a, ip) == has_timestamps(b, ip)
}

impl Template {
    /// Makes a template of a header and the piece's own changing fields.
    pub(super) fn new(header: &[u8], offset: u32, variable: Variable) -> Self {
        let len = covered(header);
        let ip = ip_len(header);
        let mut bytes = [0; TEMPLATE_MAX];
        bytes[..len].copy_from_slice(&header[..len]);
        // Computed at the other end.
        if ip == 20 {
            bytes[2..4].fill(0);
            bytes[4..6].copy_from_slice(&variable.identification.to_be_bytes());
            bytes[10..12].fill(0);
        } else {
            bytes[4..6].fill(0);
        }
        set_traffic_class(&mut bytes, variable.traffic_class);
        let tcp = &mut bytes[ip..len];
        tcp[4..8].copy_from_slice(&variable.sequence.to_be_bytes());
        tcp[12] = ((len - ip) as u8 / 4) << 4;
        tcp[13] = variable.tcp_flags;
        tcp[16..20].fill(0);
        Self {
            bytes,
            len: len as u8,
            offset,
            variable,
        }
    }

    /// Reads a template off the front of `bytes`; none if it is cut off or not such a header.
    pub(super) fn read(bytes: &[u8], offset: u32, segment_size: u16) -> Option<Self> {
        let (ip, protocol) = match bytes.first()? {
            0x45 => (20, *bytes.get(9)?),
            first if first >> 4 == 6 => (40, *bytes.get(6)?),
            _ => return None,
        };
        let tcp_len = usize::from(*bytes.get(ip + 12)? >> 4) * 4;
        let len = ip + tcp_len;
        let header = bytes.get(..len)?;
        if protocol != protocol::TCP
            || len > TEMPLATE_MAX
            || tcp_len < 20
            || covered(header) != len
            || segment_size == 0
        {
            return None;
        }
        Some(Self::new(header, offset, variable(header, segment_size)))
    }

    /// The header's bytes. Lengths and checksums are zero.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether there are timestamps.
    pub(super) fn has_timestamps(&self) -> bool {
        has_timestamps(self.bytes(), ip_len(&self.bytes))
    }
}

/// Writes DSCP and ECN into an IP header.
pub(super) fn set_traffic_class(header: &mut [u8], traffic_class: u8) {
    if header[0] >> 4 == 4 {
        header[1] = traffic_class;
    } else {
        header[0] = 0x60 | traffic_class >> 4;
        header[1] = traffic_class << 4 | header[1] & 15;
    }
}
