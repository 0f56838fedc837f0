//! Fairness, delay, marks, bounds, and where pieces are cut.

use std::collections::BTreeMap;

use super::*;
use crate::inner::packet::tcp_flags;
use crate::inner::testing::{Tcp, udp};
use crate::inner::{VirtioHeader, packet, parse};

const ROOM: Room = Room {
    left: 1448,
    full: 1448,
};

fn at(milliseconds: u64) -> Instant {
    Instant::from_millis(milliseconds)
}

fn segment(port: u16, length: usize) -> Tcp {
    Tcp {
        port,
        payload: vec![7; length],
        ..Tcp::default()
    }
}

fn put(queues: &mut FlowQueues, now: Instant, tcp: &Tcp) {
    let (header, packet) = tcp.offloaded();
    queues.enqueue(now, header, packet).expect("queued");
}

fn flow_of(piece: &Piece) -> FlowId {
    match &piece.kind {
        PieceKind::Segment(header) => header.flow,
        _ => piece.flow,
    }
}

#[test]
fn flows_share_equally_whatever_the_size_of_their_packets() {
    let mut queues = FlowQueues::new(1);
    let compressor = Compressor::new(1);
    for _ in 0..40 {
        put(&mut queues, at(0), &segment(1, 20_000));
        put(&mut queues, at(0), &segment(2, 20_000));
    }
    for _ in 0..3000 {
        put(&mut queues, at(0), &segment(3, 200));
    }
    let mut shares: BTreeMap<FlowId, u64> = BTreeMap::new();
    for _ in 0..600 {
        let piece = queues
            .next(at(0), ROOM, Want::Head, &compressor)
            .expect("a piece");
        *shares.entry(flow_of(&piece)).or_default() += u64::from(piece.units);
    }
    let (least, most) = (
        shares.values().min().expect("flows"),
        shares.values().max().expect("flows"),
    );
    assert_eq!(shares.len(), 3);
    assert!(most - least <= 3 * 1514, "{shares:?}");
}

#[test]
fn pieces_of_a_transfer_fill_their_datagrams_to_the_byte() {
    for traffic_class in [0, 2] {
        let mut queues = FlowQueues::new(1);
        let mut compressor = Compressor::new(1);
        let tcp = Tcp {
            traffic_class,
            ..segment(1, 60_000)
        };
        put(&mut queues, at(0), &tcp);
        let mut sizes = Vec::new();
        // The queue's delay ends up above its target: marks are set on the way.
        for millisecond in 0..200 {
            let Some(piece) = queues.next(at(millisecond * 10), ROOM, Want::Head, &compressor) else {
                break;
            };
            let mut out = Vec::new();
            piece.encode(&mut out, &mut compressor, true);
            if !matches!(piece.kind, PieceKind::Skip) {
                sizes.push(out.len());
            }
        }
        sizes.pop();
        assert!(sizes.iter().all(|size| *size == ROOM.left), "{sizes:?}");
        // Who does not understand marks loses segments instead.
        assert_eq!(queues.statistics().marked > 0, traffic_class == 2);
    }
}

#[test]
fn a_sparse_flow_does_not_wait_behind_a_bulk_flow() {
    let mut queues = FlowQueues::new(1);
    let compressor = Compressor::new(1);
    put(&mut queues, at(0), &segment(1, 60_000));
    queues.next(at(0), ROOM, Want::Head, &compressor);
    queues.next(at(0), ROOM, Want::Head, &compressor);
    assert!(!queues.has_interactive());
    queues
        .enqueue(at(0), VirtioHeader::default(), udp(9, 0, b"ping"))
        .expect("queued");
    assert!(queues.has_interactive());
    let piece = queues
        .next(at(0), ROOM, Want::Head, &compressor)
        .expect("a piece");
    assert!(!piece.ordered && matches!(piece.kind, PieceKind::Packet));
    assert!(queues.next(at(0), ROOM, Want::Interactive, &compressor).is_none());
}

