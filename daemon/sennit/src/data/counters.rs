//! What went through the data path, counted at the system calls.

use serde::Serialize;

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Packets that the kernel handed in; large ones that stand for several count once.
    pub tunnel_in: u64,
    /// Their bytes.
    pub tunnel_in_bytes: u64,
    /// Of those, packets that were refused at once: nobody to send them to, or not sendable.
    pub tunnel_in_refused: u64,
    /// Packets handed to the kernel.
    pub tunnel_out: u64,
    /// Their bytes.
    pub tunnel_out_bytes: u64,
    /// Packets that the kernel did not take.
    pub tunnel_out_failed: u64,
    /// Datagrams received.
    pub received: u64,
    /// Their bytes, without IP and UDP headers.
    pub received_bytes: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Their bytes, without IP and UDP headers.
    pub sent_bytes: u64,
    /// Messages that the kernel had no room for.
    pub no_room: u64,
    /// Messages that were larger than a link allows (mostly: to find out what it allows).
    pub too_large: u64,
    /// Messages that a WAN refused.
    pub unreachable: u64,
    /// System calls that received, sent, read or wrote packets.
    pub system_calls: u64,
    /// Times at which the thread did not run for so long that deadlines were shifted.
    pub gaps: u64,
}
