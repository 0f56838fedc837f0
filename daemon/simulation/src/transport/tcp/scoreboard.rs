//! What a TCP sender knows of each segment in flight: selective acknowledgements, RACK's losses, delivery rates.

use std::collections::VecDeque;
use std::time::Duration;

use sennit_engine::time::Instant;

/// One segment that is not yet acknowledged cumulatively.
#[derive(Clone, Copy, Debug)]
struct Segment {
    start: u64,
    end: u64,
    sent: Instant,
    sacked: bool,
    lost: bool,
    resent: u32,
    /// The connection's `delivered`, when that was, and when the flight it measures began, as it was sent.
    delivered: u64,
    delivered_at: Instant,
    flight_began: Instant,
    application_limited: bool,
}

/// What one acknowledgement brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Acknowledged {
    /// Bytes newly known as delivered.
    pub(super) delivered: u64,
    /// The left edge moved.
    pub(super) advanced: bool,
    /// Of the newest segment that was sent only once.
    pub(super) round_trip: Option<Duration>,
    /// Bytes per second.
    pub(super) rate: Option<f64>,
    /// The sender had nothing to send when the sample began.
    pub(super) application_limited: bool,
    /// `delivered` of the connection when the newest of these segments was sent.
    pub(super) delivered_before: u64,
}

/// All segments in flight, by offset in the stream.
#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    segments: VecDeque<Segment>,
    sacked: u64,
    lost: u64,
    outstanding: u64,
    delivered: u64,
    delivered_at: Instant,
    flight_began: Instant,
    application_limited_until: u64,
    /// Highest offset known as delivered.
    highest: u64,
    newest: (Instant, u64),
    latest_round_trip: Duration,
    minimum: Option<Duration>,
    reordering_seen: bool,
    steps: u32,
    step_at: u64,
    recoveries_left: u32,
}

impl Scoreboard {
    /// Bytes that the network should hold.
    pub(super) fn in_flight(&self) -> u64 {
        self.outstanding - self.sacked - self.lost
    }

    /// Nothing is unacknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes delivered since the beginning.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The shortest round trip.
    pub(super) fn minimum(&self) -> Option<Duration> {
        self.minimum
    }

    /// Nothing is known to have arrived beyond a hole.
    pub(super) fn has_no_holes(&self) -> bool {
        self.sacked == 0 && self.lost == 0
    }

    /// New data up to `end` go out.
    pub(super) fn send(&mut self, now: Instant, start: u64, end: u64) {
        if self.outstanding == self.sacked + self.lost {
            self.flight_began = now;
            self.delivered_at = now;
        }
        self.segments.push_back(Segment {
            start,
            end,
            sent: now,
            sacked: false,
            lost: false,
            resent: 0,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            flight_began: self.flight_began,
            application_limited: self.application_limited_until > self.delivered,
        });
        self.outstanding += end - start;
    }

    /// The sender has nothing to send though it could.
    pub(super) fn limited_by_application(&mut self) {
        self.application_limited_until = (self.delivered + self.in_flight()).max(1);
    }

    /// The first lost segment that was not sent again.
    pub(super) fn first_lost(&self) -> Option<(u64, u64)> {
        if self.lost == 0 {
            return None;
        }
        (self.segments.iter())
            .find(|segment| segment.lost)
            .map(|segment| (segment.start, segment.end))
    }

    /// The last segment, for a tail loss probe.
    pub(super) fn last(&self) -> Option<(u64, u64)> {
        (self.segments.iter().rev())
            .find(|segment| !segment.sacked)
            .map(|segment| (segment.start, segment.end))
    }

    /// The segment at `start` goes out again.
    pub(super) fn resend(&mut self, now: Instant, start: u64) {
        let (delivered, delivered_at, flight_began) = (self.delivered, self.delivered_at, self.flight_began);
        let Ok(index) = self
            .segments
            .binary_search_by_key(&start, |segment| segment.start)
        else {
            return;
        };
        let segment = &mut self.segments[index];
        if segment.lost {
            segment.lost = false;
            self.lost -= segment.end - segment.start;
        }
        segment.sent = now;
        segment.resent += 1;
        segment.delivered = delivered;
        segment.delivered_at = delivered_at;
        segment.flight_began = flight_began;
    }

