//! The network between client and server: links with their weather, and address translators.

mod link;
mod nat;
mod rate;
mod weathering;

pub use link::{
    Change, FRAME_OVERHEAD, Fate, Link, LinkSettings, LinkStatistics, LossCause, Outage, Policer, Reordering,
};
pub use nat::{Nat, NatSettings};
pub use rate::{CellularShape, Rate, megabits};
pub use weathering::{Jitter, JitterProcess, Loss, LossProcess};
