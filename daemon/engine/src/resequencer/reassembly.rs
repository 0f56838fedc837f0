//! Packets that came in fragments, of which some are missing yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::{Held, HeldKind, PIECE_COST};
use crate::ids::FlowId;
use crate::time::Instant;

/// After that long nobody sends the rest any more: its sender repairs for two seconds, and needs a while to be heard.
const LIFETIME: Duration = Duration::from_secs(5);

/// Which packet: its flow, and the offset of its first unit.
type Key = (FlowId, u64);

#[derive(Debug)]
struct Partial {
    total: u16,
    began: Instant,
    /// Sorted, without overlaps.
    fragments: VecDeque<(u16, Bytes)>,
    received: u16,
}

/// The packets that are not whole. They are bounded by their bytes, which the caller looks at, and by time.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    packets: BTreeMap<Key, Partial>,
    /// The same, by when they began.
    by_age: BTreeSet<(Instant, Key)>,
    complete: Option<(u64, Partial)>,
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
        let key = (flow, start);
        let spare = &mut self.spare;
        let by_age = &mut self.by_age;
        let packet = self.packets.entry(key).or_insert_with(|| {
            by_age.insert((now, key));
            Partial {
                total,
                began: now,
                fragments: spare.pop().unwrap_or_default(),
                received: 0,
            }
        });
        if packet.total != total {
            // Two lengths for one packet: no sender does that.
            return false;
        }
        let before = packet.received;
        let (pieces, bytes) = packet.add(at, body);
        self.bytes += bytes + pieces * PIECE_COST;
        let new = packet.received != before;
        if packet.received == total {
            self.drop_complete();
            self.complete = self.take(key).map(|packet| (start, packet));
        }
        new
    }

    /// Whether the last fragment completed a packet.
    pub(super) fn is_complete(&self) -> bool {
        self.complete.is_some()
    }

    /// The fragments of the packet that is complete, in order.
    pub(super) fn pop_complete(&mut self, now: Instant) -> Option<Held> {
        let (start, packet) = self.complete.as_mut()?;
        let Some((at, body)) = packet.fragments.pop_front() else {
            self.drop_complete();
            return None;
        };
        self.bytes -= body.len() + PIECE_COST;
        Some(Held {
            offset: *start + u64::from(at),
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
        if let Some((_, packet)) = self.complete.take() {
            self.release(packet);
        }
    }

    /// Lets go of a packet of which some of the units `from..to` will never come; its first unit and the first one
    /// behind it.
    pub(super) fn drop_within(&mut self, flow: FlowId, from: u64, to: u64) -> Option<(u64, u64)> {
        let (key, packet) = self.packets.range((flow, 0)..(flow, to)).next_back()?;
        let (key, end) = (*key, key.1 + u64::from(packet.total));
        if end <= from {
            return None;
        }
        let packet = self.take(key)?;
        self.release(packet);
        Some((key.1, end))
    }

    /// Gives up the packet that is incomplete for the longest time; false if there is none.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let Some((_, key)) = self.by_age.first().copied() else {
            return false;
        };
        if let Some(packet) = self.take(key) {
            self.release(packet);
        }
        true
    }

    /// When [`Self::expire`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_age.first().map(|(began, _)| *began + LIFETIME)
    }

    /// Gives up what was incomplete for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.deadline().is_some_and(|at| at <= now) && self.drop_oldest() {}
    }

    /// Bytes held, with a cost for each piece.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self, key: Key) -> Option<Partial> {
        let packet = self.packets.remove(&key)?;
        self.by_age.remove(&(packet.began, key));
        Some(packet)
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