    /// A retransmission time-out: all that was not selectively acknowledged counts as lost.
    pub(super) fn lose_all(&mut self) {
        for segment in &mut self.segments {
            if !segment.sacked && !segment.lost {
                segment.lost = true;
                self.lost += segment.end - segment.start;
            }
        }
    }

    /// A mistake is taken back: what was marked lost is in flight still.
    pub(super) fn lose_none(&mut self) {
        for segment in &mut self.segments {
            segment.lost = false;
        }
        self.lost = 0;
    }

    /// Takes an acknowledgement of all below `left` and of the blocks.
    pub(super) fn acknowledge(&mut self, now: Instant, left: u64, blocks: &[(u64, u64)]) -> Acknowledged {
        let mut result = Acknowledged::default();
        let mut newest: Option<Segment> = None;
        while let Some(front) = self.segments.front_mut()
            && front.start < left
        {
            result.advanced = true;
            if front.end > left {
                let part = left - front.start;
                self.outstanding -= part;
                if front.lost {
                    self.lost -= part;
                }
                if front.sacked {
                    self.sacked -= part;
                } else {
                    self.delivered += part;
                    result.delivered += part;
                }
                front.start = left;
                break;
            }
            let segment = *front;
            self.segments.pop_front();
            let length = segment.end - segment.start;
            self.outstanding -= length;
            if segment.sacked {
                self.sacked -= length;
                continue;
            }
            if segment.lost {
                self.lost -= length;
            }
            result.delivered += length;
            self.note_delivery(now, &segment, &mut newest, &mut result);
        }
        for (from, to) in blocks {
            let mut index = self.segments.partition_point(|segment| segment.start < *from);
            while let Some(segment) = self.segments.get_mut(index)
                && segment.end <= *to
            {
                index += 1;
                if segment.sacked {
                    continue;
                }
                segment.sacked = true;
                let length = segment.end - segment.start;
                if segment.lost {
                    segment.lost = false;
                    self.lost -= length;
                }
                self.sacked += length;
                let segment = *segment;
                result.delivered += length;
                self.note_delivery(now, &segment, &mut newest, &mut result);
            }
        }
        for (_, to) in blocks {
            self.highest = self.highest.max(*to);
        }
        self.highest = self.highest.max(left);
        if result.delivered > 0 {
            self.delivered_at = now;
        }
        if let Some(segment) = newest {
            let sending = segment.sent.since(segment.flight_began);
            let acknowledging = now.since(segment.delivered_at);
            let interval = sending.max(acknowledging);
            if self.minimum.is_some_and(|minimum| interval >= minimum) {
                result.rate = Some((self.delivered - segment.delivered) as f64 / interval.as_secs_f64());
            }
            result.application_limited = segment.application_limited;
            result.delivered_before = segment.delivered;
            self.flight_began = segment.sent;
        }
        result
    }

    fn note_delivery(
        &mut self,
        now: Instant,
        segment: &Segment,
        newest: &mut Option<Segment>,
        result: &mut Acknowledged,
    ) {
        self.delivered += segment.end - segment.start;
        let round_trip = now.since(segment.sent);
        if segment.resent == 0 {
            if segment.end < self.highest && !segment.lost {
                self.reordering_seen = true;
            }
            if segment.end < self.highest && segment.lost {
                // Marked lost but not yet sent again, and it came: reordering, too.
                self.reordering_seen = true;
            }
            self.minimum = Some(self.minimum.map_or(round_trip, |minimum| minimum.min(round_trip)));
            result.round_trip = Some(round_trip);
        } else if self.minimum.is_some_and(|minimum| round_trip < minimum) {
            // The original arrived, not what was sent last.
            return;
        }
        if (segment.sent, segment.end) > self.newest {
            self.newest = (segment.sent, segment.end);
            self.latest_round_trip = round_trip;
        }
        if newest.is_none_or(|other| (other.delivered, other.end) < (segment.delivered, segment.end)) {
            *newest = Some(*segment);
        }
    }

