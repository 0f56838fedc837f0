//! Vectors of frames: each with the bytes that docs/PROTOCOL.md leads to, written by hand.

use std::time::Duration;

use sennit_engine::ids::{FlowId, PathId};
use sennit_engine::settings::{BytesPerSecond, Mode, Priority};
use sennit_engine::wire::frame::{self, AckFrame, AckRanges, DataKind, HoldHint, WanStatus};

use crate::Vectors;

pub(crate) fn add(vectors: &mut Vectors) {
    vectors.section("frames");
    let mut frame = |name: &str, expected: &[u8], write: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        write(&mut bytes);
        assert_eq!(bytes, expected, "{name}");
        vectors.add(name, &bytes);
    };
    frame("padding_of_3", &[0, 0, 0], &|out| frame::write_padding(out, 3));
    frame("ping", &[1], &|out| frame::write_ping(out));

    let mut ranges = AckRanges::new();
    ranges.push(0x1_0000_0004, 0x1_0000_0005);
    ranges.push(0x1_0000_0002, 0x1_0000_0002);
    ranges.push(0xffff_ff00, 0xffff_ffff);
    let ack = AckFrame {
        path: PathId(7),
        largest: 0x1_0000_0005,
        received_at: 0x0102_0304,
        delay: Duration::from_micros(250),
        ecn_ce: 3,
        ranges,
    };
    frame(
        "ack_5_4_2_wrapping",
        &[
            2, 7, 0, 0, 0, 5, 1, 2, 3, 4, // path, low bits of the largest, when it arrived
            0x40, 250, 3, // delay, congestion marks
            2, 1, // two further ranges; the first reaches 1 below the largest
            0, 0, // one number is missing, then one arrived
            1, 0x40, 255, // two are missing, then 256 arrived
        ],
        &|out| assert!(frame::write_ack(out, &ack, 100)),
    );
    frame("challenge", &[3, 1, 2, 3, 4, 5, 6, 7, 8], &|out| {
        frame::write_challenge(out, [1, 2, 3, 4, 5, 6, 7, 8]);
    });
    frame("response", &[4, 1, 2, 3, 4, 5, 6, 7, 8], &|out| {
        frame::write_response(out, [1, 2, 3, 4, 5, 6, 7, 8]);
    });
    let status = WanStatus {
        path: PathId(2),
        priority: Priority::Backup,
        limit_down: Some(BytesPerSecond(1_250_000)),
        metered: true,
        gone: false,
        mode: Mode::Redundant,
        sequence: 9,
    };
    frame(
        "wan_status_backup_metered_limited",
        &[5, 2, 0b1110, 1, 0, 0, 0, 9, 0x80, 0x13, 0x12, 0xd0],
        &|out| frame::write_wan_status(out, &status),
    );
    let status = WanStatus {
        priority: Priority::Primary,
        limit_down: None,
        metered: false,
        gone: true,
        ..status
    };
    frame("wan_status_gone", &[5, 2, 0b1_0000, 1, 0, 0, 0, 9], &|out| {
        frame::write_wan_status(out, &status)
    });
    let hint = HoldHint {
        skew_us: 25_000,
        repair_us: 60,
    };
    frame("hold", &[6, 0x80, 0, 0x61, 0xa8, 0x3c], &|out| {
        frame::write_hold(out, hint)
    });
    frame("skip", &[7, 5, 0, 0, 0, 9, 0x45, 0xdc], &|out| {
        frame::write_skip(out, FlowId(5), 0x3_0000_0009, 1500);
    });
    frame("control", &[8, 2, 0xaa, 0xbb], &|out| {
        frame::write_control(out, &[0xaa, 0xbb])
    });
    frame("close", &[9, 1], &|out| {
        frame::write_close(out, frame::CloseReason::Restarts)
    });

    let body = [0xee; 3];
    frame(
        "packet_unordered_last",
        &[0x40, 0, 0, 0, 0, 8, 0xee, 0xee, 0xee],
        &|out| {
            frame::write_data(out, FlowId(0), false, 8, DataKind::Packet, false, &body);
        },
    );
    frame(
        "packet_ordered_with_length",
        &[0x43, 5, 0, 0, 0, 8, 3, 0xee, 0xee, 0xee],
        &|out| {
            frame::write_data(out, FlowId(5), true, 8, DataKind::Packet, true, &body);
        },
    );
    frame(
        "fragment_ordered_last",
        &[0x45, 0x41, 0, 0, 0, 0, 8, 0x05, 0xdc, 0x05, 0, 0xee, 0xee, 0xee],
        &|out| {
            let kind = DataKind::Fragment {
                total: 1500,
                at: 1280,
            };
            frame::write_data(out, FlowId(256), true, 8, kind, false, &body);
        },
    );
    frame(
        "parity",
        &[0x80, 11, 2, 0, 0, 1, 0, 3, 0, 1, 0xee, 0xee, 0xee],
        &|out| frame::write_parity(out, PathId(2), 256, 3, 1, &body),
    );
    let long = [0xee; 64];
    let expected = [&[0x4b, 5, 0, 0, 0, 8, 0x40, 64][..], &long].concat();
    frame("segment_ordered_with_length", &expected, &|out| {
        frame::write_data(out, FlowId(5), true, 8, DataKind::Segment, true, &long);
    });
}
