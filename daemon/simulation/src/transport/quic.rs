//! A QUIC-like bulk transfer over UDP: packet threshold of three, time threshold of 9/8 round trips, no report of
//! needless retransmissions, pacing. Encryption is left out, its bytes are not.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sennit_engine::time::Instant;

use super::tcp::{Algorithm, Congestion, Feedback, create};
use super::{Deliveries, End, FlowCounters};
use crate::packet::{self, Body, Ends, Packet, View};
use crate::payload;

/// Stream bytes of a full packet; with header and what stands for the cipher's tag 1,350 bytes of UDP payload.
const STREAM: u64 = 1310;
const DATA_HEADER: usize = 40;
const DATA: u8 = 1;
const ACKNOWLEDGEMENT: u8 = 2;
const PACKET_THRESHOLD: u64 = 3;
const ACK_DELAY: Duration = Duration::from_millis(25);
/// Packets that go out at once at most.
const BURST: u32 = 10;
/// As much as the receiver lets be in flight.
const CREDIT: u64 = 8_000_000;

#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u64,
    offset: u64,
    length: u64,
    at: Instant,
    delivered: u64,
    delivered_at: Instant,
    lost: bool,
    acknowledged: bool,
}

/// The sending end.
#[derive(Debug)]
pub struct QuicSender {
    flow: u16,
    ends: Ends,
    start: Instant,
    length: Option<u64>,
    started: bool,
    stopped: bool,
    control: Box<dyn Congestion>,
    sent: VecDeque<Sent>,
    next_number: u64,
    next_offset: u64,
    again: VecDeque<(u64, u64)>,
    in_flight: u64,
    delivered: u64,
    delivered_at: Instant,
    largest: Option<u64>,
    smoothed: Option<Duration>,
    variation: Duration,
    latest: Duration,
    minimum: Duration,
    recovery_start: Option<Instant>,
    round_end: u64,
    probes: u32,
    last_sent: Instant,
    loss_timer: Option<Instant>,
    paced_until: Instant,
    blocked_by_pacing: bool,
    window_limited: bool,
    counters: FlowCounters,
}

impl QuicSender {
    /// The sender of the flow number `flow`.
    pub fn new(flow: u16, ends: Ends, algorithm: Algorithm, start: Instant, length: Option<u64>) -> Self {
        Self {
            flow,
            ends,
            start,
            length,
            started: false,
            stopped: false,
            control: create(algorithm, STREAM),
            sent: VecDeque::new(),
            next_number: 0,
            next_offset: 0,
            again: VecDeque::new(),
            in_flight: 0,
            delivered: 0,
            delivered_at: start,
            largest: None,
            smoothed: None,
            variation: Duration::ZERO,
            latest: Duration::ZERO,
            minimum: Duration::MAX,
            recovery_start: None,
            round_end: 0,
            probes: 0,
            last_sent: start,
            loss_timer: None,
            paced_until: Instant::ZERO,
            blocked_by_pacing: false,
            window_limited: false,
            counters: FlowCounters::default(),
        }
    }

    fn end(&self) -> u64 {
        if self.stopped {
            self.next_offset
        } else {
            self.length.unwrap_or(u64::MAX)
        }
    }

    fn probe_deadline(&self) -> Option<Instant> {
        if self.in_flight == 0 {
            return None;
        }
        let base = match self.smoothed {
            Some(smoothed) => smoothed + (4 * self.variation).max(Duration::from_millis(1)) + ACK_DELAY,
            None => Duration::from_millis(999),
        };
        Some(self.last_sent + base * (1 << self.probes.min(8)))
    }

    fn emit(&mut self, now: Instant, offset: u64, length: u64, out: &mut Vec<Packet>) {
        let mut body = vec![0; DATA_HEADER + length as usize];
        body[0] = DATA;
        body[1..9].copy_from_slice(&self.next_number.to_be_bytes());
        body[9..17].copy_from_slice(&offset.to_be_bytes());
        body[17] = u8::from(self.length == Some(offset + length));
        payload::fill(self.flow, offset, &mut body[DATA_HEADER..]);
        out.push(packet::udp(self.ends, self.next_number as u16, 0, &body));
        self.sent.push_back(Sent {
            number: self.next_number,
            offset,
            length,
            at: now,
            delivered: self.delivered,
            delivered_at: if self.in_flight == 0 {
                now
            } else {
                self.delivered_at
            },
            lost: false,
            acknowledged: false,
        });
        self.next_number += 1;
        self.in_flight += length;
        self.last_sent = now;
        self.counters.sent += 1;
        if let Some(rate) = self.pacing_rate() {
            let each = Duration::from_secs_f64(length as f64 / rate);
            self.paced_until = self.paced_until.max(now - each * BURST) + each;
        }
    }