    /// The receiver had a segment twice: wait longer for reordered ones, at most once in a round trip.
    pub(super) fn seen_twice(&mut self, next: u64) {
        if self.highest >= self.step_at {
            self.steps = (self.steps + 1).min(64);
            self.step_at = next;
            self.recoveries_left = 16;
        }
    }

    /// A recovery has ended; after 16 without a mistake the patience is forgotten.
    pub(super) fn recovered(&mut self) {
        self.recoveries_left = self.recoveries_left.saturating_sub(1);
        if self.recoveries_left == 0 {
            self.steps = 0;
        }
    }

    /// Marks what RACK takes for lost. Returns the bytes, and when to look again.
    pub(super) fn detect(
        &mut self,
        now: Instant,
        in_recovery: bool,
        smoothed: Duration,
        segment_size: u64,
    ) -> (u64, Option<Instant>) {
        if self.sacked == 0 && self.outstanding == self.lost {
            return (0, None);
        }
        let patience = if !self.reordering_seen && (in_recovery || self.sacked >= 3 * segment_size) {
            Duration::ZERO
        } else {
            let minimum = self.minimum.unwrap_or(smoothed);
            (minimum / 4 * (self.steps + 1)).min(smoothed)
        };
        let allowed = self.latest_round_trip + patience;
        let (mut bytes, mut again) = (0, None::<Instant>);
        for segment in &mut self.segments {
            if segment.start >= self.highest && segment.resent == 0 {
                break;
            }
            if segment.sacked || segment.lost || (segment.sent, segment.end) >= self.newest {
                continue;
            }
            let due = segment.sent + allowed;
            if due <= now {
                segment.lost = true;
                bytes += segment.end - segment.start;
            } else {
                again = Some(again.map_or(due, |other| other.max(due)));
            }
        }
        self.lost += bytes;
        (bytes, again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::from_millis(milliseconds)
    }

    fn board(count: u64) -> Scoreboard {
        let mut board = Scoreboard::default();
        for index in 0..count {
            board.send(at(index), index * 1000, (index + 1) * 1000);
        }
        board
    }

    #[test]
    fn a_hole_below_three_segments_is_lost() {
        let mut board = board(6);
        board.acknowledge(at(20), 1000, &[]);
        board.acknowledge(at(22), 1000, &[(2000, 5000)]);
        let (lost, _) = board.detect(at(24), false, Duration::from_millis(20), 1000);
        assert_eq!(lost, 1000);
        assert_eq!(board.first_lost(), Some((1000, 2000)));
        assert_eq!(board.in_flight(), 1000);
    }

    #[test]
    fn one_segment_overtaken_is_given_time() {
        let mut board = board(6);
        board.acknowledge(at(20), 1000, &[(2000, 3000)]);
        let (lost, again) = board.detect(at(20), false, Duration::from_millis(20), 1000);
        assert_eq!(lost, 0);
        assert!(again.is_some());
    }

    #[test]
    fn after_reordering_was_seen_three_segments_are_no_proof() {
        let mut board = board(8);
        board.acknowledge(at(20), 1000, &[(2000, 5000)]);
        board.acknowledge(at(20), 5000, &[]);
        board.acknowledge(at(21), 5000, &[(6000, 8000)]);
        let (lost, again) = board.detect(at(21), false, Duration::from_millis(20), 1000);
        assert_eq!((lost, again.is_some()), (0, true));
    }

    #[test]
    fn counts_agree_after_everything_is_acknowledged() {
        let mut board = board(10);
        board.acknowledge(at(20), 1500, &[(3000, 4000), (6000, 9000)]);
        board.detect(at(40), false, Duration::from_millis(20), 1000);
        board.resend(at(41), 2000);
        board.acknowledge(at(60), 10_000, &[]);
        assert!(board.is_empty() && board.has_no_holes());
        assert_eq!((board.in_flight(), board.delivered()), (0, 10_000));
    }
}
