//! A bottleneck in a few lines, for tests of congestion control: rate, delay, queue, loss, jitter, a policer, a neighbour.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{Controller, Loss};
use crate::ids::PathId;
use crate::path::delay::{DelayEstimator, PeerClock};
use crate::path::pacer::Pacer;
use crate::path::received::Received;
use crate::path::rtt::RttEstimator;
use crate::path::sent::SentPackets;
use crate::path::way_back::AckPolicy;
use crate::settings::BytesPerSecond;
use crate::time::Instant;

pub(super) const PACKET: u64 = 1500;

/// What the bottleneck is like.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// From these milliseconds on, this many bytes per second.
    pub(super) rates: Vec<(u64, u64)>,
    /// One way, each way.
    pub(super) delay: Duration,
    /// Bytes that wait at most.
    pub(super) queue: u64,
    /// Per cent lost at random.
    pub(super) loss: u64,
    /// Delay varies by up to this much each way of the middle, correlated over some 50 ms.
    pub(super) jitter: Duration,
    /// Rate and burst of a policer in front.
    pub(super) policer: Option<(u64, u64)>,
}

impl Link {
    pub(super) fn new(megabits: u64, delay_ms: u64, queue: u64) -> Self {
        Self {
            rates: vec![(0, megabits * 125_000)],
            delay: Duration::from_millis(delay_ms),
            queue,
            loss: 0,
            jitter: Duration::ZERO,
            policer: None,
        }
    }

    fn rate(&self, now: Instant) -> u64 {
        let passed = now.as_nanos() / 1_000_000;
        self.rates
            .iter()
            .rev()
            .find(|(from, _)| *from <= passed)
            .map_or(1, |(_, rate)| *rate)
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The bottleneck has sent a packet of ours, or of the neighbour.
    Departed {
        number: u64,
        ours: bool,
    },
    Arrived {
        number: u64,
    },
    AckDue,
    AckArrived {
        made: u64,
    },
    NeighbourAcked {
        number: u64,
    },
    Wake,
}

/// What a second-long slice of the run brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slice {
    pub(super) delivered: u64,
    pub(super) neighbour: u64,
    pub(super) dropped: u64,
    /// Longest and mean wait in the bottleneck, nanoseconds.
    pub(super) queue_most: u64,
    queue_sum: u64,
    packets: u64,
}

impl Slice {
    pub(super) fn queue_mean(&self) -> u64 {
        self.queue_sum / self.packets.max(1)
    }
}

/// A CUBIC flow without anything but its window.
#[derive(Debug)]
pub(super) struct Neighbour {
    window: f64,
    threshold: f64,
    peak: f64,
    shrunk: Instant,
    recovery: u64,
    next: u64,
    open: BTreeMap<u64, Instant>,
    rtt: f64,
}

impl Neighbour {
    pub(super) fn new() -> Self {
        Self {
            window: 10.0,
            threshold: f64::MAX,
            peak: 10.0,
            shrunk: Instant::ZERO,
            recovery: 0,
            next: 0,
            open: BTreeMap::new(),
            rtt: 0.05,
        }
    }

    fn on_ack(&mut self, now: Instant, number: u64) {
        if let Some(sent) = self.open.remove(&number) {
            self.rtt += (now.since(sent).as_secs_f64() - self.rtt) / 8.0;
        }
        let missing = number
            .checked_sub(3)
            .map_or(0, |below| self.open.range(..=below).count());
        if missing > 0 {
            let newest = self
                .open
                .range(..number)
                .next_back()
                .map_or(0, |(newest, _)| *newest);
            self.open = self.open.split_off(&(number - 2));
            if newest >= self.recovery {
                self.recovery = self.next;
                self.peak = if self.window < self.peak {
                    self.window * 0.85
                } else {
                    self.window
                };
                self.window = (self.window * 0.7).max(2.0);
                self.threshold = self.window;
                self.shrunk = now;
            }
            return;
        }
        if self.window < self.threshold {
            self.window += 1.0;
        } else {
            let wait = (self.peak * 0.3 / 0.4).cbrt();
            let target = self.peak + 0.4 * (now.since(self.shrunk).as_secs_f64() + self.rtt - wait).powi(3);
            let target = target.clamp(self.window, 1.5 * self.window);
            self.window += ((target - self.window) / self.window).max(0.53 / self.window);
        }
    }
}

