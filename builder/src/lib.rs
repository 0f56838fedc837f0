//! Makes flashable OpenWrt images with the Sennit bonding daemon inside, from one TOML profile per device.
//!
//! `main.rs` parses arguments and calls [`cli`]; everything else is here, one module a question:
//! see docs/ARCHITECTURE.md for the map.
//!
//! **Invariant:** a file gets its final name only when it is whole and verified.
//! **Invariant:** nothing from the network is used before its hash or signature was checked.
//! **Invariant:** no module knows a particular source: `openwrt` is data, as every other one.

pub mod atomic;
pub mod boot;
pub mod build;
pub mod cli;
pub mod cross;
pub mod daemon_package;
pub mod digest;
pub mod doctor;
pub mod error;
pub mod fetch;
pub mod imagebuilder;
pub mod lock;
pub mod nearest;
pub mod overlay;
pub mod profile;
pub mod project;
pub mod report;
pub mod source;
#[cfg(test)]
mod testing;
pub mod toml_file;

pub use error::{Error, Result};
