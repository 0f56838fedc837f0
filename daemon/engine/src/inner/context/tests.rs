//! Headers come back as they were, small ones stay small, and bytes that no compressor wrote do no harm.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::ids::FlowId;
use crate::inner::packet::tcp_flags;
use crate::inner::testing::{Tcp, as_kernel};
use crate::inner::{SegmentHeader, VirtioHeader, parse};

const FLOW: FlowId = FlowId(7);

fn header_of(packet: &Bytes, segment_size: u16) -> (SegmentHeader, Bytes) {
    let parsed = parse(packet).expect("a packet");
    assert!(parsed.is_divisible());
    let header = SegmentHeader {
        flow: FLOW,
        header: packet.slice(..parsed.headers_len()),
        position: 0,
        segment_size,
        is_first: true,
        is_last: true,
        congestion: false,
    };
    (header, packet.slice(parsed.headers_len()..))
}

/// Sends a packet through both ends. Returns the packet that comes out, and the bytes that the header took.
fn through(
    compressor: &mut Compressor,
    decompressor: &mut Decompressor,
    tcp: &Tcp,
    ordered: bool,
    offset: u64,
    acknowledge: bool,
) -> (Vec<u8>, usize) {
    let (header, payload) = header_of(&tcp.plain(), 1448);
    let expected = compressor.header_len(&header, ordered, offset);
    let mut out = Vec::new();
    let context = compressor.write(&mut out, &header, ordered, offset);
    assert_eq!(out.len(), expected);
    if let Some(context) = context.filter(|_| acknowledge) {
        compressor.acknowledged(context);
    }
    let taken = out.len();
    out.extend_from_slice(&payload);
    let (segment, at) = decompressor.read(ordered, offset as u32, &out).expect("readable");
    let (options, payload) = out[at..].split_at(segment.options_len());
    let (virtio, head) = segment.rebuild(options, payload.len());
    let mut written = head.to_vec();
    written.extend_from_slice(payload);
    let mut packets = as_kernel(&virtio, &written);
    assert_eq!(packets.len(), 1);
    (packets.remove(0).1, taken)
}

fn any_tcp() -> impl Strategy<Value = Tcp> {
    let numbers = (
        any::<u32>(),
        any::<u32>(),
        any::<u16>(),
        any::<[u32; 2]>(),
        any::<u16>(),
    );
    let shape = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        0..4u8,
        any::<u8>(),
        0..3usize,
    );
    (numbers, shape, proptest::collection::vec(any::<u8>(), 1..40)).prop_map(|(numbers, shape, payload)| {
        let (sequence, acknowledgement, window, timestamps, identification) = numbers;
        let (ipv6, stamped, may_fragment, flags, traffic_class, blocks) = shape;
        let options = match blocks {
            0 => Vec::new(),
            count => {
                let mut options = vec![1, 1, 5, 2 + 8 * count as u8];
                options.resize(4 + 8 * count, 0x5a);
                options
            }
        };
        Tcp {
            ipv6,
            sequence,
            acknowledgement,
            window,
            timestamps: stamped.then_some(timestamps),
            identification,
            may_fragment,
            traffic_class,
            options,
            flags: [tcp_flags::ACK, 0x18, 0x11, 0xd0][usize::from(flags)],
            payload,
            ..Tcp::default()
        }
    })
}

proptest! {
    #[test]
    fn any_row_of_headers_comes_back(
        packets in proptest::collection::vec((any_tcp(), any::<bool>(), any::<bool>()), 1..50),
        start in any::<u64>(),
    ) {
        let (mut compressor, mut decompressor) = (Compressor::new(1), Decompressor::new());
        let mut offset = start >> 1;
        for (tcp, ordered, acknowledge) in packets {
            let (mut came, _) = through(&mut compressor, &mut decompressor, &tcp, ordered, offset, acknowledge);
            let mut sent = tcp.plain().to_vec();
            if !tcp.ipv6 && !tcp.may_fragment {
                // Means nothing, and is not kept; the header's checksum goes with it.
                for packet in [&mut sent, &mut came] {
                    packet[4..6].fill(0);
                    packet[10..12].fill(0);
                }
            }
            prop_assert_eq!(came, sent);
            offset += tcp.payload.len() as u64;
        }
    }

    #[test]
    fn nonsense_does_no_harm(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 1..40)) {
        let mut decompressor = Decompressor::new();
        for body in &bodies {
            read_all(&mut decompressor, body);
        }
        prop_assert!(decompressor.len() <= RECEIVER_CONTEXTS);
    }

    #[test]
    fn damaged_headers_do_no_harm(
        tcp in any_tcp(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        length in any::<prop::sample::Index>(),
    ) {
        let (header, payload) = header_of(&tcp.plain(), 1448);
        let mut out = Vec::new();
        Compressor::new(1).write(&mut out, &header, true, 5);
        out.extend_from_slice(&payload);
        for (index, value) in damage {
            let index = index.index(out.len());
            out[index] = value;
        }
        out.truncate(length.index(out.len()) + 1);
        read_all(&mut Decompressor::new(), &out);
    }
}

