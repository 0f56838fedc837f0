//! Good inputs for each fuzz target, which damaged ones are made of.

use sennit_engine::ids::{FlowId, PathId};
use sennit_engine::settings::{BytesPerSecond, Mode, Priority};
use sennit_engine::wire::frame::{self, AckFrame, AckRanges, DataKind, HoldHint, WanStatus};

/// At least one for every target.
pub(crate) fn inputs(target: &str) -> Vec<Vec<u8>> {
    match target {
        "frame" => frames(),
        "datagram" => vec![
            [&[0, 0x84, 0, 0, 1, 2, 0, 0, 9][..], &[5; 60]].concat(),
            [&[1, 0x84, 0, 0, 1, 2, 0, 0, 9][..], &[5; 60]].concat(),
            (0..200u8)
                .map(|number| if number == 0 { 2 } else { number % 3 * 4 })
                .collect(),
            [
                &[2][..],
                &[0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0x40, 1, 0, 0, 2, 0x80, 0, 0],
            ]
            .concat(),
        ],
        "handshake" => vec![
            [&[0, 0x81, 0, 0, 4][..], &[0; 148]].concat(),
            [&[0, 0x81, 0, 0, 4][..], &[9; 148]].concat(),
            [&[1, 0x82, 0, 0, 4][..], &[9; 100]].concat(),
            [&[2, 0x83, 0, 0, 4][..], &[9; 48]].concat(),
        ],
        "packet" => packets()
            .into_iter()
            .map(|packet| [&[0; 10][..], &packet].concat())
            .collect(),
        "segment" => segments(),
        "resequencer" => resequencer(),
        "engine" => engine(),
        _ => Vec::new(),
    }
}

fn frames() -> Vec<Vec<u8>> {
    let mut ranges = AckRanges::new();
    for range in (1..30u64).rev() {
        ranges.push(range * 100, range * 100 + 50);
    }
    let ack = AckFrame {
        path: PathId(1),
        largest: 2950,
        received_at: 77,
        delay: std::time::Duration::from_micros(300),
        ecn_ce: 5,
        ranges,
    };
    let status = WanStatus {
        path: PathId(1),
        priority: Priority::Secondary,
        limit_down: Some(BytesPerSecond(1_000_000)),
        metered: true,
        gone: false,
        mode: Mode::Redundant,
        sequence: 3,
    };
    let mut all = Vec::new();
    let mut each = Vec::new();
    for part in 0..10 {
        let mut out = Vec::new();
        match part {
            0 => frame::write_ping(&mut out),
            1 => assert!(frame::write_ack(&mut out, &ack, 1000)),
            2 => frame::write_challenge(&mut out, [1; 8]),
            3 => frame::write_wan_status(&mut out, &status),
            4 => frame::write_hold(
                &mut out,
                HoldHint {
                    skew_us: 25_000,
                    repair_us: 40_000,
                },
            ),
            5 => frame::write_skip(&mut out, FlowId(1000), 1 << 33, 1500),
            6 => frame::write_control(&mut out, b"a message"),
            7 => frame::write_data(&mut out, FlowId(70), true, 9, DataKind::Packet, true, &[6; 70]),
            8 => {
                let kind = DataKind::Fragment {
                    total: 1500,
                    at: 1400,
                };
                frame::write_data(&mut out, FlowId(7), true, 9, kind, true, &[6; 100]);
            }
            _ => frame::write_data(&mut out, FlowId(7), false, 9, DataKind::Segment, false, &[6; 30]),
        }
        all.extend_from_slice(&out);
        each.push(out);
    }
    each.push(all);
    each
}