#[test]
fn a_sparse_flow_whose_turn_is_over_is_found_while_only_repairs_are_sent() {
    let mut queues = FlowQueues::new(1);
    let compressor = Compressor::new(1);
    put(&mut queues, at(0), &segment(1, 60_000));
    for _ in 0..2 {
        // The first one is served as new; then its flow waits its turn behind the transfer.
        queues
            .enqueue(at(0), VirtioHeader::default(), udp(9, 0, b"ping"))
            .expect("queued");
        let piece = queues.next(at(0), ROOM, Want::Interactive, &compressor);
        assert!(piece.is_some_and(|piece| !piece.ordered));
    }
    while queues.next(at(0), ROOM, Want::Interactive, &compressor).is_some() {}
    assert!(!queues.is_empty(), "the transfer is not interactive");
}

#[test]
fn the_depth_of_a_queue_is_taken_without_cutting_short_datagrams_before_it() {
    let mut queues = FlowQueues::new(1);
    let compressor = Compressor::new(1);
    put(&mut queues, at(0), &segment(1, 60_000));
    let depth = 20_000;
    let piece = queues
        .next(at(0), ROOM, Want::Depth(depth), &compressor)
        .expect("a piece");
    assert!(
        piece.offset >= depth && piece.offset < depth + 1448,
        "at {}",
        piece.offset
    );
    assert_eq!(
        piece.offset % u64::from(piece.units),
        0,
        "whole datagrams before it"
    );
    assert_eq!(queues.backlog_bytes(), 60_000 - u64::from(piece.units));
    let next = queues
        .next(at(0), ROOM, Want::Depth(depth), &compressor)
        .expect("a piece");
    assert_eq!(
        next.offset,
        piece.offset + u64::from(piece.units),
        "goes on behind it"
    );
    assert!(
        queues
            .next(at(0), ROOM, Want::Depth(60_000), &compressor)
            .is_none(),
        "not so much waits"
    );
    // What is left comes in order.
    let mut offset = 0;
    while let Some(rest) = queues.next(at(0), ROOM, Want::Head, &compressor) {
        assert!(rest.offset >= offset);
        offset = rest.offset + u64::from(rest.units);
    }
    assert_eq!((offset, queues.is_empty()), (60_000, true));
}

#[test]
fn the_rest_of_a_packet_that_a_slow_path_began_is_the_next_thing_that_any_path_sends() {
    let mut queues = FlowQueues::new(1);
    let compressor = Compressor::new(1);
    for _ in 0..30 {
        let packet = udp(9, 0, &[7; 1472]);
        queues
            .enqueue(at(0), VirtioHeader::default(), packet)
            .expect("queued");
    }
    put(&mut queues, at(0), &segment(1, 20_000));
    let slow = queues
        .next(at(0), ROOM, Want::Depth(20_000), &compressor)
        .expect("a piece");
    assert!(matches!(slow.kind, PieceKind::Fragment { total: 1500, at: 0 }));
    let too_small = Room { left: 50, full: 1448 };
    assert!(queues.next(at(0), too_small, Want::Head, &compressor).is_none());
    let fast = queues
        .next(at(0), ROOM, Want::Head, &compressor)
        .expect("a piece");
    assert_eq!(
        (fast.flow, fast.offset),
        (slow.flow, slow.offset + u64::from(slow.units))
    );
    assert_eq!(slow.units + fast.units, 1500);
    let head = queues
        .next(at(0), ROOM, Want::Head, &compressor)
        .expect("a piece");
    assert_eq!(head.offset, 0);
}

#[test]
fn a_full_piece_over_an_acknowledged_context_carries_the_promised_payload() {
    let mut queues = FlowQueues::new(1);
    let mut compressor = Compressor::new(1);
    put(&mut queues, at(0), &segment(1, 5000));
    let first = queues
        .next(at(0), ROOM, Want::Head, &compressor)
        .expect("a piece");
    let context = first
        .encode(&mut Vec::new(), &mut compressor, true)
        .expect("defined");
    compressor.acknowledged(context);
    let mut later = segment(1, 40_000);
    later.sequence = 6000;
    later.timestamps = Some([150, 260]);
    put(&mut queues, at(50), &later);
    let mut largest = 0;
    while let Some(piece) = queues.next(at(50), ROOM, Want::Head, &compressor) {
        assert!(piece.encoded_len(&compressor, true) <= 1448);
        if piece.offset >= 5000 {
            largest = largest.max(piece.units);
        }
    }
    println!("{largest} payload bytes in a datagram");
    assert_eq!(largest, 1435);
}

