//! The bonding daemon: roles by subcommand, TOML configuration, a TUN device as the tunnel's inner end.
//!
//! `main.rs` parses arguments and calls [`cli`]. What the user wrote is checked in [`config`]. A [`role`] runs on two
//! threads: [`data`] owns the engine, the TUN device and the UDP sockets and moves packets; the other one watches the
//! network, sets up the system ([`system`]), and answers on the control socket ([`control`]).
//!
//! [`host`] makes a machine a server, and takes that back.
//!
//! **Invariant:** only the module `sys` contains `unsafe`.
//! **Invariant:** only [`cli`] writes to standard streams; everything else logs by `tracing`.
//! **Invariant:** whatever [`system`] changes, `sennit down` changes back.

pub mod cli;
pub mod config;
pub mod control;
pub mod data;
pub mod error;
pub mod host;
pub mod join;
pub mod key;
pub mod leases;
pub mod netlink;
pub mod port;
pub mod registry;
pub mod role;
pub mod saved;
mod sys;
pub mod system;
pub mod tun;
pub mod udp;
pub mod wan;

pub use error::{Error, Result};
