//! What is known about one path: delays, losses, rates, packet size, and whether it lives.
//!
//! Each part is fed by the session and judges by itself; none sends anything, none knows of other paths.

pub mod decay;
pub mod delay;
pub mod extremum;
pub mod mtu;
pub mod pacer;
pub mod rate;
pub mod received;
mod reordering;
pub mod rhythm;
pub mod rtt;
pub mod sent;
pub mod state;
pub mod way_back;
