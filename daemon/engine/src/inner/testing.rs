//! Packets for tests, and what a kernel does with what is delivered.

use bytes::{Bytes, BytesMut};

use super::offload::{Segmentation, VirtioHeader};
use super::packet::{self, protocol, tcp_flags};
use super::{Parsed, checksum, parse, segment};

/// A TCP packet to be made.
#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    pub ipv6: bool,
    pub port: u16,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub window: u16,
    pub timestamps: Option<[u32; 2]>,
    /// Behind the timestamps; a multiple of four bytes.
    pub options: Vec<u8>,
    pub traffic_class: u8,
    pub identification: u16,
    pub may_fragment: bool,
    pub payload: Vec<u8>,
    /// Makes it a super-segment, if the payload is longer.
    pub segment_size: u16,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            ipv6: false,
            port: 80,
            sequence: 1000,
            acknowledgement: 2000,
            flags: tcp_flags::ACK,
            window: 500,
            timestamps: Some([100, 200]),
            options: Vec::new(),
            traffic_class: 0,
            identification: 77,
            may_fragment: false,
            payload: Vec::new(),
            segment_size: 1448,
        }
    }
}

impl Tcp {
    /// The packet as a TUN device hands it out: large, and with its checksum begun.
    pub(crate) fn offloaded(&self) -> (VirtioHeader, Bytes) {
        let mut packet = self.bytes();
        let ip = if self.ipv6 { 40 } else { 20 };
        let sum = checksum::pseudo(packet::addresses(&packet), protocol::TCP, packet.len() - ip);
        packet[ip + 16..ip + 18].copy_from_slice(&checksum::fold(sum).to_be_bytes());
        let large = self.payload.len() > usize::from(self.segment_size);
        let header = VirtioHeader {
            needs_checksum: true,
            segmentation: match (large, self.ipv6) {
                (false, _) => Segmentation::None,
                (true, false) => Segmentation::Tcp4,
                (true, true) => Segmentation::Tcp6,
            },
            segment_size: if large { self.segment_size } else { 0 },
            checksum_start: ip as u16,
            checksum_offset: 16,
            ..VirtioHeader::default()
        };
        (header, packet.into())
    }

    /// The packet as it was on a wire.
    pub(crate) fn plain(&self) -> Bytes {
        let (header, packet) = self.offloaded();
        let mut packet = packet.to_vec();
        segment::complete_checksum(&mut packet, header.checksum_start, header.checksum_offset);
        packet.into()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some([value, echo]) = self.timestamps {
            options.extend_from_slice(&[1, 1, 8, 10]);
            options.extend_from_slice(&value.to_be_bytes());
            options.extend_from_slice(&echo.to_be_bytes());
        }
        options.extend_from_slice(&self.options);
        let mut tcp = Vec::new();
        tcp.extend_from_slice(&self.port.to_be_bytes());
        tcp.extend_from_slice(&40000u16.to_be_bytes());
        tcp.extend_from_slice(&self.sequence.to_be_bytes());
        tcp.extend_from_slice(&self.acknowledgement.to_be_bytes());
        tcp.extend_from_slice(&[((20 + options.len()) as u8 / 4) << 4, self.flags]);
        tcp.extend_from_slice(&self.window.to_be_bytes());
        tcp.extend_from_slice(&[0; 4]);
        tcp.extend_from_slice(&options);
        tcp.extend_from_slice(&self.payload);
        network(self, protocol::TCP, &tcp)
    }
}

/// A UDP packet with a right checksum.
pub(crate) fn udp(port: u16, traffic_class: u8, payload: &[u8]) -> Bytes {
    let mut udp = Vec::new();
    udp.extend_from_slice(&port.to_be_bytes());
    udp.extend_from_slice(&5000u16.to_be_bytes());
    udp.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    udp.extend_from_slice(&[0, 0]);
    udp.extend_from_slice(payload);
    let shape = Tcp {
        traffic_class,
        ..Tcp::default()
    };
    let mut packet = network(&shape, protocol::UDP, &udp);
    let sum = checksum::pseudo(packet::addresses(&packet), protocol::UDP, udp.len());
    packet[26..28].copy_from_slice(&checksum::fold(sum).to_be_bytes());
    segment::complete_checksum(&mut packet, 20, 6);
    packet.into()
}

fn network(shape: &Tcp, protocol: u8, transport: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    if shape.ipv6 {
        packet.extend_from_slice(&[
            0x60 | shape.traffic_class >> 4,
            shape.traffic_class << 4 | 0xa,
            0xbc,
            0xde,
        ]);
        packet.extend_from_slice(&(transport.len() as u16).to_be_bytes());
        packet.extend_from_slice(&[protocol, 63]);
        packet.extend_from_slice(&[0x20; 16]);
        packet.extend_from_slice(&[0x21; 16]);
    } else {
        packet.extend_from_slice(&[0x45, shape.traffic_class]);
        packet.extend_from_slice(&((20 + transport.len()) as u16).to_be_bytes());
        packet.extend_from_slice(&shape.identification.to_be_bytes());
        packet.extend_from_slice(&[if shape.may_fragment { 0 } else { 0x40 }, 0, 64, protocol, 0, 0]);
        packet.extend_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let sum = !checksum::fold(checksum::add(0, &packet));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet.extend_from_slice(transport);
    packet
}

/// The packets that a kernel makes of what is written to its TUN device; panics if it would refuse it, or if a checksum is
/// wrong in the end.
pub(crate) fn as_kernel(header: &VirtioHeader, written: &[u8]) -> Vec<(Parsed, Vec<u8>)> {
    let parsed = parse(written).expect("an IP packet");
    let mut packets: Vec<Vec<u8>> = Vec::new();
    if header.segmentation == Segmentation::None {
        packets.push(written.to_vec());
        if header.needs_checksum {
            let done =
                segment::complete_checksum(&mut packets[0], header.checksum_start, header.checksum_offset);
            assert!(done, "checksum within the packet");
        }
    } else {
        assert!(
            header.needs_checksum,
            "segmentation without a checksum to be computed"
        );
        let tcp = parsed.tcp.expect("TCP is segmented");
        let expected = if written[0] >> 4 == 4 {
            Segmentation::Tcp4
        } else {
            Segmentation::Tcp6
        };
        assert_eq!(header.segmentation, expected);
        assert_eq!(header.ecn, tcp.flags & tcp_flags::CWR != 0);
        assert_eq!(usize::from(header.header_len), parsed.headers_len());
        let size = usize::from(header.segment_size);
        let mut memory = BytesMut::new();
        segment::cut_at_borders(written, &parsed, size, &mut memory, |packet| {
            packets.push(packet.to_vec())
        });
    }
    packets
        .into_iter()
        .map(|packet| {
            let parsed = parse(&packet).expect("an IP packet");
            assert!(packet::checksums_are_right(&packet, &parsed), "checksums");
            (parsed, packet)
        })
        .collect()
}