/// A run of one controller over one link.
pub(super) struct Run {
    pub(super) link: Link,
    pub(super) controller: Box<dyn Controller>,
    pub(super) now: Instant,
    pub(super) slices: Vec<Slice>,
    /// Sends no faster than this, if set.
    pub(super) demand: Option<u64>,
    pub(super) neighbour: Option<Neighbour>,
    pub(super) trace: bool,
    slice: Duration,
    events: BTreeMap<(Instant, u64), Event>,
    order: u64,
    queue: VecDeque<(u64, bool, Instant)>,
    queued: u64,
    busy: bool,
    policer: (f64, Instant),
    wobble: f64,
    wobbled: Instant,
    last_arrival: Instant,
    pub(super) random: u64,
    sent: SentPackets<()>,
    received: Received,
    rtt: RttEstimator,
    delay: DelayEstimator,
    pacer: Pacer,
    acks: BTreeMap<u64, crate::wire::frame::AckFrame>,
    wake: Option<Instant>,
    last_sent: Instant,
    demanded: u64,
    ack_due: Option<Instant>,
}

impl Run {
    pub(super) fn new(link: Link, controller: Box<dyn Controller>) -> Self {
        let pacer = Pacer::new(controller.pacing_rate());
        let policer = (link.policer.map_or(0.0, |(_, burst)| burst as f64), Instant::ZERO);
        let mut received = Received::new(PathId(0));
        received.set_ack_policy(AckPolicy::new(2 * link.delay, link.rates[0].1, u64::MAX));
        let mut run = Self {
            link,
            controller,
            now: Instant::from_millis(0),
            slices: Vec::new(),
            demand: None,
            neighbour: None,
            trace: false,
            slice: Duration::from_millis(100),
            events: BTreeMap::new(),
            order: 0,
            queue: VecDeque::new(),
            queued: 0,
            busy: false,
            policer,
            wobble: 0.0,
            wobbled: Instant::ZERO,
            last_arrival: Instant::ZERO,
            random: 42,
            sent: SentPackets::new(PathId(0)),
            received,
            rtt: RttEstimator::new(),
            delay: DelayEstimator::new(&PeerClock::new()),
            pacer,
            acks: BTreeMap::new(),
            wake: None,
            last_sent: Instant::ZERO,
            demanded: 0,
            ack_due: None,
        };
        run.at(Instant::ZERO, Event::Wake);
        run
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.order += 1;
        self.events.insert((at, self.order), event);
    }

    fn random(&mut self) -> f64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    fn slice(&mut self) -> &mut Slice {
        let index = (self.now.as_nanos() / self.slice.as_nanos() as u64) as usize;
        if self.slices.len() <= index {
            self.slices.resize(index + 1, Slice::default());
        }
        &mut self.slices[index]
    }

    /// Runs until `milliseconds` after the begin.
    pub(super) fn until(&mut self, milliseconds: u64) {
        let end = Instant::from_millis(milliseconds);
        self.at(self.now, Event::Wake);
        self.wake = None;
        while let Some((&(at, order), &event)) = self.events.first_key_value() {
            if at > end {
                break;
            }
            self.events.remove(&(at, order));
            self.now = at;
            self.handle(event);
            self.send();
            self.send_neighbour();
        }
        self.now = end;
    }

    fn handle(&mut self, event: Event) {
        match event {
            // One that was overtaken by an earlier one changes nothing.
            Event::Wake => self.wake = self.wake.filter(|at| *at > self.now),
            Event::Departed { number, ours } => self.departed(number, ours),
            Event::Arrived { number } => {
                self.received.record(self.now, number, true, false);
                self.slice().delivered += PACKET;
                self.expect_ack();
            }
            Event::AckDue => {
                self.ack_due = self.ack_due.filter(|at| *at > self.now);
                self.expect_ack();
                if self.received.ack_deadline().is_some_and(|due| due <= self.now)
                    && let Some(frame) = self.received.frame(self.now)
                {
                    self.received.told(self.now);
                    self.order += 1;
                    let made = self.order;
                    self.acks.insert(made, frame);
                    self.at(self.now + self.link.delay, Event::AckArrived { made });
                }
            }
            Event::AckArrived { made } => self.ack(made),
            Event::NeighbourAcked { number } => {
                let now = self.now;
                self.slice().neighbour += PACKET;
                if let Some(neighbour) = &mut self.neighbour {
                    neighbour.on_ack(now, number);
                }
            }
        }
    }

