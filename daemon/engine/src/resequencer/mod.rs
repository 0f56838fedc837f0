//! Restores the order of each flow, and joins pieces of TCP to segments as large as the kernel takes.
//!
//! What comes too late for its order is delivered all the same, once; what came before is dropped. A hole is waited for
//! as long as the paths' difference explains it, and longer while it is known that something was lost and is being sent
//! again. Nothing waits longer than [`LONGEST_HOLD`], unless the holes before it are being filled one after the other.

#[cfg(test)]
mod bounds;
mod delivery;
mod order;
mod ranges;
mod reassembly;
mod table;
#[cfg(test)]
mod tests;
mod unordered;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::ids::FlowId;
use crate::inner::Decompressor;
use crate::inner::context::{ContextError, Segment};
use crate::time::Instant;
use crate::wire::frame::{DataKind, HoldHint};
pub use delivery::Delivery;
use order::Update;
use reassembly::Reassembly;
use table::{Slot, Table};
use unordered::Unordered;

/// No hole is waited for longer than this, whatever the sender's hint says, if nothing before it was filled meanwhile.
pub const LONGEST_HOLD: Duration = Duration::from_millis(250);
/// A hole of which nothing is known is waited for no longer than this.
const LONGEST_UNPROVEN: Duration = Duration::from_millis(200);
/// Where one hole was filled, the next one is known since no longer than this before: after the death of a path repairs come
/// one after the other, and a sender's time-out begins anew with each.
const GRANTED: Duration = Duration::from_millis(75);
const SHORTEST_HOLD: Duration = Duration::from_millis(5);
/// Beyond the difference of the paths.
const HOLD_MARGIN: Duration = Duration::from_millis(4);
/// Bytes that may wait for order, and as many for being fetched.
const LIMIT: usize = 16 << 20;
/// Bytes counted for each piece beside its own, so that small ones are bounded, too.
const PIECE_COST: usize = 128;

/// Holes of all flows together that were given up and may still be filled late.
const REMEMBERED: usize = 32 * 1024;

/// What happened to pieces and to holes.
///
/// `gaps` is the sum of `filled`, `timed_out`, `overflowed` and `reset`, and the holes that are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets and merged segments delivered.
    pub delivered: u64,
    /// Pieces that came again.
    pub duplicates: u64,
    /// Pieces that came when they were not waited for any more, delivered out of order.
    pub late: u64,
    /// Holes that something waited behind.
    pub gaps: u64,
    /// Holes that were filled in time.
    pub filled: u64,
    /// Holes that were given up after their time.
    pub timed_out: u64,
    /// Holes that were given up because too much waited.
    pub overflowed: u64,
    /// Holes of flows that were forgotten.
    pub reset: u64,
    /// Holes given up so long ago, or with so many others, that a late piece for them would be dropped.
    pub forgotten: u64,
    /// Pieces that were dropped because nobody fetched what was ready.
    pub refused: u64,
}

/// A piece at its place.
#[derive(Debug)]
struct Held {
    offset: u64,
    units: u32,
    /// When the first piece behind this one's beginning arrived: since then a hole before it is known.
    since: Instant,
    body: Bytes,
    kind: HeldKind,
}

#[derive(Debug)]
enum HeldKind {
    Packet,
    /// One of several in a row that make a packet.
    Fragment {
        is_last: bool,
    },
    /// The body begins with the segment's further options.
    Segment(Segment),
    Skip,
}

impl Held {
    fn end(&self) -> u64 {
        self.offset + u64::from(self.units)
    }

    fn cost(&self) -> usize {
        self.body.len() + PIECE_COST
    }
}

/// The receiving end of one direction of a session.
#[derive(Debug)]
pub struct Resequencer {
    contexts: Decompressor,
    table: Table,
    unordered: Unordered,
    reassembly: Reassembly,
    /// Flows that have something ready, each once.
    ready: VecDeque<Slot>,
    /// What is ready and belongs to no flow.
    loose: VecDeque<Held>,
    /// Flows that wait at a hole, by the time since when they know of it.
    blocked: BTreeSet<(Instant, Slot)>,
    /// What waits for order, as counted by [`Held::cost`].
    waiting_bytes: usize,
    /// What waits for being fetched.
    ready_bytes: usize,
    /// Holes that were given up and may still be filled late.
    remembered: usize,
    hint: HoldHint,
    path_overdue: bool,
    recent_gap: bool,
    statistics: Statistics,
    /// Emptied lists of parts, to be filled again.
    spare: Vec<Vec<Bytes>>,
}

