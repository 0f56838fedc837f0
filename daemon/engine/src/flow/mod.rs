//! The one place where packets wait: a fair queue per flow, with active queue management, out of which pieces are cut.
//!
//! Packets get their place in the flow's order as they enter; which path takes which part is decided when a path can
//! send. A flow is a stream of *units*: a TCP segment's units are the bytes of its payload, any other packet's all its
//! bytes. Packets that no order matters for (acknowledgements, calls, look-ups) are counted in the unordered flow, but wait
//! in their own flow's queue.

mod admit;
mod anew;
mod codel;
mod cut;
mod item;
mod reminder;
mod table;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::buffer::Pool;
use crate::ids::FlowId;
use crate::inner::{Compressor, Piece, PieceKind};
use crate::settings::BytesPerSecond;
use crate::time::Instant;
use codel::Codel;
use item::Item;
use table::{List, Slot, Table};

/// Delay that the queue of a sparse or unordered flow may keep.
const SPARSE_TARGET: Duration = Duration::from_millis(5);
/// Bytes that may wait in all, unless told otherwise.
const DEFAULT_LIMIT: u64 = 8 << 20;
/// Bytes counted for each packet beside its own, so that small ones are bounded, too.
const ITEM_COST: u64 = 128;

/// Which part of the queue is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The next one in turn.
    Head,
    /// What lies this many bytes behind the head of its flow: for a path on which that arrives in time.
    Depth(u64),
    /// The next one in turn of those that somebody waits for: unordered packets and flows that send little.
    Interactive,
}

/// Room in the datagram that is being made, in bytes of plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What is left of it.
    pub left: usize,
    /// What an empty one has. A packet that is larger than this is cut; others wait for the next datagram.
    pub full: usize,
}

/// Why a packet was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropReason {
    /// It is no IP packet.
    #[error("not an IP packet")]
    Malformed,
    /// Its offload header contradicts it.
    #[error("an offload header that contradicts its packet")]
    Offload,
    /// There are as many flows with packets waiting as there may be.
    #[error("too many flows")]
    TooManyFlows,
}

/// What happened to packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets and super-segments that entered.
    pub enqueued: u64,
    /// Dropped because they waited too long.
    pub dropped_by_delay: u64,
    /// Dropped because too much waited.
    pub dropped_by_limit: u64,
    /// Marked instead of dropped.
    pub marked: u64,
    /// Acknowledgements that a later one in the queue made needless.
    pub thinned: u64,
}

/// The queues of one direction of a session.
#[derive(Debug)]
pub struct FlowQueues {
    table: Table,
    /// Flows that began to send since their last turn, and the others that have something waiting.
    new: VecDeque<Slot>,
    old: VecDeque<Slot>,
    /// Units that were dropped, to be announced before anything else.
    skips: VecDeque<Skip>,
    /// The flow of a packet of which a part is under way: without the rest it is of no use, so that the rest is the next
    /// thing to be sent, on whatever path.
    begun: Option<Slot>,
    /// Offset of the next unit in the unordered flow.
    unordered_offset: u64,
    bytes: u64,
    packets: u64,
    limit: u64,
    quantum: i64,
    bulk_target: Duration,
    interval: Duration,
    pool: Pool,
    statistics: Statistics,
}

#[derive(Clone, Copy, Debug)]
struct Skip {
    flow: FlowId,
    offset: u64,
    units: u32,
}

impl FlowQueues {
    /// Empty queues. The seed is for the look-up table alone.
    pub fn new(seed: u64) -> Self {
        Self {
            table: Table::new(seed),
            new: VecDeque::new(),
            old: VecDeque::new(),
            skips: VecDeque::new(),
            begun: None,
            unordered_offset: 0,
            bytes: 0,
            packets: 0,
            limit: DEFAULT_LIMIT,
            quantum: 1514,
            bulk_target: SPARSE_TARGET,
            interval: Duration::from_millis(100),
            pool: Pool::new(),
            statistics: Statistics::default(),
        }
    }