    fn expect_ack(&mut self) {
        if let Some(due) = self.received.ack_deadline().map(|due| due.max(self.now))
            && self.ack_due.is_none_or(|before| due < before)
        {
            self.ack_due = Some(due);
            self.at(due, Event::AckDue);
        }
    }

    fn ack(&mut self, made: u64) {
        let now = self.now;
        let frame = self.acks.remove(&made).unwrap();
        let (mut acked, mut lost) = (Vec::new(), Vec::new());
        let outcome = self.sent.on_ack(
            now,
            &frame,
            true,
            &mut self.rtt,
            &mut self.delay,
            &mut acked,
            &mut lost,
        );
        assert!(!outcome.invalid);
        self.received.on_ack_of_ack(frame.largest.saturating_sub(2_000));
        if outcome.lost_bytes > 0 {
            self.controller.on_loss(
                now,
                &Loss {
                    bytes: outcome.lost_bytes,
                    sent: outcome.newest_lost_sent,
                    in_flight: self.sent.in_flight(),
                },
            );
        }
        if outcome.spurious > 0 {
            self.controller.on_spurious_loss(now, outcome.spurious_bytes);
        }
        if let Some(sample) = outcome.rate_sample {
            let before = self.controller.state_name();
            self.controller.on_ack(now, &sample, self.sent.in_flight());
            if self.controller.way_is_longer() {
                self.delay.forget_base(now);
                self.rtt.forget_minimum(now);
            }
            if self.trace && before != self.controller.state_name() {
                println!(
                    "{:9.3} ms {before} → {}: bw {:.2} Mbit/s, sample {:.2} sent {:.2}, pace {:.2}, queue {:?}, window {}, in flight {}",
                    now.as_nanos() as f64 / 1e6,
                    self.controller.state_name(),
                    self.controller.bandwidth().0 as f64 / 125e3,
                    sample.rate.0 as f64 / 125e3,
                    sample.send_rate.0 as f64 / 125e3,
                    self.controller.pacing_rate().0 as f64 / 125e3,
                    sample.queue_delay,
                    self.controller.window(),
                    self.sent.in_flight(),
                );
            }
        }
        self.pacer.set_rate(now, self.controller.pacing_rate());
    }

    fn send(&mut self) {
        loop {
            let now = self.now;
            let in_flight = self.sent.in_flight();
            if let Some(deadline) = self.sent.loss_deadline()
                && deadline <= now
            {
                let mut lost = Vec::new();
                let outcome = self.sent.detect_losses(now, &self.rtt, &mut lost);
                let in_flight = self.sent.in_flight();
                self.controller.on_loss(
                    now,
                    &Loss {
                        bytes: outcome.lost_bytes,
                        sent: outcome.newest_lost_sent,
                        in_flight,
                    },
                );
                continue;
            }
            if let Some(demand) = self.demand {
                let may = (u128::from(now.as_nanos()) * u128::from(demand) / 1_000_000_000) as u64;
                if self.demanded + PACKET > may {
                    self.demanded = self.demanded.max(may.saturating_sub(64 * PACKET));
                    self.sent.on_app_limited();
                    let wait = BytesPerSecond(demand).nanoseconds(self.demanded + PACKET - may);
                    self.wake_at(now + Duration::from_nanos(wait + 1));
                    return;
                }
            }
            // A tail without acknowledgements: all is lost.
            if self
                .sent
                .oldest_unacknowledged()
                .is_some_and(|at| now.since(at) > Duration::from_secs(3))
            {
                self.sent.take_all(now, &mut Vec::new());
                continue;
            }
            if in_flight + PACKET > self.controller.window() {
                let deadline = self
                    .sent
                    .loss_deadline()
                    .unwrap_or(now + Duration::from_millis(500));
                self.wake_at(deadline);
                return;
            }
            let ready = self.pacer.ready_at(now, PACKET);
            if ready > now {
                self.wake_at(ready);
                return;
            }
            if in_flight == 0 && now.since(self.last_sent) > Duration::from_secs(1) {
                self.controller.on_idle_restart(now);
                self.pacer.set_rate(now, self.controller.pacing_rate());
            }
            let number = self.sent.next_number();
            self.sent.on_sent(now, number, PACKET as u32, true, false, ());
            self.pacer.on_sent(now, PACKET);
            self.controller.on_sent(now, PACKET, in_flight + PACKET);
            self.demanded += PACKET;
            self.last_sent = now;
            self.enqueue(number, true);
        }
    }

