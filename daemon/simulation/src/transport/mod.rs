//! Hosts' ends of flows: models of TCP, of a QUIC-like protocol and of realtime senders, with real packets.

pub mod datagram;
pub mod quic;
pub mod tcp;

use std::fmt::Debug;
use std::time::Duration;

use sennit_engine::time::Instant;

use crate::histogram::Histogram;
use crate::packet::{Ends, Packet, View};

/// Bytes of TCP payload in a packet of 1,500 bytes, with timestamps.
pub fn segment_size(ends: Ends) -> u16 {
    if ends.source.is_ipv4() { 1448 } else { 1428 }
}

/// One end of a flow.
pub trait End: Debug {
    /// A packet of the flow arrived; `packet` is what `view` was read from.
    fn receive(&mut self, now: Instant, view: &View<'_>, packet: &Packet, out: &mut Vec<Packet>);

    /// The deadline has passed, or the flow begins.
    fn timeout(&mut self, now: Instant, out: &mut Vec<Packet>);

    /// When `timeout` wants to be called; nothing before the flow begins.
    fn deadline(&self) -> Option<Instant>;

    /// Adds what this end counted.
    fn count(&self, counters: &mut FlowCounters);

    /// No new data from now on; what was begun is finished.
    fn stop(&mut self) {}
}

/// What both ends of a flow counted.
#[derive(Clone, Debug, Default)]
pub struct FlowCounters {
    /// Packets that the sender gave to the network, each segment of a super-segment as one.
    pub sent: u64,
    /// Payload bytes that reached the application in order.
    pub delivered: u64,
    /// The same, in each tenth of a second of the run.
    pub series: Vec<u64>,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Of these, found to be needless (the receiver had the original).
    pub spurious: u64,
    /// Segments that arrived behind a later one.
    pub late: u64,
    /// Packets of a realtime flow that did not arrive (as far as is known yet).
    pub missing: u64,
    /// Packets of a realtime flow that arrived twice.
    pub twice: u64,
    /// Retransmission time-outs.
    pub timeouts: u64,
    /// Reductions of the congestion window.
    pub reductions: u64,
    /// Reductions taken back.
    pub undone: u64,
    /// Longest time without a delivery, between the first and the last one.
    pub longest_gap: Duration,
    /// When that began.
    pub longest_gap_at: Instant,
    /// All gaps of 15 ms and more, as begin and length; the first thousand.
    pub gaps: Vec<(Instant, Duration)>,
    /// When a flow of limited length was through.
    pub completed: Option<Instant>,
    /// When the flow had delivered 10 MB.
    pub ten_megabytes: Option<Instant>,
    /// One-way delays of a realtime flow, round trips of a ping.
    pub latency: Histogram,
    /// Congestion window of the sender, in bytes.
    pub window: u64,
    /// Bytes that the sender has sent and not seen acknowledged.
    pub outstanding: u64,
    /// What no network may do: damaged data, invented data.
    pub violations: Vec<String>,
}

const NOTED_GAP: Duration = Duration::from_millis(15);
const NOTED_GAPS: usize = 1000;

/// Deliveries over time: goodput and the longest gap.
#[derive(Clone, Debug, Default)]
pub struct Deliveries {
    total: u64,
    series: Vec<u64>,
    last: Option<Instant>,
    longest: (Duration, Instant),
    gaps: Vec<(Instant, Duration)>,
    ten_megabytes: Option<Instant>,
}

impl Deliveries {
    /// `bytes` reached the application.
    pub fn record(&mut self, now: Instant, bytes: u64) {
        self.total += bytes;
        let slot = (now.as_nanos() / 100_000_000) as usize;
        if self.series.len() <= slot {
            self.series.resize(slot + 1, 0);
        }
        self.series[slot] += bytes;
        if let Some(last) = self.last {
            let gap = now.since(last);
            self.longest = self.longest.max((gap, last));
            if gap >= NOTED_GAP && self.gaps.len() < NOTED_GAPS {
                self.gaps.push((last, gap));
            }
        }
        self.last = Some(now);
        if self.total >= 10_000_000 && self.ten_megabytes.is_none() {
            self.ten_megabytes = Some(now);
        }
    }

    /// Bytes so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    fn count(&self, counters: &mut FlowCounters) {
        counters.delivered += self.total;
        counters.series.clone_from(&self.series);
        (counters.longest_gap, counters.longest_gap_at) = self.longest;
        counters.gaps.clone_from(&self.gaps);
        counters.ten_megabytes = self.ten_megabytes;
    }
}
