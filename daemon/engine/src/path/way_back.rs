//! How often to acknowledge, by what the way back carries: acknowledgements are not paced, and would flood a narrow one.

use std::time::Duration;

const USUAL_PACKETS: u32 = 2;
const USUAL_DELAY: Duration = Duration::from_millis(5);
/// What an acknowledgement takes on the wire, IP header included; pieces of data beside it not counted.
const ACK_BYTES: u64 = 80;
/// Acknowledgements take at most one part in this many of the way back.
const ACK_SHARE: u64 = 20;
const MOST_ACK_PACKETS: u32 = 16;
const LONGEST_ACK_SPACING: Duration = Duration::from_millis(25);

/// Bytes per second of a way back of which nothing is known, and the bounds of what is assumed of one on which nothing
/// but acknowledgements is sent.
const ASSUMED: u64 = 500_000;
const LEAST_ASSUMED: u64 = 50_000;
const MOST_ASSUMED: u64 = 25_000_000;
/// A queue longer than this on the way back may be that of our acknowledgements.
const LONG_QUEUE: Duration = Duration::from_millis(20);

/// How often to acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckPolicy {
    /// After this many datagrams.
    pub packets: u32,
    /// Or after this time.
    pub delay: Duration,
    /// Never more often than this, not even for a hole.
    pub spacing: Duration,
}

impl Default for AckPolicy {
    fn default() -> Self {
        Self {
            packets: USUAL_PACKETS,
            delay: USUAL_DELAY,
            spacing: Duration::ZERO,
        }
    }
}

impl AckPolicy {
    /// Often enough for good estimates, and at most a twentieth of the way back: `incoming` is what arrives on the
    /// path, `returning` what its way back offers, bytes per second.
    pub fn new(rtt: Duration, incoming: u64, returning: u64) -> Self {
        let spacing = match (ACK_BYTES * ACK_SHARE * 1_000_000_000).checked_div(returning) {
            Some(nanoseconds) => Duration::from_nanos(nanoseconds).min(LONGEST_ACK_SPACING),
            None => LONGEST_ACK_SPACING,
        };
        // Some forty in a round trip tell enough.
        let in_a_round = u128::from(incoming / 1_400) * rtt.as_nanos() / 1_000_000_000;
        let packets = (in_a_round / 40).clamp(u128::from(USUAL_PACKETS), u128::from(MOST_ACK_PACKETS));
        Self {
            packets: packets as u32,
            delay: (rtt / 8)
                .min(USUAL_DELAY)
                .max(Duration::from_micros(250))
                .max(spacing),
            spacing,
        }
    }
}

/// What the way back of a path is taken to carry.
///
/// Where we send data, congestion control knows. Where we hardly send anything else than acknowledgements, something is
/// assumed, and corrected by how long packets of ours queue there.
#[derive(Clone, Copy, Debug)]
pub struct WayBack {
    assumed: u64,
}

impl Default for WayBack {
    fn default() -> Self {
        Self { assumed: ASSUMED }
    }
}

impl WayBack {
    /// Something of ours was acknowledged since the last look: it had queued for so long.
    pub fn learn(&mut self, queue: Duration) {
        self.assumed = if queue > LONG_QUEUE {
            (self.assumed / 2).max(LEAST_ASSUMED)
        } else {
            (self.assumed + self.assumed / 4).min(MOST_ASSUMED)
        };
    }

    /// Bytes per second. `rate` is what congestion control found, `known` says that it had to hold data back for it.
    pub fn carries(&self, rate: u64, known: bool) -> u64 {
        if known { rate } else { rate.max(self.assumed) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::received::Received;
    use super::*;
    use crate::ids::PathId;
    use crate::time::Instant;

    #[test]
    fn a_narrow_way_back_bounds_even_urgent_acknowledgements() {
        let policy = AckPolicy::new(Duration::from_millis(20), 12_500_000, 125_000);
        assert!(ACK_BYTES * 1_000_000 / policy.spacing.as_micros() as u64 <= 125_000 / ACK_SHARE);
        let mut received = Received::new(PathId(0));
        received.set_ack_policy(policy);
        let mut acks = 0;
        for number in 0..20_000u64 {
            let now = Instant::from_nanos(number * 100_000);
            received.record(now, number * 2, true, false);
            if received.ack_deadline().is_some_and(|due| due <= now) {
                acks += 1;
                received.told(now);
            }
        }
        assert!(acks * ACK_BYTES <= 2 * 125_000 / ACK_SHARE + ACK_BYTES, "{acks}");
    }

    #[test]
    fn what_is_assumed_follows_the_queue() {
        let mut way = WayBack::default();
        for _ in 0..10 {
            way.learn(Duration::from_millis(100));
        }
        assert_eq!(way.carries(1_000, false), LEAST_ASSUMED);
        assert_eq!(way.carries(1_000, true), 1_000);
        for _ in 0..40 {
            way.learn(Duration::from_millis(1));
        }
        assert_eq!(way.carries(1_000, false), MOST_ASSUMED);
    }
}