/// TCP over IPv4 with timestamps, UDP over IPv6, ICMP.
fn packets() -> Vec<Vec<u8>> {
    let tcp = [
        0x45, 0, 0, 56, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
        0x1f, 0x90, 0, 80, 0, 0, 1, 0, 0, 0, 2, 0, 0x80, 0x18, 1, 0, 0, 0, 0, 0, // TCP
        1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8, // timestamps
        b'd', b'a', b't', b'a',
    ];
    let mut udp = vec![0x60, 0, 0, 0, 0, 12, 17, 64];
    udp.extend_from_slice(&[0xfd; 32]);
    udp.extend_from_slice(&[0x13, 0x88, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4]);
    let icmp = [
        0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 8, 0, 0, 0, 0, 1, 0, 1,
    ];
    vec![tcp.to_vec(), udp, icmp.to_vec()]
}

/// A definition, then headers that refer to it.
fn segments() -> Vec<Vec<u8>> {
    let tcp = &packets()[0];
    let mut definition = vec![0x80, 0, 5, 0, 0, 0, 0, 5, 0xa8];
    definition.extend_from_slice(&tcp[..52]);
    definition.extend_from_slice(b"data");
    let mut input = Vec::new();
    let bodies = [
        &definition[..],
        &[0x28, 0, 5, 0x41, 0, 2, 4, b'x', b'y'],
        &[
            0x7d, 0, 5, 0x04, 7, 9, 0x40, 0x99, 2, 4, 0x11, 4, 1, 1, 1, 0, b'x',
        ],
        &[0x03, 0, 5, 0x03, 0x02, 0, 7, 2, 0, b'x', b'y', b'z'],
    ];
    for (count, body) in bodies.iter().enumerate() {
        input.push(body.len() as u8);
        input.push(1);
        input.extend_from_slice(&(count as u32 * 4).to_be_bytes());
        input.extend_from_slice(body);
    }
    vec![input]
}

/// Steps of six bytes: what, flow, offset, two values.
fn resequencer() -> Vec<Vec<u8>> {
    let mut input = Vec::new();
    // In order, a hole, its end; a skip; a packet in parts; time.
    for (what, flow, offset, c, d) in [
        (0, 2, 0u16, 0, 0),
        (0, 2, 1, 0, 0),
        (0, 2, 3, 0, 0),
        (5, 0, 0, 9, 0),
        (0, 2, 2, 0, 0),
        (4, 2, 4, 0, 8),
        (6, 2, 5, 0, 32),
        (6, 2, 5, 32, 32),
        (0, 2, 20, 0, 0),
        (7, 0, 0, 3, 200),
        (5, 0, 0, 255, 0),
        (0, 2, 19, 0, 0),
        (0, 0, 7, 16, 0),
        (0, 0, 7, 16, 0),
        (0, 1, 32_767, 0, 0),
        (0, 1, 32_768, 0, 0),
    ] {
        let [a, b] = offset.to_be_bytes();
        input.extend_from_slice(&[what, flow, a, b, c, d]);
    }
    vec![input]
}

/// Steps: what, length, bytes. First a bit that says which end is tried.
fn engine() -> Vec<Vec<u8>> {
    let mut steps = Vec::new();
    let mut step = |what: u8, bytes: &[u8]| {
        steps.push(what);
        steps.push(bytes.len() as u8);
        steps.extend_from_slice(bytes);
    };
    for (count, frames) in frames().iter().filter(|frames| frames.len() < 256).enumerate() {
        step((count as u8 % 4) << 4, frames);
        step(11, &[count as u8; 200]);
        step(9, &[40, 7]);
        step(13 | 0x10, &[]);
    }
    step(0, &[3, 1, 2, 3, 4, 5, 6, 7, 8]);
    step(0xc0, &[1]);
    for _ in 0..6 {
        step(9, &[255, 255, 255]);
        step(12, &[9; 250]);
        step(14, &[]);
    }
    step(15, &[]);
    step(0, &[1]);
    step(15 | 0x10, &[]);
    step(0, &[1]);
    step(11, &[1; 100]);
    [0, 1]
        .into_iter()
        .map(|end| [&[end], &steps[..]].concat())
        .collect()
}
