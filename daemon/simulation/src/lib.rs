//! Network weather in virtual time: the engine between simulated links, with models of TCP and QUIC on top.
//!
//! Hours of it pass in seconds, and the same seed gives the same run. A [`scenario`] describes WANs and flows; [`world`]
//! runs it and fills a [`report`]; [`invariants`] says what must hold in every run. docs/simulation.md shows its use.
//!
//! **Invariant:** no clock of the machine, no threads within a run, no randomness but [`dice`].

pub mod dice;
pub mod histogram;
pub mod invariants;
pub mod network;
pub mod packet;
pub mod payload;
pub mod report;
pub mod scenario;
pub mod setup;
pub mod simulate;
pub mod trace;
pub mod transport;
pub mod world;
