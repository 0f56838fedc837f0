//! Joins TCP segments that came one by one into super-segments, as a network card with receive offload does: what a host
//! without segmentation offload sends through a router is then cut and carried as cheaply as what the router itself sends.
//!
//! Only what is at hand is joined, nothing is waited for. Cutting the result at its borders gives the same packets again;
//! the identification of IPv4 alone is counted on where it means nothing (RFC 6864).

use bytes::{Bytes, BytesMut};

use super::offload::{Segmentation, VirtioHeader};
use super::packet::{self, Parsed, parse, protocol, tcp_flags};
use super::{checksum, segment};
use crate::buffer::Pool;

/// Flows that are joined at a time; more of them in one batch have too little each.
const RUNS: usize = 8;
/// Payload below which a segment is not worth it, bytes.
const SMALLEST: usize = 512;
/// Bytes of an IP packet.
const PACKET_MAX: usize = 65_535;
/// Where TCP's checksum lies in its header.
const CHECKSUM: usize = 16;

/// Joins the packets of one batch.
#[derive(Debug, Default)]
pub struct Joiner {
    /// Oldest first, each of another flow.
    runs: Vec<Run>,
    pool: Pool,
    /// Emptied lists of payloads, to be filled again.
    spare: Vec<Vec<Bytes>>,
}

/// Segments of one flow, each the continuation of the one before.
#[derive(Debug)]
struct Run {
    header: VirtioHeader,
    first: Bytes,
    parsed: Parsed,
    /// The payloads of the others.
    more: Vec<Bytes>,
    /// Bytes of all payloads.
    payload_len: usize,
    /// The flags that only a last segment has.
    last_flags: u8,
}

impl Joiner {
    /// Takes a packet in, and hands on what can be joined with nothing further. Packets of one flow stay in order.
    pub fn take(
        &mut self,
        header: VirtioHeader,
        packet: Bytes,
        mut hand_on: impl FnMut(VirtioHeader, Bytes),
    ) {
        let Some(parsed) = read_tcp(&packet) else {
            return hand_on(header, packet);
        };
        let known = self.runs.iter().position(|run| run.parsed.key == parsed.key);
        let joinable = is_joinable(&header, &parsed);
        if let Some(index) = known {
            if joinable && self.runs[index].continues_with(&header, &packet, &parsed) {
                self.runs[index].push(packet, &parsed);
                return;
            }
            self.end(index, &mut hand_on);
        }
        if !joinable {
            return hand_on(header, packet);
        }
        if self.runs.len() == RUNS {
            self.end(0, &mut hand_on);
        }
        self.runs.push(Run {
            header,
            last_flags: last_flags(&parsed),
            payload_len: parsed.payload_len,
            first: packet,
            parsed,
            more: self.spare.pop().unwrap_or_default(),
        });
    }

    /// Hands on what is left, at the end of a batch.
    pub fn finish(&mut self, mut hand_on: impl FnMut(VirtioHeader, Bytes)) {
        while !self.runs.is_empty() {
            self.end(0, &mut hand_on);
        }
    }

    fn end(&mut self, index: usize, hand_on: &mut impl FnMut(VirtioHeader, Bytes)) {
        let mut run = self.runs.remove(index);
        if run.more.is_empty() {
            hand_on(run.header, run.first);
        } else {
            let room = self.pool.room(run.parsed.headers_len() + run.payload_len);
            let (header, packet) = run.joined(room);
            hand_on(header, packet);
        }
        run.more.clear();
        self.spare.push(run.more);
    }
}

/// Flags that only a last segment has.
const LAST: u8 = tcp_flags::PSH | tcp_flags::FIN;

impl Run {
    fn continues_with(&self, header: &VirtioHeader, packet: &[u8], parsed: &Parsed) -> bool {
        let (Some(own), Some(tcp)) = (self.parsed.tcp, parsed.tcp) else {
            return false;
        };
        let segment_size = self.parsed.payload_len;
        let right = |header: &VirtioHeader, packet: &[u8], parsed: &Parsed| {
            header.data_valid || packet::checksums_are_right(packet, parsed)
        };
        self.last_flags == 0
            && self.payload_len.is_multiple_of(segment_size)
            && parsed.payload_len <= segment_size
            && self.parsed.headers_len() + self.payload_len + parsed.payload_len <= PACKET_MAX
            && tcp.sequence == own.sequence.wrapping_add(self.payload_len as u32)
            && own.flags == tcp.flags & !LAST
            && same_headers(&self.first, packet, parsed)
            && self.counts_on_to(packet)
            // A new checksum must not hide that an old one was wrong. Last, because it reads all of the packet.
            && right(header, packet, parsed)
            && (!self.more.is_empty() || right(&self.header, &self.first, &self.parsed))
    }

    /// Whether the packet's identification is the next one, if it means anything: in IPv4 that may be fragmented.
    fn counts_on_to(&self, packet: &[u8]) -> bool {
        let identification = |packet: &[u8]| u16::from_be_bytes([packet[4], packet[5]]);
        let next = identification(&self.first).wrapping_add(1 + self.more.len() as u16);
        packet[0] >> 4 == 6 || packet[6] & 0x40 != 0 || identification(packet) == next
    }

