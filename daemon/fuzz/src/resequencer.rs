//! Any arrivals in any order at any time: nothing comes out twice, memory stays bounded, and the timer is armed when needed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use sennit_engine::ids::FlowId;
use sennit_engine::resequencer::{Delivery, Resequencer};
use sennit_engine::time::Instant;
use sennit_engine::wire::frame::{DataKind, HoldHint};

/// More than the resequencer's own limit, by what one call may add.
const MOST_HELD: usize = (16 << 20) + (1 << 20);

/// Steps of six bytes.
pub fn run(input: &[u8]) {
    let mut resequencer = Resequencer::new(1);
    let mut now = Instant::from_millis(1000);
    // One bit for each of the 64 Ki places of a flow, as packets that begin there.
    let mut delivered: BTreeMap<(u8, u32), u32> = BTreeMap::new();
    for step in input.chunks_exact(6) {
        let [what, flow, a, b, c, d] = *step else { return };
        // Flow 1 is near the end of the numbers that travel.
        let offset = u32::from(u16::from_be_bytes([a, b])) * 8;
        let offset = if flow % 8 == 1 {
            offset.wrapping_sub(1 << 18)
        } else {
            offset
        };
        let flow = FlowId(u32::from(flow % 8));
        match what % 8 {
            0..4 => {
                // Every packet says where it belongs, so that it is known again.
                let mut body = vec![flow.0 as u8, 0, 0, 0, 0];
                body[1..5].copy_from_slice(&offset.to_be_bytes());
                body.resize(8 + usize::from(c), 7);
                let ordered = flow != FlowId::UNORDERED;
                let _ = resequencer.receive(now, flow, ordered, offset, DataKind::Packet, body.into());
            }
            4 => {
                resequencer.skip(now, flow, offset, u32::from(c) * 256 + u32::from(d));
            }
            5 => now += Duration::from_micros(u64::from(c) * 256 + u64::from(d)),
            6 => {
                // A packet in parts, any of which may be missing. It begins with 0xff.
                let kind = DataKind::Fragment {
                    total: 64,
                    at: u16::from(c % 64),
                };
                let length = usize::from(d % 64).max(1);
                let mut body = vec![7; length];
                if c % 64 == 0 {
                    body[0] = 0xff;
                }
                let ordered = flow != FlowId::UNORDERED;
                let at = offset.wrapping_add(u32::from(c % 64));
                let _ = resequencer.receive(now, flow, ordered, at, kind, Bytes::from(body));
            }
            _ => {
                resequencer.set_path_overdue(c & 1 != 0);
                resequencer.set_recent_gap(c & 2 != 0);
                resequencer.set_hold(HoldHint {
                    skew_us: u32::from(c) << 8,
                    repair_us: u32::from(d) << 10,
                });
            }
        }
        if resequencer.deadline().is_some_and(|deadline| deadline <= now) {
            resequencer.on_timeout(now);
            assert!(
                resequencer.deadline().is_none_or(|deadline| deadline > now),
                "a timer that stays"
            );
        }
        assert!(resequencer.held_bytes() <= MOST_HELD);
        if what & 0x80 == 0 {
            drain(&mut resequencer, &mut delivered);
            let holds = resequencer.held_bytes() > 0;
            assert_eq!(resequencer.deadline().is_some(), holds, "what waits has a timer");
        }
    }
    // What waits is given up in the end.
    now += Duration::from_secs(10);
    resequencer.on_timeout(now);
    drain(&mut resequencer, &mut delivered);
    while let Some(deadline) = resequencer.deadline() {
        now = now.max(deadline);
        resequencer.on_timeout(now);
        drain(&mut resequencer, &mut delivered);
    }
    assert_eq!(resequencer.blocked_flows(), 0);
    assert_eq!(resequencer.held_bytes(), 0);
}

fn drain(resequencer: &mut Resequencer, delivered: &mut BTreeMap<(u8, u32), u32>) {
    while let Some(delivery) = resequencer.poll() {
        note(&delivery, delivered);
        resequencer.recycle(delivery);
    }
}

fn note(delivery: &Delivery, delivered: &mut BTreeMap<(u8, u32), u32>) {
    assert!(!delivery.is_empty() && delivery.len() <= 65_535);
    let Some([flow, a, b, c, d, ..]) = delivery.parts.first().map(|part| &part[..]) else {
        return;
    };
    if *flow != 0xff && *flow != 7 {
        let count = delivered
            .entry((*flow, u32::from_be_bytes([*a, *b, *c, *d])))
            .or_default();
        *count += 1;
        assert_eq!(*count, 1, "flow {flow} offset {a} {b} {c} {d} came twice");
    }
}
