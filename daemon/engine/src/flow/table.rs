//! The flows that are known, by key: bounded, and forgotten after a minute of silence.

use std::collections::{HashMap, VecDeque};
use std::ops::{Index, IndexMut};
use std::time::Duration;

use super::Codel;
use super::item::Item;
use super::reminder::Reminder;
use crate::ids::FlowId;
use crate::inner::FlowKey;
use crate::inner::packet::SeededHash;
use crate::time::Instant;

/// Flows at a time.
pub(super) const MAX_FLOWS: usize = 8192;
/// Silence after which a flow is forgotten.
const IDLE: Duration = Duration::from_secs(60);
/// Flows looked at when room for another one is needed.
const LOOKED_AT: usize = 64;

/// A place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// Which list a flow waits in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum List {
    #[default]
    None,
    New,
    Old,
}

/// One flow.
#[derive(Debug)]
pub(super) struct Flow {
    pub key: FlowKey,
    pub id: FlowId,
    pub items: VecDeque<Item>,
    /// Bytes of the items.
    pub bytes: u64,
    /// Offset of the next unit that enters.
    pub offset: u64,
    /// Bytes that it may still send in this turn.
    pub deficit: i64,
    pub list: List,
    pub codel: Codel,
    pub last_packet: Instant,
    /// The largest packet so far: the most that a segment may have with its headers.
    pub largest_packet: u16,
    pub demand: Demand,
    /// Kept until its place is taken.
    pub reminder: Reminder,
    /// Its place is free.
    retired: bool,
}

/// UDP packets of this size and more belong to transfers; calls and games send less.
const FULL_PACKET: usize = 1100;

/// How much a flow sends: whether UDP is a call or a download.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand {
    window: Instant,
    bytes: u64,
    is_bulk: bool,
    /// When the last packet came that is as large as calls and games send none.
    full_at: Option<Instant>,
}

impl Demand {
    /// Counts a packet of `bytes`.
    pub(super) fn count(&mut self, now: Instant, bytes: usize) {
        const WINDOW: Duration = Duration::from_millis(250);
        /// In a window: 1 Mbit/s.
        const BULK: u64 = 31_250;
        let age = now.since(self.window);
        if age >= WINDOW {
            // A flow that falls silent or slow is one that somebody may wait for again.
            self.is_bulk = self.bytes >= BULK && age < WINDOW * 4;
            self.window = now;
            self.bytes = 0;
        }
        self.bytes += bytes as u64;
        self.is_bulk |= self.bytes >= BULK;
        if bytes >= FULL_PACKET {
            self.full_at = Some(now);
        }
    }

    /// Whether the packet that was counted last is part of a transfer, and must not overtake what came before it. A small
    /// one right behind a full one is the end of the same message: if it overtook the rest of its handshake, QUIC would
    /// take it for lost.
    pub(super) fn is_transfer(&self, now: Instant) -> bool {
        const MESSAGE: Duration = Duration::from_millis(50);
        self.is_bulk || self.full_at.is_some_and(|at| now.since(at) <= MESSAGE)
    }
}

impl Flow {
    fn new(key: FlowKey, id: FlowId, now: Instant) -> Self {
        Self {
            key,
            id,
            items: VecDeque::new(),
            bytes: 0,
            offset: 0,
            deficit: 0,
            list: List::None,
            codel: Codel::default(),
            last_packet: now,
            largest_packet: 0,
            demand: Demand::default(),
            reminder: Reminder::default(),
            retired: false,
        }
    }
}

/// All flows.
#[derive(Debug)]
pub(super) struct Table {
    flows: Vec<Flow>,
    by_key: HashMap<FlowKey, Slot, SeededHash>,
    /// Places of retired flows; the one that is free for longest is taken first.
    free: VecDeque<Slot>,
    next_id: FlowId,
    /// Where the search for a flow to forget goes on.
    hand: usize,
}

impl Index<Slot> for Table {
    type Output = Flow;

    fn index(&self, slot: Slot) -> &Flow {
        &self.flows[slot.0 as usize]
    }
}

impl IndexMut<Slot> for Table {
    fn index_mut(&mut self, slot: Slot) -> &mut Flow {
        &mut self.flows[slot.0 as usize]
    }
}

impl Table {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            flows: Vec::new(),
            by_key: HashMap::with_hasher(SeededHash(seed)),
            free: VecDeque::new(),
            next_id: FlowId(1),
            hand: 0,
        }
    }

    /// The flow of `key`, which is made if need be; none if there are too many.
    pub(super) fn find(&mut self, now: Instant, key: &FlowKey) -> Option<Slot> {
        if let Some(slot) = self.by_key.get(key) {
            return Some(*slot);
        }
        let slot = match self.free.pop_front() {
            Some(slot) => slot,
            None if self.flows.len() < MAX_FLOWS => Slot(self.flows.len() as u32),
            None => self.longest_silent()?,
        };
        let id = self.next_id;
        self.next_id = FlowId(id.0.wrapping_add(1).max(1));
        let flow = Flow::new(*key, id, now);
        match self.flows.get_mut(slot.0 as usize) {
            Some(place) => *place = flow,
            None => self.flows.push(flow),
        }
        self.by_key.insert(*key, slot);
        Some(slot)
    }

    /// Of the next few flows the one that was silent for the longest time, and has nothing waiting.
    fn longest_silent(&mut self) -> Option<Slot> {
        let first = self.hand;
        self.hand = (first + LOOKED_AT) % self.flows.len();
        let index = (first..first + LOOKED_AT)
            .map(|index| index % self.flows.len())
            .filter(|index| self.flows[*index].list == List::None)
            .min_by_key(|index| self.flows[*index].last_packet)?;
        self.by_key.remove(&self.flows[index].key);
        Some(Slot(index as u32))
    }

    /// Every flow, and those that are retired as long as nothing took their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter()
    }

    /// Numbers the flows from the beginning, and hands each to `change`.
    pub(super) fn renumber(&mut self, mut change: impl FnMut(&mut Flow)) {
        self.next_id = FlowId(1);
        for flow in &mut self.flows {
            flow.id = self.next_id;
            self.next_id = FlowId(self.next_id.0.wrapping_add(1).max(1));
            change(flow);
        }
    }

    pub(super) fn retire_idle(&mut self, now: Instant) {
        for (index, flow) in self.flows.iter_mut().enumerate() {
            let idle = flow.list == List::None && now.since(flow.last_packet) >= IDLE;
            if idle && !flow.retired {
                flow.retired = true;
                flow.items = VecDeque::new();
                self.by_key.remove(&flow.key);
                self.free.push_back(Slot(index as u32));
            }
        }
    }
}
