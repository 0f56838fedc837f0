//! Packets received on one path: what to acknowledge, when, and whether something is missing right now.

use std::collections::VecDeque;
use std::time::Duration;

use super::reordering::PACKETS;
use super::way_back::AckPolicy;
use crate::ids::PathId;
use crate::time::Instant;
use crate::wire::frame::{AckFrame, AckRanges};

/// Ranges remembered; more holes than that are taken for lost.
const MOST_RANGES: usize = 64;
/// Holes watched for [`Received::has_recent_gap`].
const MOST_HOLES: usize = 32;
/// How long a hole is news.
const RECENT: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, Debug)]
struct Hole {
    start: u64,
    end: u64,
    missing: u64,
    since: Instant,
}

/// The receiving side of one path.
#[derive(Clone, Debug)]
pub struct Received {
    path: PathId,
    /// Inclusive, ascending, neither touching nor overlapping.
    ranges: VecDeque<(u64, u64)>,
    largest_at: Instant,
    ce: u32,
    holes: VecDeque<Hole>,
    policy: AckPolicy,
    waiting: u32,
    waiting_since: Instant,
    at_once: bool,
    gap_news: bool,
    acked_at: Option<Instant>,
    last_heard: Option<Instant>,
    /// Mean and mean deviation of the time between arrivals, nanoseconds.
    spacing: i64,
    spacing_deviation: i64,
}

impl Received {
    /// Nothing received yet.
    pub fn new(path: PathId) -> Self {
        Self {
            path,
            ranges: VecDeque::with_capacity(MOST_RANGES + 1),
            largest_at: Instant::ZERO,
            ce: 0,
            holes: VecDeque::with_capacity(MOST_HOLES),
            policy: AckPolicy::default(),
            waiting: 0,
            waiting_since: Instant::ZERO,
            at_once: false,
            gap_news: false,
            acked_at: None,
            last_heard: None,
            spacing: 0,
            spacing_deviation: 0,
        }
    }

    /// An authenticated packet arrived. True if it is the first with this number.
    pub fn record(&mut self, now: Instant, number: u64, ack_eliciting: bool, ce: bool) -> bool {
        self.note_arrival(now);
        let largest = self.largest();
        if !self.insert(number) {
            return false;
        }
        self.ce = self.ce.wrapping_add(u32::from(ce));
        match largest {
            Some(largest) if number < largest => self.fill(number),
            Some(largest) if number > largest + 1 => {
                self.largest_at = now;
                self.note_hole(now, largest + 1, number - 1);
                self.gap_news |= ack_eliciting;
            }
            _ => {
                self.largest_at = now;
                self.gap_news |= ack_eliciting && self.proves_loss(number);
            }
        }
        self.at_once |= self.gap_news;
        self.at_once |= ce;
        if ack_eliciting {
            if self.waiting == 0 {
                self.waiting_since = now;
            }
            self.waiting += 1;
        }
        true
    }

    /// True once after a packet arrived that shows that others are missing, and again after the one that proves to the
    /// peer that they are lost: both are worth telling at once (draft-ietf-quic-ack-frequency, "reordering threshold").
    pub fn take_gap_news(&mut self) -> bool {
        std::mem::take(&mut self.gap_news)
    }

    /// How often to acknowledge from now on: after this many datagrams or this time, whichever is first.
    pub fn set_ack_policy(&mut self, policy: AckPolicy) {
        self.policy = policy;
    }

    /// When an acknowledgement is due: maybe in the past, none if nothing waits for one.
    pub fn ack_deadline(&self) -> Option<Instant> {
        if self.waiting == 0 {
            return None;
        }
        let due = if self.at_once || self.waiting >= self.policy.packets {
            Instant::ZERO
        } else {
            self.waiting_since + self.policy.delay
        };
        let allowed = self.acked_at.map_or(Instant::ZERO, |at| at + self.policy.spacing);
        Some(due.max(allowed))
    }

    /// True if something arrived that no acknowledgement told yet: worth putting one into a datagram that leaves anyway.
    pub fn has_news(&self) -> bool {
        self.waiting > 0
    }