impl Resequencer {
    /// Without any flow. The seed is for the look-up table alone.
    pub fn new(seed: u64) -> Self {
        Self {
            contexts: Decompressor::new(),
            table: Table::new(seed),
            unordered: Unordered::default(),
            reassembly: Reassembly::default(),
            ready: VecDeque::new(),
            loose: VecDeque::new(),
            blocked: BTreeSet::new(),
            waiting_bytes: 0,
            ready_bytes: 0,
            remembered: 0,
            hint: HoldHint {
                skew_us: 20_000,
                repair_us: 100_000,
            },
            path_overdue: false,
            recent_gap: false,
            statistics: Statistics::default(),
            spare: Vec::new(),
        }
    }

    /// Takes the body of a DATA frame. Returns whether anything in it is new. After an error, ask it whether the datagram
    /// may be acknowledged ([`ContextError::forbids_acknowledgement`]).
    pub fn receive(
        &mut self,
        now: Instant,
        flow: FlowId,
        ordered: bool,
        offset: u32,
        kind: DataKind,
        body: Bytes,
    ) -> Result<bool, ContextError> {
        if ordered == (flow == FlowId::UNORDERED) || body.is_empty() {
            return Err(ContextError::Malformed);
        }
        let (units, body, kind) = match kind {
            DataKind::Packet => (body.len(), body, Arrival::Whole(HeldKind::Packet)),
            DataKind::Fragment { total, at } => {
                if usize::from(at) + body.len() > usize::from(total) {
                    return Err(ContextError::Malformed);
                }
                (body.len(), body, Arrival::Fragment { total, at })
            }
            DataKind::Segment => {
                let (segment, at) = self.contexts.read(ordered, offset, &body)?;
                let rest = body.slice(at..);
                let payload = rest.len() - segment.options_len();
                let units = if payload == 0 {
                    segment.header_len()
                } else {
                    payload
                };
                (units, rest, Arrival::Whole(HeldKind::Segment(segment)))
            }
        };
        if self.ready_bytes > LIMIT {
            self.statistics.refused += 1;
            return Err(ContextError::Full);
        }
        let new = if ordered {
            self.receive_ordered(now, flow, offset, units as u32, body, kind)
        } else {
            self.receive_unordered(now, offset, units as u32, body, kind)
        };
        self.statistics.duplicates += u64::from(!new);
        Ok(new)
    }

    /// Takes a SKIP frame: these units will never come.
    pub fn skip(&mut self, now: Instant, flow: FlowId, offset: u32, units: u32) -> bool {
        // More in one frame than this would not fit the numbers' window.
        if flow == FlowId::UNORDERED || units == 0 || units > 1 << 30 {
            return false;
        }
        let skip = Arrival::Whole(HeldKind::Skip);
        let new = self.receive_ordered(now, flow, offset, units, Bytes::new(), skip);
        self.drop_broken(now, flow, offset, units);
        new
    }

    /// The sender's hint for how long holes may be worth waiting for.
    pub fn set_hold(&mut self, hint: HoldHint) {
        self.hint = hint;
    }

    /// Whether a path is silent for longer than usual, so that what was sent on it may have to be sent again.
    pub fn set_path_overdue(&mut self, overdue: bool) {
        self.path_overdue = overdue;
    }

    /// Whether packet numbers were missing on a path a short while ago, so that something is being sent again.
    pub fn set_recent_gap(&mut self, gap: bool) {
        self.recent_gap = gap;
    }

    /// How long a hole is waited for, as things are.
    pub fn hold(&self) -> Duration {
        let skew = Duration::from_micros(u64::from(self.hint.skew_us));
        let unproven = (skew + HOLD_MARGIN).clamp(SHORTEST_HOLD, LONGEST_UNPROVEN);
        if self.path_overdue || self.recent_gap {
            let repair = Duration::from_micros(u64::from(self.hint.repair_us));
            unproven.max(repair.min(LONGEST_HOLD))
        } else {
            unproven
        }
    }