    fn wake_at(&mut self, at: Instant) {
        if self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
            self.at(at, Event::Wake);
        }
    }

    fn send_neighbour(&mut self) {
        while let Some(neighbour) = &mut self.neighbour {
            if neighbour.open.len() as f64 >= neighbour.window {
                return;
            }
            let number = neighbour.next;
            neighbour.next += 1;
            neighbour.open.insert(number, self.now);
            self.enqueue(number, false);
        }
    }

    fn enqueue(&mut self, number: u64, ours: bool) {
        let now = self.now;
        if let Some((rate, burst)) = self.link.policer {
            let (tokens, at) = self.policer;
            let tokens = (tokens + rate as f64 * now.since(at).as_secs_f64()).min(burst as f64);
            self.policer = (tokens, now);
            if tokens < PACKET as f64 {
                self.slice().dropped += PACKET;
                return;
            }
            self.policer.0 -= PACKET as f64;
        }
        if self.queued + PACKET > self.link.queue {
            self.slice().dropped += PACKET;
            return;
        }
        self.queued += PACKET;
        self.queue.push_back((number, ours, now));
        if !self.busy {
            self.serve();
        }
    }

    fn serve(&mut self) {
        self.busy = !self.queue.is_empty();
        if let Some((number, ours, since)) = self.queue.pop_front() {
            let waited = self.now.since(since).as_nanos() as u64;
            let slice = self.slice();
            slice.queue_most = slice.queue_most.max(waited);
            slice.queue_sum += waited;
            slice.packets += 1;
            let takes = BytesPerSecond(self.link.rate(self.now)).nanoseconds(PACKET);
            self.at(
                self.now + Duration::from_nanos(takes),
                Event::Departed { number, ours },
            );
        }
    }

    fn departed(&mut self, number: u64, ours: bool) {
        self.queued -= PACKET;
        self.serve();
        let lost = self.random() * 100.0 < self.link.loss as f64;
        if lost {
            return;
        }
        let jitter = self.jitter();
        let arrival = (self.now + self.link.delay + jitter).max(self.last_arrival);
        self.last_arrival = arrival;
        if ours {
            self.at(arrival, Event::Arrived { number });
        } else {
            self.at(arrival + self.link.delay, Event::NeighbourAcked { number });
        }
    }

    /// Between zero and twice the amplitude; a walk that turns back to the middle.
    fn jitter(&mut self) -> Duration {
        if self.link.jitter.is_zero() {
            return Duration::ZERO;
        }
        while self.now.since(self.wobbled) >= Duration::from_millis(5) {
            self.wobbled += Duration::from_millis(5);
            self.wobble = (self.wobble * 0.9 + (self.random() - 0.5) * 0.9).clamp(-1.0, 1.0);
        }
        self.link.jitter.mul_f64(1.0 + self.wobble)
    }

    /// Sums up what happened between two points, milliseconds.
    pub(super) fn between(&self, from: u64, to: u64) -> Slice {
        let width = self.slice.as_millis() as u64;
        let mut sum = Slice::default();
        for slice in self
            .slices
            .iter()
            .skip((from / width) as usize)
            .take(((to - from) / width) as usize)
        {
            sum.delivered += slice.delivered;
            sum.neighbour += slice.neighbour;
            sum.dropped += slice.dropped;
            sum.queue_most = sum.queue_most.max(slice.queue_most);
            sum.queue_sum += slice.queue_sum;
            sum.packets += slice.packets;
        }
        sum
    }

    /// Bytes per second that arrived between two points, milliseconds.
    pub(super) fn rate(&self, from: u64, to: u64) -> u64 {
        self.between(from, to).delivered * 1_000 / (to - from)
    }
}
