//! The end of a session, and the beginning of the next one with the same peer: what is said at parting, and which packets
//! are kept.

use std::time::Duration;

use rand_chacha::rand_core::RngCore;

use super::control::Control;
use super::path::Path;
use super::{Session, Side};
use crate::inner::{Compressor, VirtioHeader};
use crate::path::delay::PeerClock;
use crate::path::state::Condition;
use crate::resequencer::Resequencer;
use crate::store::Store;
use crate::time::Instant;
use crate::wire::frame::CloseReason;

/// Silence that is doubtful: longer than what radio links and busy machines make all the time.
const DOUBTFUL_SILENCE: Duration = Duration::from_millis(150);

impl Session {
    /// The peer begins anew: numbers, orders and paths are forgotten. Settings, counters and what waits stay. A client
    /// speaks for its hosts, so that a server that rebooted finds their connections.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.heard_at = now;
        // Before the first connection nothing was sent: what waits can go as it is.
        if self.keys.take().is_none() {
            return;
        }
        self.dropped += self.store.abandoned();
        self.old_keys = None;
        self.peer_left = None;
        self.paths.clear();
        self.departed.clear();
        self.control = Control::default();
        self.peer_clock = PeerClock::new();
        self.compressor = Compressor::new(self.random.next_u64());
        self.resequencer = Resequencer::new(self.random.next_u64());
        self.store = Store::default();
        self.queues.begin_anew(now);
        if self.side == Side::Client {
            for packet in self.queues.reminders(now) {
                // One that finds no room is no loss.
                let _ = self.queues.enqueue(now, VirtioHeader::default(), packet);
            }
        }
    }

    /// Takes over what waits in a session with the same peer that this one replaces.
    pub(crate) fn inherit(&mut self, now: Instant, before: Self) {
        self.queues = before.queues;
        self.limit = before.limit;
        self.queues.begin_anew(now);
    }

    /// This end leaves: every path says so, and carries nothing more.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.closing = Some(reason);
    }

    pub(super) fn peer_closed(&mut self, now: Instant, reason: CloseReason) {
        self.peer_left = Some(reason);
        for index in 0..self.paths.len() {
            let change = self.paths[index].state.on_left(now, "the other end left");
            self.changed(now, index, change);
        }
    }

    /// Whether the peer said since the last call that it leaves, and why.
    pub(crate) fn take_peer_left(&mut self) -> Option<CloseReason> {
        self.peer_left.take()
    }

    /// Every path has fallen silent: perhaps the peer does not know this session any more.
    pub(crate) fn is_doubtful(&self, now: Instant) -> bool {
        now >= self.doubtful_from()
    }

    /// When [`Self::is_doubtful`] becomes true unless something else happens.
    pub(crate) fn doubtful_from(&self) -> Instant {
        let silent = |path: &Path| matches!(path.state.condition(), Condition::Suspect | Condition::Down);
        if self.paths.is_empty() || !self.paths.iter().all(silent) {
            return Instant::NEVER;
        }
        let answers = self.paths.iter().map(|path| path.rtt.smoothed() * 2).max();
        self.heard_at + answers.unwrap_or_default().max(DOUBTFUL_SILENCE)
    }
}
