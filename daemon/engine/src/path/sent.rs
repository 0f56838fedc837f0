//! Packets sent on one path until they are acknowledged: what is in flight, what was lost, and when that is certain.
//!
//! A packet is lost when a later one was acknowledged and enough time went by since it was sent; on a path that keeps
//! its order three later packets are enough. A packet that was declared lost and is acknowledged all the same was
//! merely late: it is reported as such, and the path is given more time from then on.

use std::collections::VecDeque;
use std::time::Duration;

use super::delay::DelayEstimator;
use super::rate::{Newest, RateEstimator, RateSample, Snapshot};
use super::reordering::Reordering;
use super::rtt::RttEstimator;
use crate::ids::PathId;
use crate::time::Instant;
use crate::wire::frame::{AckFrame, AckRanges};

/// Packets without a fate at most; nothing more may be sent before old ones are acknowledged or lost. Half of the
/// peer's replay window.
pub const MOST_OUTSTANDING: usize = 8192;
/// How long a lost packet is remembered, so that a late acknowledgement is recognised.
const REMEMBER: Duration = Duration::from_secs(1);
const MOST_LATE: usize = 4096;

/// A packet that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent<T> {
    /// Its number.
    pub number: u64,
    /// When it left.
    pub sent: Instant,
    /// Its size, IP header included.
    pub bytes: u32,
    /// It wanted an acknowledgement; others may get lost without anybody noticing.
    pub ack_eliciting: bool,
    /// It had been declared lost before.
    pub was_lost: bool,
    /// What the session attached.
    pub contents: T,
}

/// What an acknowledgement brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckOutcome {
    /// Bytes newly acknowledged, late ones included.
    pub newly_acked_bytes: u64,
    /// Bytes newly declared lost.
    pub lost_bytes: u64,
    /// When the newest of the packets newly declared lost was sent.
    pub newest_lost_sent: Instant,
    /// Delivery rate, for the congestion control; none if nothing was newly acknowledged.
    pub rate_sample: Option<RateSample>,
    /// Packets that had been declared lost and were only late.
    pub spurious: u32,
    /// Their bytes.
    pub spurious_bytes: u64,
    /// Congestion marks newly reported.
    pub ce: u32,
    /// When the newest of the newly acknowledged packets was sent.
    pub newest_sent: Option<Instant>,
    /// The frame acknowledges what was never sent; nothing of it was used.
    pub invalid: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unknown,
    Lost(Instant),
    Acked,
}

#[derive(Debug)]
struct Slot<T> {
    sent: Instant,
    bytes: u32,
    ack_eliciting: bool,
    fate: Fate,
    snapshot: Snapshot,
    contents: Option<T>,
}

/// The packets of one path.
#[derive(Debug)]
pub struct SentPackets<T> {
    path: PathId,
    /// Packets `base`, `base + 1`, …
    slots: VecDeque<Slot<T>>,
    base: u64,
    /// Lost packets below `base`, which may still turn out to be late; ascending.
    late: VecDeque<(u64, Slot<T>)>,
    in_flight: u64,
    /// No packet before this one waits for its fate.
    oldest_open: u64,
    largest_acked: Option<u64>,
    /// Ranges of the newest acknowledgement: what they cover is done.
    covered: AckRanges,
    /// The newest packet whose round trip was measured, and that whose delay was.
    rtt_measured: Option<u64>,
    delay_measured: Option<u64>,
    /// The packet `largest_acked`, for a copy of its acknowledgement that takes another way.
    largest_sent_at: Instant,
    ecn_ce: u32,
    reordering: Reordering,
    rate: RateEstimator,
    loss_deadline: Option<Instant>,
}

impl<T: Clone> SentPackets<T> {
    /// Nothing sent yet.
    pub fn new(path: PathId) -> Self {
        Self {
            path,
            slots: VecDeque::with_capacity(64),
            base: 0,
            late: VecDeque::with_capacity(64),
            in_flight: 0,
            oldest_open: 0,
            largest_acked: None,
            covered: AckRanges::new(),
            rtt_measured: None,
            delay_measured: None,
            largest_sent_at: Instant::ZERO,
            ecn_ce: 0,
            reordering: Reordering::new(),
            rate: RateEstimator::new(),
            loss_deadline: None,
        }
    }

