//! Reads the headers of an inner packet: which flow it belongs to, and whether it may be cut.
//!
//! Only lengths of the IP header are errors. What cannot be understood behind it is a packet that is carried as it is.

use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::net::IpAddr;

use super::checksum;

/// Protocol numbers, and next headers of IPv6.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMP6: u8 = 58;
}

/// Bits of TCP's flags byte.
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Resets a connection.
    pub const RST: u8 = 0x04;
    /// Hand the data to the application.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is valid.
    pub const URG: u8 = 0x20;
    /// Congestion was seen.
    pub const ECE: u8 = 0x40;
    /// The congestion window was reduced.
    pub const CWR: u8 = 0x80;
}

/// What tells flows apart. Fragments have no ports: all fragments between two addresses are one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Where the packet comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// TCP's or UDP's port, or 0.
    pub source_port: u16,
    /// TCP's or UDP's port, or 0.
    pub destination_port: u16,
    /// The protocol number behind IP.
    pub protocol: u8,
}

/// How a packet wants to be treated, as far as one packet alone tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Marked by its sender as a call, a game or the like: never held for order.
    Realtime,
    /// Data in quantity.
    Bulk,
    /// Something waits for it: SYN, RST, pure acknowledgement, DNS, ICMP.
    Head,
}

/// TCP's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpView {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// See [`tcp_flags`].
    pub flags: u8,
    /// Window, unscaled.
    pub window: u16,
    /// The options begin with padded timestamps (12 bytes: two NOP, then the option), as nearly all senders write them.
    pub timestamps: bool,
    /// There are selective acknowledgements.
    pub selective: bool,
    /// All that stands in the header may be repeated before every part of the payload.
    pub divisible: bool,
}

/// A packet's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Its flow.
    pub key: FlowKey,
    /// Bytes of the IP header with options and extension headers.
    pub header_len: usize,
    /// Bytes of the transport header; 0 if it is not TCP or UDP, or a fragment.
    pub transport_len: usize,
    /// Bytes behind both headers.
    pub payload_len: usize,
    /// TCP's fields, if it is TCP and not a fragment.
    pub tcp: Option<TcpView>,
    /// DSCP, 6 bits.
    pub dscp: u8,
    /// ECN, 2 bits: 0 none, 1 and 2 capable, 3 congestion experienced.
    pub ecn: u8,
    /// What one packet tells.
    pub class: Class,
}

/// Why something is not an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Neither IPv4 nor IPv6.
    #[error("not an IP packet")]
    Version,
    /// The lengths in the header and the packet's length contradict each other.
    #[error("wrong length in an IP header")]
    Length,
}

/// Reads the headers of an IP packet.
pub fn parse(packet: &[u8]) -> Result<Parsed, ParseError> {
    let network = match packet.first().map(|byte| byte >> 4) {
        Some(4) => network4(packet)?,
        Some(6) => network6(packet)?,
        _ => return Err(ParseError::Version),
    };
    let mut key = FlowKey {
        source: network.source,
        destination: network.destination,
        source_port: 0,
        destination_port: 0,
        protocol: network.protocol,
    };
    let behind = &packet[network.header_len..];
    let mut transport_len = 0;
    let mut tcp = None;
    if !network.fragment {
        match network.protocol {
            protocol::TCP => {
                if let Some((view, length)) = tcp_view(behind, network.plain) {
                    tcp = Some(view);
                    transport_len = length;
                }
            }
            protocol::UDP if behind.len() >= 8 => transport_len = 8,
            _ => {}
        }
        if transport_len != 0 {
            key.source_port = u16::from_be_bytes([behind[0], behind[1]]);
            key.destination_port = u16::from_be_bytes([behind[2], behind[3]]);
        }
    }
    let payload_len = behind.len() - transport_len;
    let mut parsed = Parsed {
        key,
        header_len: network.header_len,
        transport_len,
        payload_len,
        tcp,
        dscp: network.traffic_class >> 2,
        ecn: network.traffic_class & 3,
        class: Class::Bulk,
    };
    parsed.class = class(&parsed);
    Ok(parsed)
}

impl Parsed {
    /// A TCP segment whose payload may be cut anywhere.
    pub fn is_divisible(&self) -> bool {
        self.tcp.is_some_and(|tcp| tcp.divisible)
    }

    /// TCP's acknowledgement without data.
    pub fn is_pure_acknowledgement(&self) -> bool {
        self.payload_len == 0
            && self.tcp.is_some_and(|tcp| {
                tcp.flags & !(tcp_flags::PSH | tcp_flags::ECE | tcp_flags::CWR) == tcp_flags::ACK
            })
    }

    /// Bytes of all headers.
    pub fn headers_len(&self) -> usize {
        self.header_len + self.transport_len
    }
}

/// Whether the checksums of the IPv4 header and of TCP or UDP are right. `packet` is the one that `parsed` was read from.
pub fn checksums_are_right(packet: &[u8], parsed: &Parsed) -> bool {
    let ipv4 = packet[0] >> 4 == 4;
    if ipv4 && checksum::fold(checksum::add(0, &packet[..parsed.header_len])) != 0xffff {
        return false;
    }
    let transport = &packet[parsed.header_len..];
    let sum = checksum::pseudo(addresses(packet), parsed.key.protocol, transport.len());
    checksum::fold(checksum::add(sum, transport)) == 0xffff
}

