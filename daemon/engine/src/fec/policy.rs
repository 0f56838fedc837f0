//! How much parity a path is worth: none without loss, a share that follows the loss where repairs have a long way, and
//! what is free where the path has nothing else to carry.

use std::time::Duration;

use super::WINDOW;
use crate::settings::BytesPerSecond;
use crate::time::Instant;

/// Packets over which the loss is averaged. One loss alone is none: less than [`WORTH`].
const AVERAGE: f64 = 4096.0;
/// From this loss on there is parity, until it is less than half of it.
const WORTH: f64 = 0.0004;
/// With more loss a path is dying or policed, and parity would only take what is left of it.
const HOPELESS: f64 = 0.08;
/// Losses that come in longer runs than this are left to repairs: as many parities as a run has packets would be too late.
const LONGEST_RUN: f64 = 2.0;
/// Losses over which the length of runs is averaged.
const RUNS: f64 = 32.0;
/// What was lost behind a longer queue than this was lost by congestion: it says nothing, and parity would add to it.
const CONGESTED: Duration = Duration::from_millis(12);
/// Parity costs this many times what is lost: with one and a half times as much, one in ten of them could not be computed.
const OVER_LOSS: f64 = 3.0;
/// Packets from one parity to the next. More of them would be overhead like the loss itself; fewer come too late.
const INTERVAL: (usize, usize) = (8, 64);
/// Every packet stands in this many parities, so that two losses that are near to each other come back as well.
const COVER: usize = 3;
/// Where a repair has a shorter way, loss costs less than parity in a busy path.
const LONG_WAY: Duration = Duration::from_millis(30);
/// Bytes of an ordinary packet.
const PACKET: u64 = 1400;
/// A path that had nothing to send for this long protects what it sent before.
pub(crate) const IDLE: Duration = Duration::from_millis(2);
/// Parity of an idle path may cover a few packets more than those that were not covered: its predecessor may be lost.
const IDLE_COVER: usize = 4;

/// What is known of one path's losses, and what follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    loss: f64,
    /// The share of losses whose predecessor arrived.
    runs: f64,
    last_lost: u64,
    active: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            loss: 0.0,
            runs: 1.0,
            last_lost: 0,
            active: false,
        }
    }
}

/// What a busy path sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// After so many packets.
    pub(crate) interval: usize,
    /// Over so many packets.
    pub(crate) span: usize,
}

impl Policy {
    /// A packet arrived, or was lost, while the path's queue was this long. What is lost together comes in order.
    pub(crate) fn note_fate(&mut self, number: u64, lost: bool, queue: Duration) {
        if queue > CONGESTED {
            return;
        }
        if lost {
            let begins = number != self.last_lost + 1;
            self.runs += (f64::from(u8::from(begins)) - self.runs) / RUNS;
            self.last_lost = number;
        }
        self.loss += (f64::from(u8::from(lost)) - self.loss) / AVERAGE;
        let least = if self.active { WORTH / 2.0 } else { WORTH };
        self.active = (least..HOPELESS).contains(&self.loss) && self.runs > 1.0 / LONGEST_RUN;
    }

    /// True while the path's packets are kept for parity.
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    /// How a busy path is protected; not at all if repairs come nearly as soon, or if fewer packets than one parity is
    /// worth pass meanwhile. `rate` is what the path carries.
    pub(crate) fn busy(&self, round_trip: Duration, rate: BytesPerSecond) -> Option<Due> {
        let half_way = round_trip.as_nanos() as u64 / 2;
        let meanwhile = (rate.bytes_in(half_way) / PACKET) as usize;
        if !self.active || round_trip < LONG_WAY || meanwhile < INTERVAL.0 {
            return None;
        }
        let wanted = (1.0 / (OVER_LOSS * self.loss)) as usize;
        let interval = wanted.clamp(INTERVAL.0, INTERVAL.1).min(meanwhile);
        Some(Due {
            interval,
            span: (interval * COVER).min(WINDOW),
        })
    }

