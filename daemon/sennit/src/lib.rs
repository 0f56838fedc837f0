//! The bonding daemon: roles by subcommand, TOML configuration, a TUN device as the tunnel's inner end.
//!
//! `main.rs` parses arguments and calls [`cli`]. What runs is [`role`]; what the user wrote is checked in [`config`].
//!
//! **Invariant:** only [`tun`] contains `unsafe`.
//! **Invariant:** only [`cli`] writes to standard streams; everything else logs by `tracing`.

pub mod cli;
pub mod config;
pub mod error;
pub mod role;
pub mod tun;

pub use error::{Error, Result};