    /// How long packets of a bulk flow may wait. Its queue delays nobody else, and it needs one to keep the paths busy.
    pub fn set_bulk_target(&mut self, target: Duration) {
        self.bulk_target = target.max(SPARSE_TARGET);
    }

    /// For how long a queue may stay above its target before anything is done: about the longest round trip.
    pub fn set_interval(&mut self, interval: Duration) {
        self.interval = interval.max(Duration::from_millis(100));
    }

    /// The rate of all paths together, which says how much a flow may send in one turn.
    pub fn set_rate(&mut self, rate: BytesPerSecond) {
        const FIFTY_MICROSECONDS: u64 = 50_000;
        self.quantum = match rate.0 {
            0..1_250_000 => 300,
            _ => rate.bytes_in(FIFTY_MICROSECONDS).clamp(1514, 16 * 1024) as i64,
        };
    }

    /// How many bytes may wait in all; what is too much is dropped with the next packet that enters.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit.max(1 << 16);
    }

    /// Cuts the next piece that fits `room`, as the last one of its datagram; nothing if nothing is wanted or fits.
    /// `compressor` says how much the headers will take.
    pub fn next(&mut self, now: Instant, room: Room, want: Want, compressor: &Compressor) -> Option<Piece> {
        if want != Want::Interactive
            && let Some(skip) = self.next_skip(room)
        {
            return Some(skip);
        }
        if let Some(slot) = self.begun {
            return self.next_of_begun(slot, room, compressor);
        }
        match want {
            Want::Depth(depth) if depth > 0 => self.next_at_depth(room, depth, compressor),
            Want::Interactive => self.next_interactive(now, room, compressor),
            Want::Head | Want::Depth(_) => self.next_in_turn(now, room, compressor),
        }
    }

    /// Bytes that wait.
    pub fn backlog_bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets that wait.
    pub fn waiting_packets(&self) -> u64 {
        self.packets
    }

    /// Flows that have something waiting.
    pub fn backlogged_flows(&self) -> usize {
        self.new.len() + self.old.len()
    }

    /// Bytes that wait in the flow that has most of them.
    pub fn deepest_backlog(&self) -> u64 {
        self.active()
            .map(|slot| self.table[slot].bytes)
            .max()
            .unwrap_or(0)
    }

    /// Whether something waits that [`Want::Interactive`] would give.
    pub fn has_interactive(&self) -> bool {
        self.interactive().is_some()
    }

    /// Whether there is nothing to send at all.
    pub fn is_empty(&self) -> bool {
        self.packets == 0 && self.skips.is_empty()
    }

    /// What happened to packets so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// The newest acknowledgement of each TCP flow of the last half hour, to be sent once more: see [`reminder`].
    pub fn reminders(&self, now: Instant) -> Vec<Bytes> {
        self.table
            .iter()
            .filter_map(|flow| flow.reminder.packet(now))
            .collect()
    }

    /// Forgets flows that were silent for a minute; call it now and then. Their numbers are not used again.
    pub fn retire_idle(&mut self, now: Instant) {
        self.table.retire_idle(now);
    }

    fn active(&self) -> impl Iterator<Item = Slot> + '_ {
        self.new.iter().chain(&self.old).copied()
    }

    fn next_skip(&mut self, room: Room) -> Option<Piece> {
        const SKIP_MAX: usize = 1 + 8 + 4 + 8;
        if room.left < SKIP_MAX {
            return None;
        }
        let skip = self.skips.pop_front()?;
        Some(Piece {
            flow: skip.flow,
            ordered: true,
            offset: skip.offset,
            units: skip.units,
            kind: PieceKind::Skip,
            body: Bytes::new(),
        })
    }

    /// The rest of a packet that was begun.
    fn next_of_begun(&mut self, slot: Slot, room: Room, compressor: &Compressor) -> Option<Piece> {
        let index = self.table[slot].items.iter().position(Item::is_begun_packet)?;
        let list = self.table[slot].list;
        let piece = self.cut_front_of(slot, index, room, compressor);
        self.settle(list, slot);
        piece
    }

    /// Deficit round robin: flows that just began come first, as long as they stay within a quantum.
    fn next_in_turn(&mut self, now: Instant, room: Room, compressor: &Compressor) -> Option<Piece> {
        loop {
            let (list, slot) = match (self.new.front(), self.old.front()) {
                (Some(slot), _) => (List::New, *slot),
                (None, Some(slot)) => (List::Old, *slot),
                (None, None) => return None,
            };
            // One that emptied stays for one more round: see `settle`.
            let emptied = self.table[slot].items.is_empty();
            let piece = self.cut_head(now, slot, room, compressor);
            self.settle(list, slot);
            if !emptied {
                return piece;
            }
        }
    }

    fn next_interactive(&mut self, now: Instant, room: Room, compressor: &Compressor) -> Option<Piece> {
        let slot = self.interactive()?;
        let list = self.table[slot].list;
        let piece = self.cut_head(now, slot, room, compressor);
        self.settle(list, slot);
        piece
    }

    /// The first flow that somebody waits for: one that just began, or one whose few packets have no order.
    fn interactive(&self) -> Option<Slot> {
        const LOOK_AHEAD: usize = 64;
        let quantum = u64::try_from(self.quantum).unwrap_or(0);
        let little = |slot: &Slot| self.table[*slot].bytes <= quantum;
        let unordered = |slot: &Slot| self.table[*slot].items.front().is_some_and(|item| !item.ordered);
        let new = (self.new.iter())
            .find(|slot| !self.table[**slot].items.is_empty() && (little(slot) || unordered(slot)));
        let old = || {
            self.old
                .iter()
                .take(LOOK_AHEAD)
                .find(|slot| little(slot) && unordered(slot))
        };
        new.or_else(old).copied()
    }

    fn next_at_depth(&mut self, room: Room, depth: u64, compressor: &Compressor) -> Option<Piece> {
        if self.bytes <= depth {
            return None;
        }
        let slot = self.active().find(|slot| {
            let flow = &self.table[*slot];
            flow.bytes > depth && flow.items.back().is_some_and(|item| item.ordered)
        })?;
        let list = self.table[slot].list;
        let piece = self.cut_at(slot, room, depth, compressor);
        self.settle(list, slot);
        piece
    }

    /// After something was taken from a flow: moves it behind the others if its turn is over, or out if it is empty.
    fn settle(&mut self, list: List, slot: Slot) {
        let flow = &mut self.table[slot];
        if flow.items.is_empty() {
            // A flow that empties goes round once more before it counts as new again, or it could live on being new.
            if list == List::New && !self.old.is_empty() {
                self.move_to_old(list, slot);
            } else {
                flow.list = List::None;
                self.remove(list, slot);
            }
        } else if flow.deficit <= 0 {
            flow.deficit += self.quantum;
            self.move_to_old(list, slot);
        }
    }

    fn remove(&mut self, list: List, slot: Slot) {
        let queue = match list {
            List::New => &mut self.new,
            List::Old => &mut self.old,
            List::None => return,
        };
        if queue.front() == Some(&slot) {
            queue.pop_front();
        } else if let Some(index) = queue.iter().position(|other| *other == slot) {
            queue.remove(index);
        }
    }

    fn move_to_old(&mut self, list: List, slot: Slot) {
        self.remove(list, slot);
        self.table[slot].list = List::Old;
        self.old.push_back(slot);
    }

    fn announce_skip(&mut self, flow: FlowId, offset: u64, units: u32) {
        if let Some(last) = self.skips.back_mut() {
            let contiguous = last.flow == flow && last.offset + u64::from(last.units) == offset;
            if let Some(sum) = last.units.checked_add(units).filter(|_| contiguous) {
                last.units = sum;
                return;
            }
        }
        self.skips.push_back(Skip { flow, offset, units });
    }
}
