//! TCP as Linux does it, as far as a network in between can tell: SACK, RACK, tail loss probes, DSACK and timestamp
//! undo, time-outs of at least 200 ms beyond the round trip, delayed acknowledgements, super-segments.

mod bbr;
mod congestion;
mod cubic;
mod receiver;
mod scoreboard;
mod sender;

pub use congestion::{Algorithm, Congestion, Feedback, create};
pub use receiver::Receiver;
pub use sender::{Sender, SenderSettings};