    fn push(&mut self, mut packet: Bytes, parsed: &Parsed) {
        self.last_flags = last_flags(parsed);
        self.payload_len += parsed.payload_len;
        self.more.push(packet.split_off(parsed.headers_len()));
    }

    /// The super-segment, and what is to be done to it.
    fn joined(&self, room: &mut BytesMut) -> (VirtioHeader, Bytes) {
        room.extend_from_slice(&self.first);
        for payload in &self.more {
            room.extend_from_slice(payload);
        }
        let mut packet = room.split();
        let start = self.parsed.header_len;
        segment::write_lengths(&mut packet, &self.parsed, 0);
        let pseudo = checksum::pseudo(packet::addresses(&packet), protocol::TCP, packet.len() - start);
        let tcp = &mut packet[start..];
        tcp[13] |= self.last_flags;
        tcp[CHECKSUM..CHECKSUM + 2].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
        let header = VirtioHeader {
            needs_checksum: true,
            segmentation: if packet[0] >> 4 == 4 {
                Segmentation::Tcp4
            } else {
                Segmentation::Tcp6
            },
            header_len: self.parsed.headers_len() as u16,
            segment_size: self.parsed.payload_len as u16,
            checksum_start: start as u16,
            checksum_offset: CHECKSUM as u16,
            ..VirtioHeader::default()
        };
        (header, packet.freeze())
    }
}

/// Reads a packet if it is TCP; a look at one byte spares all others the reading.
fn read_tcp(packet: &[u8]) -> Option<Parsed> {
    let protocol = match packet.first()? >> 4 {
        4 => packet.get(9)?,
        _ => packet.get(6)?,
    };
    if *protocol != protocol::TCP {
        return None;
    }
    parse(packet).ok().filter(|parsed| parsed.tcp.is_some())
}

/// Whether a segment may be the first of several, or follow others, as far as it alone tells.
fn is_joinable(header: &VirtioHeader, parsed: &Parsed) -> bool {
    header.segmentation == Segmentation::None
        && !header.needs_checksum
        && parsed.payload_len >= SMALLEST
        && parsed.is_divisible()
        && parsed.tcp.is_some_and(|tcp| tcp.flags & tcp_flags::CWR == 0)
}

fn last_flags(parsed: &Parsed) -> u8 {
    parsed.tcp.map_or(0, |tcp| tcp.flags & LAST)
}

