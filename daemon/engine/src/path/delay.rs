//! One-way delay to the peer, relative: our sending times against the peer's times of reception.
//!
//! The two clocks are not set by each other, so that a delay means nothing alone; but all paths of a session compare
//! the same two clocks, and the difference between two paths is exact. [`PeerClock`], shared by the estimators of a
//! session, keeps it so when 32 bits wrap or a clock is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::extremum::WindowedMinimum;
use crate::time::Instant;

/// A measurement is old after this time.
pub const STALE: Duration = Duration::from_millis(50);
const BASE_WINDOW: Duration = Duration::from_secs(10);
/// A change of delay must pass what is physically possible by this much to be a clock that was set.
const STEP_MARGIN: i64 = 50_000_000;

/// Where the peer's clock stands against ours, common to all paths of a session.
#[derive(Clone, Debug, Default)]
pub struct PeerClock {
    /// Microseconds, modulo 2^32; bit 32 says that they are known. Atomic only so that a session can move between
    /// threads; nobody else changes it.
    anchor: Arc<AtomicU64>,
}

impl PeerClock {
    /// Nothing known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The delay of a packet in nanoseconds, against the session's anchor.
    fn delay(&self, sent: Instant, received_at: u32) -> i64 {
        let difference = received_at.wrapping_sub(sent.as_wire_micros());
        let known = self.anchor.load(Ordering::Relaxed);
        let anchor = if known == 0 {
            self.anchor
                .store(u64::from(difference) | 1 << 32, Ordering::Relaxed);
            difference
        } else {
            known as u32
        };
        i64::from(difference.wrapping_sub(anchor) as i32) * 1_000
    }

    /// The peer's clock went forward by this against ours.
    fn step(&self, nanoseconds: i64) {
        let anchor = self.anchor.load(Ordering::Relaxed) as u32;
        let moved = anchor.wrapping_add((nanoseconds / 1_000) as u32);
        self.anchor.store(u64::from(moved) | 1 << 32, Ordering::Relaxed);
    }
}

/// One path's relative one-way delay, in nanoseconds.
#[derive(Clone, Debug)]
pub struct DelayEstimator {
    clock: PeerClock,
    base: WindowedMinimum<i64>,
    last: Option<Sample>,
    updated: Instant,
    smoothed: i64,
    deviation: i64,
    quantile: i64,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    delay: i64,
    /// From sending to the acknowledgement's arrival: the true delay is between zero and this.
    round_trip: i64,
}

impl DelayEstimator {
    /// Nothing measured yet; `clock` is the session's.
    pub fn new(clock: &PeerClock) -> Self {
        Self {
            clock: clock.clone(),
            base: WindowedMinimum::new(BASE_WINDOW),
            last: None,
            updated: Instant::ZERO,
            smoothed: 0,
            deviation: 0,
            quantile: 0,
        }
    }

    /// One measurement, acknowledged at `now`: sent at `sent`, received at `received_at` by the peer's clock.
    pub fn update(&mut self, now: Instant, sent: Instant, received_at: u32) {
        let round_trip = i64::try_from(now.since(sent).as_nanos()).unwrap_or(i64::MAX);
        let mut delay = self.clock.delay(sent, received_at);
        let Some(last) = self.last else {
            self.start(now, Sample { delay, round_trip });
            return;
        };
        let change = delay - last.delay;
        if change > round_trip.saturating_add(STEP_MARGIN)
            || -change > last.round_trip.saturating_add(STEP_MARGIN)
        {
            // No delay can change so much: a clock was set. All paths see the new time from now on.
            self.clock.step(change);
            delay = last.delay;
        }
        self.last = Some(Sample { delay, round_trip });
        self.base.update(now, delay);
        self.deviation += ((delay - self.smoothed).abs() - self.deviation) / 4;
        // Where little is sent, what came before is long past.
        let part = if now.since(self.updated) < STALE { 8 } else { 2 };
        self.updated = now;
        self.smoothed += (delay - self.smoothed) / part;
        // Moves up nineteen times as far as down, so that it rests where one of twenty samples is above.
        let unit = self.deviation / 40 + 1;
        self.quantile += if delay > self.quantile { 19 * unit } else { -unit };
    }

    fn start(&mut self, now: Instant, sample: Sample) {
        self.last = Some(sample);
        self.updated = now;
        self.base.update(now, sample.delay);
        self.smoothed = sample.delay;
        self.quantile = sample.delay;
    }

    /// The way has become longer: what was the path without queues is none any more.
    pub fn forget_base(&mut self, now: Instant) {
        if let Some(last) = self.last {
            self.base.clear();
            self.base.update(now, last.delay);
        }
    }

    /// When the newest measurement came.
    pub fn updated(&self) -> Instant {
        self.updated
    }

    /// The newest measurement.
    pub fn current(&self) -> Option<i64> {
        self.last.map(|sample| sample.delay)
    }