#[test]
fn a_standing_queue_is_dropped_from_at_its_head_and_every_drop_is_announced() {
    let mut queues = FlowQueues::new(1);
    let compressor = Compressor::new(1);
    for _ in 0..20 {
        put(&mut queues, at(0), &segment(1, 60_000));
    }
    let (mut sent, mut skipped, mut next) = (0u64, 0u64, 0u64);
    for step in 0.. {
        // A millisecond a piece: everything waits far too long.
        let Some(piece) = queues.next(at(step), ROOM, Want::Head, &compressor) else {
            break;
        };
        match piece.kind {
            PieceKind::Skip => skipped += u64::from(piece.units),
            _ => {
                sent += u64::from(piece.units);
                assert!(piece.offset >= next);
                next = piece.offset + u64::from(piece.units);
            }
        }
    }
    let found = queues.statistics();
    assert_eq!(sent + skipped, 20 * 60_000, "{found:?}");
    assert!(found.dropped_by_delay > 5 && skipped > 0, "{found:?}");
    assert!(queues.is_empty() && queues.backlog_bytes() == 0);
}

#[test]
fn a_bulk_flow_may_have_a_longer_queue() {
    let mut queues = FlowQueues::new(1);
    queues.set_bulk_target(Duration::from_secs(2));
    let compressor = Compressor::new(1);
    for _ in 0..20 {
        put(&mut queues, at(0), &segment(1, 60_000));
    }
    for step in 0..800 {
        queues
            .next(at(step), ROOM, Want::Head, &compressor)
            .expect("a piece");
    }
    assert_eq!(queues.statistics().dropped_by_delay, 0);
}

#[test]
fn who_understands_marks_is_marked_instead() {
    let mut queues = FlowQueues::new(1);
    let compressor = Compressor::new(1);
    for _ in 0..10 {
        let mut capable = segment(1, 60_000);
        capable.traffic_class = 2;
        put(&mut queues, at(0), &capable);
    }
    for _ in 0..100 {
        queues
            .enqueue(at(0), VirtioHeader::default(), udp(9, 2, &[1; 700]))
            .expect("queued");
    }
    let (mut segments, mut packets) = (0, 0);
    for step in 0.. {
        let Some(piece) = queues.next(at(step), ROOM, Want::Head, &compressor) else {
            break;
        };
        match piece.kind {
            PieceKind::Segment(header) => segments += u64::from(header.congestion),
            PieceKind::Packet => {
                let parsed = parse(&piece.body).expect("a packet");
                assert!(packet::checksums_are_right(&piece.body, &parsed));
                packets += u64::from(parsed.ecn == 3);
            }
            other => panic!("{other:?}"),
        }
        assert!(piece.units <= 1448);
    }
    let found = queues.statistics();
    assert!(segments > 0 && packets > 0, "{segments} and {packets}");
    assert_eq!((found.marked, found.dropped_by_delay), (segments + packets, 0));
}

#[test]
fn too_much_is_dropped_from_the_flow_that_has_most() {
    let mut queues = FlowQueues::new(1);
    queues.set_limit(1 << 20);
    let compressor = Compressor::new(1);
    put(&mut queues, at(0), &segment(2, 1000));
    for _ in 0..50 {
        put(&mut queues, at(0), &segment(1, 60_000));
        assert!(queues.backlog_bytes() <= 1 << 20);
    }
    assert!(queues.statistics().dropped_by_limit > 0);
    let mut small = 0;
    while let Some(piece) = queues.next(at(0), ROOM, Want::Head, &compressor) {
        small += u32::from(piece.flow == FlowId(1)) * piece.units;
    }
    assert_eq!(small, 1000, "the other flow lost nothing");
}

