//! Runs a setup in virtual time: LAN hosts, client, links, server, internet hosts.

mod bond;
mod event;
mod host;
mod ledger;
mod run;
mod tunnel;

pub use bond::engine;
pub use host::Host;
pub use ledger::{Ledger, Ranges};
pub use run::{MakeEnd, Sample, World, server_address};
pub use tunnel::{Knowledge, Outgoing, PathKnowledge, TunnelEnd};
