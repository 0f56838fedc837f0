//! Senders without congestion control: realtime packets at a constant pace, and pings.

use std::time::Duration;

use sennit_engine::time::Instant;

use super::{Deliveries, End, FlowCounters};
use crate::histogram::Histogram;
use crate::packet::{self, Body, Ends, Packet, View};
use crate::payload;

/// Bytes in front of the pattern: sequence number and sending time.
const HEADER: usize = 16;

/// What a realtime sender does.
#[derive(Clone, Copy, Debug)]
pub struct RealtimeSettings {
    /// First packet.
    pub start: Instant,
    /// No packet from then on.
    pub end: Instant,
    /// Time between packets.
    pub interval: Duration,
    /// UDP payload bytes, at least 16.
    pub size: usize,
    /// Differentiated services code point.
    pub dscp: u8,
}

/// Sends one packet an interval.
#[derive(Debug)]
pub struct RealtimeSender {
    flow: u16,
    ends: Ends,
    settings: RealtimeSettings,
    sequence: u64,
    next: Option<Instant>,
}

impl RealtimeSender {
    /// The sender of the flow number `flow`.
    pub fn new(flow: u16, ends: Ends, settings: RealtimeSettings) -> Self {
        Self {
            flow,
            ends,
            settings,
            sequence: 0,
            next: Some(settings.start),
        }
    }
}