#[test]
fn the_number_of_small_packets_is_bounded() {
    let mut queues = FlowQueues::new(1);
    queues.set_limit(1 << 20);
    for index in 0..50_000u32 {
        let port = (index % 60_000) as u16;
        // Beyond the table's size there is no room for more flows that wait.
        let _ = queues.enqueue(at(0), VirtioHeader::default(), udp(port, 0, b"x"));
    }
    assert!(queues.packets * ITEM_COST <= 1 << 20);
    assert!(queues.backlogged_flows() <= table::MAX_FLOWS);
}

#[test]
fn a_large_packet_travels_in_fragments_and_no_other_is_cut() {
    let mut queues = FlowQueues::new(1);
    let compressor = Compressor::new(1);
    queues
        .enqueue(at(0), VirtioHeader::default(), udp(9, 0, &[1; 1472]))
        .expect("queued");
    queues
        .enqueue(at(0), VirtioHeader::default(), udp(9, 0, &[2; 1000]))
        .expect("queued");
    let first = queues
        .next(at(0), ROOM, Want::Head, &compressor)
        .expect("a piece");
    let second = queues
        .next(at(0), ROOM, Want::Head, &compressor)
        .expect("a piece");
    let PieceKind::Fragment { total: 1500, at: 0 } = first.kind else {
        panic!("{first:?}")
    };
    assert!(matches!(second.kind, PieceKind::Fragment { total: 1500, at } if u32::from(at) == first.units));
    assert_eq!(first.units + second.units, 1500);
    let narrow = Room {
        left: 700,
        full: 1448,
    };
    assert!(
        queues.next(at(0), narrow, Want::Head, &compressor).is_none(),
        "waits for the next datagram"
    );
    let third = queues
        .next(at(0), ROOM, Want::Head, &compressor)
        .expect("a piece");
    assert!(matches!(third.kind, PieceKind::Packet));
}

#[test]
fn a_wrong_checksum_is_carried_and_not_repaired() {
    let mut queues = FlowQueues::new(1);
    let compressor = Compressor::new(1);
    let mut packet = segment(1, 500).plain().to_vec();
    packet[100] ^= 1;
    let packet = Bytes::from(packet);
    queues
        .enqueue(at(0), VirtioHeader::default(), packet.clone())
        .expect("queued");
    let piece = queues
        .next(at(0), ROOM, Want::Head, &compressor)
        .expect("a piece");
    assert!(matches!(piece.kind, PieceKind::Packet) && piece.ordered);
    assert_eq!(piece.body, packet);
}

#[test]
fn options_that_must_not_be_cut_keep_the_borders_of_their_segments() {
    let mut queues = FlowQueues::new(1);
    let compressor = Compressor::new(1);
    let mut multipath = segment(1, 5000);
    multipath.segment_size = 1000;
    multipath.options = vec![30, 4, 0, 0];
    multipath.flags = tcp_flags::ACK | tcp_flags::PSH;
    put(&mut queues, at(0), &multipath);
    let mut sequences = Vec::new();
    while let Some(piece) = queues.next(at(0), ROOM, Want::Head, &compressor) {
        assert!(matches!(piece.kind, PieceKind::Packet));
        let parsed = parse(&piece.body).expect("a packet");
        assert!(packet::checksums_are_right(&piece.body, &parsed));
        let tcp = parsed.tcp.expect("TCP");
        sequences.push((tcp.sequence, tcp.flags & tcp_flags::PSH != 0));
    }
    assert_eq!(
        sequences,
        [
            (1000, false),
            (2000, false),
            (3000, false),
            (4000, false),
            (5000, true)
        ]
    );
}