    fn pacing_rate(&self) -> Option<f64> {
        let smoothed = self.smoothed?;
        let by_window = 1.25 * self.control.window() as f64 / smoothed.as_secs_f64().max(1e-6);
        Some(self.control.pacing_rate().unwrap_or(by_window))
    }

    fn pump(&mut self, now: Instant, out: &mut Vec<Packet>) {
        self.blocked_by_pacing = false;
        self.window_limited = false;
        while self.started {
            let fresh = self.next_offset < self.end().min(self.delivered + CREDIT);
            if self.again.is_empty() && !fresh {
                return;
            }
            if self.in_flight + STREAM > self.control.window() {
                self.window_limited = true;
                return;
            }
            if self.paced_until > now {
                self.blocked_by_pacing = true;
                return;
            }
            self.send_one(now, out);
        }
    }

    fn send_one(&mut self, now: Instant, out: &mut Vec<Packet>) {
        if let Some((offset, length)) = self.again.pop_front() {
            self.counters.retransmitted += 1;
            self.emit(now, offset, length, out);
        } else if self.next_offset < self.end() {
            let length = STREAM.min(self.end() - self.next_offset);
            let offset = self.next_offset;
            self.next_offset += length;
            self.emit(now, offset, length, out);
        }
    }

    fn on_acknowledgement(&mut self, now: Instant, body: &[u8], out: &mut Vec<Packet>) {
        let delay = Duration::from_micros(u64::from(u32::from_be_bytes([
            body[2], body[3], body[4], body[5],
        ])));
        let mut newest: Option<Sent> = None;
        let (mut delivered, mut fresh_growth) = (0, false);
        for range in body[6..].chunks_exact(16) {
            let (from, to) = (long(range, 0), long(range, 8));
            let mut index = self.sent.partition_point(|sent| sent.number < from);
            while let Some(sent) = self.sent.get_mut(index)
                && sent.number <= to
            {
                index += 1;
                if sent.acknowledged {
                    continue;
                }
                sent.acknowledged = true;
                if sent.lost {
                    self.counters.spurious += 1;
                    continue;
                }
                self.in_flight -= sent.length;
                delivered += sent.length;
                fresh_growth |= self.recovery_start.is_none_or(|start| sent.at > start);
                if newest.is_none_or(|newest| newest.number < sent.number) {
                    newest = Some(*sent);
                }
            }
            if to >= self.next_number {
                self.counters
                    .violations
                    .push(format!("acknowledgement of {to}, which was not sent"));
            }
            self.largest = self.largest.max(Some(to));
        }
        self.delivered += delivered;
        let round_trip = newest
            .filter(|newest| self.largest == Some(newest.number))
            .map(|newest| now.since(newest.at));
        if let Some(round_trip) = round_trip {
            self.measure(round_trip, delay);
        }
        self.detect(now);
        if let Some(newest) = newest {
            self.delivered_at = now;
            self.probes = 0;
            let interval = now.since(newest.delivered_at).max(self.minimum);
            let rate = (self.delivered - newest.delivered) as f64 / interval.as_secs_f64().max(1e-6);
            let round_ended = newest.delivered >= self.round_end;
            if round_ended {
                self.round_end = self.delivered;
            }
            self.control.on_acknowledged(&Feedback {
                now,
                delivered,
                total: self.delivered,
                round_trip,
                minimum: self.minimum,
                smoothed: self.smoothed.unwrap_or(ACK_DELAY),
                in_flight: self.in_flight,
                rate: Some(rate),
                application_limited: false,
                round_ended,
                window_limited: self.window_limited,
                in_recovery: !fresh_growth,
            });
        }
        while self.sent.front().is_some_and(|sent| {
            sent.acknowledged || (sent.lost && now.since(sent.at) > Duration::from_secs(3))
        }) {
            self.sent.pop_front();
        }
        self.pump(now, out);
    }

