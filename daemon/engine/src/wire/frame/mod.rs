//! Frames: what stands inside a sealed datagram, one behind the other.
//!
//! Reading borrows nothing and allocates nothing: bodies are ranges of the plaintext. Writing appends to the datagram that
//! is being made.

mod ack;
mod read;
mod write;

use std::ops::Range;

use crate::ids::{FlowId, PathId};
use crate::settings::{BytesPerSecond, Mode, Priority};

pub use ack::{AckFrame, AckRanges, MAX_ACK_RANGES};
pub(crate) use kind::PARITY;
pub(crate) use read::mode_from_wire;
pub use read::{FrameError, read};
pub(crate) use write::mode_to_wire;
pub use write::{
    DataMark, begin_data, data_overhead, finish_data, write_ack, write_challenge, write_close, write_control,
    write_data, write_hold, write_padding, write_parity, write_ping, write_response, write_skip,
    write_wan_status,
};

/// The type bytes.
pub(crate) mod kind {
    pub(crate) const PADDING: u8 = 0x00;
    pub(crate) const PING: u8 = 0x01;
    pub(crate) const ACK: u8 = 0x02;
    pub(crate) const CHALLENGE: u8 = 0x03;
    pub(crate) const RESPONSE: u8 = 0x04;
    pub(crate) const WAN_STATUS: u8 = 0x05;
    pub(crate) const HOLD: u8 = 0x06;
    pub(crate) const SKIP: u8 = 0x07;
    pub(crate) const CONTROL: u8 = 0x08;
    pub(crate) const CLOSE: u8 = 0x09;
    /// The first of the data types: `0100 kklo`: kind, has a length, ordered.
    pub(crate) const DATA: u8 = 0x40;
    pub(crate) const DATA_LAST: u8 = 0x4b;
    pub(crate) const DATA_ORDERED: u8 = 0x01;
    pub(crate) const DATA_LENGTH: u8 = 0x02;
    /// The types from here on carry their length, so that who does not know them can skip them.
    pub(crate) const PARITY: u8 = 0x80;
    /// No one yet.
    pub(crate) const EXTENSION: u8 = 0x81;
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "frames are looked at where they are read and not kept; a box would be an allocation per ACK"
)]
pub enum Frame {
    /// The rest of the datagram means nothing.
    Padding,
    /// Asks for an acknowledgement, no more.
    Ping,
    /// What arrived on a path.
    Ack(AckFrame),
    /// To be sent back on the path where it came.
    Challenge([u8; 8]),
    /// The answer to a challenge.
    Response([u8; 8]),
    /// The client's wish for one of its WANs.
    WanStatus(WanStatus),
    /// How long holes may be worth waiting for.
    Hold(HoldHint),
    /// Units of a flow that will never come.
    Skip {
        /// The flow.
        flow: FlowId,
        /// Low 32 bits of the first unit's offset.
        offset: u32,
        /// Units.
        length: u32,
    },
    /// A message of the sessions' own: this range of the plaintext.
    Control(Range<usize>),
    /// The session ends.
    Close {
        /// Why.
        reason: CloseReason,
    },
    /// Units of a flow.
    Data(DataFrame),
    /// A sum of plaintexts, out of which a lost one can be computed.
    Parity(ParityFrame),
    /// A type of a later version, already skipped.
    Unknown,
}

impl Frame {
    /// Whether a datagram with this frame in it must be acknowledged.
    pub fn is_ack_eliciting(&self) -> bool {
        !matches!(self, Self::Padding | Self::Ack(_) | Self::Close { .. })
    }
}

/// Why an end leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It will not come back soon.
    Ends,
    /// It may be back in a moment, with another instance.
    Restarts,
}

/// A sum of the plaintexts of consecutive packets, see docs/PROTOCOL.md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParityFrame {
    /// The path on which the packets left.
    pub path: PathId,
    /// Low 32 bits of the first one's number.
    pub first: u32,
    /// Packets.
    pub count: u8,
    /// What the coefficients are computed from.
    pub key: u16,
    /// Where the sum lies in the plaintext.
    pub symbol: Range<usize>,
}

/// Bytes of a PARITY frame before its sum, if that is not shorter than 56 bytes.
pub const PARITY_OVERHEAD: usize = 11;

/// Units of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFrame {
    /// The flow.
    pub flow: FlowId,
    /// Whether the receiver should restore the flow's order.
    pub ordered: bool,
    /// Low 32 bits of the offset of the first unit.
    pub offset: u32,
    /// What the body is.
    pub kind: DataKind,
    /// Where the body lies in the plaintext.
    pub body: Range<usize>,
}

/// What the body of a DATA frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// A whole IP packet. Every byte is a unit.
    Packet,
    /// Part of an IP packet. Every byte is a unit.
    Fragment {
        /// Bytes of the whole packet.
        total: u16,
        /// Where in the packet the body begins.
        at: u16,
    },
    /// The header of a TCP segment, full or compressed, and payload. Every byte of payload is a unit.
    Segment,
}

/// A client's wish for one of its WANs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WanStatus {
    /// The path that stands for the WAN.
    pub path: PathId,
    /// When the WAN takes part.
    pub priority: Priority,
    /// Upper limit from server to client.
    pub limit_down: Option<BytesPerSecond>,
    /// Data costs money there.
    pub metered: bool,
    /// The client's operating system says that the WAN's link is gone: nothing gets through until another status says
    /// otherwise.
    pub gone: bool,
    /// How packets are spread, for the session as a whole.
    pub mode: Mode,
    /// Counts the client's statuses, so that an old one that comes late changes nothing.
    pub sequence: u32,
}

/// How long holes may be worth waiting for, as the sender of the data knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldHint {
    /// By how much the slowest path in use may lag behind the fastest, in microseconds.
    pub skew_us: u32,
    /// How long a repair takes from the loss to its arrival, in microseconds.
    pub repair_us: u32,
}

#[cfg(test)]
mod tests;