#[test]
fn acknowledgements_that_wait_are_thinned_if_they_say_nothing_else() {
    let mut queues = FlowQueues::new(1);
    let put_ack = |queues: &mut FlowQueues, acknowledgement: u32, window: u16, selective: bool| {
        let ack = Tcp {
            acknowledgement,
            window,
            options: if selective {
                vec![1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2]
            } else {
                Vec::new()
            },
            ..Tcp::default()
        };
        queues
            .enqueue(at(0), VirtioHeader::default(), ack.plain())
            .expect("queued");
        queues.statistics().thinned
    };
    assert_eq!(put_ack(&mut queues, 1000, 5, false), 0);
    assert_eq!(put_ack(&mut queues, 2000, 5, false), 1);
    assert_eq!(
        put_ack(&mut queues, 2000, 5, false),
        1,
        "a duplicate means a loss"
    );
    assert_eq!(put_ack(&mut queues, 2000, 6, false), 1, "the window opens");
    assert_eq!(
        put_ack(&mut queues, 3000, 7, false),
        2,
        "the newest window counts"
    );
    assert_eq!(put_ack(&mut queues, 5000, 6, true), 2, "selective");
    assert_eq!(
        put_ack(&mut queues, 6000, 6, false),
        2,
        "the last one is selective"
    );
}

#[test]
fn silent_flows_are_forgotten_and_their_numbers_not_used_again() {
    let mut queues = FlowQueues::new(1);
    let compressor = Compressor::new(1);
    put(&mut queues, at(0), &segment(1, 100));
    let before = queues
        .next(at(0), ROOM, Want::Head, &compressor)
        .expect("a piece");
    assert!(queues.next(at(0), ROOM, Want::Head, &compressor).is_none());
    queues.retire_idle(at(59_000));
    put(&mut queues, at(59_500), &segment(1, 100));
    let kept = queues
        .next(at(59_500), ROOM, Want::Head, &compressor)
        .expect("a piece");
    assert_eq!((kept.flow, kept.offset), (before.flow, 100));
    assert!(queues.next(at(59_500), ROOM, Want::Head, &compressor).is_none());
    queues.retire_idle(at(200_000));
    put(&mut queues, at(200_000), &segment(1, 100));
    let new = queues
        .next(at(200_000), ROOM, Want::Head, &compressor)
        .expect("a piece");
    assert_ne!(new.flow, before.flow);
    assert_eq!(new.offset, 0);
}

#[test]
fn the_newest_acknowledgement_of_each_connection_can_be_said_again() {
    let mut queues = FlowQueues::new(1);
    put(&mut queues, at(0), &segment(1, 3000));
    put(&mut queues, at(0), &segment(2, 0));
    let ended = Tcp {
        flags: tcp_flags::ACK | tcp_flags::FIN,
        ..segment(2, 0)
    };
    put(&mut queues, at(10), &ended);
    queues
        .enqueue(at(10), VirtioHeader::default(), udp(3, 0, &[1; 100]))
        .expect("queued");

    let reminders = queues.reminders(at(20));
    assert_eq!(reminders.len(), 1, "of the one connection that goes on");
    let parsed = parse(&reminders[0]).expect("a packet");
    assert!(parsed.is_pure_acknowledgement() && packet::checksums_are_right(&reminders[0], &parsed));
    let tcp = parsed.tcp.expect("TCP");
    assert_eq!(tcp.sequence, Tcp::default().sequence + 3000, "behind its data");
    assert_eq!(tcp.acknowledgement, Tcp::default().acknowledgement);
    assert!(
        queues.reminders(at(31 * 60 * 1000)).is_empty(),
        "silent for too long"
    );
}

#[test]
fn the_small_end_of_a_message_does_not_overtake_its_beginning() {
    let mut queues = FlowQueues::new(1);
    let compressor = Compressor::new(1);
    let mut ordered = |milliseconds, length| {
        let packet = udp(443, 0, &vec![1; length]);
        queues
            .enqueue(at(milliseconds), VirtioHeader::default(), packet)
            .expect("queued");
        let piece = queues.next(at(milliseconds), ROOM, Want::Head, &compressor);
        piece.expect("a piece").ordered
    };
    assert!(!ordered(0, 100), "a small one alone");
    assert!(ordered(10, 1200), "a handshake begins");
    assert!(ordered(10, 140), "and ends");
    assert!(!ordered(200, 40), "an acknowledgement later");
}