    fn measure(&mut self, round_trip: Duration, delay: Duration) {
        self.minimum = self.minimum.min(round_trip);
        self.latest = round_trip;
        let adjusted = if round_trip >= self.minimum + delay {
            round_trip - delay
        } else {
            round_trip
        };
        match &mut self.smoothed {
            None => {
                self.smoothed = Some(adjusted);
                self.variation = adjusted / 2;
            }
            Some(smoothed) => {
                self.variation = (3 * self.variation + smoothed.abs_diff(adjusted)) / 4;
                *smoothed = (7 * *smoothed + adjusted) / 8;
            }
        }
    }

    fn detect(&mut self, now: Instant) {
        let Some(largest) = self.largest else { return };
        let patience =
            (self.smoothed.unwrap_or(ACK_DELAY).max(self.latest) * 9 / 8).max(Duration::from_millis(1));
        self.loss_timer = None;
        let mut reduce = None;
        for sent in &mut self.sent {
            if sent.number >= largest {
                break;
            }
            if sent.acknowledged || sent.lost {
                continue;
            }
            let due = sent.at + patience;
            if sent.number + PACKET_THRESHOLD <= largest || due <= now {
                sent.lost = true;
                self.in_flight -= sent.length;
                self.again.push_back((sent.offset, sent.length));
                reduce = reduce.max(Some(sent.at));
            } else {
                self.loss_timer = Some(self.loss_timer.map_or(due, |timer| timer.min(due)));
            }
        }
        if let Some(at) = reduce
            && self.recovery_start.is_none_or(|start| at > start)
        {
            self.recovery_start = Some(now);
            self.counters.reductions += 1;
            self.control.on_recovery(now, self.in_flight);
            self.control.on_recovered(now);
        }
    }
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8]
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

impl End for QuicSender {
    fn receive(&mut self, now: Instant, view: &View<'_>, _: &Packet, out: &mut Vec<Packet>) {
        match view.body {
            Body::Udp(body) if body.len() >= 6 && body[0] == ACKNOWLEDGEMENT => {
                self.on_acknowledgement(now, body, out);
            }
            _ => self.counters.violations.push("no acknowledgement".to_owned()),
        }
    }

