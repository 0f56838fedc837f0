//! The network lab: emulated links in network namespaces, traffic over them, and what becomes of it.
//!
//! **Invariant:** nothing outside the lab's own namespaces is changed, but for the list of allowed congestion
//! controls, without which a flow inside a namespace would silently run another one.
//! **Invariant:** a run whose conditions were not those asked for is reported as not valid, never as a result.

pub mod bench;
pub mod cli;
pub mod contestant;
pub mod emulator;
mod error;
pub mod histogram;
pub mod interrupt;
pub mod item;
pub mod link;
pub mod live;
pub mod machine;
pub mod measure;
pub mod namespace;
mod plot;
mod report;
mod response;
pub mod run;
pub mod scenario;
pub mod series;
pub mod shovel;
mod sys;
pub mod time;
pub mod topology;
pub mod traffic;
pub mod verdict;
pub mod verify;

pub use error::{Error, Exit, Result};
