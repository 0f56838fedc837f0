//! CoDel (RFC 8289): drops at the head of a queue while packets have been waiting too long for too long.

use std::time::Duration;

use crate::time::Instant;

/// The state of one queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Codel {
    /// When the delay will have been above the target for an interval.
    above_until: Option<Instant>,
    dropping: bool,
    next_drop: Instant,
    count: u32,
    last_count: u32,
}

/// What the queue may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub target: Duration,
    pub interval: Duration,
    /// Bytes that one packet may have: a queue of no more is never too long.
    pub packet: u64,
}

impl Codel {
    /// Whether the packet at the head, which waited for `sojourn` in a queue of `backlog` bytes, is to be dropped or marked.
    pub(super) fn should_drop(
        &mut self,
        now: Instant,
        sojourn: Duration,
        backlog: u64,
        bounds: Bounds,
    ) -> bool {
        let too_long = self.is_too_long(now, sojourn, backlog, bounds);
        if self.dropping {
            if !too_long {
                self.dropping = false;
                return false;
            }
            if now < self.next_drop {
                return false;
            }
            self.count = self.count.saturating_add(1);
            self.next_drop += self.spacing(bounds.interval);
            return true;
        }
        if !too_long {
            return false;
        }
        self.dropping = true;
        // If it was dropping a short while ago, it goes on at about the rate that was needed then.
        let recent = now < self.next_drop + bounds.interval * 16;
        let needed = self.count.saturating_sub(self.last_count);
        self.count = if needed > 1 && recent { needed } else { 1 };
        self.last_count = self.count;
        self.next_drop = now + self.spacing(bounds.interval);
        true
    }

    fn is_too_long(&mut self, now: Instant, sojourn: Duration, backlog: u64, bounds: Bounds) -> bool {
        if sojourn < bounds.target || backlog <= bounds.packet {
            self.above_until = None;
            return false;
        }
        match self.above_until {
            None => {
                self.above_until = Some(now + bounds.interval);
                false
            }
            Some(until) => now >= until,
        }
    }

    fn spacing(&self, interval: Duration) -> Duration {
        interval.div_f64(f64::from(self.count.max(1)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        target: Duration::from_millis(5),
        interval: Duration::from_millis(100),
        packet: 1514,
    };

    /// Drops among packets that leave every millisecond, each after `sojourn`.
    fn drops(codel: &mut Codel, from_ms: u64, sojourn: u64, packets: u64, backlog: u64) -> u64 {
        (from_ms..from_ms + packets)
            .filter(|ms| {
                codel.should_drop(
                    Instant::from_millis(*ms),
                    Duration::from_millis(sojourn),
                    backlog,
                    BOUNDS,
                )
            })
            .count() as u64
    }

    #[test]
    fn a_burst_shorter_than_the_interval_passes() {
        assert_eq!(drops(&mut Codel::default(), 0, 50, 99, 100_000), 0);
    }

    #[test]
    fn a_standing_queue_is_dropped_from_more_and_more_often() {
        let mut codel = Codel::default();
        let first = drops(&mut codel, 0, 50, 500, 100_000);
        let later = drops(&mut codel, 500, 50, 500, 100_000);
        assert!(first >= 3 && later > first, "{first} then {later}");
    }

    #[test]
    fn a_short_queue_and_the_last_packet_stay() {
        assert_eq!(drops(&mut Codel::default(), 0, 4, 1000, 100_000), 0);
        assert_eq!(drops(&mut Codel::default(), 0, 500, 1000, 1514), 0);
    }
}
