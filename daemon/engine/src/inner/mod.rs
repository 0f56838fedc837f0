//! The packets inside the tunnel: parsing, offload headers, the pieces that packets travel in, and header compression.
//!
//! A TCP super-segment is a range of bytes that may be cut anywhere; every other packet is carried as it is, in
//! fragments where it is larger than a datagram. Nothing here keeps the order of pieces: see [`crate::flow`] and
//! [`crate::resequencer`].

pub mod checksum;
pub mod context;
pub mod join;
pub mod offload;
pub mod packet;
pub mod piece;
pub mod segment;
#[cfg(test)]
pub(crate) mod testing;

pub use context::{Compressor, ContextId, Decompressor};
pub use join::Joiner;
pub use offload::VirtioHeader;
pub use packet::{Class, FlowKey, ParseError, Parsed, TcpView, parse};
pub use piece::{Piece, PieceKind, SegmentHeader};