    /// The number of the next packet.
    pub fn next_number(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    /// No more may be sent before something is acknowledged or forgotten.
    pub fn is_full(&self) -> bool {
        self.slots.len() >= MOST_OUTSTANDING
    }

    /// Bytes of packets that want an acknowledgement and are neither acknowledged nor lost.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// The highest number that was acknowledged.
    pub fn largest_acked(&self) -> Option<u64> {
        self.largest_acked
    }

    /// Packet `number`, which must be [`Self::next_number`], left with `bytes`, IP header included. `app_limited`:
    /// there is room for more, and nothing to send.
    pub fn on_sent(
        &mut self,
        now: Instant,
        number: u64,
        bytes: u32,
        ack_eliciting: bool,
        app_limited: bool,
        contents: T,
    ) {
        debug_assert_eq!(number, self.next_number(), "packet numbers have no gaps");
        self.forget(now);
        let snapshot = self.rate.on_sent(now, self.in_flight);
        if ack_eliciting {
            self.in_flight += u64::from(bytes);
        }
        if app_limited {
            self.rate.on_app_limited(self.in_flight);
        }
        self.slots.push_back(Slot {
            sent: now,
            bytes,
            ack_eliciting,
            fate: Fate::Unknown,
            snapshot,
            contents: Some(contents),
        });
    }

    /// There is room, and nothing to send.
    pub fn on_app_limited(&mut self) {
        self.rate.on_app_limited(self.in_flight);
    }

    /// An acknowledgement came; `same_path`: on the path that it is about. Acknowledged and lost packets are appended
    /// to `acked` and `lost`.
    #[allow(clippy::too_many_arguments)] // the session's buffers and the path's estimators live longer than a call
    pub fn on_ack(
        &mut self,
        now: Instant,
        frame: &AckFrame,
        same_path: bool,
        rtt: &mut RttEstimator,
        delay: &mut DelayEstimator,
        acked: &mut Vec<Sent<T>>,
        lost: &mut Vec<Sent<T>>,
    ) -> AckOutcome {
        let mut outcome = AckOutcome::default();
        let mut frame = frame.clone();
        if frame.path != self.path || !frame.expand(self.next_number()) {
            outcome.invalid = true;
            return outcome;
        }
        let before_largest = self.largest_acked;
        let newest = self.take_acknowledged(&frame, acked, &mut outcome);
        if before_largest.is_none_or(|before| frame.largest >= before) {
            self.covered = frame.ranges.clone();
            outcome.ce = frame.ecn_ce.wrapping_sub(self.ecn_ce).min(1 << 16);
            self.ecn_ce = frame.ecn_ce;
        }
        self.measure(now, &frame, same_path, newest, rtt, delay);
        outcome.newest_sent = newest.map(|(_, newest)| newest.sent);
        if outcome.spurious > 0 {
            self.reordering.on_spurious(now, rtt);
        }
        self.declare_lost(now, rtt, lost, &mut outcome);
        if let Some((number, newest)) = newest {
            let received_at = (number == frame.largest).then_some(frame.received_at);
            outcome.rate_sample = Some(RateSample {
                newly_acked: outcome.newly_acked_bytes,
                ce: outcome.ce,
                rtt: if self.rtt_measured == Some(number) {
                    rtt.latest()
                } else {
                    Duration::ZERO
                },
                queue_delay: delay.current_queue(),
                ..self.rate.sample(now, newest, received_at)
            });
        }
        self.forget(now);
        outcome
    }

    /// Declares packets lost whose time is over; call at [`Self::loss_deadline`].
    pub fn detect_losses(&mut self, now: Instant, rtt: &RttEstimator, lost: &mut Vec<Sent<T>>) -> AckOutcome {
        let mut outcome = AckOutcome::default();
        self.declare_lost(now, rtt, lost, &mut outcome);
        self.forget(now);
        outcome
    }

    /// When a packet will be lost unless it is acknowledged before.
    pub fn loss_deadline(&self) -> Option<Instant> {
        self.loss_deadline
    }

    /// When the oldest packet left that wants an acknowledgement and is neither acknowledged nor lost.
    pub fn oldest_unacknowledged(&self) -> Option<Instant> {
        self.open()
            .find(|(_, slot)| slot.ack_eliciting)
            .map(|(_, slot)| slot.sent)
    }

    /// How many packets that left by `until` wait for an answer, and when the newest of them left.
    pub fn unacknowledged_until(&self, until: Instant) -> (usize, Option<Instant>) {
        let mut count = 0;
        let mut newest = None;
        for (_, slot) in self.open().take_while(|(_, slot)| slot.sent <= until) {
            if slot.ack_eliciting {
                count += 1;
                newest = Some(slot.sent);
            }
        }
        (count, newest)
    }

    /// Shows every packet with contents that left by `until` and of which no acknowledgement came, oldest first.
    pub fn for_each_unacknowledged(&self, until: Instant, mut show: impl FnMut(u64, Instant, &T)) {
        for (number, slot) in self.open().take_while(|(_, slot)| slot.sent <= until) {
            if let Some(contents) = &slot.contents {
                show(number, slot.sent, contents);
            }
        }
    }

    /// The path died: everything without a fate is lost, and nothing is in flight. Late acknowledgements are still
    /// recognised.
    pub fn take_all(&mut self, now: Instant, lost: &mut Vec<Sent<T>>) {
        let first = (self.oldest_open.max(self.base) - self.base) as usize;
        for index in first..self.slots.len() {
            if self.slots[index].fate == Fate::Unknown {
                self.lose(now, index, lost);
            }
        }
        self.in_flight = 0;
        self.oldest_open = self.next_number();
        self.loss_deadline = None;
    }

    /// All times move: the caller did not run for that long.
    pub fn on_clock_gap(&mut self, gap: Duration) {
        if let Some(deadline) = &mut self.loss_deadline {
            *deadline += gap;
        }
    }

    /// Packets whose fate is open, with their numbers.
    fn open(&self) -> impl Iterator<Item = (u64, &Slot<T>)> {
        let first = (self.oldest_open.max(self.base) - self.base) as usize;
        self.slots
            .iter()
            .enumerate()
            .skip(first)
            .filter(|(_, slot)| slot.fate == Fate::Unknown)
            .map(|(index, slot)| (self.base + index as u64, slot))
    }

    /// Marks what the frame acknowledges and earlier ones did not. Returns the newest of it.
    fn take_acknowledged(
        &mut self,
        frame: &AckFrame,
        acked: &mut Vec<Sent<T>>,
        outcome: &mut AckOutcome,
    ) -> Option<(u64, Newest)> {
        let mut newest = None;
        let covered = std::mem::take(&mut self.covered);
        let mut done = covered.as_slice();
        for (start, end) in frame.ranges.iter() {
            self.acknowledge_late(start, end, acked, outcome);
            let start = start.max(self.base);
            let mut number = end;
            while number >= start {
                // Skip what an earlier frame covered: frames repeat themselves, and ranges are long.
                while let [(first, _), rest @ ..] = done {
                    if *first <= number {
                        break;
                    }
                    done = rest;
                }
                if let Some(&(first, last)) = done.first()
                    && number <= last
                {
                    let Some(below) = first.checked_sub(1) else {
                        break;
                    };
                    number = below;
                    continue;
                }
                if let Some(found) = self.acknowledge(number, acked, outcome) {
                    newest = newest.or(Some((number, found)));
                }
                let Some(below) = number.checked_sub(1) else {
                    break;
                };
                number = below;
            }
        }
        self.covered = covered;
        self.largest_acked = self.largest_acked.max(Some(frame.largest));
        newest
    }

    /// One packet is acknowledged; what is known of it, if that is new.
    fn acknowledge(
        &mut self,
        number: u64,
        acked: &mut Vec<Sent<T>>,
        outcome: &mut AckOutcome,
    ) -> Option<Newest> {
        let slot = self.slots.get_mut(usize::try_from(number - self.base).ok()?)?;
        if slot.fate == Fate::Unknown && slot.ack_eliciting {
            self.in_flight -= u64::from(slot.bytes);
        }
        settle(slot, number, &mut self.rate, acked, outcome)
    }

    /// Lost packets of this range, below `base`, that were merely late.
    fn acknowledge_late(&mut self, start: u64, end: u64, acked: &mut Vec<Sent<T>>, outcome: &mut AckOutcome) {
        if start >= self.base || self.late.is_empty() {
            return;
        }
        let first = self.late.partition_point(|(number, _)| *number < start);
        for (number, slot) in self.late.iter_mut().skip(first) {
            if *number > end {
                break;
            }
            settle(slot, *number, &mut self.rate, acked, outcome);
        }
    }

    /// Feeds the estimators of round trip and delay with the frame's largest packet.
    fn measure(
        &mut self,
        now: Instant,
        frame: &AckFrame,
        same_path: bool,
        newest: Option<(u64, Newest)>,
        rtt: &mut RttEstimator,
        delay: &mut DelayEstimator,
    ) {
        let largest = frame.largest;
        let sent = match newest {
            Some((number, newest)) if number == largest => {
                self.largest_sent_at = newest.sent;
                newest.sent
            }
            // The same acknowledgement came on another path before.
            _ if self.delay_measured == Some(largest) => self.largest_sent_at,
            _ => return,
        };
        if self.delay_measured.is_none_or(|before| largest > before) {
            self.delay_measured = Some(largest);
            delay.update(now, sent, frame.received_at);
        }
        if same_path && self.rtt_measured.is_none_or(|before| largest > before) {
            self.rtt_measured = Some(largest);
            rtt.update(now.since(sent), frame.delay, now);
        }
    }

    fn declare_lost(
        &mut self,
        now: Instant,
        rtt: &RttEstimator,
        lost: &mut Vec<Sent<T>>,
        outcome: &mut AckOutcome,
    ) {
        self.loss_deadline = None;
        let Some(largest) = self.largest_acked else {
            return;
        };
        let patience = self.reordering.patience(rtt);
        let threshold = self.reordering.packets();
        let mut number = self.oldest_open.max(self.base);
        let mut all_known = true;
        while number < largest {
            let index = (number - self.base) as usize;
            let Some(slot) = self.slots.get(index) else {
                break;
            };
            if slot.fate == Fate::Unknown {
                let due = slot.sent + patience;
                if now >= due || threshold.is_some_and(|threshold| largest - number >= threshold) {
                    if slot.ack_eliciting {
                        outcome.lost_bytes += u64::from(slot.bytes);
                        outcome.newest_lost_sent = outcome.newest_lost_sent.max(slot.sent);
                    }
                    self.lose(now, index, lost);
                } else {
                    all_known = false;
                    if self.loss_deadline.is_none() {
                        self.loss_deadline = Some(due);
                    }
                }
            }
            number += 1;
            if all_known {
                self.oldest_open = number;
            }
        }
        if outcome.lost_bytes > 0 {
            self.rate.on_lost(outcome.lost_bytes);
            self.reordering.on_loss(now, rtt);
        }
    }

    fn lose(&mut self, now: Instant, index: usize, lost: &mut Vec<Sent<T>>) {
        let slot = &mut self.slots[index];
        slot.fate = Fate::Lost(now);
        if !slot.ack_eliciting {
            return;
        }
        self.in_flight -= u64::from(slot.bytes);
        if let Some(contents) = &slot.contents {
            lost.push(Sent {
                number: self.base + index as u64,
                sent: slot.sent,
                bytes: slot.bytes,
                ack_eliciting: true,
                was_lost: false,
                contents: contents.clone(),
            });
        }
    }

    /// Lets go of the oldest packets that are done with.
    fn forget(&mut self, now: Instant) {
        let crowded = self.slots.len() > MOST_OUTSTANDING / 2;
        while let Some(slot) = self.slots.front() {
            match slot.fate {
                // Nobody has to acknowledge it, and nobody did.
                Fate::Unknown if !slot.ack_eliciting && (crowded || now.since(slot.sent) >= REMEMBER) => {}
                Fate::Unknown => break,
                Fate::Acked | Fate::Lost(_) => {}
            }
            if let Some(slot) = self.slots.pop_front()
                && matches!(slot.fate, Fate::Lost(_))
            {
                self.late.push_back((self.base, slot));
            }
            self.base += 1;
        }
        while let Some((_, slot)) = self.late.front() {
            if matches!(slot.fate, Fate::Lost(at) if now.since(at) < REMEMBER) && self.late.len() <= MOST_LATE
            {
                break;
            }
            self.late.pop_front();
        }
    }
}

/// A packet arrived: counts it, and hands its contents out. What was known when it was sent, if that is news.
fn settle<T>(
    slot: &mut Slot<T>,
    number: u64,
    rate: &mut RateEstimator,
    acked: &mut Vec<Sent<T>>,
    outcome: &mut AckOutcome,
) -> Option<Newest> {
    let was_lost = match slot.fate {
        Fate::Acked => return None,
        Fate::Unknown => false,
        Fate::Lost(_) => true,
    };
    slot.fate = Fate::Acked;
    if slot.ack_eliciting {
        let bytes = u64::from(slot.bytes);
        outcome.newly_acked_bytes += bytes;
        rate.on_delivered(bytes);
        if was_lost {
            outcome.spurious += 1;
            outcome.spurious_bytes += bytes;
        }
    }
    if let Some(contents) = slot.contents.take() {
        acked.push(Sent {
            number,
            sent: slot.sent,
            bytes: slot.bytes,
            ack_eliciting: slot.ack_eliciting,
            was_lost,
            contents,
        });
    }
    slot.ack_eliciting.then_some(Newest {
        sent: slot.sent,
        snapshot: slot.snapshot,
    })
}

#[cfg(test)]
#[path = "sent_tests.rs"]
mod tests;
