//! The flows that a peer sends: bounded, and forgotten after two minutes of silence.

use std::collections::{HashMap, VecDeque};
use std::ops::{Index, IndexMut};
use std::time::Duration;

use super::order::Flow;
use crate::ids::FlowId;
use crate::inner::packet::SeededHash;
use crate::time::Instant;

/// Flows at a time.
const MAX_FLOWS: usize = 8192;
/// Twice what a sender waits before it forgets a flow, so that it never speaks of one that is not known here.
const IDLE: Duration = Duration::from_secs(120);
/// Flows looked at when one has to go.
const LOOKED_AT: usize = 64;

/// A place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

#[derive(Debug)]
pub(super) struct Table {
    flows: Vec<Flow>,
    by_id: HashMap<FlowId, Slot, SeededHash>,
    free: Vec<Slot>,
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
            by_id: HashMap::with_hasher(SeededHash(seed)),
            free: Vec::new(),
            hand: 0,
        }
    }

    pub(super) fn find(&self, id: FlowId) -> Option<Slot> {
        self.by_id.get(&id).copied()
    }

    /// The flow that has to go before another one can be made; none if there is room.
    pub(super) fn victim(&mut self) -> Option<Slot> {
        if self.flows.len() < MAX_FLOWS || !self.free.is_empty() {
            return None;
        }
        let first = self.hand;
        self.hand = (first + LOOKED_AT) % self.flows.len();
        (first..first + LOOKED_AT)
            .map(|index| index % self.flows.len())
            .min_by_key(|index| self.flows[*index].last)
            .map(|index| Slot(index as u32))
    }

    /// Makes a flow, of which the first piece begins at `offset`. There must be room.
    pub(super) fn make(&mut self, now: Instant, id: FlowId, offset: u32) -> Slot {
        let flow = Flow::new(now, id, offset);
        let slot = match self.free.pop() {
            Some(slot) => {
                self[slot] = flow;
                slot
            }
            None => {
                self.flows.push(flow);
                Slot(self.flows.len() as u32 - 1)
            }
        };
        self.by_id.insert(id, slot);
        slot
    }

    /// Forgets a flow of which nothing is held.
    pub(super) fn remove(&mut self, slot: Slot) {
        let flow = &mut self[slot];
        flow.retired = true;
        flow.waiting = VecDeque::new();
        flow.ready = VecDeque::new();
        let id = flow.id;
        self.by_id.remove(&id);
        self.free.push(slot);
    }

    /// Forgets idle flows; how many holes they remembered.
    pub(super) fn retire_idle(&mut self, now: Instant) -> usize {
        let mut remembered = 0;
        for index in 0..self.flows.len() {
            let flow = &self.flows[index];
            let idle = flow.waiting.is_empty() && !flow.is_ready && now.since(flow.last) >= IDLE;
            if idle && !flow.retired {
                remembered += flow.remembered;
                self.remove(Slot(index as u32));
            }
        }
        remembered
    }
}