    /// The acknowledgement of all that arrived; none before the first packet. What is due stays due until it was
    /// [`told`](Self::told).
    pub fn frame(&self, now: Instant) -> Option<AckFrame> {
        let largest = self.largest()?;
        let mut ranges = AckRanges::new();
        for &(start, end) in self.ranges.iter().rev() {
            if !ranges.push(start, end) {
                break;
            }
        }
        Some(AckFrame {
            path: self.path,
            largest,
            received_at: self.largest_at.as_wire_micros(),
            delay: now.since(self.largest_at),
            ecn_ce: self.ce,
            ranges,
        })
    }

    /// An acknowledgement left; the largest number in it.
    pub fn told(&mut self, now: Instant) -> Option<u64> {
        self.waiting = 0;
        self.at_once = false;
        self.acked_at = Some(now);
        self.largest()
    }

    /// The peer has an acknowledgement whose largest number was this: what lies below needs not be told again.
    pub fn on_ack_of_ack(&mut self, largest: u64) {
        while let Some(&(_, end)) = self.ranges.front() {
            if end > largest || self.ranges.len() == 1 {
                break;
            }
            self.ranges.pop_front();
        }
        if let Some((start, end)) = self.ranges.front_mut() {
            *start = (*start).max(largest.min(*end));
        }
    }

    /// The highest number that arrived.
    pub fn largest(&self) -> Option<u64> {
        self.ranges.back().map(|&(_, end)| end)
    }

    /// True while a packet number is missing that should have arrived within the last 150 ms.
    pub fn has_recent_gap(&self, now: Instant) -> bool {
        self.holes
            .iter()
            .rev()
            .take_while(|hole| now.since(hole.since) < RECENT)
            .any(|hole| hole.missing > 0)
    }

    /// When the newest packet arrived.
    pub fn last_heard(&self) -> Option<Instant> {
        self.last_heard
    }

    /// Silence for longer than this is unusual while the peer sends. At least 1 ms.
    pub fn usual_spacing(&self) -> Duration {
        let usual = self.spacing + 4 * self.spacing_deviation;
        Duration::from_nanos(usual.max(1_000_000).unsigned_abs())
    }

    /// All times move: the caller did not run for that long.
    pub fn on_clock_gap(&mut self, gap: Duration) {
        self.waiting_since += gap;
        if let Some(heard) = &mut self.last_heard {
            *heard += gap;
        }
    }

    fn note_arrival(&mut self, now: Instant) {
        let Some(before) = self.last_heard.replace(now) else {
            return;
        };
        let passed = i64::try_from(now.since(before).as_nanos()).unwrap_or(i64::MAX);
        // What came in one batch is one arrival, and a pause of the peer is not a spacing.
        if passed > 0 {
            let passed = passed.min(2 * self.usual_spacing().as_nanos() as i64 + 5_000_000);
            self.spacing_deviation += ((passed - self.spacing).abs() - self.spacing_deviation) / 16;
            self.spacing += (passed - self.spacing) / 16;
        }
    }

    /// False if the number is there already.
    fn insert(&mut self, number: u64) -> bool {
        // Nearly always the newest, or very near to it.
        let after = self
            .ranges
            .iter()
            .rposition(|&(start, _)| start <= number)
            .map_or(0, |index| index + 1);
        if let Some(index) = after.checked_sub(1) {
            let end = self.ranges[index].1;
            if number <= end {
                return false;
            }
            if number == end + 1 {
                self.ranges[index].1 = number;
                if let Some(&(next, next_end)) = self.ranges.get(after)
                    && next == number + 1
                {
                    self.ranges[index].1 = next_end;
                    self.ranges.remove(after);
                }
                return true;
            }
        }
        if let Some((next, _)) = self.ranges.get_mut(after)
            && *next == number + 1
        {
            *next = number;
            return true;
        }
        self.ranges.insert(after, (number, number));
        if self.ranges.len() > MOST_RANGES {
            self.ranges.pop_front();
        }
        true
    }

    fn note_hole(&mut self, now: Instant, start: u64, end: u64) {
        if self.holes.len() == MOST_HOLES {
            self.holes.pop_front();
        }
        self.holes.push_back(Hole {
            start,
            end,
            missing: end - start + 1,
            since: now,
        });
    }

    /// With this one as many came after a hole as tell the peer that what is missing is lost.
    fn proves_loss(&self, number: u64) -> bool {
        let mut newest = self.holes.iter().rev().take(PACKETS as usize);
        newest.any(|hole| hole.missing > 0 && hole.end + PACKETS == number)
    }

