//! The sending end of a TCP connection: the state machine of Linux's recovery around a scoreboard and a congestion
//! control.

use std::time::Duration;

use sennit_engine::time::Instant;

use super::congestion::{Algorithm, Congestion, Feedback, create};
use super::receiver::{millis, unwrap};
use super::scoreboard::{Acknowledged, Scoreboard};
use crate::packet::{self, ACK, Body, Ends, FIN, PSH, Packet, SYN, TcpHeader, View};
use crate::payload;
use crate::transport::{End, FlowCounters, segment_size};

const SHORTEST_TIMEOUT: Duration = Duration::from_millis(200);
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(120);
const FIRST_SEQUENCE: u32 = u32::MAX - 5_000_000;

/// What a sender is to do.
#[derive(Clone, Copy, Debug)]
pub struct SenderSettings {
    /// Which congestion control.
    pub algorithm: Algorithm,
    /// When the connection begins.
    pub start: Instant,
    /// Bytes to send; `None`: as much as it can.
    pub length: Option<u64>,
    /// Whether the host makes super-segments.
    pub super_segments: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Connecting,
    Open,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recovery {
    None,
    /// Repairing losses until `until` is acknowledged.
    Fast {
        until: u64,
    },
    /// After a time-out.
    Slow {
        until: u64,
    },
}

/// Proportional rate reduction (RFC 6937).
#[derive(Clone, Copy, Debug, Default)]
struct Reduction {
    threshold: u64,
    flight: u64,
    delivered: u64,
    sent: u64,
}

/// What would prove a recovery needless.
#[derive(Clone, Copy, Debug, Default)]
struct Undo {
    /// Timestamp of the first retransmission.
    stamp: Option<u32>,
    /// Retransmissions that the receiver has not reported as repeated.
    outstanding: i64,
}

/// The sending end of one connection.
#[derive(Debug)]
pub struct Sender {
    flow: u16,
    ends: Ends,
    segment: u16,
    settings: SenderSettings,
    phase: Phase,
    control: Box<dyn Congestion>,
    board: Scoreboard,
    acknowledged: u64,
    next: u64,
    peer_window: u64,
    smoothed: Option<Duration>,
    variation: Duration,
    round_end: u64,
    recovery: Recovery,
    reduction: Option<Reduction>,
    undo: Undo,
    backoff: u32,
    probed: bool,
    timer: Option<Instant>,
    reorder_timer: Option<Instant>,
    paced_until: Option<Instant>,
    window_limited: bool,
    identification: u16,
    peer_timestamp: u32,
    stopped: bool,
    counters: FlowCounters,
}

impl Sender {
    /// The sender of the flow number `flow`; `ends` is the direction of its data.
    pub fn new(flow: u16, ends: Ends, settings: SenderSettings) -> Self {
        Self {
            flow,
            ends,
            segment: segment_size(ends),
            settings,
            phase: Phase::Waiting,
            control: create(settings.algorithm, u64::from(segment_size(ends))),
            board: Scoreboard::default(),
            acknowledged: 0,
            next: 0,
            peer_window: 0,
            smoothed: None,
            variation: Duration::ZERO,
            round_end: 0,
            recovery: Recovery::None,
            reduction: None,
            undo: Undo::default(),
            backoff: 0,
            probed: false,
            timer: Some(settings.start),
            reorder_timer: None,
            paced_until: None,
            window_limited: false,
            identification: 0,
            peer_timestamp: 0,
            stopped: false,
            counters: FlowCounters::default(),
        }
    }

    /// Where the stream ends, the FIN's place included.
    fn end(&self) -> u64 {
        match self.settings.length {
            _ if self.stopped => self.next,
            Some(length) => length + 1,
            None => u64::MAX,
        }
    }

    fn retransmission_timeout(&self) -> Duration {
        let base = match self.smoothed {
            Some(smoothed) => smoothed + (4 * self.variation).max(SHORTEST_TIMEOUT),
            None => FIRST_TIMEOUT,
        };
        (base * (1 << self.backoff.min(10))).min(LONGEST_TIMEOUT)
    }

    fn connect(&mut self, now: Instant, out: &mut Vec<Packet>) {
        self.phase = Phase::Connecting;
        let header = TcpHeader {
            sequence: FIRST_SEQUENCE,
            flags: SYN,
            window: 64_000,
            timestamps: (millis(now), 0),
            maximum_segment: Some(self.segment + 12),
            ..TcpHeader::default()
        };
        out.push(packet::tcp(self.ends, 0, &header, 0, self.segment, |_| {}));
        self.counters.sent += 1;
        self.timer = Some(now + self.retransmission_timeout());
        self.backoff += 1;
    }