    /// Exponentially weighted mean.
    pub fn smoothed(&self) -> Option<i64> {
        self.last.map(|_| self.smoothed)
    }

    /// Smallest of the last 10 s: the path without queues.
    pub fn base(&self) -> Option<i64> {
        self.base.value()
    }

    /// What 95 of 100 packets stay under.
    pub fn quantile95(&self) -> Option<i64> {
        self.last.map(|_| self.quantile)
    }

    /// How much of the smoothed delay is queue (or variation of a radio link).
    pub fn queue(&self) -> Duration {
        Duration::from_nanos(
            self.base()
                .map_or(0, |base| (self.smoothed - base).max(0).unsigned_abs()),
        )
    }

    /// How much of the newest delay is queue.
    pub fn current_queue(&self) -> Duration {
        match (self.last, self.base()) {
            (Some(last), Some(base)) => Duration::from_nanos((last.delay - base).max(0).unsigned_abs()),
            _ => Duration::ZERO,
        }
    }

    /// Mean deviation from the mean.
    pub fn deviation(&self) -> Duration {
        Duration::from_nanos(self.deviation.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Feeds packets of a path with this delay, 10 ms apart; the peer's clock is ahead by `offset` µs.
    fn feed(delay: &mut DelayEstimator, from_ms: u64, count: u64, owd_ms: u64, offset: u32) {
        for step in 0..count {
            let sent = Instant::from_nanos((from_ms + step * 10) * MS);
            let received = sent + Duration::from_millis(owd_ms);
            let now = received + Duration::from_millis(owd_ms);
            delay.update(now, sent, received.as_wire_micros().wrapping_add(offset));
        }
    }

    fn difference_ms(a: &DelayEstimator, b: &DelayEstimator) -> i64 {
        (a.current().unwrap() - b.current().unwrap()) / 1_000_000
    }

    #[test]
    fn differences_of_paths_are_exact_at_any_offset() {
        for offset in [
            0,
            1,
            0x7fff_ffff,
            0x8000_0000,
            0x7fff_ffff - 12_000,
            u32::MAX - 30_000,
            u32::MAX,
        ] {
            let clock = PeerClock::new();
            let (mut fast, mut slow) = (DelayEstimator::new(&clock), DelayEstimator::new(&clock));
            feed(&mut fast, 0, 10, 10, offset);
            feed(&mut slow, 0, 10, 35, offset);
            assert_eq!(difference_ms(&slow, &fast), 25, "offset {offset}");
        }
    }

    #[test]
    fn wire_time_wraps_without_notice() {
        let clock = PeerClock::new();
        let mut delay = DelayEstimator::new(&clock);
        // 2^32 µs are 4,294,967 ms.
        feed(&mut delay, 4_294_900, 100, 20, 0);
        assert_eq!(delay.deviation(), Duration::ZERO);
        assert_eq!(delay.queue(), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_is_set_moves_all_paths_together() {
        for step in [5_000_000u32, 5_000_000u32.wrapping_neg(), 1_800_000_000] {
            let clock = PeerClock::new();
            let (mut fast, mut slow) = (DelayEstimator::new(&clock), DelayEstimator::new(&clock));
            feed(&mut fast, 0, 10, 10, 7);
            feed(&mut slow, 0, 10, 35, 7);
            feed(&mut fast, 200, 3, 10, step.wrapping_add(7));
            assert_eq!(difference_ms(&slow, &fast), 25, "before the slow path saw it");
            feed(&mut slow, 200, 3, 35, step.wrapping_add(7));
            assert_eq!(difference_ms(&slow, &fast), 25);
            assert!(slow.queue() < Duration::from_millis(1) && fast.queue() < Duration::from_millis(1));
        }
    }

    #[test]
    fn queue_is_what_lies_above_the_base() {
        let mut delay = DelayEstimator::new(&PeerClock::new());
        feed(&mut delay, 0, 10, 10, 0);
        feed(&mut delay, 100, 100, 40, 0);
        assert_eq!(delay.current_queue(), Duration::from_millis(30));
        assert!(delay.queue() > Duration::from_millis(29));
    }

    #[test]
    fn the_quantile_rests_where_one_of_twenty_is_above() {
        let mut delay = DelayEstimator::new(&PeerClock::new());
        let mut above = 0;
        let mut state: u64 = 1;
        for step in 0..20_000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let owd = Duration::from_micros(20_000 + (state >> 33) % 20_000);
            let sent = Instant::from_nanos(step * MS);
            let received = sent + owd;
            let before = delay.quantile95();
            delay.update(received + owd, sent, received.as_wire_micros());
            if step >= 10_000 && before.is_some_and(|quantile| delay.current().unwrap() > quantile) {
                above += 1;
            }
        }
        assert!((300..=700).contains(&above), "{above} of 10000");
    }
}