    /// Packets that the parity of a path covers which has become idle, if so many left since the last one.
    pub(crate) fn idle(since: usize) -> usize {
        (since + IDLE_COVER).min(WINDOW)
    }
}

/// What parity of an idle path may take, so that it stays a small share of the path: a token bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    bytes: u64,
    filled: Instant,
}

/// The share of the path's rate, as its divisor, and bytes a second: a game and a call need no more.
const SHARE: u64 = 20;
const PER_SECOND: (u64, u64) = (4_000, 32_000);
/// Bytes that may leave at once.
const BURST: u64 = 32_000;

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            bytes: BURST,
            filled: now,
        }
    }

    /// True if `bytes` may be sent now.
    pub(crate) fn allows(&mut self, now: Instant, rate: BytesPerSecond, bytes: u64) -> bool {
        let share = BytesPerSecond((rate.0 / SHARE).clamp(PER_SECOND.0, PER_SECOND.1));
        let more = share.bytes_in(now.since(self.filled).as_nanos() as u64);
        if more > 0 {
            self.bytes = (self.bytes + more).min(BURST);
            self.filled = now;
        }
        self.bytes >= bytes
    }

    /// They were.
    pub(crate) fn take(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: Duration = Duration::from_millis(60);
    const FAST: BytesPerSecond = BytesPerSecond(5_000_000);

    /// After this many packets, of which one in `every` is lost.
    fn after(packets: usize, every: usize, queue: Duration) -> Policy {
        let mut policy = Policy::default();
        (1..=packets).for_each(|number| policy.note_fate(number as u64, number % every == 0, queue));
        policy
    }

    #[test]
    fn parity_follows_the_loss() {
        let interval = |every| {
            let policy = after(20_000, every, Duration::ZERO);
            policy.busy(FAR, FAST).map(|due| due.interval)
        };
        assert_eq!(interval(100_000), None, "no loss, no parity");
        assert_eq!(interval(1000), Some(64));
        assert!(
            (30..=36).contains(&interval(100).unwrap()),
            "three times 1 %: {:?}",
            interval(100)
        );
        assert!((8..=12).contains(&interval(30).unwrap()));
        assert_eq!(interval(5), None, "no parity saves a path that loses a fifth");
    }

    #[test]
    fn runs_of_losses_are_left_to_repairs() {
        let mut policy = Policy::default();
        (0..20_000).for_each(|number| policy.note_fate(number, number % 300 < 5, Duration::ZERO));
        assert!(!policy.is_active());
        (0..20_000).for_each(|number| policy.note_fate(number, number % 60 == 0, Duration::ZERO));
        assert!(policy.is_active(), "single ones again");
    }

    #[test]
    fn neither_congestion_nor_one_loss_is_worth_parity() {
        assert!(!after(20_000, 50, Duration::from_millis(40)).is_active());
        assert!(!after(3_000, 3_000, Duration::ZERO).is_active());
    }

    #[test]
    fn a_short_way_or_a_slow_path_is_left_to_repairs() {
        let policy = after(20_000, 100, Duration::ZERO);
        assert_eq!(policy.busy(Duration::from_millis(20), FAST), None);
        assert_eq!(policy.busy(FAR, BytesPerSecond(100_000)), None);
        assert_eq!(policy.busy(FAR, BytesPerSecond(600_000)).unwrap().interval, 12);
    }

    #[test]
    fn an_idle_path_spends_a_share_of_its_rate() {
        let mut budget = Budget::new(Instant::ZERO);
        let mut spent = 0;
        let slow = BytesPerSecond(200_000);
        for millisecond in 0..10_000 {
            let now = Instant::from_millis(millisecond);
            while budget.allows(now, slow, 1400) {
                budget.take(1400);
                spent += 1400;
            }
        }
        assert!(
            (100_000..140_000).contains(&spent),
            "5 % of 2 MB, and a burst: {spent}"
        );
    }
}