    fn emit(&mut self, now: Instant, from: u64, to: u64, out: &mut Vec<Packet>) {
        let fin = self.settings.length.is_some_and(|length| to == length + 1);
        let payload = (to - from - u64::from(fin)) as usize;
        let header = TcpHeader {
            sequence: FIRST_SEQUENCE.wrapping_add(1).wrapping_add(from as u32),
            acknowledgement: 1,
            flags: ACK | if fin { FIN | PSH } else { PSH },
            window: 500,
            timestamps: (millis(now), self.peer_timestamp),
            ..TcpHeader::default()
        };
        let flow = self.flow;
        out.push(packet::tcp(
            self.ends,
            self.identification,
            &header,
            payload,
            self.segment,
            |room| {
                payload::fill(flow, from, room);
            },
        ));
        let segments = payload.div_ceil(usize::from(self.segment)).max(1);
        self.identification = self.identification.wrapping_add(segments as u16);
        self.counters.sent += segments as u64;
        if let Some(rate) = self.control.pacing_rate() {
            // The rate counts payload, as the delivery rate that it comes from does.
            let from = self.paced_until.unwrap_or(now).max(now);
            self.paced_until = Some(from + Duration::from_secs_f64(payload as f64 / rate));
        }
    }

    /// Bytes that a super-segment should have: a millisecond's worth, as Linux does.
    fn super_segment(&self, window: u64) -> u64 {
        if !self.settings.super_segments {
            return u64::from(self.segment);
        }
        let rate = match (self.control.pacing_rate(), self.smoothed) {
            (Some(rate), _) => rate,
            (None, Some(smoothed)) => {
                let gain = if self.control.in_slow_start() { 2.0 } else { 1.2 };
                gain * window as f64 / smoothed.as_secs_f64().max(1e-6)
            }
            (None, None) => 0.0,
        };
        let segments = ((rate / 1024.0) as u64 / u64::from(self.segment)).clamp(2, 44);
        segments * u64::from(self.segment)
    }

    fn pump(&mut self, now: Instant, out: &mut Vec<Packet>) {
        if self.phase != Phase::Open {
            return;
        }
        let segment = u64::from(self.segment);
        loop {
            let flight = self.board.in_flight();
            let window = match self.reduction {
                Some(reduction) => flight + reduction.allowance(flight, segment),
                None => self.control.window(),
            };
            let lost = self.board.first_lost();
            let room = window.saturating_sub(flight);
            let end = self.end();
            let limit = end.min(self.acknowledged + self.peer_window);
            if lost.is_none() && self.next >= limit {
                if self.next >= end && room >= segment {
                    self.board.limited_by_application();
                }
                self.window_limited = false;
                break;
            }
            if room < segment && flight > 0 {
                self.window_limited = true;
                break;
            }
            if self.paced_until.is_some_and(|until| until > now) {
                self.window_limited = false;
                break;
            }
            if let Some((from, to)) = lost {
                self.resend(now, from, to, out);
                continue;
            }
            let size = self
                .super_segment(window)
                .min(room.max(segment) / segment * segment);
            let to = (self.next + size).min(limit);
            // A segment shorter than the others goes alone, at the end of the stream.
            let mut start = self.next;
            while start < to {
                let stop = (start + segment).min(to);
                self.board.send(now, start, stop);
                start = stop;
            }
            if let Some(reduction) = &mut self.reduction {
                reduction.sent += to - self.next;
            }
            let from = std::mem::replace(&mut self.next, to);
            self.emit(now, from, to, out);
            if self.timer.is_none() {
                self.arm(now);
            }
        }
    }

    fn resend(&mut self, now: Instant, from: u64, to: u64, out: &mut Vec<Packet>) {
        self.board.resend(now, from);
        self.undo.stamp.get_or_insert(millis(now));
        self.undo.outstanding += 1;
        self.counters.retransmitted += 1;
        if let Some(reduction) = &mut self.reduction {
            reduction.sent += to - from;
        }
        self.emit(now, from, to, out);
        if self.timer.is_none() {
            self.arm(now);
        }
    }

    /// Arms the probe of the tail, or the time-out.
    fn arm(&mut self, now: Instant) {
        if self.board.is_empty() {
            self.timer = None;
            return;
        }
        let timeout = self.retransmission_timeout();
        let probe = self
            .smoothed
            .filter(|_| !self.probed && self.recovery == Recovery::None && self.board.has_no_holes());
        let wait = probe.map_or(timeout, |smoothed| {
            let alone = self.board.in_flight() <= u64::from(self.segment);
            let extra = if alone {
                SHORTEST_TIMEOUT
            } else {
                Duration::from_millis(2)
            };
            (2 * smoothed + extra).min(timeout)
        });
        self.timer = Some(now + wait);
    }