impl End for RealtimeSender {
    fn receive(&mut self, _: Instant, _: &View<'_>, _: &Packet, _: &mut Vec<Packet>) {}

    fn timeout(&mut self, now: Instant, out: &mut Vec<Packet>) {
        while let Some(next) = self.next.filter(|next| *next <= now) {
            if next >= self.settings.end {
                self.next = None;
                return;
            }
            let mut body = vec![0; self.settings.size.max(HEADER)];
            body[..8].copy_from_slice(&self.sequence.to_be_bytes());
            body[8..16].copy_from_slice(&now.as_nanos().to_be_bytes());
            payload::fill(self.flow, self.sequence * 31, &mut body[HEADER..]);
            out.push(packet::udp(
                self.ends,
                self.sequence as u16,
                self.settings.dscp,
                &body,
            ));
            self.sequence += 1;
            self.next = Some(next + self.settings.interval);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.next
    }

    fn count(&self, counters: &mut FlowCounters) {
        counters.sent += self.sequence;
    }

    fn stop(&mut self) {
        self.next = None;
    }
}

/// Counts what arrives of a realtime flow.
#[derive(Debug)]
pub struct RealtimeReceiver {
    flow: u16,
    seen: Vec<u64>,
    unique: u64,
    highest: Option<u64>,
    twice: u64,
    late: u64,
    latency: Histogram,
    deliveries: Deliveries,
    violations: Vec<String>,
}

impl RealtimeReceiver {
    /// The receiver of the flow number `flow`.
    pub fn new(flow: u16) -> Self {
        Self {
            flow,
            seen: Vec::new(),
            unique: 0,
            highest: None,
            twice: 0,
            late: 0,
            latency: Histogram::default(),
            deliveries: Deliveries::default(),
            violations: Vec::new(),
        }
    }
}

impl End for RealtimeReceiver {
    fn receive(&mut self, now: Instant, view: &View<'_>, _: &Packet, _: &mut Vec<Packet>) {
        let (sequence, sent) = match view.body {
            Body::Udp(body) if body.len() >= HEADER => {
                let long = |at: usize| {
                    body[at..at + 8]
                        .iter()
                        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
                };
                if !payload::matches(self.flow, long(0) * 31, &body[HEADER..]) {
                    self.violations
                        .push(format!("wrong payload in packet {}", long(0)));
                    return;
                }
                (long(0), Instant::from_nanos(long(8)))
            }
            _ => {
                self.violations.push("a packet that is no UDP".to_owned());
                return;
            }
        };
        let (word, bit) = ((sequence / 64) as usize, 1u64 << (sequence % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.twice += 1;
            return;
        }
        self.seen[word] |= bit;
        self.unique += 1;
        self.late += u64::from(self.highest.is_some_and(|highest| sequence < highest));
        self.highest = self.highest.max(Some(sequence));
        self.latency.record(now.since(sent));
        if let Body::Udp(body) = view.body {
            self.deliveries.record(now, body.len() as u64);
        }
    }

    fn timeout(&mut self, _: Instant, _: &mut Vec<Packet>) {}

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn count(&self, counters: &mut FlowCounters) {
        self.deliveries.count(counters);
        counters.late += self.late;
        counters.twice += self.twice;
        // The sender's count was added before.
        counters.missing += counters.sent.saturating_sub(self.unique);
        counters.latency = self.latency.clone();
        counters.violations.extend(self.violations.iter().cloned());
    }
}

/// Sends echo requests and takes the time of their replies.
#[derive(Debug)]
pub struct Ping {
    flow: u16,
    ends: Ends,
    settings: RealtimeSettings,
    sent: Vec<Option<Instant>>,
    next: Option<Instant>,
    answered: u64,
    twice: u64,
    latency: Histogram,
    deliveries: Deliveries,
}

impl Ping {
    /// Pings as the flow number `flow`.
    pub fn new(flow: u16, ends: Ends, settings: RealtimeSettings) -> Self {
        Self {
            flow,
            ends,
            settings,
            sent: Vec::new(),
            next: Some(settings.start),
            answered: 0,
            twice: 0,
            latency: Histogram::default(),
            deliveries: Deliveries::default(),
        }
    }
}

impl End for Ping {
    fn receive(&mut self, now: Instant, view: &View<'_>, _: &Packet, _: &mut Vec<Packet>) {
        let Body::Echo {
            request: false,
            sequence,
            payload,
            ..
        } = view.body
        else {
            return;
        };
        // Sequence numbers of 16 bits wrap; a reply belongs to the newest request of its number.
        let Some(newest) = self.sent.len().checked_sub(1) else {
            return;
        };
        let back = (newest as u16).wrapping_sub(sequence);
        let Some(index) = newest.checked_sub(usize::from(back)) else {
            return;
        };
        match self.sent[index].take() {
            Some(sent) => {
                self.answered += 1;
                self.latency.record(now.since(sent));
                self.deliveries.record(now, payload.len() as u64);
            }
            None => self.twice += 1,
        }
    }

    fn timeout(&mut self, now: Instant, out: &mut Vec<Packet>) {
        while let Some(next) = self.next.filter(|next| *next <= now) {
            if next >= self.settings.end {
                self.next = None;
                return;
            }
            let mut body = vec![0; self.settings.size];
            payload::fill(self.flow, 0, &mut body);
            out.push(packet::echo(
                self.ends,
                true,
                self.flow,
                self.sent.len() as u16,
                &body,
            ));
            self.sent.push(Some(now));
            self.next = Some(next + self.settings.interval);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.next
    }

    fn count(&self, counters: &mut FlowCounters) {
        self.deliveries.count(counters);
        counters.sent += self.sent.len() as u64;
        counters.missing += self.sent.len() as u64 - self.answered;
        counters.twice += self.twice;
        counters.latency = self.latency.clone();
    }

    fn stop(&mut self) {
        self.next = None;
    }
}

/// Answers echo requests.
#[derive(Debug)]
pub struct Reflector;

impl End for Reflector {
    fn receive(&mut self, _: Instant, view: &View<'_>, _: &Packet, out: &mut Vec<Packet>) {
        if let Body::Echo {
            request: true,
            identifier,
            sequence,
            payload,
        } = view.body
        {
            out.push(packet::echo(
                view.ends.reversed(),
                false,
                identifier,
                sequence,
                payload,
            ));
        }
    }

    fn timeout(&mut self, _: Instant, _: &mut Vec<Packet>) {}

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn count(&self, _: &mut FlowCounters) {}
}