/// Both addresses of a packet that was parsed, in a row.
pub fn addresses(packet: &[u8]) -> &[u8] {
    if packet[0] >> 4 == 4 {
        &packet[12..20]
    } else {
        &packet[8..40]
    }
}

struct Network {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    header_len: usize,
    traffic_class: u8,
    fragment: bool,
    /// Neither options nor extension headers.
    plain: bool,
}

fn network4(packet: &[u8]) -> Result<Network, ParseError> {
    if packet.len() < 20 {
        return Err(ParseError::Length);
    }
    let header_len = usize::from(packet[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    if header_len < 20 || total < header_len || total != packet.len() {
        return Err(ParseError::Length);
    }
    let address = |at: usize| IpAddr::from([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
    // "More fragments", or not the first one.
    let fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0;
    Ok(Network {
        source: address(12),
        destination: address(16),
        protocol: packet[9],
        header_len,
        traffic_class: packet[1],
        fragment,
        plain: header_len == 20,
    })
}

fn network6(packet: &[u8]) -> Result<Network, ParseError> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    if packet.len() < 40 || packet.len() != 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])) {
        return Err(ParseError::Length);
    }
    let address = |at: usize| {
        let mut octets = [0u8; 16];
        octets.copy_from_slice(&packet[at..at + 16]);
        IpAddr::from(octets)
    };
    let mut protocol = packet[6];
    let mut at = 40;
    let mut fragment = false;
    // A header chain longer than that is nobody's honest packet: it is carried, but not looked into.
    for _ in 0..8 {
        let length = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => match packet.get(at + 1) {
                Some(units) => 8 + usize::from(*units) * 8,
                None => break,
            },
            FRAGMENT => {
                fragment = true;
                8
            }
            _ => break,
        };
        if at + length > packet.len() {
            break;
        }
        protocol = packet[at];
        at += length;
    }
    Ok(Network {
        source: address(8),
        destination: address(24),
        protocol,
        header_len: at,
        traffic_class: packet[0] << 4 | packet[1] >> 4,
        fragment,
        plain: at == 40,
    })
}

fn tcp_view(segment: &[u8], plain: bool) -> Option<(TcpView, usize)> {
    if segment.len() < 20 {
        return None;
    }
    let length = usize::from(segment[12] >> 4) * 4;
    if length < 20 || length > segment.len() {
        return None;
    }
    let word =
        |at: usize| u32::from_be_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]]);
    let flags = segment[13];
    let options = &segment[20..length];
    let known = known_options(options);
    let unusual =
        flags & (tcp_flags::SYN | tcp_flags::RST | tcp_flags::URG) != 0 || flags & tcp_flags::ACK == 0;
    let view = TcpView {
        sequence: word(4),
        acknowledgement: word(8),
        flags,
        window: u16::from_be_bytes([segment[14], segment[15]]),
        timestamps: options.starts_with(&[1, 1, 8, 10]) && options.len() >= 12,
        selective: known == Some(true),
        // The reserved bits carry accurate ECN, whose counters must not be repeated. An urgent pointer without its
        // flag means nothing, but would be lost.
        divisible: plain && !unusual && known.is_some() && segment[12] & 15 == 0 && segment[18..20] == [0, 0],
    };
    Some((view, length))
}

/// Whether there are only options that may be repeated before every part of a payload, and if so, whether selective
/// acknowledgements are among them.
fn known_options(mut options: &[u8]) -> Option<bool> {
    const END: u8 = 0;
    const PADDING: u8 = 1;
    const SELECTIVE: u8 = 5;
    const TIMESTAMPS: u8 = 8;
    let mut selective = false;
    while let [kind, rest @ ..] = options {
        match *kind {
            END => break,
            PADDING => options = rest,
            SELECTIVE | TIMESTAMPS => {
                let length = usize::from(*rest.first()?);
                if length < 2 || length > options.len() {
                    return None;
                }
                selective |= *kind == SELECTIVE;
                options = &options[length..];
            }
            _ => return None,
        }
    }
    Some(selective)
}

fn class(parsed: &Parsed) -> Class {
    const DNS: u16 = 53;
    const TIME: u16 = 123;
    // Expedited forwarding, voice admit, the class selectors 4 to 7, and video conferences (AF4x).
    if matches!(parsed.dscp, 46 | 44 | 32 | 40 | 48 | 56 | 34 | 36 | 38) {
        return Class::Realtime;
    }
    let head = match parsed.key.protocol {
        protocol::ICMP | protocol::ICMP6 => parsed.payload_len <= 512,
        protocol::UDP => [parsed.key.source_port, parsed.key.destination_port]
            .iter()
            .any(|port| matches!(*port, DNS | TIME)),
        protocol::TCP => {
            let opening = parsed
                .tcp
                .is_some_and(|tcp| tcp.flags & (tcp_flags::SYN | tcp_flags::RST) != 0);
            opening || parsed.is_pure_acknowledgement()
        }
        _ => false,
    };
    if head { Class::Head } else { Class::Bulk }
}

/// Makes hashers for look-ups that strangers' packets cause: seeded, so that nobody can aim for collisions, and the
/// same for the same seed.
#[derive(Clone, Copy, Debug)]
pub struct SeededHash(pub u64);

impl BuildHasher for SeededHash {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}