    fn on_timer(&mut self, now: Instant, out: &mut Vec<Packet>) {
        let may_probe = !self.probed
            && self.smoothed.is_some()
            && self.recovery == Recovery::None
            && self.board.has_no_holes();
        if may_probe {
            self.probed = true;
            let fresh = self.next < self.end().min(self.acknowledged + self.peer_window);
            if fresh {
                let to = (self.next + u64::from(self.segment)).min(self.end());
                self.board.send(now, self.next, to);
                let from = std::mem::replace(&mut self.next, to);
                self.emit(now, from, to, out);
            } else if let Some((from, to)) = self.board.last() {
                self.board.resend(now, from);
                self.counters.retransmitted += 1;
                self.emit(now, from, to, out);
            }
            self.timer = Some(now + self.retransmission_timeout());
            return;
        }
        self.counters.timeouts += 1;
        if !matches!(self.recovery, Recovery::Slow { .. }) {
            self.counters.reductions += 1;
            self.control.on_timeout(now);
            self.undo = Undo::default();
        }
        self.recovery = Recovery::Slow { until: self.next };
        self.reduction = None;
        self.board.lose_all();
        self.paced_until = None;
        self.pump(now, out);
        self.backoff += 1;
        self.timer = Some(now + self.retransmission_timeout());
    }

    fn on_acknowledgement(&mut self, now: Instant, header: &TcpHeader, out: &mut Vec<Packet>) {
        let first = FIRST_SEQUENCE.wrapping_add(1);
        let offset = |wire: u32, near: u64| unwrap(wire, first, near).max(0) as u64;
        let left = offset(header.acknowledgement, self.acknowledged);
        if left > self.next {
            self.counters
                .violations
                .push(format!("acknowledgement of {left}, sent were {}", self.next));
            return;
        }
        self.peer_window = u64::from(header.window) << 10;
        let mut blocks: Vec<(u64, u64)> = (header.sack.iter())
            .map(|(from, to)| (offset(*from, left), offset(*to, left)))
            .collect();
        let repeated = match blocks[..] {
            [(_, to), ..] if to <= left => true,
            [(from, to), (outer_from, outer_to), ..] => outer_from <= from && to <= outer_to,
            _ => false,
        };
        if repeated {
            blocks.remove(0);
            self.counters.spurious += 1;
            self.undo.outstanding -= 1;
            self.board.seen_twice(self.next);
        }
        let before = self.board.delivered();
        let result = self.board.acknowledge(now, left, &blocks);
        self.acknowledged = self.acknowledged.max(left);
        if let Some(round_trip) = result.round_trip {
            self.measure(round_trip);
        }
        let smoothed = self.smoothed.unwrap_or(FIRST_TIMEOUT);
        let recovering = self.recovery != Recovery::None;
        let (lost, again) = self
            .board
            .detect(now, recovering, smoothed, u64::from(self.segment));
        self.reorder_timer = again;
        self.step_recovery(now, header, &result, lost, repeated);
        self.feed_control(now, &result, before);
        if result.advanced {
            self.backoff = 0;
            self.probed = false;
            self.timer = None;
        }
        self.pump(now, out);
        if self.timer.is_none() {
            self.arm(now);
        }
        let end = self.settings.length.map(|length| length + 1);
        if end.is_some_and(|end| self.acknowledged >= end) {
            self.phase = Phase::Done;
            self.timer = None;
            self.reorder_timer = None;
        }
    }

    fn measure(&mut self, round_trip: Duration) {
        match &mut self.smoothed {
            None => {
                self.smoothed = Some(round_trip);
                self.variation = round_trip / 2;
            }
            Some(smoothed) => {
                self.variation = (3 * self.variation + smoothed.abs_diff(round_trip)) / 4;
                *smoothed = (7 * *smoothed + round_trip) / 8;
            }
        }
    }

