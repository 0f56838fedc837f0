//! What a bond says of itself over its control socket: what it knew at a moment, and what it counted.

use serde_json::Value;

use super::{Started, status};
use crate::measure::Measures;
use crate::scenario::Side;

/// Counters of one end; copies, repairs and what was sent in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    sent: f64,
    datagrams: f64,
    packets: f64,
    copies: f64,
    repairs: f64,
    suspicions: f64,
    deaths: f64,
    late: f64,
    timed_out: f64,
    dropped: f64,
    system_calls: f64,
}

/// Both ends at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Seconds since the traffic began.
    pub at: f64,
    /// The answer of each end.
    pub ends: Vec<(Side, Value)>,
}

impl Snapshot {
    /// Asks both ends; one that is not running says nothing.
    pub fn take(started: &Started, at: f64) -> Self {
        let ask = |(side, control): &(Side, std::path::PathBuf)| Some((*side, status(control).ok()?));
        Self {
            at,
            ends: started.controls.iter().filter_map(ask).collect(),
        }
    }

    fn counters(&self, side: Side) -> Option<Counters> {
        let (_, status) = self.ends.iter().find(|(end, _)| *end == side)?;
        let number = |value: &Value| value.as_f64().unwrap_or(0.0);
        let mut counters = Counters {
            datagrams: number(&status["counters"]["sent"]) + number(&status["counters"]["received"]),
            packets: number(&status["counters"]["tunnel_in"]) + number(&status["counters"]["tunnel_out"]),
            late: number(&status["resequencer"]["late"]),
            timed_out: number(&status["resequencer"]["timed_out"]),
            dropped: number(&status["queue"]["dropped"]),
            system_calls: number(&status["counters"]["system_calls"]),
            ..Counters::default()
        };
        for path in paths(status) {
            counters.sent += number(&path["sent_bytes"]);
            counters.copies += number(&path["copies"]);
            counters.repairs += number(&path["repairs"]);
            counters.suspicions += number(&path["suspicions"]);
            counters.deaths += number(&path["deaths"]);
        }
        Some(counters)
    }

    /// The paths of one end: each with what it knew.
    pub fn paths(&self, side: Side) -> Vec<&Value> {
        self.ends
            .iter()
            .find(|(end, _)| *end == side)
            .map(|(_, status)| paths(status).collect())
            .unwrap_or_default()
    }
}

/// A client has its paths under its WANs, a server under its clients.
fn paths(status: &Value) -> impl Iterator<Item = &Value> {
    let holders = [&status["wans"], &status["clients"]]
        .into_iter()
        .filter_map(Value::as_array)
        .flatten();
    holders.filter_map(|holder| holder["paths"].as_array()).flatten()
}

/// Figures of what happened between two moments, both ends together. `instructions` are those that were counted of
/// each end meanwhile.
pub fn measures(measures: &mut Measures, before: &Snapshot, after: &Snapshot, instructions: &[(Side, f64)]) {
    let mut sum = Counters::default();
    for side in [Side::Client, Side::Server] {
        let (Some(a), Some(b)) = (before.counters(side), after.counters(side)) else {
            continue;
        };
        // A daemon that was started anew counts from zero.
        let between = |field: fn(&Counters) -> f64| {
            if field(&b) < field(&a) {
                field(&b)
            } else {
                field(&b) - field(&a)
            }
        };
        sum.sent += between(|counters| counters.sent);
        sum.copies += between(|counters| counters.copies);
        sum.repairs += between(|counters| counters.repairs);
        sum.suspicions += between(|counters| counters.suspicions);
        sum.deaths += between(|counters| counters.deaths);
        sum.late += between(|counters| counters.late);
        sum.timed_out += between(|counters| counters.timed_out);
        sum.dropped += between(|counters| counters.dropped);
        // A packet is what the kernel hands over at once: with segmentation offload it stands for many datagrams,
        // and many small ones share one.
        let calls = between(|counters| counters.system_calls);
        for (of, count) in [
            ("datagram", between(|counters| counters.datagrams)),
            ("packet", between(|counters| counters.packets)),
        ] {
            if count == 0.0 {
                continue;
            }
            measures.add(format!("bond.system_calls_per_{of}.{side}"), "", calls / count);
            for (_, instructions) in instructions.iter().filter(|(end, _)| *end == side) {
                let name = format!("bond.instructions_per_{of}.{side}");
                measures.add(name, "", instructions / count);
            }
        }
    }
    if sum.sent == 0.0 {
        return;
    }
    measures.add("bond.copied_share", "", sum.copies / sum.sent);
    measures.add("bond.repaired_share", "", sum.repairs / sum.sent);
    measures.add("bond.suspicions", "", sum.suspicions);
    measures.add(
        "bond.suspicions_per_minute",
        "1/min",
        sum.suspicions * 60.0 / (after.at - before.at).max(0.1),
    );
    measures.add("bond.deaths", "", sum.deaths);
    measures.add("bond.delivered_late", "", sum.late);
    measures.add("bond.holes_timed_out", "", sum.timed_out);
    measures.add("bond.queue_drops", "", sum.dropped);
}
