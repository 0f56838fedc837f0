//! Cuts pieces out of a flow's queue.

use bytes::Buf;

use super::codel::Bounds;
use super::item::{Item, ItemKind};
use super::table::Slot;
use super::{FlowQueues, Room, SPARSE_TARGET};
use crate::ids::FlowId;
use crate::inner::piece::SMALLEST_CUT;
use crate::inner::{Compressor, Piece, PieceKind, SegmentHeader, parse, segment};
use crate::time::Instant;
use crate::wire::frame::{self, DataKind};

/// Bytes of a packet on an ordinary link.
const PACKET: u64 = 1514;

impl FlowQueues {
    /// Cuts the next piece of a flow, after dropping or marking what queue management wants dropped or marked.
    pub(super) fn cut_head(
        &mut self,
        now: Instant,
        slot: Slot,
        room: Room,
        compressor: &Compressor,
    ) -> Option<Piece> {
        loop {
            let flow = &mut self.table[slot];
            let item = flow.items.front()?;
            let mut piece = candidate(item, flow.id, 0);
            let mut bytes = fitting(&mut piece, room, compressor)?;
            let bounds = Bounds {
                target: if item.ordered {
                    self.bulk_target
                } else {
                    SPARSE_TARGET
                },
                interval: self.interval,
                packet: PACKET,
            };
            let waited = now.since(item.entered);
            let drops = flow.codel.should_drop(now, waited, flow.bytes, bounds);
            if drops && !item.marks {
                self.drop_head(slot);
                self.statistics.dropped_by_delay += 1;
                continue;
            }
            if drops {
                self.statistics.marked += 1;
                match &mut piece.kind {
                    PieceKind::Segment(header) => {
                        header.congestion = true;
                        // The mark takes its room.
                        bytes = fitting(&mut piece, room, compressor)?;
                    }
                    _ => {
                        self.mark_packet(slot);
                        let flow = &self.table[slot];
                        piece = candidate(flow.items.front()?, flow.id, 0);
                    }
                }
            }
            shorten(&mut piece, bytes);
            let units = piece.units;
            self.take_front(slot, 0, units);
            self.table[slot].deficit -= i64::from(units);
            return Some(piece);
        }
    }

    /// Cuts a piece that begins at least `depth` bytes behind the head of a flow.
    pub(super) fn cut_at(
        &mut self,
        slot: Slot,
        room: Room,
        depth: u64,
        compressor: &Compressor,
    ) -> Option<Piece> {
        let flow = &mut self.table[slot];
        let mut behind = 0;
        let (index, start) = flow.items.iter().enumerate().find_map(|(index, item)| {
            let before = behind;
            behind += item.bytes();
            if !item.ordered || behind <= depth {
                return None;
            }
            if before >= depth {
                return Some((index, 0));
            }
            if !matches!(item.kind, ItemKind::Range { .. }) || item.body.is_empty() {
                return None;
            }
            // What stays in front is to be whole datagrams, as near as can be told.
            let mut whole = candidate(item, flow.id, 0);
            if let PieceKind::Segment(header) = &mut whole.kind {
                header.is_last = false;
            }
            let overhead = whole.encoded_len(compressor, true) - whole.body.len();
            let datagram = room.full.saturating_sub(overhead).max(SMALLEST_CUT);
            let start = ((depth - before) as usize).div_ceil(datagram) * datagram;
            (start + SMALLEST_CUT <= item.body.len()).then_some((index, start))
        })?;
        if start == 0 {
            return self.cut_front_of(slot, index, room, compressor);
        }
        let item = &flow.items[index];
        let mut piece = candidate(item, flow.id, start);
        let bytes = fitting(&mut piece, room, compressor)?;
        shorten(&mut piece, bytes);
        let units = piece.units;
        // What lies before stays as an item of its own.
        let mut front = item.clone();
        front.body.truncate(start);
        flow.items[index].advance(start);
        flow.items.insert(index, front);
        self.packets += 1;
        self.take_front(slot, index + 1, units);
        self.table[slot].deficit -= i64::from(units);
        Some(piece)
    }

    /// Cuts a piece off the front of an item, wherever in the queue that stands.
    pub(super) fn cut_front_of(
        &mut self,
        slot: Slot,
        index: usize,
        room: Room,
        compressor: &Compressor,
    ) -> Option<Piece> {
        let flow = &self.table[slot];
        let item = flow.items.get(index)?;
        let mut piece = candidate(item, flow.id, 0);
        let bytes = fitting(&mut piece, room, compressor)?;
        shorten(&mut piece, bytes);
        let units = piece.units;
        self.take_front(slot, index, units);
        self.table[slot].deficit -= i64::from(units);
        Some(piece)
    }