/// Whatever can be read can be rebuilt, for any length of payload.
fn read_all(decompressor: &mut Decompressor, body: &[u8]) {
    if let Ok((segment, at)) = decompressor.read(true, 77, body) {
        let options = &body[at..at + segment.options_len()];
        for payload_len in [0, 1, 1448, 65_535 - segment.header_len()] {
            let (header, head) = segment.rebuild(options, payload_len);
            assert_eq!(head.len(), segment.header_len());
            assert_ne!(header, VirtioHeader::default());
        }
    }
}

#[test]
fn headers_of_a_download_take_few_bytes() {
    for ipv6 in [false, true] {
        let (mut compressor, mut decompressor) = (Compressor::new(1), Decompressor::new());
        let mut sizes = Vec::new();
        for index in 0..2000u32 {
            let tcp = Tcp {
                ipv6,
                sequence: 1000 + index * 100,
                // A millisecond a piece: two seconds in all.
                timestamps: Some([index, index]),
                payload: vec![1; 100],
                ..Tcp::default()
            };
            let offset = u64::from(index) * 100;
            sizes.push(through(&mut compressor, &mut decompressor, &tcp, true, offset, true).1);
        }
        let later = &sizes[1..];
        let mean = later.iter().sum::<usize>() as f64 / later.len() as f64;
        println!(
            "ipv6 {ipv6}: first {}, then {mean:.1} on average, at most {:?}",
            sizes[0],
            later.iter().max()
        );
        assert!(mean <= 7.5, "{mean}");
    }
}

#[test]
fn acknowledgements_take_few_bytes() {
    let (mut compressor, mut decompressor) = (Compressor::new(1), Decompressor::new());
    let mut sizes = Vec::new();
    for index in 0..2000u32 {
        let tcp = Tcp {
            acknowledgement: 2000 + index * 2896,
            timestamps: Some([index, index]),
            window: 500 + index as u16 % 7,
            ..Tcp::default()
        };
        sizes.push(
            through(
                &mut compressor,
                &mut decompressor,
                &tcp,
                false,
                u64::from(index) * 52,
                true,
            )
            .1,
        );
    }
    let mean = sizes[1..].iter().sum::<usize>() as f64 / 1999.0;
    println!("first {}, then {mean:.1} on average instead of 52", sizes[0]);
    assert!(mean <= 15.0, "{mean}");
}

#[test]
fn a_context_is_referred_to_only_after_it_was_acknowledged_and_only_while_it_is_among_the_newest() {
    let mut compressor = Compressor::new(1);
    let tcp = Tcp {
        payload: vec![1; 10],
        ..Tcp::default()
    };
    let (header, _) = header_of(&tcp.plain(), 1448);
    let mut out = Vec::new();
    let first = compressor.write(&mut out, &header, true, 0);
    assert_eq!(
        compressor.write(&mut out, &header, true, 0),
        first,
        "still goes along"
    );
    compressor.acknowledged(first.expect("defined"));
    assert_eq!(compressor.write(&mut out, &header, true, 0), None);
    for flow in 0..SENDER_CONTEXTS {
        let other = SegmentHeader {
            flow: FlowId(1000 + flow),
            ..header.clone()
        };
        assert!(compressor.write(&mut out, &other, true, 0).is_some());
    }
    let again = compressor.write(&mut out, &header, true, 0);
    assert!(again.is_some() && again != first, "too old to be referred to");
    // An acknowledgement for one that is gone changes nothing.
    compressor.acknowledged(first.expect("defined"));
    assert_eq!(compressor.write(&mut out, &header, true, 0), again);
}

#[test]
fn an_unknown_context_is_told_apart_from_nonsense() {
    let mut compressor = Compressor::new(1);
    let tcp = Tcp {
        payload: vec![1; 10],
        ..Tcp::default()
    };
    let (header, _) = header_of(&tcp.plain(), 1448);
    let context = compressor.write(&mut Vec::new(), &header, true, 0);
    compressor.acknowledged(context.expect("defined"));
    let mut out = Vec::new();
    compressor.write(&mut out, &header, true, 0);
    let read = Decompressor::new().read(true, 0, &out);
    assert_eq!(read.map(|_| ()), Err(ContextError::Unknown));
}
