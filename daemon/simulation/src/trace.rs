//! State over time, as lines of JSON to look at: one for every 10 ms.

use std::io::{Result, Write};

use sennit_engine::time::Instant;
use serde_json::{Value, json};

use crate::world::{Knowledge, Sample};

/// Writes one line.
///
/// # Errors
/// Those of the writer.
pub fn write(out: &mut dyn Write, sample: &Sample<'_>) -> Result<()> {
    let flows: Vec<Value> = (0..sample.world.setup().flows.len())
        .map(|flow| {
            let counters = sample.world.counters(flow);
            json!({
                "delivered": counters.delivered,
                "window": counters.window,
                "retransmitted": counters.retransmitted,
                "spurious": counters.spurious,
                "late": counters.late,
                "timeouts": counters.timeouts,
                "reductions": counters.reductions,
                "undone": counters.undone,
                "outstanding": counters.outstanding,
            })
        })
        .collect();
    // Bytes that each link could have carried until now, and did; up and down.
    let used: Vec<[[f64; 2]; 2]> = (sample.world.links().iter())
        .map(|pair| {
            [&pair[0], &pair[1]].map(|link| {
                let capacity = link.settings().rate.capacity(Instant::ZERO, sample.now);
                [capacity, link.statistics().carried_bytes as f64]
            })
        })
        .collect();
    let line = json!({
        "t": sample.now.as_nanos() as f64 / 1e9,
        "links": sample.queues,
        "used": used,
        "client": end(&sample.knowledge[0]),
        "server": end(&sample.knowledge[1]),
        "flows": flows,
    });
    writeln!(out, "{line}")
}

fn end(knowledge: &Knowledge) -> Value {
    let paths: Vec<Value> = (knowledge.paths.iter())
        .map(|path| {
            json!({
                "wan": path.wan,
                "condition": path.condition,
                "rate": path.rate,
                "window": path.window,
                "in_flight": path.in_flight,
                "queue_ms": path.queue.as_secs_f64() * 1e3,
                "rtt_ms": path.round_trip.as_secs_f64() * 1e3,
                "state": path.congestion,
                "sent": path.sent,
                "lost": path.lost,
                "spurious": path.spurious,
                "repairs": path.repair_bytes,
                "copies": path.copy_bytes,
                "suspicions": path.suspicions,
            })
        })
        .collect();
    json!({
        "connected": knowledge.connected,
        "backlog": knowledge.backlog,
        "unacknowledged": knowledge.unacknowledged,
        "dropped": knowledge.dropped,
        "held": knowledge.held,
        "resequencer": knowledge.resequencer,
        "paths": paths,
    })
}
