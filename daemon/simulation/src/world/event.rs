//! The queue of what is to happen, in order of time; at the same time in the order of being put in.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use bytes::BytesMut;
use sennit_engine::time::Instant;

use crate::packet::Packet;
use crate::setup::Side;

/// Something that happens.
#[derive(Debug)]
pub(super) enum Event {
    /// A datagram of the tunnel arrives at `to`.
    Datagram {
        to: Side,
        wan: usize,
        /// As the receiver sees its source (at the server) or as the sender addressed it (at the client).
        outside: SocketAddr,
        bytes: BytesMut,
        marked: bool,
    },
    /// A packet gets to the tunnel's end at `at`, from the hosts behind it.
    Enter { at: Side, flow: usize, packet: Packet },
    /// A packet goes over a WAN beside the tunnel.
    Pass {
        from: Side,
        wan: usize,
        flow: usize,
        packet: Packet,
    },
    /// A packet arrives at the flow's end behind `at`.
    Arrive { at: Side, flow: usize, packet: Packet },
    /// A flow's end wants to be called.
    Flow { at: Side, flow: usize },
    /// A tunnel's end wants to be called.
    Host { at: Side },
    /// Something is done to the ends.
    Action { index: usize },
    /// A WAN is plugged in.
    Join { wan: usize },
    /// State is written down and checked.
    Sample,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the largest; wanted is the earliest.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// What is to happen.
#[derive(Debug, Default)]
pub(super) struct Events {
    heap: BinaryHeap<Entry>,
    count: u64,
}

impl Events {
    pub(super) fn put(&mut self, at: Instant, event: Event) {
        if at == Instant::NEVER {
            return;
        }
        self.count += 1;
        self.heap.push(Entry {
            at,
            number: self.count,
            event,
        });
    }

    /// The next one, if it is not later than `until`.
    pub(super) fn take(&mut self, until: Instant) -> Option<(Instant, Event)> {
        if self.heap.peek()?.at > until {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }

    /// How many there were so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}
