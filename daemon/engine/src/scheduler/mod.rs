//! Which path takes which data: the trait, and what a scheduler sees. One file an algorithm.
//!
//! Data waits in one place, the flows' queues, and is bound to a path only when that path can send it now. So a
//! scheduler answers one question: this path can send, what shall it take?

mod earliest;
mod redundant;

use std::fmt::Debug;

pub use earliest::EarliestArrival;
pub use redundant::Redundant;

use crate::ids::WanId;
use crate::settings::{BytesPerSecond, Mode, Priority};

/// A path as a scheduler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathView {
    /// Its WAN.
    pub wan: WanId,
    /// When the user wants the WAN to take part.
    pub priority: Priority,
    /// It is validated and answers (active; a suspect path is not).
    pub usable: bool,
    /// One-way delay in nanoseconds, relative: only differences between paths mean something.
    pub one_way: i64,
    /// Estimated delivery rate.
    pub rate: BytesPerSecond,
}

/// What waits to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Bytes in the flow's queue that has most of them.
    pub deepest: u64,
    /// Flows with data.
    pub flows: u64,
}

/// What a path shall take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Nothing: leave the data to other paths.
    Nothing,
    /// What lies this many bytes behind the head of a flow's queue.
    Depth(u64),
    /// Whatever comes first: interactive packets, then heads of queues.
    Anything,
}

/// An algorithm that spreads data over paths.
pub trait Scheduler: Debug + Send {
    /// What the path at `candidate`, which can send now, shall take.
    fn take(&self, candidate: usize, paths: &[PathView], backlog: Backlog) -> Take;

    /// True if every piece goes to every WAN.
    fn duplicates(&self) -> bool;
}

/// The algorithm for a mode.
pub fn create(mode: Mode) -> Box<dyn Scheduler> {
    match mode {
        Mode::Speed => Box::new(EarliestArrival),
        Mode::Redundant => Box::new(Redundant),
    }
}

/// True if the WAN's priority lets it carry data at all: backups only where nothing better lives.
pub(crate) fn takes_part(candidate: usize, paths: &[PathView]) -> bool {
    let better = |than: Priority| paths.iter().any(|path| path.usable && path.priority < than);
    match paths[candidate].priority {
        Priority::Primary | Priority::Secondary => true,
        Priority::Backup => !better(Priority::Backup),
        Priority::Off => false,
    }
}
