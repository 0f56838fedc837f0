//! A TCP receiver as Linux makes it: delayed acknowledgements, SACK, DSACK; checks every byte.

use std::collections::BTreeMap;
use std::time::Duration;

use sennit_engine::time::Instant;

use crate::packet::{self, ACK, Body, Ends, FIN, Packet, SYN, TcpHeader, View};
use crate::payload;
use crate::transport::{Deliveries, End, FlowCounters, segment_size};

const DELAYED: Duration = Duration::from_millis(40);
const WINDOW: u16 = 4096;
/// Acknowledged at once at the beginning, so that the sender's window grows.
const QUICK: u32 = 16;

/// The receiving end of one connection.
#[derive(Debug)]
pub struct Receiver {
    flow: u16,
    ends: Ends,
    segment: u16,
    /// Sequence number of the stream's first byte; known after the SYN.
    first: Option<u32>,
    next: u64,
    /// What lies beyond the first hole: start and end.
    beyond: BTreeMap<u64, u64>,
    /// Blocks in the order of their last change, newest first (their starts).
    recent: Vec<u64>,
    repeated: Option<(u64, u64)>,
    timestamp: u32,
    unacknowledged: u64,
    quick: u32,
    delayed: Option<Instant>,
    identification: u16,
    deliveries: Deliveries,
    late: u64,
    closed: Option<Instant>,
    violations: Vec<String>,
    highest: u64,
}

impl Receiver {
    /// The receiver of the flow number `flow`; `ends` is the direction of its acknowledgements.
    pub fn new(flow: u16, ends: Ends) -> Self {
        Self {
            flow,
            ends,
            segment: segment_size(ends),
            first: None,
            next: 0,
            beyond: BTreeMap::new(),
            recent: Vec::new(),
            repeated: None,
            timestamp: 0,
            unacknowledged: 0,
            quick: QUICK,
            delayed: None,
            identification: 0,
            deliveries: Deliveries::default(),
            late: 0,
            closed: None,
            violations: Vec::new(),
            highest: 0,
        }
    }

    fn violation(&mut self, what: String) {
        if self.violations.len() < 10 {
            self.violations.push(what);
        }
    }

    fn acknowledge(&mut self, now: Instant, out: &mut Vec<Packet>) {
        let Some(first) = self.first else { return };
        let wire = |offset: u64| first.wrapping_add(offset as u32);
        let mut sack = Vec::new();
        if let Some((from, to)) = self.repeated.take() {
            sack.push((wire(from), wire(to)));
        }
        self.recent.retain(|start| self.beyond.contains_key(start));
        for start in self.recent.iter().take(3 - sack.len()) {
            sack.push((wire(*start), wire(self.beyond[start])));
        }
        let header = TcpHeader {
            sequence: 1,
            acknowledgement: wire(self.next),
            flags: ACK,
            window: WINDOW,
            timestamps: (millis(now), self.timestamp),
            sack,
            maximum_segment: None,
        };
        self.identification = self.identification.wrapping_add(1);
        out.push(packet::tcp(
            self.ends,
            self.identification,
            &header,
            0,
            self.segment,
            |_| {},
        ));
        self.unacknowledged = 0;
        self.delayed = None;
        self.quick = self.quick.saturating_sub(1);
    }

    fn accept(&mut self, now: Instant, from: u64, to: u64, timestamp: u32) {
        if from <= self.next {
            self.timestamp = timestamp;
        }
        if to <= self.next {
            self.repeated = Some((from, to));
            return;
        }
        if from < self.highest {
            self.late += 1;
        }
        self.highest = self.highest.max(to);
        let (mut start, mut end) = (from.max(self.next), to);
        // Everything that touches becomes one block.
        let touching: Vec<u64> = (self.beyond.range(..=end))
            .filter(|(_, block_end)| **block_end >= start)
            .map(|(block_start, _)| *block_start)
            .collect();
        for block in touching {
            let block_end = self.beyond.remove(&block).unwrap_or(block);
            if block <= from && to <= block_end {
                self.repeated = Some((from, to));
            }
            start = start.min(block);
            end = end.max(block_end);
        }
        if start <= self.next {
            self.deliver(now, end);
        } else {
            self.beyond.insert(start, end);
            self.recent.retain(|other| *other != start);
            self.recent.insert(0, start);
            self.recent.truncate(8);
        }
    }

    fn deliver(&mut self, now: Instant, end: u64) {
        let bytes = end - self.next;
        self.next = end;
        self.unacknowledged += bytes;
        self.deliveries.record(now, bytes);
    }
}

pub(super) fn millis(now: Instant) -> u32 {
    (now.as_nanos() / 1_000_000) as u32
}

/// The offset that is nearest to `near` of those that a 32-bit number can mean.
pub(super) fn unwrap(wire: u32, first: u32, near: u64) -> i64 {
    let low = wire.wrapping_sub(first);
    near as i64 + i64::from(low.wrapping_sub(near as u32) as i32)
}

impl End for Receiver {
    fn receive(&mut self, now: Instant, view: &View<'_>, _: &Packet, out: &mut Vec<Packet>) {
        let Body::Tcp(header, payload) = &view.body else {
            self.violation("a packet that is no TCP".to_owned());
            return;
        };
        if header.flags & SYN != 0 {
            let first = *self.first.get_or_insert(header.sequence.wrapping_add(1));
            self.timestamp = header.timestamps.0;
            let answer = TcpHeader {
                sequence: 0,
                acknowledgement: first,
                flags: SYN | ACK,
                window: 64_000,
                timestamps: (millis(now), self.timestamp),
                sack: Vec::new(),
                maximum_segment: Some(self.segment + 12),
            };
            out.push(packet::tcp(self.ends, 0, &answer, 0, self.segment, |_| {}));
            return;
        }
        let Some(first) = self.first else { return };
        let fin = u64::from(header.flags & FIN != 0);
        if payload.is_empty() && fin == 0 {
            return;
        }
        let from = unwrap(header.sequence, first, self.next);
        if from < 0 {
            self.violation(format!("sequence number before the first at {now:?}"));
            return;
        }
        let from = from as u64;
        if !payload::matches(self.flow, from, payload) {
            self.violation(format!("wrong payload at offset {from}, {} bytes", payload.len()));
            return;
        }
        let to = from + payload.len() as u64 + fin;
        let in_order = from == self.next && self.beyond.is_empty();
        self.accept(now, from, to, header.timestamps.0);
        if fin != 0 && self.next >= to {
            self.closed.get_or_insert(now);
        }
        let enough = self.unacknowledged > u64::from(self.segment);
        if !in_order || enough || self.quick > 0 || fin != 0 {
            self.acknowledge(now, out);
        } else if self.delayed.is_none() {
            self.delayed = Some(now + DELAYED);
        }
    }

    fn timeout(&mut self, now: Instant, out: &mut Vec<Packet>) {
        if self.delayed.is_some_and(|deadline| deadline <= now) {
            self.acknowledge(now, out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.delayed
    }

    fn count(&self, counters: &mut FlowCounters) {
        self.deliveries.count(counters);
        counters.late += self.late;
        counters.completed = self.closed;
        counters.violations.extend(self.violations.iter().cloned());
    }
}
