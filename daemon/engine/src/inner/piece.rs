//! Pieces: what a packet travels in. A piece fits a datagram, decodes alone, and may be sent any number of times.

use bytes::Bytes;

use super::context::{Compressor, ContextId};
use crate::ids::FlowId;
use crate::wire::frame::{self, DataKind};
use crate::wire::varint;

pub use super::segment::SegmentHeader;

/// Payload below this is not worth a piece of its own, if more is to come anyway.
pub const SMALLEST_CUT: usize = 128;

/// Units of a flow, as they are sent, kept until acknowledged, and sent again. Cloning copies no bytes.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The flow that the units are counted in.
    pub flow: FlowId,
    /// Whether the receiver restores the flow's order.
    pub ordered: bool,
    /// Offset of the first unit.
    pub offset: u64,
    /// Units.
    pub units: u32,
    /// What it is.
    pub kind: PieceKind,
    /// The packet's bytes, or the payload of a segment.
    pub body: Bytes,
}

/// What a piece is.
#[derive(Clone, Debug)]
pub enum PieceKind {
    /// A whole IP packet.
    Packet,
    /// Part of an IP packet.
    Fragment {
        /// Bytes of the whole packet.
        total: u16,
        /// Where in the packet the body begins.
        at: u16,
    },
    /// Part of a TCP super-segment, or of one segment, or an acknowledgement without payload.
    Segment(SegmentHeader),
    /// Units that queue management dropped.
    Skip,
}

impl Piece {
    /// Bytes that the piece takes in a datagram; `last_in_datagram` leaves out its length.
    pub fn encoded_len(&self, compressor: &Compressor, last_in_datagram: bool) -> usize {
        match &self.kind {
            PieceKind::Skip => {
                1 + varint::len(u64::from(self.flow.0)) + 4 + varint::len(u64::from(self.units))
            }
            kind => {
                let header = match kind {
                    PieceKind::Segment(segment) => compressor.header_len(segment, self.ordered, self.offset),
                    _ => 0,
                };
                frame::data_overhead(self.flow, self.data_kind(), !last_in_datagram)
                    + header
                    + self.body.len()
            }
        }
    }

    /// Appends the piece as a frame. Returns the header context that goes along, if one does: when the datagram is
    /// acknowledged, tell [`Compressor::acknowledged`].
    pub fn encode(
        &self,
        out: &mut Vec<u8>,
        compressor: &mut Compressor,
        last_in_datagram: bool,
    ) -> Option<ContextId> {
        if matches!(self.kind, PieceKind::Skip) {
            frame::write_skip(out, self.flow, self.offset, self.units);
            return None;
        }
        let kind = self.data_kind();
        let mark = frame::begin_data(out, self.flow, self.ordered, self.offset, kind, !last_in_datagram);
        let context = match &self.kind {
            PieceKind::Segment(segment) => compressor.write(out, segment, self.ordered, self.offset),
            _ => None,
        };
        out.extend_from_slice(&self.body);
        frame::finish_data(out, mark);
        context
    }

    /// If the piece does not fit `room`, cuts it: returns what fits, and keeps the rest. Returns nothing if it fits, or
    /// if so little would fit that it is better left whole.
    pub fn split_to_fit(
        &mut self,
        room: usize,
        compressor: &Compressor,
        last_in_datagram: bool,
    ) -> Option<Self> {
        let len = self.encoded_len(compressor, last_in_datagram);
        if len <= room {
            return None;
        }
        let mut overhead = len - self.body.len();
        if matches!(self.kind, PieceKind::Packet) {
            overhead += 4; // what a fragment says of itself
        }
        let fits = room.saturating_sub(overhead);
        (fits >= SMALLEST_CUT && fits < self.body.len()).then(|| self.split_to(fits))
    }

    /// Cuts off the first `bytes` of the body, which must be fewer than there are.
    fn split_to(&mut self, bytes: usize) -> Self {
        let mut front = self.clone();
        front.body = self.body.split_to(bytes);
        front.units = bytes as u32;
        self.offset += bytes as u64;
        self.units -= bytes as u32;
        let (of_front, of_rest) = match &self.kind {
            PieceKind::Segment(whole) => {
                let (first, last) = whole.split(bytes as u32);
                (PieceKind::Segment(first), PieceKind::Segment(last))
            }
            PieceKind::Packet => {
                let total = (bytes + self.body.len()) as u16;
                let at = bytes as u16;
                (
                    PieceKind::Fragment { total, at: 0 },
                    PieceKind::Fragment { total, at },
                )
            }
            PieceKind::Fragment { total, at } => {
                let (total, at) = (*total, *at);
                let behind = at + bytes as u16;
                (
                    PieceKind::Fragment { total, at },
                    PieceKind::Fragment { total, at: behind },
                )
            }
            PieceKind::Skip => (PieceKind::Skip, PieceKind::Skip),
        };
        front.kind = of_front;
        self.kind = of_rest;
        front
    }

    fn data_kind(&self) -> DataKind {
        match self.kind {
            PieceKind::Fragment { total, at } => DataKind::Fragment { total, at },
            PieceKind::Segment(_) => DataKind::Segment,
            PieceKind::Packet | PieceKind::Skip => DataKind::Packet,
        }
    }
}