    /// When [`Self::on_timeout`] is due. It moves with every other call.
    pub fn deadline(&self) -> Option<Instant> {
        let hole = self.blocked.first().map(|(since, _)| *since + self.hold());
        hole.into_iter().chain(self.reassembly.deadline()).min()
    }

    /// Gives up the holes that were waited for long enough, and packets of which a part does not come.
    pub fn on_timeout(&mut self, now: Instant) {
        self.reassembly.expire(now);
        let hold = self.hold();
        while let Some((since, slot)) = self.blocked.first().copied() {
            if since + hold > now {
                break;
            }
            self.statistics.timed_out += 1;
            self.give_up(slot);
        }
    }

    /// The next packet or merged segment, in order within its flow. Hand the delivery back to [`Self::recycle`].
    pub fn poll(&mut self) -> Option<Delivery> {
        let mut parts = self.spare.pop().unwrap_or_default();
        let delivery = if let Some(held) = self.loose.pop_front() {
            delivery::gather(held, &mut self.loose, parts, false)
        } else if let Some(slot) = self.ready.front().copied() {
            let flow = &mut self.table[slot];
            let Some(held) = flow.ready.pop_front() else {
                flow.is_ready = false;
                self.ready.pop_front();
                self.spare.push(parts);
                return self.poll();
            };
            let delivery = delivery::gather(held, &mut flow.ready, parts, true);
            self.ready.pop_front();
            if flow.ready.is_empty() {
                flow.is_ready = false;
            } else {
                self.ready.push_back(slot);
            }
            delivery
        } else {
            parts.clear();
            self.spare.push(parts);
            return None;
        };
        self.ready_bytes -= delivery.cost;
        self.statistics.delivered += 1;
        Some(delivery)
    }

    /// Takes a delivery's memory back when it is written.
    pub fn recycle(&mut self, delivery: Delivery) {
        const KEPT: usize = 16;
        if self.spare.len() < KEPT {
            let mut parts = delivery.parts;
            parts.clear();
            self.spare.push(parts);
        }
    }

    /// Bytes that wait for order or for being fetched.
    pub fn held_bytes(&self) -> usize {
        self.waiting_bytes + self.ready_bytes + self.reassembly.bytes()
    }

    /// Flows that wait at a hole.
    pub fn blocked_flows(&self) -> usize {
        self.blocked.len()
    }

    /// What happened so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Forgets flows that were silent for two minutes; call it now and then.
    pub fn retire_idle(&mut self, now: Instant) {
        self.remembered -= self.table.retire_idle(now);
    }

    fn receive_unordered(
        &mut self,
        now: Instant,
        offset: u32,
        units: u32,
        body: Bytes,
        kind: Arrival,
    ) -> bool {
        match kind {
            Arrival::Whole(kind) => {
                let Some(offset) = self.unordered.take(offset, u64::from(units)) else {
                    return false;
                };
                // Parts of it that came before are not needed any more.
                let end = offset + u64::from(units);
                self.reassembly.drop_within(FlowId::UNORDERED, offset, end);
                let held = Held {
                    offset,
                    units,
                    since: now,
                    body,
                    kind,
                };
                self.push_loose(held);
                true
            }
            Arrival::Fragment { total, at } => {
                let Some(start) = self.unordered.start_of(offset, at, total) else {
                    return false;
                };
                let id = FlowId::UNORDERED;
                let new = self.reassembly.add(now, id, start, total, at, body);
                if self.reassembly.is_complete()
                    && self.unordered.take(start as u32, u64::from(total)).is_some()
                {
                    while let Some(held) = self.reassembly.pop_complete(now) {
                        self.push_loose(held);
                    }
                }
                self.reassembly.drop_complete();
                self.shed();
                new
            }
        }
    }

    fn push_loose(&mut self, held: Held) {
        self.ready_bytes += held.cost();
        self.loose.push_back(held);
    }

