//! What is due: losses, silence, acknowledgements, holes, and the hint of how long holes are worth waiting for.

use std::time::Duration;

use super::path::MAX_ACK_DELAY;
use super::path::Path;
use super::{LENIENT_EVERY, Session};
use crate::event::Event;
use crate::path::state::{Change, Condition, Unanswered};
use crate::time::Instant;
use crate::wire::frame::{self, HoldHint};

/// A suspicion that passes within this time was a false alarm.
const VAIN: Duration = Duration::from_millis(150);
/// How often what lies idle is looked for; done when something else is due, so that it wakes nobody.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(10);
/// Added to the measured skew: what the operating systems on both ends add.
const SKEW_MARGIN: Duration = Duration::from_millis(4);
/// Longest time that a hole is worth: far under Linux's shortest retransmission time-out.
const LONGEST_HOLD: Duration = Duration::from_millis(150);
/// The same for a hole of which nothing is known.
const LONGEST_UNPROVEN: Duration = Duration::from_millis(96);
/// The same two where a path's rate moves all the time: the queue that its sender keeps has made its time-outs longer.
const MOVING_HOLD: Duration = Duration::from_millis(250);
const MOVING_UNPROVEN: Duration = Duration::from_millis(196);

impl Session {
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if self.old_keys.as_ref().is_some_and(|(_, until)| now >= *until) {
            self.old_keys = None;
        }
        for index in 0..self.paths.len() {
            self.detect_losses(now, index);
            self.look_for_doubt(now, index);
            let unanswered = self.unanswered(now, index);
            let path = &mut self.paths[index];
            if (path.state).asks_first(now, &unanswered, &path.rtt, MAX_ACK_DELAY) {
                let overdue = path.state.overdue_since(now, &path.rtt, MAX_ACK_DELAY);
                self.copy_unanswered(index, overdue);
            }
            let path = &mut self.paths[index];
            let silent = (path.state).on_silence(now, &unanswered, &path.rtt, MAX_ACK_DELAY);
            let trusted = path.state.regain_trust(now);
            self.changed(now, index, silent);
            self.changed(now, index, trusted);
        }
        self.set_resting();
        if !self.paths.iter().any(Path::is_usable) {
            // Nothing better lives: whatever answers is used, however often it failed.
            for index in 0..self.paths.len() {
                let change = self.paths[index].state.trust_now(now);
                self.changed(now, index, change);
            }
        }
        self.after_input(now);
        self.resequencer.on_timeout(now);
        if now >= self.housekeeping_at {
            self.housekeeping_at = now + HOUSEKEEPING_EVERY;
            self.queues.retire_idle(now);
            self.resequencer.retire_idle(now);
        }
    }

    /// When `handle_timeout`, or for paced data `poll_transmit`, wants to be called.
    pub(crate) fn deadline(&mut self) -> Instant {
        let mut next = self.resequencer.deadline().unwrap_or(Instant::NEVER);
        if let Some((_, until)) = &self.old_keys {
            next = next.min(*until);
        }
        let waiting = self.keys.is_some() && (!self.queues.is_empty() || self.store.has_repairs());
        if waiting {
            next = next.min(self.limit.opens_at(self.now).unwrap_or(Instant::NEVER));
        }
        let busy = self.is_busy(self.now);
        for path in &mut self.paths {
            next = next.min(path.sent.loss_deadline().unwrap_or(Instant::NEVER));
            next = next.min(path.received.ack_deadline().unwrap_or(Instant::NEVER));
            let state = path
                .state
                .deadline(path.sent.oldest_unacknowledged(), &path.rtt, MAX_ACK_DELAY);
            // An address that is not proved gets no probe for nothing: its next datagram makes room.
            if path.may_probe() {
                next = next.min(state.unwrap_or(Instant::NEVER));
            }
            if busy && path.lives() {
                next = next.min(path.decay.probe_at().unwrap_or(Instant::NEVER));
            }
            if path.is_usable() {
                next = next.min(path.mtu.deadline().unwrap_or(Instant::NEVER));
                next = next.min(path.doubtful_at().unwrap_or(Instant::NEVER));
            }
            if let Some(at) = path.parity_deadline().filter(|at| *at > self.now) {
                next = next.min(at);
            }
            if let Some(moving) = &path.moving {
                next = next.min(moving.ask_at);
            }
            if (waiting || !path.copies.is_empty()) && path.is_usable() && path.window_room() > 0 {
                let ready = path
                    .pacer
                    .ready_at(self.now, (path.mtu.current() + path.outer_overhead()) as u64);
                let ready = ready.max(path.gathers_until());
                // A path that is ready already was offered the data and left it to others.
                if ready > self.now {
                    next = next.min(ready);
                }
            }
        }
        next
    }

    /// The caller did not run: silence in that time means nothing.
    pub(crate) fn clock_gap(&mut self, gap: Duration) {
        for path in &mut self.paths {
            path.state.on_clock_gap(gap);
            path.rhythm.on_clock_gap(gap);
            path.sent.on_clock_gap(gap);
            path.received.on_clock_gap(gap);
            path.pacer.on_clock_gap(gap);
            path.mtu.on_clock_gap(gap);
        }
    }

    fn detect_losses(&mut self, now: Instant, index: usize) {
        let path = &mut self.paths[index];
        if path.sent.loss_deadline().is_none_or(|at| at > now) {
            return;
        }
        let mut lost = std::mem::take(&mut self.lost);
        path.sent.detect_losses(now, &path.rtt, &mut lost);
        self.packets_lost(now, index, &mut lost);
        self.lost = lost;
    }

    /// Long queues are borne for a while after a WAN was lost; not again at once where one comes and goes.
    pub(super) fn be_lenient(&mut self, now: Instant) {
        if self
            .lenient_since
            .is_none_or(|since| now.since(since) >= LENIENT_EVERY)
        {
            self.lenient_since = Some(now);
        }
    }

    /// Acts on a path that fell silent, died or came back.
    pub(super) fn changed(&mut self, now: Instant, index: usize, change: Option<Change>) {
        let Some(change) = change else { return };
        let path = &mut self.paths[index];
        path.why = change.why;
        match change.to {
            Condition::Suspect => {
                path.counters.suspicions += 1;
                self.be_lenient(now);
                self.copy_unanswered(index, now);
            }
            Condition::Down => {
                path.counters.deaths += 1;
                if change.from == Condition::Active {
                    self.be_lenient(now);
                }
                self.give_up_in_flight(now, index);
                let path = &mut self.paths[index];
                path.decay.use_again(now);
                path.congestion.on_idle_restart(now);
                path.challenge = None;
            }
            Condition::Active => {
                let suspected = path.state.since();
                if change.from == Condition::Suspect && now.since(suspected) < VAIN {
                    // Nothing was lost: a death that follows finds the queues as lenient as ever.
                    self.lenient_since = self.lenient_since.filter(|since| *since < suspected);
                }
            }
            Condition::Probing => {}
        }
        let path = &self.paths[index];
        self.events.push_back(Event::PathChanged {
            wan: path.wan,
            path: path.id,
            state: change.to,
            why: change.why,
        });
        self.set_resting();
        self.update_bulk_target();
    }

    fn unanswered(&self, now: Instant, index: usize) -> Unanswered {
        let path = &self.paths[index];
        let overdue = path.state.overdue_since(now, &path.rtt, MAX_ACK_DELAY);
        let (overdue, newest_overdue) = path.sent.unacknowledged_until(overdue);
        Unanswered {
            oldest: path.sent.oldest_unacknowledged(),
            overdue,
            newest_overdue,
            alone: path.rests || !self.has_company(index),
        }
    }

    /// Answers stay out: what somebody waits for is sent over another WAN as well, before anything is certain. It is
    /// little, and if the path has died, these are the milliseconds that are noticed.
    fn look_for_doubt(&mut self, now: Instant, index: usize) {
        let path = &self.paths[index];
        if path.is_usable() && path.doubtful_at().is_some_and(|at| now >= at) {
            self.paths[index].doubtful = true;
            if !self.has_company(index) {
                return;
            }
            let (store, budget) = (&mut self.store, &mut self.doubt_budget);
            self.paths[index]
                .sent
                .for_each_unacknowledged(now, |_, _, carried| {
                    for piece in &carried.pieces {
                        store.copy_if_urgent(*piece, budget);
                    }
                });
        }
    }

    /// Another WAN could carry data.
    fn has_company(&self, index: usize) -> bool {
        let wan = self.paths[index].wan;
        (self.paths.iter()).any(|other| other.wan != wan && other.is_usable())
    }

    /// What left on a path by `until` and is in flight yet is sent over another WAN as well, if there is one.
    fn copy_unanswered(&mut self, index: usize, until: Instant) {
        let path = &self.paths[index];
        let lives = |other: &Path| !matches!(other.state.condition(), Condition::Probing | Condition::Down);
        if !(self.paths.iter()).any(|other| other.wan != path.wan && lives(other)) {
            return;
        }
        let store = &mut self.store;
        path.sent.for_each_unacknowledged(until, |_, _, carried| {
            for piece in &carried.pieces {
                store.suspect(*piece);
            }
        });
    }

    pub(super) fn hint_is_due(&self, now: Instant) -> bool {
        now >= self.next_hint && self.paths.iter().filter(|path| path.is_usable()).count() > 1
    }

    /// Tells the peer how long its holes are worth waiting for: only the sender knows the paths' delays.
    pub(super) fn write_hint(&self, out: &mut Vec<u8>) {
        let delays = || self.paths.iter().filter(|path| path.is_usable());
        let fastest = delays().filter_map(|path| path.delay.base()).min().unwrap_or(0);
        let slowest = delays().map(Path::latest_arrival).max().unwrap_or(0);
        let skew = Duration::from_nanos(slowest.saturating_sub(fastest).clamp(0, 10_000_000_000) as u64);
        let round_trip = delays().map(|path| path.rtt.smoothed()).max().unwrap_or_default();
        let (longest_unproven, longest) = if delays().any(|path| path.congestion.follows()) {
            (MOVING_UNPROVEN, MOVING_HOLD)
        } else {
            (LONGEST_UNPROVEN, LONGEST_HOLD)
        };
        let unproven = (skew + SKEW_MARGIN).min(longest_unproven);
        let repair = (skew + round_trip * 3 + SKEW_MARGIN).min(longest);
        frame::write_hold(
            out,
            HoldHint {
                skew_us: unproven.as_micros() as u32,
                repair_us: repair.as_micros() as u32,
            },
        );
    }
}
