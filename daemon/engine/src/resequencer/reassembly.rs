//! Packets that came in fragments, of which some are missing yet.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::{Held, HeldKind, PIECE_COST};
use crate::ids::FlowId;
use crate::time::Instant;

/// Packets at a time.
const PACKETS: usize = 256;
/// After that long nobody sends the rest any more.
const LIFETIME: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Partial {
    flow: FlowId,
    start: u64,
    total: u16,
    began: Instant,
    /// Sorted, without overlaps.
    fragments: VecDeque<(u16, Bytes)>,
    received: u16,
}

/// The packets that are not whole.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    /// Oldest first.
    packets: VecDeque<Partial>,
    complete: Option<Partial>,
    bytes: usize,
    /// Emptied lists of fragments, to be filled again.
    spare: Vec<VecDeque<(u16, Bytes)>>,
}

impl Reassembly {
    /// Adds a fragment; whether it brought anything new. If it completes its packet, take that with
    /// [`Self::pop_complete`].
    pub(super) fn add(
        &mut self,
        now: Instant,
        flow: FlowId,
        start: u64,
        total: u16,
        at: u16,
        body: Bytes,
    ) -> bool {
        while self
            .packets
            .front()
            .is_some_and(|oldest| now.since(oldest.began) >= LIFETIME)
        {
            self.drop_oldest();
        }
        let found = self
            .packets
            .iter()
            .rposition(|packet| packet.flow == flow && packet.start == start);
        let index = match found {
            Some(index) if self.packets[index].total == total => index,
            // Two lengths for one packet: no sender does that.
            Some(_) => return false,
            None => {
                if self.packets.len() == PACKETS {
                    self.drop_oldest();
                }
                self.packets.push_back(Partial {
                    flow,
                    start,
                    total,
                    began: now,
                    fragments: self.spare.pop().unwrap_or_default(),
                    received: 0,
                });
                self.packets.len() - 1
            }
        };
        let packet = &mut self.packets[index];
        let before = packet.received;
        let (pieces, bytes) = packet.add(at, body);
        self.bytes += bytes + pieces * PIECE_COST;
        let new = packet.received != before;
        if packet.received == total {
            self.drop_complete();
            self.complete = self.packets.remove(index);
        }
        new
    }

    /// Whether the last fragment completed a packet.
    pub(super) fn is_complete(&self) -> bool {
        self.complete.is_some()
    }

    /// The fragments of the packet that is complete, in order.
    pub(super) fn pop_complete(&mut self, now: Instant) -> Option<Held> {
        let packet = self.complete.as_mut()?;
        let Some((at, body)) = packet.fragments.pop_front() else {
            self.drop_complete();
            return None;
        };
        self.bytes -= body.len() + PIECE_COST;
        Some(Held {
            offset: packet.start + u64::from(at),
            units: body.len() as u32,
            since: now,
            body,
            kind: HeldKind::Fragment {
                is_last: packet.fragments.is_empty(),
            },
        })
    }

    /// Lets go of a packet that is complete, but came before as a whole.
    pub(super) fn drop_complete(&mut self) {
        if let Some(packet) = self.complete.take() {
            self.release(packet);
        }
    }

    /// Gives up the packet that is incomplete for the longest time.
    pub(super) fn drop_oldest(&mut self) {
        if let Some(packet) = self.packets.pop_front() {
            self.release(packet);
        }
    }

    /// Bytes held, with a cost for each piece.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn release(&mut self, mut packet: Partial) {
        const KEPT: usize = 32;
        let held: usize = packet
            .fragments
            .iter()
            .map(|(_, body)| body.len() + PIECE_COST)
            .sum();
        self.bytes -= held;
        packet.fragments.clear();
        if self.spare.len() < KEPT {
            self.spare.push(packet.fragments);
        }
    }
}

impl Partial {
    /// Adds those parts of a fragment that are missing; how many, and their bytes.
    fn add(&mut self, at: u16, body: Bytes) -> (usize, usize) {
        let end = usize::from(at) + body.len();
        let (mut pieces, mut bytes) = (0, 0);
        let mut from = usize::from(at);
        let mut index = self
            .fragments
            .partition_point(|(start, held)| usize::from(*start) + held.len() <= from);
        while from < end {
            let next = self
                .fragments
                .get(index)
                .map(|(start, held)| (usize::from(*start), held.len()));
            let to = next.map_or(end, |(start, _)| start.min(end));
            if from < to {
                let part = body.slice(from - usize::from(at)..to - usize::from(at));
                bytes += part.len();
                pieces += 1;
                self.fragments.insert(index, (from as u16, part));
                index += 1;
            }
            from = next.map_or(end, |(start, length)| start + length).max(to);
            index += 1;
        }
        self.received += bytes as u16;
        (pieces, bytes)
    }
}