    /// Takes `units` off the front of an item.
    pub(super) fn take_front(&mut self, slot: Slot, index: usize, units: u32) {
        let flow = &mut self.table[slot];
        let Some(item) = flow.items.get_mut(index) else {
            return;
        };
        flow.bytes -= u64::from(units);
        self.bytes -= u64::from(units);
        if units == item.units() {
            if item.is_begun_packet() {
                self.begun = None;
            }
            flow.items.remove(index);
            self.packets -= 1;
        } else {
            item.advance(units as usize);
            if item.is_begun_packet() {
                self.begun = Some(slot);
            }
        }
    }

    fn mark_packet(&mut self, slot: Slot) {
        let Some(item) = self.table[slot].items.front_mut() else {
            return;
        };
        if let Ok(parsed) = parse(&item.body) {
            let room = self.pool.room(item.body.len());
            room.extend_from_slice(&item.body);
            let mut copy = room.split();
            segment::mark_congestion(&mut copy, &parsed);
            item.body = copy.freeze();
        }
    }
}

impl Item {
    /// Moves the beginning behind the first `bytes` of the body.
    fn advance(&mut self, bytes: usize) {
        self.body.advance(bytes);
        self.offset += bytes as u64;
        match &mut self.kind {
            ItemKind::Packet { at, .. } => *at += bytes as u16,
            ItemKind::Range { position, .. } => *position += bytes as u32,
        }
    }
}

/// The piece that all of an item from `start` on would make.
fn candidate(item: &Item, flow: FlowId, start: usize) -> Piece {
    let body = item.body.slice(start..);
    let kind = match &item.kind {
        ItemKind::Packet { at: 0, .. } => PieceKind::Packet,
        ItemKind::Packet { total, at } => PieceKind::Fragment {
            total: *total,
            at: *at,
        },
        ItemKind::Range {
            header,
            position,
            end,
            segment_size,
        } => {
            let position = *position + start as u32;
            PieceKind::Segment(SegmentHeader {
                flow,
                header: header.clone(),
                position,
                segment_size: *segment_size,
                is_first: position == 0,
                is_last: position + body.len() as u32 == *end,
                congestion: false,
            })
        }
    };
    Piece {
        flow: if item.ordered { flow } else { FlowId::UNORDERED },
        ordered: item.ordered,
        offset: item.offset + start as u64,
        units: item.units() - start as u32,
        kind,
        body,
    }
}

/// How many bytes of the piece's body fit the room; nothing if it should wait for another datagram.
fn fitting(piece: &mut Piece, room: Room, compressor: &Compressor) -> Option<usize> {
    let body = piece.body.len();
    // What is certain to be cut does not say that it ends: a byte that would be missing from every datagram, and equal
    // ones are what a batch of segmentation offload consists of.
    if let PieceKind::Segment(header) = &mut piece.kind
        && body > room.left
    {
        header.is_last = false;
    }
    let mut overhead = piece.encoded_len(compressor, true) - body;
    match piece.kind {
        PieceKind::Packet if overhead + body <= room.full => {
            return (overhead + body <= room.left).then_some(body);
        }
        PieceKind::Packet => {
            let as_fragment = DataKind::Fragment { total: 0, at: 0 };
            overhead = frame::data_overhead(piece.flow, as_fragment, false);
        }
        PieceKind::Segment(_) | PieceKind::Fragment { .. } | PieceKind::Skip => {}
    }
    let fits = room.left.checked_sub(overhead)?;
    if body <= fits {
        Some(body)
    } else {
        (fits >= SMALLEST_CUT).then_some(fits)
    }
}

/// Cuts a candidate to its first `bytes`.
fn shorten(piece: &mut Piece, bytes: usize) {
    if bytes == piece.body.len() {
        return;
    }
    match &mut piece.kind {
        PieceKind::Packet => {
            piece.kind = PieceKind::Fragment {
                total: piece.body.len() as u16,
                at: 0,
            };
        }
        PieceKind::Segment(header) => header.is_last = false,
        PieceKind::Fragment { .. } | PieceKind::Skip => {}
    }
    piece.body.truncate(bytes);
    piece.units = bytes as u32;
}
