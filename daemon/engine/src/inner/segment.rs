//! Super-segments: what a piece keeps of their header, and how those are cut that must keep their borders.

use bytes::{Bytes, BytesMut};

use super::checksum;
use super::context::Variable;
use super::packet::{self, Parsed, protocol, tcp_flags};
use crate::ids::FlowId;

/// Where the checksum lies in a transport header.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// The header of the super-segment that a piece is cut from, and where.
#[derive(Clone, Debug)]
pub struct SegmentHeader {
    /// Whose contexts describe it: the TCP flow, even if the piece itself travels unordered.
    pub flow: FlowId,
    /// IP and TCP header of the super-segment.
    pub header: Bytes,
    /// Where in the super-segment's payload the piece begins.
    pub position: u32,
    /// Payload bytes of a full segment.
    pub segment_size: u16,
    /// The super-segment's payload begins here.
    pub is_first: bool,
    /// The super-segment's payload ends here.
    pub is_last: bool,
    /// Our queue marked it: congestion experienced.
    pub congestion: bool,
}

impl SegmentHeader {
    /// The fields of this piece's own header.
    pub(super) fn variable(&self) -> Variable {
        let mut variable = super::context::variable(&self.header, self.segment_size);
        variable.sequence = variable.sequence.wrapping_add(self.position);
        let segments = self.position / u32::from(self.segment_size.max(1));
        variable.identification = variable.identification.wrapping_add(segments as u16);
        if !self.is_first {
            variable.tcp_flags &= !tcp_flags::CWR;
        }
        if !self.is_last {
            variable.tcp_flags &= !(tcp_flags::PSH | tcp_flags::FIN);
        }
        if self.congestion {
            variable.traffic_class |= 3;
        }
        variable
    }

    /// The headers of the first `bytes` and of the rest.
    pub(super) fn split(&self, bytes: u32) -> (Self, Self) {
        let mut front = self.clone();
        front.is_last = false;
        let mut rest = self.clone();
        rest.is_first = false;
        rest.position += bytes;
        (front, rest)
    }
}

/// Completes a checksum that was left to the network card: over all from `start` on, at `offset` from there, where the
/// sum over the pseudo header stands already. False if it would lie outside of the packet.
pub fn complete_checksum(packet: &mut [u8], start: u16, offset: u16) -> bool {
    let (start, at) = (usize::from(start), usize::from(start) + usize::from(offset));
    if at + 2 > packet.len() {
        return false;
    }
    let sum = !checksum::fold(checksum::add(0, &packet[start..]));
    // Zero would mean "no checksum" for UDP; elsewhere both forms of zero are the same.
    let sum = if sum == 0 { 0xffff } else { sum };
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    true
}

/// Cuts a super-segment at the borders that its sender gave it into whole packets, appended to `memory`, and calls
/// `each` with every one. For TCP with options that may not be cut elsewhere, and for UDP.
pub fn cut_at_borders(
    super_segment: &[u8],
    parsed: &Parsed,
    segment_size: usize,
    memory: &mut BytesMut,
    mut each: impl FnMut(Bytes),
) {
    let headers_len = parsed.headers_len();
    let (headers, payload) = super_segment.split_at(headers_len);
    let count = payload.len().div_ceil(segment_size.max(1));
    for (index, part) in payload.chunks(segment_size.max(1)).enumerate() {
        memory.extend_from_slice(headers);
        memory.extend_from_slice(part);
        let packet = &mut memory[..];
        write_lengths(packet, parsed, index);
        if parsed.key.protocol == protocol::TCP {
            let tcp = &mut packet[parsed.header_len..];
            let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
            let sequence = sequence.wrapping_add((index * segment_size) as u32);
            tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
            if index > 0 {
                tcp[13] &= !tcp_flags::CWR;
            }
            if index + 1 < count {
                tcp[13] &= !(tcp_flags::PSH | tcp_flags::FIN);
            }
        }
        let offset = if parsed.key.protocol == protocol::TCP {
            TCP_CHECKSUM
        } else {
            UDP_CHECKSUM
        };
        write_transport_checksum(packet, parsed, offset);
        each(memory.split().freeze());
    }
}

/// Makes a pure acknowledgement out of the headers of a TCP packet or super-segment, in the place of what `out` holds.
pub fn write_acknowledgement(out: &mut Vec<u8>, packet: &[u8], parsed: &Parsed) {
    let Some(tcp) = parsed.tcp else { return };
    out.clear();
    out.extend_from_slice(&packet[..parsed.headers_len()]);
    write_lengths(out, parsed, 0);
    let sequence = tcp.sequence.wrapping_add(parsed.payload_len as u32);
    let header = &mut out[parsed.header_len..];
    header[4..8].copy_from_slice(&sequence.to_be_bytes());
    header[13] = tcp_flags::ACK;
    write_transport_checksum(out, parsed, TCP_CHECKSUM);
}

/// Computes the checksum of a whole packet, which lies at `offset` in its transport header.
fn write_transport_checksum(packet: &mut [u8], parsed: &Parsed, offset: usize) {
    let at = parsed.header_len + offset;
    let addresses = packet::addresses(packet);
    let pseudo = checksum::pseudo(addresses, parsed.key.protocol, packet.len() - parsed.header_len);
    packet[at..at + 2].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
    complete_checksum(packet, parsed.header_len as u16, offset as u16);
}

/// Writes the lengths of IP and UDP, and counts on the identification of IPv4.
pub(super) fn write_lengths(packet: &mut [u8], parsed: &Parsed, index: usize) {
    let total = packet.len();
    if packet[0] >> 4 == 4 {
        packet[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        let identification = u16::from_be_bytes([packet[4], packet[5]]).wrapping_add(index as u16);
        packet[4..6].copy_from_slice(&identification.to_be_bytes());
        update_header_checksum(packet, parsed.header_len);
    } else {
        packet[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
    }
    if parsed.key.protocol == protocol::UDP {
        let at = parsed.header_len + 4;
        packet[at..at + 2].copy_from_slice(&((total - parsed.header_len) as u16).to_be_bytes());
    }
}

/// Marks a whole packet: congestion experienced.
pub fn mark_congestion(packet: &mut [u8], parsed: &Parsed) {
    if packet[0] >> 4 == 4 {
        packet[1] |= 3;
        update_header_checksum(packet, parsed.header_len);
    } else {
        packet[1] |= 3 << 4;
    }
}

fn update_header_checksum(packet: &mut [u8], header_len: usize) {
    packet[10..12].fill(0);
    let sum = !checksum::fold(checksum::add(0, &packet[..header_len]));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}