/// Whether two packets of one flow, of which `parsed` is the second, have the same headers but for lengths,
/// identification, sequence numbers, flags and checksums.
fn same_headers(a: &[u8], b: &[u8], parsed: &Parsed) -> bool {
    let network = if b[0] >> 4 == 4 {
        a[1] == b[1] && a[6..10] == b[6..10]
    } else {
        a[..4] == b[..4] && a[6..8] == b[6..8]
    };
    let (a, b) = (
        &a[parsed.header_len..],
        &b[parsed.header_len..parsed.headers_len()],
    );
    network && a[8..13] == b[8..13] && a[14..16] == b[14..16] && a[20..b.len()] == b[20..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::inner::testing::{Tcp, as_kernel, udp};

    /// All that is handed on for one batch.
    fn joined(packets: &[Bytes]) -> Vec<(VirtioHeader, Bytes)> {
        let mut joiner = Joiner::default();
        let mut out = Vec::new();
        for packet in packets {
            let mut on = |header, packet| out.push((header, packet));
            joiner.take(VirtioHeader::default(), packet.clone(), &mut on);
        }
        joiner.finish(|header, packet| out.push((header, packet)));
        assert!(joiner.runs.is_empty());
        out
    }

    /// Payload bytes of each packet that is handed on.
    fn sizes(packets: &[Tcp]) -> Vec<usize> {
        let packets: Vec<Bytes> = packets.iter().map(Tcp::plain).collect();
        let out = joined(&packets);
        out.iter()
            .map(|(_, packet)| parse(packet).expect("a packet").payload_len)
            .collect()
    }

    /// Full segments in a row, as a host without offloads sends them.
    fn row(count: usize) -> Vec<Tcp> {
        (0..count)
            .map(|index| Tcp {
                sequence: 1000 + index as u32 * 1448,
                identification: 77 + index as u16,
                payload: vec![index as u8; 1448],
                ..Tcp::default()
            })
            .collect()
    }

    #[test]
    fn segments_in_a_row_are_one_until_the_largest_packet_is_full() {
        assert_eq!(sizes(&row(3)), [3 * 1448]);
        assert_eq!(sizes(&row(50)), [45 * 1448, 5 * 1448]);
        let mut six = row(3);
        six.iter_mut().for_each(|packet| packet.ipv6 = true);
        assert_eq!(sizes(&six), [3 * 1448]);
    }

    type Change = fn(&mut Tcp);

    #[test]
    fn whatever_tells_two_segments_apart_keeps_them_apart() {
        let changes: [(&str, Change); 11] = [
            ("a hole", |next| next.sequence += 1),
            ("news from the other side", |next| next.acknowledgement += 1),
            ("another window", |next| next.window += 1),
            ("another time", |next| next.timestamps = Some([101, 200])),
            ("no time", |next| next.timestamps = None),
            ("congestion experienced", |next| next.traffic_class = 3),
            ("echo", |next| next.flags |= tcp_flags::ECE),
            ("reduced", |next| next.flags |= tcp_flags::CWR),
            ("more options", |next| next.options = vec![1; 4]),
            ("fragments allowed", |next| next.may_fragment = true),
            ("too large", |next| next.payload.push(1)),
        ];
        for (what, change) in changes {
            let mut packets = row(2);
            change(&mut packets[1]);
            assert_eq!(sizes(&packets).len(), 2, "{what}");
        }
        let mut packets = row(3);
        packets[1].flags |= tcp_flags::PSH;
        assert_eq!(sizes(&packets), [2 * 1448, 1448], "nothing follows the last");
        let mut packets = row(3);
        packets[1].payload.truncate(1000);
        packets[2].sequence -= 448;
        assert_eq!(sizes(&packets), [2448, 1448], "a short one is the last");
        let mut packets = row(2);
        packets.iter_mut().for_each(|packet| packet.may_fragment = true);
        packets[1].identification += 1;
        assert_eq!(sizes(&packets).len(), 2, "the identification means something");
    }

    #[test]
    fn a_wrong_checksum_stays_what_it_is() {
        for wrong in 0..3 {
            let mut packets: Vec<Bytes> = row(3).iter().map(Tcp::plain).collect();
            let mut broken = packets[wrong].to_vec();
            broken[100] ^= 1;
            packets[wrong] = broken.into();
            let out = joined(&packets);
            let kept = out.iter().any(|(_, packet)| *packet == packets[wrong]);
            assert!(kept, "packet {wrong}");
        }
    }

    #[test]
    fn flows_are_joined_side_by_side_and_other_packets_pass() {
        let (one, mut other) = (row(4), row(4));
        other.iter_mut().for_each(|packet| packet.port = 443);
        let mut packets: Vec<Bytes> = Vec::new();
        for (a, b) in one.iter().zip(&other) {
            packets.extend([a.plain(), b.plain(), udp(53, 0, &[0; 600])]);
        }
        let out = joined(&packets);
        assert_eq!(out.len(), 4 + 2);
        assert!(out[..4].iter().all(|(_, packet)| *packet == packets[2]));
    }

    /// Anything that may be in one batch: a few flows that go on, stop, end, or change something.
    fn batch() -> impl Strategy<Value = Vec<Tcp>> {
        let step = (0..3u16, 0..40u32, 0..5usize, any::<bool>());
        proptest::collection::vec(step, 1..80).prop_map(|steps| {
            let mut flows = [0u16, 1, 2].map(|flow| Tcp {
                ipv6: flow == 2,
                port: 80 + flow,
                may_fragment: flow == 1,
                ..Tcp::default()
            });
            let mut packets = Vec::new();
            for (index, (flow, chance, size, counts)) in steps.into_iter().enumerate() {
                let next = &mut flows[usize::from(flow)];
                match chance {
                    0 => next.acknowledgement += 100,
                    1 => next.window += 1,
                    2 => next.sequence += 10,
                    3 => next.timestamps = Some([index as u32, 7]),
                    _ => {}
                }
                next.flags = tcp_flags::ACK | if chance == 4 { tcp_flags::PSH } else { 0 };
                next.payload = vec![index as u8; [1448, 1448, 1448, 700, 0][size]];
                packets.push(next.clone());
                next.sequence += next.payload.len() as u32;
                next.identification = next.identification.wrapping_add(u16::from(counts));
            }
            packets
        })
    }

    proptest! {
        #[test]
        fn cut_again_they_are_the_same_packets(packets in batch()) {
            let packets: Vec<Bytes> = packets.iter().map(Tcp::plain).collect();
            let mut cut: Vec<Vec<u8>> = Vec::new();
            for (header, packet) in joined(&packets) {
                cut.extend(as_kernel(&header, &packet).into_iter().map(|(_, packet)| packet));
            }
            // What means nothing is the same for all, and so is the checksum that covers it.
            let plain = |packet: &[u8]| {
                let mut packet = packet.to_vec();
                if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
                    packet[4..6].fill(0);
                    packet[10..12].fill(0);
                }
                packet
            };
            for flow in 80..83u16 {
                let of_flow = |packet: &&[u8]| parse(packet).is_ok_and(|parsed| parsed.key.source_port == flow);
                let sent = packets.iter().map(|packet| &packet[..]).filter(of_flow).map(plain);
                let came = cut.iter().map(|packet| &packet[..]).filter(of_flow).map(plain);
                prop_assert!(sent.eq(came), "flow {flow}");
            }
        }
    }
}
