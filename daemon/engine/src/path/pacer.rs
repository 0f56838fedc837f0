//! When the next datagram may leave: spreads sending over time, so that queues build up here and not in the link.

use std::time::Duration;

use crate::settings::BytesPerSecond;
use crate::time::Instant;

/// Always allowed at once: two full datagrams.
const SMALLEST_BURST: u64 = 2 * 1500;
/// Normally allowed at once: what the rate brings in this time.
const BURST: Duration = Duration::from_millis(1);
/// From this rate on, a whole batch of segmentation offload may leave at once: sending piece by piece would cost more
/// than the 2.6 ms of queue that it makes.
const BATCH_RATE: BytesPerSecond = BytesPerSecond(25_000_000);
const BATCH: u64 = 44 * 1500;
/// A caller that comes late for a datagram that was due may make up for this much.
const LATENESS: Duration = Duration::from_millis(4);

/// Paces one path.
#[derive(Clone, Debug)]
pub struct Pacer {
    rate: BytesPerSecond,
    limit: Option<BytesPerSecond>,
    /// When all that was sent is paid for.
    paid_at: Instant,
    /// The caller had to wait for us.
    waiting: bool,
}

impl Pacer {
    /// A pacer with this rate.
    pub fn new(rate: BytesPerSecond) -> Self {
        Self {
            rate,
            limit: None,
            paid_at: Instant::ZERO,
            waiting: false,
        }
    }

    /// The rate from now on.
    pub fn set_rate(&mut self, now: Instant, rate: BytesPerSecond) {
        self.change(now, rate, self.limit);
    }

    /// The user's limit: never faster than this, whatever the rate.
    pub fn set_limit(&mut self, now: Instant, limit: Option<BytesPerSecond>) {
        self.change(now, self.rate, limit);
    }

    fn change(&mut self, now: Instant, rate: BytesPerSecond, limit: Option<BytesPerSecond>) {
        let before = self.rate();
        self.rate = rate;
        self.limit = limit;
        let after = self.rate();
        if before != after && self.paid_at > now {
            // What was sent is a debt in bytes, not in time.
            let debt = before.bytes_in(nanoseconds(self.paid_at.since(now)));
            self.paid_at = now + Duration::from_nanos(after.nanoseconds(debt));
        }
    }

    /// The rate in force.
    pub fn rate(&self) -> BytesPerSecond {
        let rate = self.limit.map_or(self.rate, |limit| self.rate.min(limit));
        BytesPerSecond(rate.0.max(1))
    }

    /// Bytes that may leave at once after a pause.
    pub fn burst(&self) -> u64 {
        let rate = self.rate();
        let burst = rate.bytes_in(nanoseconds(BURST)).max(SMALLEST_BURST);
        if rate > BATCH_RATE {
            burst.max(BATCH)
        } else {
            burst
        }
    }

    /// Bytes that may leave now.
    pub fn available(&self, now: Instant) -> u64 {
        let rate = self.rate();
        let burst = self.burst();
        let paid_at = self.paid_at.max(self.earliest(now));
        if paid_at <= now {
            burst + rate.bytes_in(nanoseconds(now.since(paid_at)))
        } else {
            burst.saturating_sub(rate.bytes_in(nanoseconds(paid_at.since(now))))
        }
    }

    /// When `bytes` may leave: `now`, or later. More than a burst counts as a burst.
    pub fn ready_at(&mut self, now: Instant, bytes: u64) -> Instant {
        if bytes <= self.available(now) {
            return now;
        }
        let saved = self.burst().saturating_sub(bytes);
        let ready = self.paid_at - Duration::from_nanos(self.rate().nanoseconds(saved));
        if ready > now {
            self.waiting = true;
        }
        ready.max(now)
    }

    /// `bytes` left.
    pub fn on_sent(&mut self, now: Instant, bytes: u64) {
        let rate = self.rate();
        let from = self.paid_at.max(self.earliest(now));
        self.paid_at = from + Duration::from_nanos(rate.nanoseconds(bytes));
        if self.paid_at >= now {
            self.waiting = false;
        }
    }

    /// The caller had nothing to send: what it does not use now is lost to it.
    pub fn on_idle(&mut self) {
        self.waiting = false;
    }

    /// All deadlines move: the caller did not run for that long.
    pub fn on_clock_gap(&mut self, gap: Duration) {
        self.paid_at += gap;
    }

    /// Time before which nothing is saved up.
    fn earliest(&self, now: Instant) -> Instant {
        if self.waiting { now - LATENESS } else { now }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEGABIT: u64 = 125_000;

    /// Bytes that leave in a second if the caller wakes `late` after each deadline.
    fn sent_in_a_second(pacer: &mut Pacer, late: Duration) -> u64 {
        let mut now = Instant::from_millis(1_000);
        let end = Instant::from_millis(2_000);
        let mut bytes = 0;
        while now < end {
            let at = pacer.ready_at(now, 1_500);
            if at > now {
                now = at + late;
                continue;
            }
            pacer.on_sent(now, 1_500);
            bytes += 1_500;
        }
        bytes
    }

    #[test]
    fn keeps_the_rate_for_a_punctual_and_for_a_late_caller() {
        for megabits in [1, 10, 50, 300, 2_000] {
            for late in [0, 300, 1_500, 3_500] {
                let rate = BytesPerSecond(megabits * MEGABIT);
                let mut pacer = Pacer::new(rate);
                let sent = sent_in_a_second(&mut pacer, Duration::from_micros(late));
                let most = rate.0 + pacer.burst() + rate.0 / 200;
                assert!(
                    sent >= rate.0 * 99 / 100 && sent <= most,
                    "{sent} of {} at {megabits} Mbit/s, {late} µs late",
                    rate.0
                );
            }
        }
    }

    #[test]
    fn a_pause_saves_up_one_burst() {
        let mut pacer = Pacer::new(BytesPerSecond(50 * MEGABIT));
        pacer.on_sent(Instant::from_millis(0), 3_000);
        assert_eq!(pacer.available(Instant::from_millis(10_000)), pacer.burst());
        assert_eq!(pacer.burst(), 50 * MEGABIT / 1_000);
    }

    #[test]
    fn fast_paths_send_whole_batches() {
        let mut pacer = Pacer::new(BytesPerSecond(300 * MEGABIT));
        assert!(pacer.burst() >= 44 * 1_500);
        assert_eq!(
            pacer.ready_at(Instant::from_millis(5), 44 * 1_500),
            Instant::from_millis(5)
        );
    }

    #[test]
    fn the_limit_wins_and_a_debt_is_bytes() {
        let now = Instant::from_millis(100);
        let mut pacer = Pacer::new(BytesPerSecond(10 * MEGABIT));
        pacer.on_sent(now, 12_500);
        assert_eq!(pacer.ready_at(now, 3_000), now + Duration::from_nanos(10_000_000));
        pacer.set_limit(now, Some(BytesPerSecond(MEGABIT)));
        assert_eq!(pacer.rate(), BytesPerSecond(MEGABIT));
        assert_eq!(
            pacer.ready_at(now, 3_000),
            now + Duration::from_nanos(100_000_000)
        );
    }

    #[test]
    fn rate_zero_waits_but_does_not_divide_by_it() {
        let now = Instant::from_millis(1);
        let mut pacer = Pacer::new(BytesPerSecond(0));
        pacer.on_sent(now, 3_000);
        assert!(pacer.ready_at(now, 1) > now);
    }
}
