//! The state as JSON: what `status` answers. Rates are bit/s, times milliseconds, shares 0 to 1; what is not known is
//! null.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sennit_engine::crypto::Suite;
use sennit_engine::event::{PathCounters, PathStatus, SessionStatus};
use sennit_engine::ids::{ClientId, PathId};
use sennit_engine::path::state::Condition;
use sennit_engine::settings::Priority;
use sennit_engine::time::Instant;
use serde_json::{Value, json};

/// The shortest time over which a throughput is measured.
const SPAN: Duration = Duration::from_millis(400);

/// Remembers counters, so that differences give rates.
#[derive(Debug, Default)]
pub(super) struct Throughput {
    /// For each path: the last two samples.
    samples: BTreeMap<PathId, [(Instant, PathCounters); 2]>,
}

impl Throughput {
    /// Takes a sample of each path; those that are gone are forgotten.
    pub(super) fn sample(&mut self, now: Instant, paths: &[PathStatus]) {
        self.samples
            .retain(|id, _| paths.iter().any(|path| path.id == *id));
        for path in paths {
            let sample = (now, path.counters);
            let known = self.samples.entry(path.id).or_insert([sample; 2]);
            if now.since(known[1].0) >= SPAN {
                *known = [known[1], sample];
            }
        }
    }

    /// Bits per second sent and received between the last two samples.
    fn of(&self, path: PathId) -> (u64, u64) {
        let Some([(from, before), (to, after)]) = self.samples.get(&path) else {
            return (0, 0);
        };
        let nanoseconds = to.since(*from).as_nanos();
        let rate = |before: u64, after: u64| {
            let bits = u128::from(after.saturating_sub(before)) * 8 * 1_000_000_000;
            bits.checked_div(nanoseconds).unwrap_or(0) as u64
        };
        (
            rate(before.sent_bytes, after.sent_bytes),
            rate(before.received_bytes, after.received_bytes),
        )
    }
}

/// Which changes of paths are news: a moment's silence is not, what came of it is.
#[derive(Debug, Default)]
pub(super) struct Suspicions {
    paths: BTreeSet<(Option<ClientId>, PathId)>,
}

impl Suspicions {
    /// Whether this change is one that people want to read of.
    pub(super) fn is_news(&mut self, client: Option<ClientId>, path: PathId, state: Condition) -> bool {
        if state == Condition::Suspect {
            self.paths.insert((client, path));
            return false;
        }
        let was_suspected = self.paths.remove(&(client, path));
        !(was_suspected && state == Condition::Active)
    }
}

/// One path. On a server "up" is still the direction from the client.
pub(super) fn path(path: &PathStatus, throughput: &Throughput, on_client: bool) -> Value {
    let counters = &path.counters;
    let lost = share(counters.lost.saturating_sub(counters.spurious), counters.sent);
    let rate = path.rate.0.saturating_mul(8);
    let (sent, received) = throughput.of(path.id);
    let directed = |outgoing: Value, incoming: Value| {
        if on_client {
            (outgoing, incoming)
        } else {
            (incoming, outgoing)
        }
    };
    let (loss_up, loss_down) = directed(json!(lost), Value::Null);
    let (rate_up, rate_down) = directed(json!(rate), Value::Null);
    let (throughput_up, throughput_down) = directed(json!(sent), json!(received));
    json!({
        "id": path.id.0,
        "state": condition(path.condition),
        "why": path.why,
        "rtt_ms": path.rtt.map(milliseconds),
        "rtt_min_ms": path.rtt_minimum.map(milliseconds),
        "one_way_ms_relative": path.one_way.map(|nanoseconds| nanoseconds as f64 / 1e6),
        "queue_ms": milliseconds(path.queue),
        "loss_up": loss_up,
        "loss_down": loss_down,
        "rate_up": rate_up,
        "rate_down": rate_down,
        "throughput_up": throughput_up,
        "throughput_down": throughput_down,
        "cwnd": path.window,
        "in_flight": path.in_flight,
        "congestion": path.congestion,
        "mtu": path.mtu,
        "sent": counters.sent,
        "sent_bytes": counters.sent_bytes,
        "received": counters.received,
        "received_bytes": counters.received_bytes,
        "lost": counters.lost,
        "spurious": counters.spurious,
        "copies": counters.copy_bytes,
        "repairs": counters.repair_bytes,
        "parity": counters.parity_bytes,
        "recovered": counters.recovered,
        "suspicions": counters.suspicions,
        "deaths": counters.deaths,
    })
}

/// What is the same for all paths of a session.
pub(super) fn session(session: &SessionStatus) -> Value {
    let held = &session.resequencer;
    json!({
        "cipher": session.suite.map(cipher),
        "queue": { "backlog_bytes": session.backlog, "unacknowledged_bytes": session.unacknowledged, "dropped": session.dropped },
        "totals": { "packets_in": session.packets_in, "bytes_in": session.bytes_in },
        "resequencer": {
            "delivered": held.delivered,
            "duplicates": held.duplicates,
            "late": held.late,
            "gaps": held.gaps,
            "filled": held.filled,
            "timed_out": held.timed_out,
            "overflowed": held.overflowed,
            "reset": held.reset,
            "refused": held.refused,
        },
    })
}

/// How people call a suite.
fn cipher(suite: Suite) -> &'static str {
    match suite {
        Suite::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        Suite::Aes256Gcm => "AES-256-GCM",
        Suite::AuthenticateOnly => "none",
    }
}

/// The word for a path's condition.
pub(super) fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Probing => "probing",
        Condition::Active => "active",
        Condition::Suspect => "suspect",
        Condition::Down => "down",
    }
}

/// The word for a priority.
pub(super) fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::Primary => "primary",
        Priority::Secondary => "secondary",
        Priority::Backup => "backup",
        Priority::Off => "off",
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}