    fn receive_ordered(
        &mut self,
        now: Instant,
        id: FlowId,
        offset: u32,
        units: u32,
        body: Bytes,
        kind: Arrival,
    ) -> bool {
        let slot = self.flow(now, id, offset);
        let flow = &mut self.table[slot];
        flow.last = now;
        let offset = flow.expand(offset);
        let mut update = Update::default();
        let new = match kind {
            Arrival::Whole(kind) => {
                if matches!(kind, HeldKind::Packet) {
                    let end = offset + u64::from(units);
                    self.reassembly.drop_within(id, offset, end);
                }
                let held = Held {
                    offset,
                    units,
                    since: now,
                    body,
                    kind,
                };
                flow.place(held, &mut update)
            }
            Arrival::Fragment { total, at } => {
                let start = offset.saturating_sub(u64::from(at));
                if flow.has_room_for(start, start + u64::from(total)) {
                    let new = self.reassembly.add(now, id, start, total, at, body);
                    while let Some(held) = self.reassembly.pop_complete(now) {
                        flow.place(held, &mut update);
                    }
                    new
                } else {
                    false
                }
            }
        };
        if update.filled {
            self.table[slot].progress = now;
        }
        self.apply(slot, update);
        self.shed();
        new
    }

    /// Of these units nothing will come: parts of packets that they belong to are of no use, and none of their units is
    /// waited for.
    fn drop_broken(&mut self, now: Instant, id: FlowId, offset: u32, units: u32) {
        let Some(slot) = self.table.find(id) else { return };
        let from = self.table[slot].expand(offset);
        let to = from + u64::from(units);
        while let Some((start, end)) = self.reassembly.drop_within(id, from, to) {
            let mut update = Update::default();
            let skip = Held {
                offset: start,
                units: (end - start) as u32,
                since: now,
                body: Bytes::new(),
                kind: HeldKind::Skip,
            };
            self.table[slot].place(skip, &mut update);
            self.apply(slot, update);
        }
    }

    /// Keeps what waits within its bound.
    fn shed(&mut self) {
        while self.waiting_bytes + self.reassembly.bytes() > LIMIT {
            if let Some((_, slot)) = self.blocked.first().copied() {
                self.statistics.overflowed += 1;
                self.give_up(slot);
            } else if !self.reassembly.drop_oldest() {
                return;
            }
        }
    }

    /// Finds or makes the flow; to make room another one may have to go.
    fn flow(&mut self, now: Instant, id: FlowId, offset: u32) -> Slot {
        if let Some(slot) = self.table.find(id) {
            return slot;
        }
        if let Some(slot) = self.table.victim() {
            while self.table[slot].blocked_since.is_some() {
                self.statistics.reset += 1;
                self.give_up(slot);
            }
            let flow = &mut self.table[slot];
            self.loose.append(&mut flow.ready);
            flow.is_ready = false;
            self.ready.retain(|other| *other != slot);
            self.remembered -= flow.remembered;
            self.table.remove(slot);
        }
        self.table.make(now, id, offset)
    }

    /// Does not wait for the hole at the head of a flow any more. The caller counts why.
    fn give_up(&mut self, slot: Slot) {
        let mut update = Update::default();
        self.table[slot].give_up(&mut update);
        self.apply(slot, update);
    }

    /// Brings the session's books in line with what happened in a flow.
    fn apply(&mut self, slot: Slot, update: Update) {
        let flow = &mut self.table[slot];
        self.waiting_bytes += update.waited;
        self.waiting_bytes -= update.released;
        self.ready_bytes += update.readied;
        self.statistics.late += update.late;
        self.statistics.forgotten += update.forgotten;
        self.remembered = self.remembered - flow.remembered + flow.given_up_holes();
        flow.remembered = flow.given_up_holes();
        if self.remembered > REMEMBERED {
            let forgotten = flow.forget_holes();
            self.statistics.forgotten += forgotten as u64;
            self.remembered -= forgotten;
            flow.remembered -= forgotten;
        }
        self.statistics.filled += u64::from(update.filled);
        if !flow.ready.is_empty() && !flow.is_ready {
            flow.is_ready = true;
            self.ready.push_back(slot);
        }
        let granted = flow.progress - GRANTED;
        let since = flow.waiting.front().map(|held| held.since.max(granted));
        // After a hole was closed or given up, the next one is another.
        let was_open = flow.blocked_since.is_some() && !update.filled && !update.given_up;
        self.statistics.gaps += u64::from(since.is_some() && !was_open);
        if flow.blocked_since != since {
            if let Some(before) = flow.blocked_since {
                self.blocked.remove(&(before, slot));
            }
            flow.blocked_since = since;
            if let Some(since) = since {
                self.blocked.insert((since, slot));
            }
        }
    }
}

/// What a frame brought.
enum Arrival {
    Whole(HeldKind),
    Fragment { total: u16, at: u16 },
}