    fn timeout(&mut self, now: Instant, out: &mut Vec<Packet>) {
        if !self.started && now >= self.start {
            self.started = true;
        }
        if self.loss_timer.is_some_and(|deadline| deadline <= now) {
            self.detect(now);
        }
        if self.probe_deadline().is_some_and(|deadline| deadline <= now) {
            self.probes += 1;
            self.counters.timeouts += 1;
            // Two packets, new data if there are, else the oldest unacknowledged.
            for _ in 0..2 {
                if self.again.is_empty()
                    && self.next_offset >= self.end()
                    && let Some(oldest) = self.sent.iter().find(|sent| !sent.acknowledged && !sent.lost)
                {
                    self.again.push_back((oldest.offset, oldest.length));
                }
                self.send_one(now, out);
            }
        }
        self.pump(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        if !self.started {
            return (!self.stopped).then_some(self.start);
        }
        let paced = self.blocked_by_pacing.then_some(self.paced_until);
        [self.loss_timer, self.probe_deadline(), paced]
            .into_iter()
            .flatten()
            .min()
    }

    fn count(&self, counters: &mut FlowCounters) {
        counters.sent += self.counters.sent;
        counters.retransmitted += self.counters.retransmitted;
        counters.spurious += self.counters.spurious;
        counters.timeouts += self.counters.timeouts;
        counters.reductions += self.counters.reductions;
        counters.window = self.control.window();
        counters.outstanding = self.in_flight + self.again.iter().map(|(_, length)| length).sum::<u64>();
        counters
            .violations
            .extend(self.counters.violations.iter().cloned());
    }

    fn stop(&mut self) {
        self.stopped = true;
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct QuicReceiver {
    flow: u16,
    ends: Ends,
    /// Ranges of packet numbers, inclusive: start and end.
    seen: BTreeMap<u64, u64>,
    highest: Option<u64>,
    highest_at: Instant,
    next: u64,
    beyond: BTreeMap<u64, u64>,
    length: Option<u64>,
    waiting: u32,
    delayed: Option<Instant>,
    identification: u16,
    deliveries: Deliveries,
    counters: FlowCounters,
}

impl QuicReceiver {
    /// The receiver of the flow number `flow`; `ends` is the direction of its acknowledgements.
    pub fn new(flow: u16, ends: Ends) -> Self {
        Self {
            flow,
            ends,
            seen: BTreeMap::new(),
            highest: None,
            highest_at: Instant::ZERO,
            next: 0,
            beyond: BTreeMap::new(),
            length: None,
            waiting: 0,
            delayed: None,
            identification: 0,
            deliveries: Deliveries::default(),
            counters: FlowCounters::default(),
        }
    }

    fn acknowledge(&mut self, now: Instant, out: &mut Vec<Packet>) {
        let delay = now.since(self.highest_at).as_micros().min(u128::from(u32::MAX)) as u32;
        let mut body = vec![ACKNOWLEDGEMENT, 0];
        body.extend_from_slice(&delay.to_be_bytes());
        for (from, to) in self.seen.iter().rev().take(32) {
            body.extend_from_slice(&from.to_be_bytes());
            body.extend_from_slice(&to.to_be_bytes());
        }
        self.identification = self.identification.wrapping_add(1);
        out.push(packet::udp(self.ends, self.identification, 0, &body));
        while self.seen.len() > 64 {
            self.seen.pop_first();
        }
        self.waiting = 0;
        self.delayed = None;
    }

    fn note(&mut self, number: u64) -> bool {
        let before = self
            .seen
            .range(..=number)
            .next_back()
            .map(|(from, to)| (*from, *to));
        if before.is_some_and(|(_, to)| to >= number) {
            return false;
        }
        let mut range = (number, number);
        if let Some((from, to)) = before
            && to + 1 == number
        {
            range.0 = from;
        }
        if let Some(to) = self.seen.remove(&(number + 1)) {
            range.1 = to;
        }
        self.seen.insert(range.0, range.1);
        true
    }
}

impl End for QuicReceiver {
    fn receive(&mut self, now: Instant, view: &View<'_>, _: &Packet, out: &mut Vec<Packet>) {
        let Body::Udp(body) = view.body else {
            self.counters
                .violations
                .push("a packet that is no UDP".to_owned());
            return;
        };
        if body.len() < DATA_HEADER || body[0] != DATA {
            self.counters.violations.push("no data packet".to_owned());
            return;
        }
        let (number, offset) = (long(body, 1), long(body, 9));
        let data = &body[DATA_HEADER..];
        if !payload::matches(self.flow, offset, data) {
            self.counters
                .violations
                .push(format!("wrong payload in packet {number}"));
            return;
        }
        if !self.note(number) {
            // UDP may bring a packet twice, the tunnel must not.
            self.counters.twice += 1;
            return;
        }
        let overtaken = self.highest.is_some_and(|highest| number < highest);
        let gap = self.highest.is_some_and(|highest| number > highest + 1);
        self.counters.late += u64::from(overtaken);
        if !overtaken {
            self.highest = Some(number);
            self.highest_at = now;
        }
        let end = offset + data.len() as u64;
        if body[17] != 0 {
            self.length = Some(end);
        }
        self.beyond
            .entry(offset)
            .and_modify(|to| *to = (*to).max(end))
            .or_insert(end);
        let before = self.next;
        while let Some((from, to)) = self.beyond.first_key_value().map(|(from, to)| (*from, *to))
            && from <= self.next
        {
            self.beyond.pop_first();
            self.next = self.next.max(to);
        }
        if self.next > before {
            self.deliveries.record(now, self.next - before);
        }
        if self.length == Some(self.next) {
            self.counters.completed.get_or_insert(now);
        }
        self.waiting += 1;
        if self.waiting >= 2 || overtaken || gap || self.counters.completed.is_some() {
            self.acknowledge(now, out);
        } else if self.delayed.is_none() {
            self.delayed = Some(now + ACK_DELAY);
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
        counters.late += self.counters.late;
        counters.twice += self.counters.twice;
        counters.completed = self.counters.completed;
        counters
            .violations
            .extend(self.counters.violations.iter().cloned());
    }
}
