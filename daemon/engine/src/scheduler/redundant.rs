//! A copy on every WAN; the first one wins.
//!
//! Whichever path can send first takes the head; the session hands copies to all others.

use super::{Backlog, PathView, Scheduler, Take, takes_part};

/// See the module's description.
#[derive(Clone, Copy, Debug)]
pub struct Redundant;

impl Scheduler for Redundant {
    fn take(&self, candidate: usize, paths: &[PathView], _backlog: Backlog) -> Take {
        if takes_part(candidate, paths) {
            Take::Anything
        } else {
            Take::Nothing
        }
    }

    fn duplicates(&self) -> bool {
        true
    }
}
