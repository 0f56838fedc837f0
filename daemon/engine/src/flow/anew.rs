//! Begins anew with another peer, or with one that forgot all: what waits gets new numbers, and is not lost.

use std::time::Duration;

use super::FlowQueues;
use super::codel::Codel;
use super::item::Item;
use crate::time::Instant;

/// Nobody waits for what is older: its sender has sent it again, or has given up.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

impl FlowQueues {
    /// Forgets which units were sent and skipped. What waits is numbered from the beginning of new flows, but for halves
    /// of packets, and for what is too old.
    pub fn begin_anew(&mut self, now: Instant) {
        self.skips.clear();
        self.begun = None;
        self.unordered_offset = 0;
        self.bytes = 0;
        self.packets = 0;
        let unordered = &mut self.unordered_offset;
        let mut dropped = 0;
        self.table.renumber(|flow| {
            flow.offset = 0;
            flow.bytes = 0;
            flow.codel = Codel::default();
            let before = flow.items.len();
            flow.items
                .retain(|item| !item.is_begun_packet() && now.since(item.entered) < LONGEST_WAIT);
            dropped += before - flow.items.len();
            for item in &mut flow.items {
                let next = if item.ordered {
                    &mut flow.offset
                } else {
                    &mut *unordered
                };
                item.offset = *next;
                item.entered = now;
                *next += item.bytes();
            }
            flow.bytes = flow.items.iter().map(Item::bytes).sum();
            self.bytes += flow.bytes;
            self.packets += flow.items.len() as u64;
        });
        self.statistics.dropped_by_delay += dropped as u64;
    }
}