    fn step_recovery(
        &mut self,
        now: Instant,
        header: &TcpHeader,
        result: &Acknowledged,
        lost: u64,
        repeated: bool,
    ) {
        if let Recovery::Fast { until } | Recovery::Slow { until } = self.recovery {
            // The original arrived before what was sent again could have (Eifel), or all retransmissions were needless.
            let early = result.advanced
                && (self.undo.stamp)
                    .is_some_and(|stamp| (header.timestamps.1.wrapping_sub(stamp) as i32) < 0);
            let needless = repeated && self.undo.stamp.is_some() && self.undo.outstanding <= 0;
            if early || needless {
                self.counters.undone += 1;
                self.control.on_undo(now);
                self.board.lose_none();
                self.end_recovery();
            } else if self.acknowledged >= until {
                if matches!(self.recovery, Recovery::Fast { .. }) {
                    self.control.on_recovered(now);
                }
                self.end_recovery();
            }
        } else if repeated && self.undo.stamp.is_some() && self.undo.outstanding <= 0 {
            self.counters.undone += 1;
            self.control.on_undo(now);
            self.undo = Undo::default();
        }
        let flight = self.board.in_flight();
        if lost > 0 && self.recovery == Recovery::None {
            self.counters.reductions += 1;
            self.undo = Undo::default();
            self.recovery = Recovery::Fast { until: self.next };
            let threshold = self.control.on_recovery(now, flight);
            self.reduction = threshold.map(|threshold| Reduction {
                threshold,
                flight: flight + lost,
                ..Reduction::default()
            });
        }
        if let Some(reduction) = &mut self.reduction {
            reduction.delivered += result.delivered;
        }
    }

    fn end_recovery(&mut self) {
        self.recovery = Recovery::None;
        self.reduction = None;
        self.board.recovered();
    }

    fn feed_control(&mut self, now: Instant, result: &Acknowledged, before: u64) {
        if result.delivered == 0 {
            return;
        }
        let round_ended = result.delivered_before >= self.round_end;
        if round_ended {
            self.round_end = before + result.delivered;
        }
        self.control.on_acknowledged(&Feedback {
            now,
            delivered: result.delivered,
            total: before + result.delivered,
            round_trip: result.round_trip,
            minimum: self.board.minimum().unwrap_or(FIRST_TIMEOUT),
            smoothed: self.smoothed.unwrap_or(FIRST_TIMEOUT),
            in_flight: self.board.in_flight(),
            rate: result.rate,
            application_limited: result.application_limited,
            round_ended,
            window_limited: self.window_limited,
            in_recovery: matches!(self.recovery, Recovery::Fast { .. }),
        });
    }
}

impl Reduction {
    fn allowance(&self, flight: u64, segment: u64) -> u64 {
        let allowed = if flight > self.threshold {
            (self.delivered * self.threshold).div_ceil(self.flight.max(1))
        } else {
            let catch_up = self.delivered.max(self.sent) + segment;
            catch_up.min(self.sent + (self.threshold - flight))
        };
        // The first retransmission always goes.
        let allowed = if self.sent == 0 {
            allowed.max(segment)
        } else {
            allowed
        };
        allowed.saturating_sub(self.sent)
    }
}

impl End for Sender {
    fn receive(&mut self, now: Instant, view: &View<'_>, _: &Packet, out: &mut Vec<Packet>) {
        let Body::Tcp(header, _) = &view.body else {
            self.counters
                .violations
                .push("a packet that is no TCP".to_owned());
            return;
        };
        self.peer_timestamp = header.timestamps.0;
        match self.phase {
            Phase::Connecting if header.flags & SYN != 0 => {
                self.phase = Phase::Open;
                self.backoff = 0;
                self.timer = None;
                self.peer_window = u64::from(header.window);
                self.measure(now.since(Instant::from_millis(u64::from(header.timestamps.1))));
                self.pump(now, out);
            }
            Phase::Open if header.flags & SYN == 0 => self.on_acknowledgement(now, header, out),
            _ => {}
        }
    }

    fn timeout(&mut self, now: Instant, out: &mut Vec<Packet>) {
        if self.reorder_timer.is_some_and(|deadline| deadline <= now) {
            let smoothed = self.smoothed.unwrap_or(FIRST_TIMEOUT);
            let recovering = self.recovery != Recovery::None;
            let (lost, again) = self
                .board
                .detect(now, recovering, smoothed, u64::from(self.segment));
            self.reorder_timer = again.map(|again| again.max(now + Duration::from_micros(100)));
            self.step_recovery(now, &TcpHeader::default(), &Acknowledged::default(), lost, false);
        }
        if self.timer.is_some_and(|deadline| deadline <= now) {
            match self.phase {
                Phase::Waiting | Phase::Connecting if !self.stopped => self.connect(now, out),
                Phase::Open => self.on_timer(now, out),
                _ => self.timer = None,
            }
        }
        if self.paced_until.is_some_and(|until| until <= now) {
            self.paced_until = None;
        }
        self.pump(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        let paced = self.paced_until.filter(|_| {
            self.phase == Phase::Open && (self.board.first_lost().is_some() || self.next < self.end())
        });
        [self.timer, self.reorder_timer, paced]
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
        counters.undone += self.counters.undone;
        counters.window = self.control.window();
        counters.outstanding = self.next - self.acknowledged;
        counters
            .violations
            .extend(self.counters.violations.iter().cloned());
    }

    fn stop(&mut self) {
        self.stopped = true;
    }
}
