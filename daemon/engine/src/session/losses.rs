//! Leaves paths that lose too much, asks them how they are, and uses them again.

use std::time::Duration;

use super::Session;
use super::path::Path;
use crate::event::Event;
use crate::path::decay::Verdict;
use crate::time::Instant;

/// A session that sent data within this time wants to know when a path that rests is good again.
const BUSY: Duration = Duration::from_secs(1);

impl Session {
    /// Judges every path by what it loses. Where everything goes over all paths, even a bad one is of use.
    pub(super) fn look_at_losses(&mut self, now: Instant) {
        if self.scheduler.duplicates() {
            return;
        }
        for index in 0..self.paths.len() {
            let path = &self.paths[index];
            if !path.lives() {
                continue;
            }
            let wan = path.wan;
            let others = (self.paths.iter()).filter(|other| other.wan != wan && other.is_usable());
            let better = others.map(|other| other.decay.share()).min_by(f64::total_cmp);
            let path = &mut self.paths[index];
            let (round_trip, queue) = (path.rtt.smoothed(), path.delay.queue());
            let verdict = path.decay.look(now, round_trip, queue, better);
            self.set_resting();
            match verdict {
                Some(Verdict::Leave) => {
                    // Senders inside have as much under way as if it had died.
                    self.be_lenient(now);
                    self.rest_changed(index, "rests, because it loses too much");
                }
                Some(Verdict::Return) => {
                    self.paths[index].congestion.on_idle_restart(now);
                    self.rest_changed(index, "loses little again");
                }
                None => {}
            }
        }
    }

    /// A path rests only while a better one lives; call whenever one came or went.
    pub(super) fn set_resting(&mut self) {
        for index in 0..self.paths.len() {
            let wan = self.paths[index].wan;
            let better = |other: &Path| other.wan != wan && other.lives() && !other.decay.rests();
            let rests = self.paths[index].decay.rests() && self.paths.iter().any(better);
            self.paths[index].rests = rests;
        }
    }

    /// A path that rests is asked whether packets arrive, while there is need for it.
    pub(super) fn wants_loss_probe(&self, now: Instant, index: usize) -> bool {
        let path = &self.paths[index];
        let due = path.lives() && path.decay.probe_at().is_some_and(|at| at <= now);
        due && self.is_busy(now)
    }

    pub(super) fn is_busy(&self, now: Instant) -> bool {
        (self.paths.iter()).any(|path| now.since(path.data_sent) < BUSY)
    }

    fn rest_changed(&mut self, index: usize, why: &'static str) {
        let path = &mut self.paths[index];
        path.why = why;
        self.events.push_back(Event::PathChanged {
            wan: path.wan,
            path: path.id,
            state: path.state.condition(),
            why,
        });
    }
}
