//! Compression of TCP/IP headers against contexts that both ends have.
//!
//! A context is a header that was sent in full, under a number. Until the peer acknowledged a datagram that carried it,
//! every piece carries it again in front of what differs from it; from then on only its number. So every piece decodes
//! alone, whatever else is lost. Of the IPv4 header, the length and the checksum are computed at the other end, and
//! so is the identification where fragmenting is forbidden, since it means nothing then (RFC 6864).
//!
//! The segment header, which precedes the payload in a DATA frame of kind Segment:
//!
//! | field | bytes | present |
//! | --- | --- | --- |
//! | flags | 1 | always |
//! | context | 2 | always: the low bits of the context's number |
//! | definition: offset of its unit, segment size, IP header, TCP header with at most padded timestamps | 4, 2, 20 or 40, 20 or 32 | `DEFINITION` |
//! | more flags | 1 | `MORE` |
//! | sequence number, minus the predicted one | zigzag varint | `SEQUENCE` |
//! | acknowledgement number, minus the context's | varint | `ACKNOWLEDGEMENT` |
//! | window | 2 | `WINDOW` |
//! | both timestamps, minus the context's | 2 zigzag varints | `TIMESTAMPS` |
//! | TCP flags (otherwise ACK alone) | 1 | `TCP_FLAGS` |
//! | DSCP and ECN | 1 | `TRAFFIC_CLASS` |
//! | IPv4 identification | 2 | `IDENTIFICATION`, in more flags |
//! | segment size | 2 | `SEGMENT_SIZE`, in more flags |
//! | further TCP options: length, bytes | 1, length | `OPTIONS`, in more flags |
//!
//! The predicted sequence number is the context's plus the distance of the unit offsets in an ordered frame, and the
//! context's in an unordered one.

mod compressor;
mod decompressor;
mod template;
#[cfg(test)]
mod tests;

pub use compressor::{Compressor, ContextId};
pub use decompressor::{ContextError, Decompressor, Head, Segment};
pub(super) use template::{Variable, variable};

/// Bits of the first byte.
mod flags {
    pub(super) const DEFINITION: u8 = 0x80;
    pub(super) const SEQUENCE: u8 = 0x40;
    pub(super) const ACKNOWLEDGEMENT: u8 = 0x20;
    pub(super) const WINDOW: u8 = 0x10;
    pub(super) const TIMESTAMPS: u8 = 0x08;
    pub(super) const TCP_FLAGS: u8 = 0x04;
    pub(super) const TRAFFIC_CLASS: u8 = 0x02;
    pub(super) const MORE: u8 = 0x01;
}

/// Bits of the second byte.
mod more {
    pub(super) const IDENTIFICATION: u8 = 0x01;
    pub(super) const SEGMENT_SIZE: u8 = 0x02;
    pub(super) const OPTIONS: u8 = 0x04;
    pub(super) const KNOWN: u8 = IDENTIFICATION | SEGMENT_SIZE | OPTIONS;
}

/// Contexts that a sender may refer to: its newest ones.
const SENDER_CONTEXTS: u32 = 512;
/// Contexts that a receiver keeps: more, because datagrams overtake one another.
const RECEIVER_CONTEXTS: usize = 1024;

fn zigzag(difference: u32) -> u64 {
    let signed = difference as i32;
    u64::from(((signed << 1) ^ (signed >> 31)) as u32)
}

fn unzigzag(value: u64) -> Option<u32> {
    let value = u32::try_from(value).ok()?;
    Some((value >> 1) ^ (value & 1).wrapping_neg())
}