    fn fill(&mut self, number: u64) {
        for hole in self.holes.iter_mut().rev() {
            if hole.start <= number {
                if number <= hole.end {
                    hole.missing = hole.missing.saturating_sub(1);
                }
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Instant {
        Instant::from_millis(milliseconds)
    }

    fn ranges(received: &Received) -> Vec<(u64, u64)> {
        received.frame(ms(0)).unwrap().ranges.iter().collect()
    }

    #[test]
    fn any_order_gives_the_same_ranges_and_each_number_counts_once() {
        let mut state: u64 = 3;
        for _ in 0..200 {
            let mut received = Received::new(PathId(1));
            let mut model = std::collections::BTreeSet::new();
            for _ in 0..60 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let number = (state >> 33) % 50;
                assert_eq!(received.record(ms(1), number, true, false), model.insert(number));
            }
            let told: Vec<u64> = ranges(&received)
                .into_iter()
                .rev()
                .flat_map(|(a, b)| a..=b)
                .collect();
            assert_eq!(told, model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn acknowledges_after_two_or_after_a_while_and_at_once_for_a_hole() {
        let mut received = Received::new(PathId(0));
        assert_eq!(received.ack_deadline(), None);
        received.record(ms(10), 0, true, false);
        assert_eq!(received.ack_deadline(), Some(ms(15)));
        received.record(ms(11), 1, true, false);
        assert!(received.ack_deadline().unwrap() <= ms(11));
        let frame = received.frame(ms(12)).unwrap();
        assert!(received.ack_deadline().is_some(), "it has not left yet");
        assert_eq!(received.told(ms(12)), Some(1));
        assert_eq!((frame.largest, frame.delay), (1, Duration::from_millis(1)));
        assert_eq!(received.ack_deadline(), None);
        received.record(ms(20), 2, false, false);
        assert_eq!(
            received.ack_deadline(),
            None,
            "acknowledgements are not acknowledged"
        );
        received.record(ms(30), 4, true, false);
        assert!(received.ack_deadline().unwrap() <= ms(30));
    }

    #[test]
    fn a_hole_is_news_when_it_opens_and_when_it_is_proved() {
        let mut received = Received::new(PathId(0));
        let mut news = |number| {
            received.record(ms(number), number, true, false);
            received.take_gap_news()
        };
        let told = [0, 1, 3, 4, 5, 6].map(&mut news);
        assert_eq!(told, [false, false, true, false, true, false], "2 is missing");
        let told = [8, 7, 9, 10, 11].map(&mut news);
        assert_eq!(told, [true, false, false, false, false], "7 was merely late");
    }

    #[test]
    fn gaps_are_recent_until_filled_or_old() {
        let mut received = Received::new(PathId(0));
        received.record(ms(0), 0, true, false);
        received.record(ms(1), 3, true, false);
        assert!(received.has_recent_gap(ms(2)));
        received.record(ms(3), 1, true, false);
        assert!(received.has_recent_gap(ms(3)));
        received.record(ms(3), 2, true, false);
        assert!(!received.has_recent_gap(ms(3)));
        received.record(ms(4), 6, true, false);
        assert!(received.has_recent_gap(ms(153)));
        assert!(!received.has_recent_gap(ms(155)));
    }

    #[test]
    fn memory_is_bounded_and_old_ranges_go_when_the_peer_knows_them() {
        let mut received = Received::new(PathId(0));
        for number in 0..100_000 {
            received.record(ms(number), number * 2, true, false);
        }
        assert_eq!(received.ranges.len(), MOST_RANGES);
        assert_eq!(
            received.frame(ms(0)).unwrap().ranges.len(),
            crate::wire::frame::MAX_ACK_RANGES
        );
        received.on_ack_of_ack(199_990);
        assert!(received.ranges.len() <= 5);
        assert_eq!(received.largest(), Some(199_998));
        received.on_ack_of_ack(u64::MAX);
        assert_eq!(ranges(&received), [(199_998, 199_998)]);
    }

    #[test]
    fn spacing_follows_the_traffic_but_not_its_pauses() {
        let mut received = Received::new(PathId(0));
        for number in 0..200 {
            received.record(ms(number * 2), number, true, false);
        }
        received.record(ms(60_000), 200, true, false);
        assert!(received.usual_spacing() >= Duration::from_millis(2));
        assert!(
            received.usual_spacing() <= Duration::from_millis(6),
            "{:?}",
            received.usual_spacing()
        );
    }
}
