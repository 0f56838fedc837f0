//! What the fuzzers call: one function for each target. Each takes any bytes, and panics if an invariant is broken.
//!
//! `daemon/engine/tests/hostile.rs` runs the same functions for a while in every test run, without a fuzzer.

pub mod datagram;
pub mod engine;
pub mod frame;
pub mod handshake;
pub mod packet;
pub mod resequencer;
pub mod segment;

/// A target's name and function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("datagram", datagram::run),
    ("engine", engine::run),
    ("frame", frame::run),
    ("handshake", handshake::run),
    ("packet", packet::run),
    ("resequencer", resequencer::run),
    ("segment", segment::run),
];
