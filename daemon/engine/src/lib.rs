//! The bonding protocol, sans-IO: packets, datagrams and deadlines in; datagrams, packets and the next deadline out.
//!
//! A [`Client`] has several WANs, a [`Server`] has many clients; both drive a [`session`]. Every call takes the
//! time as an argument, and randomness comes from a seed, so that the same inputs give the same outputs.
//! docs/PROTOCOL.md specifies what goes over the wire.
//!
//! The order of calls: any number of `handle_*`, then `poll_transmit`, `poll_deliver` and `poll_event` until each
//! returns nothing, then wait for input or for `poll_timeout`, whichever is first.
//!
//! **Invariant:** no clock, socket, thread, global state or unseeded randomness.
//! **Invariant:** no byte of a datagram is believed before it is authenticated, and none can make this crate panic.
//! **Invariant:** what a peer sends sizes no allocation beyond the limits written beside each buffer.

pub mod buffer;
pub mod client;
pub mod congestion;
pub mod crypto;
pub mod event;
mod fec;
pub mod flow;
pub mod handshake;
pub mod ids;
pub mod inner;
pub mod path;
pub mod replay;
pub mod resequencer;
pub mod scheduler;
pub mod server;
mod session;
pub mod settings;
mod store;
pub mod time;
pub mod wire;

pub use client::{Client, ClientConfig};
pub use server::{ClientEntry, Server, ServerConfig, Usage};
pub use session::{LONGEST_MESSAGE, NotSent, Transmit};
