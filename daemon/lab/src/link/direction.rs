//! One direction of a link at work: policer, queue, rate, loss, delay.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::jitter::JitterState;
use super::loss::LossState;
use super::random::Random;
use super::shape::{Change, Service, Shape};
use super::trace::OPPORTUNITY;
use crate::time::Nanos;

/// What went through, and what became of the rest. Bytes are those of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that came.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames delivered.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Dropped because the queue was full.
    pub queue_drops: u64,
    /// Lost by the loss that was asked for.
    pub losses: u64,
    /// Dropped by the policer.
    pub policer_drops: u64,
    /// Swallowed while the link was silent.
    pub outage_drops: u64,
    /// Delivered twice.
    pub duplicates: u64,
}

/// A frame to be delivered now.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery<F> {
    /// When it was to be delivered.
    pub due: Nanos,
    /// When it had arrived at the link.
    pub arrived: Nanos,
    /// The frame.
    pub frame: F,
}

#[derive(Debug)]
struct Queued<F> {
    arrived: Nanos,
    bytes: u32,
    frame: F,
}

#[derive(Debug)]
struct Flying<F> {
    due: Nanos,
    order: u64,
    queued: Queued<F>,
}

impl<F> PartialEq for Flying<F> {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}
impl<F> Eq for Flying<F> {}
impl<F> PartialOrd for Flying<F> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<F> Ord for Flying<F> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

/// One direction of a link. Times given to it must not go back.
#[derive(Debug)]
pub struct Direction<F> {
    shape: Shape,
    random: Random,
    loss: LossState,
    jitter: JitterState,
    silent: bool,
    /// Traces begin here.
    started: Nanos,
    /// When the server has finished what it has served so far.
    free_at: Nanos,
    /// Bits of the head that are still to be served, in billionths: (bits · 10⁹), so that rates divide exactly.
    head_left: Option<u64>,
    /// Number of the next delivery opportunity of a trace, and what is left of the last one in bytes.
    opportunity: u64,
    queue: VecDeque<Queued<F>>,
    queued_bytes: u64,
    flying: BinaryHeap<Reverse<Flying<F>>>,
    order: u64,
    /// The delay may shrink, but frames do not overtake one another because of it.
    last_due: Nanos,
    tokens: f64,
    tokens_at: Nanos,
    counters: Counters,
}

impl<F: Clone> Direction<F> {
    /// A link that begins to work at `now`.
    pub fn new(shape: Shape, seed: u64, stream: u64, now: Nanos) -> Self {
        Self {
            tokens: shape.policer.map_or(0.0, |policer| policer.burst_bytes as f64),
            shape,
            random: Random::new(seed, stream),
            loss: LossState::default(),
            jitter: JitterState::default(),
            silent: false,
            started: now,
            free_at: now,
            head_left: None,
            opportunity: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            flying: BinaryHeap::new(),
            order: 0,
            last_due: now,
            tokens_at: now,
            counters: Counters::default(),
        }
    }

    /// Counts and follows its trace from the beginning again; what is in the queue or on the way stays.
    pub fn begin(&mut self, now: Nanos) {
        self.advance(now);
        self.started = now;
        self.opportunity = 0;
        self.counters = Counters::default();
    }

    /// What went through so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Bytes waiting, the frame in service included.
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// What it was asked to be, with all changes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Takes a frame of `bytes` that came at `at`. False if it was dropped at once.
    pub fn arrive(&mut self, at: Nanos, bytes: u32, frame: F) -> bool {
        self.advance(at);
        self.counters.frames_in += 1;
        self.counters.bytes_in += u64::from(bytes);
        if self.silent {
            self.counters.outage_drops += 1;
            return false;
        }
        if !self.policer_admits(at, bytes) {
            self.counters.policer_drops += 1;
            return false;
        }
        if self.queued_bytes + u64::from(bytes) > self.shape.queue_bytes
            && self.shape.service != Service::Unlimited
        {
            self.counters.queue_drops += 1;
            return false;
        }
        self.queued_bytes += u64::from(bytes);
        self.queue.push_back(Queued {
            arrived: at,
            bytes,
            frame,
        });
        self.advance(at);
        true
    }

    /// Changes what the link is, from `now` on.
    pub fn change(&mut self, now: Nanos, change: Change) {
        self.advance(now);
        match change {
            Change::Silence => {
                self.silent = true;
                self.counters.outage_drops += (self.queue.len() + self.flying.len()) as u64;
                self.queue.clear();
                self.queued_bytes = 0;
                self.head_left = None;
                self.flying.clear();
            }
            Change::Heal => self.silent = false,
            Change::Rate(rate) => {
                if let (Service::Rate(before), Some(head)) = (&self.shape.service, self.queue.front()) {
                    let begun = self.free_at.max(head.arrived);
                    let left = self.head_left.unwrap_or(billionths(head.bytes));
                    self.head_left = Some(left.saturating_sub(now.since(begun).0.saturating_mul(*before)));
                    self.free_at = now;
                }
                self.shape.service = Service::Rate(rate);
            }
            Change::Delay(delay) => self.shape.delay = delay,
            Change::Loss(loss) => self.shape.loss = loss,
            Change::Jitter(jitter) => self.shape.jitter = jitter,
        }
    }

    /// Serves the queue up to `now`.
    pub fn advance(&mut self, now: Nanos) {
        match &self.shape.service {
            Service::Unlimited => {
                while let Some(head) = self.queue.pop_front() {
                    let at = head.arrived;
                    self.leave(at, head);
                }
            }
            Service::Rate(_) => {
                while let Some(done) = self.head_done().filter(|done| *done <= now) {
                    self.free_at = done;
                    self.head_left = None;
                    if let Some(head) = self.queue.pop_front() {
                        self.leave(done, head);
                    }
                }
            }
            Service::Trace(_) => self.advance_trace(now),
        }
    }

    /// The next frame that is due at `now`.
    pub fn deliver(&mut self, now: Nanos) -> Option<Delivery<F>> {
        if self.flying.peek()?.0.due > now {
            return None;
        }
        let Reverse(Flying { due, queued, .. }) = self.flying.pop()?;
        self.counters.frames_out += 1;
        self.counters.bytes_out += u64::from(queued.bytes);
        Some(Delivery {
            due,
            arrived: queued.arrived,
            frame: queued.frame,
        })
    }

    /// When something is to be delivered next, as far as is known.
    pub fn next_delivery(&self) -> Option<Nanos> {
        let flying = self.flying.peek().map(|Reverse(first)| first.due);
        let waiting = match &self.shape.service {
            Service::Trace(trace) => self.queue.front().map(|head| {
                self.started
                    + trace.time(
                        self.opportunity
                            .max(trace.first_at(head.arrived.since(self.started))),
                    )
            }),
            Service::Unlimited | Service::Rate(_) => self.head_done(),
        };
        // Jitter only adds: nothing that still waits is due earlier than this.
        let waiting = waiting.map(|done| done + self.shape.delay);
        [flying, waiting].into_iter().flatten().min()
    }

    fn head_done(&self) -> Option<Nanos> {
        let head = self.queue.front()?;
        let Service::Rate(rate) = self.shape.service else {
            return Some(head.arrived);
        };
        let left = self.head_left.unwrap_or(billionths(head.bytes));
        Some(self.free_at.max(head.arrived) + Nanos(left.checked_div(rate).unwrap_or(u64::MAX)))
    }

    /// Serves the queue by the opportunities up to `now`; one that finds nothing waiting is lost.
    fn advance_trace(&mut self, now: Nanos) {
        let Service::Trace(trace) = self.shape.service.clone() else {
            return;
        };
        while let Some(head) = self.queue.front() {
            let usable = trace.first_at(head.arrived.since(self.started));
            if usable > self.opportunity {
                self.opportunity = usable;
            }
            let at = self.started + trace.time(self.opportunity);
            if at > now {
                return;
            }
            self.opportunity += 1;
            let mut credit = u64::from(OPPORTUNITY);
            while let Some(head) = self.queue.front().filter(|head| head.arrived <= at) {
                let left = self.head_left.unwrap_or(u64::from(head.bytes));
                if left > credit {
                    self.head_left = Some(left - credit);
                    break;
                }
                credit -= left;
                self.head_left = None;
                if let Some(head) = self.queue.pop_front() {
                    self.leave(at, head);
                }
            }
        }
    }

    /// A frame has left the queue at `at`: it is lost, or flies.
    fn leave(&mut self, at: Nanos, queued: Queued<F>) {
        self.queued_bytes -= u64::from(queued.bytes);
        if self.loss.loses(self.shape.loss, &mut self.random) {
            self.counters.losses += 1;
            return;
        }
        let added = self.jitter.added(self.shape.jitter, at, &mut self.random);
        let mut due = (at + self.shape.delay + added).max(self.last_due);
        let held = self
            .shape
            .reorder
            .filter(|reorder| self.random.chance(reorder.share));
        match held {
            Some(reorder) => due = due + reorder.by,
            None => self.last_due = due,
        }
        if self.random.chance(self.shape.duplicate) {
            self.counters.duplicates += 1;
            let twin = Queued {
                frame: queued.frame.clone(),
                ..queued
            };
            self.fly(due, twin);
        }
        self.fly(due, queued);
    }

    fn fly(&mut self, due: Nanos, queued: Queued<F>) {
        self.order += 1;
        self.flying.push(Reverse(Flying {
            due,
            order: self.order,
            queued,
        }));
    }

    fn policer_admits(&mut self, at: Nanos, bytes: u32) -> bool {
        let Some(policer) = self.shape.policer else {
            return true;
        };
        let fresh = at.since(self.tokens_at).secs() * policer.rate as f64 / 8.0;
        self.tokens = (self.tokens + fresh).min(policer.burst_bytes as f64);
        self.tokens_at = at;
        if self.tokens < f64::from(bytes) {
            return false;
        }
        self.tokens -= f64::from(bytes);
        true
    }
}

fn billionths(bytes: u32) -> u64 {
    u64::from(bytes) * 8_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Jitter, Loss, Policer, Reorder, Trace};

    const MILLI: u64 = 1_000_000;

    fn shape(service: Service) -> Shape {
        Shape {
            service,
            delay: Nanos(10 * MILLI),
            queue_bytes: 15_140,
            ..Shape::default()
        }
    }

    /// Sends full frames at these times (ms), and returns number and time (ms) of what comes out.
    fn carried(link: &mut Direction<usize>, times: &[f64]) -> Vec<(usize, f64)> {
        for (number, time) in times.iter().enumerate() {
            link.arrive(Nanos::from_millis(*time), 1514, number);
        }
        drained(link)
    }

    fn drained(link: &mut Direction<usize>) -> Vec<(usize, f64)> {
        let mut out = Vec::new();
        let end = Nanos(60_000 * MILLI);
        link.advance(end);
        while let Some(delivery) = link.deliver(end) {
            out.push((delivery.frame, delivery.due.millis()));
        }
        out
    }

    #[test]
    fn a_frame_takes_its_time_on_the_wire_and_then_the_delay() {
        // 1514 bytes at 12.112 Mbit/s are 1 ms.
        let mut link = Direction::new(shape(Service::Rate(12_112_000)), 1, 0, Nanos::ZERO);
        assert_eq!(
            carried(&mut link, &[0.0, 0.0, 5.0]),
            [(0, 11.0), (1, 12.0), (2, 16.0)]
        );
    }

    #[test]
    fn what_does_not_fit_the_queue_is_dropped_at_its_tail() {
        let mut link = Direction::new(shape(Service::Rate(12_112_000)), 1, 0, Nanos::ZERO);
        let out = carried(&mut link, &[0.0; 15]);
        assert_eq!(out.len(), 10);
        assert_eq!(link.counters().queue_drops, 5);
    }

    #[test]
    fn a_new_rate_holds_for_what_is_left_of_a_frame() {
        let mut link = Direction::new(shape(Service::Rate(12_112_000)), 1, 0, Nanos::ZERO);
        link.arrive(Nanos::ZERO, 1514, 0);
        link.change(Nanos(MILLI / 2), Change::Rate(1_211_200));
        assert_eq!(drained(&mut link), [(0, 15.5)]);
    }

    #[test]
    fn silence_swallows_what_is_on_the_way_too() {
        let mut link = Direction::new(shape(Service::Rate(12_112_000)), 1, 0, Nanos::ZERO);
        link.arrive(Nanos::ZERO, 1514, 0);
        link.change(Nanos(5 * MILLI), Change::Silence);
        link.arrive(Nanos(6 * MILLI), 1514, 1);
        link.change(Nanos(7 * MILLI), Change::Heal);
        link.arrive(Nanos(8 * MILLI), 1514, 2);
        assert_eq!(drained(&mut link), [(2, 19.0)]);
        assert_eq!(link.counters().outage_drops, 2);
    }

    #[test]
    fn a_trace_carries_a_frame_an_opportunity_and_unused_ones_are_lost() {
        let trace = Trace::parse("1\n2\n3\n10\n").expect("right");
        let mut link = Direction::new(shape(Service::Trace(trace)), 1, 0, Nanos::ZERO);
        assert_eq!(
            carried(&mut link, &[0.0, 2.5, 2.6]),
            [(0, 11.0), (1, 13.0), (2, 20.0)]
        );
    }

    #[test]
    fn small_frames_share_an_opportunity_of_a_trace() {
        let trace = Trace::parse("1\n2\n10\n").expect("right");
        let mut link = Direction::new(shape(Service::Trace(trace)), 1, 0, Nanos::ZERO);
        for number in 0..4 {
            link.arrive(Nanos::ZERO, 700, number);
        }
        // 1514 bytes: two frames and 114 bytes of the third.
        assert_eq!(drained(&mut link), [(0, 11.0), (1, 11.0), (2, 12.0), (3, 12.0)]);
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let times: Vec<f64> = (0..200).map(|number| f64::from(number) * 2.0).collect();
        let wander = Jitter::Wander {
            spread: Nanos(20 * MILLI),
            memory: Nanos(5 * MILLI),
        };
        let mut link = Direction::new(
            Shape {
                jitter: wander,
                ..shape(Service::Rate(12_112_000))
            },
            1,
            0,
            Nanos::ZERO,
        );
        assert!(
            carried(&mut link, &times)
                .windows(2)
                .all(|pair| pair[0].0 < pair[1].0)
        );
        let reorder = Some(Reorder {
            share: 0.1,
            by: Nanos(30 * MILLI),
        });
        let mut link = Direction::new(
            Shape {
                reorder,
                ..shape(Service::Rate(12_112_000))
            },
            1,
            0,
            Nanos::ZERO,
        );
        assert!(
            carried(&mut link, &times)
                .windows(2)
                .any(|pair| pair[0].0 > pair[1].0)
        );
    }

    #[test]
    fn a_policer_passes_its_burst_and_then_its_rate() {
        let policer = Some(Policer {
            rate: 1_211_200,
            burst_bytes: 3028,
        });
        let mut link = Direction::new(
            Shape {
                policer,
                ..shape(Service::Unlimited)
            },
            1,
            0,
            Nanos::ZERO,
        );
        // Two at once, then one each 10 ms.
        let out = carried(&mut link, &[0.0, 0.0, 0.0, 5.0, 10.0, 15.0, 20.0]);
        assert_eq!(
            out.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            [0, 1, 4, 6]
        );
    }

    #[test]
    fn the_same_seed_loses_the_same_frames() {
        let times: Vec<f64> = (0..500).map(f64::from).collect();
        let lossy = Shape {
            loss: Loss::Random(0.1),
            duplicate: 0.05,
            ..shape(Service::Rate(12_112_000))
        };
        let run = |seed| carried(&mut Direction::new(lossy.clone(), seed, 0, Nanos::ZERO), &times);
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn the_next_delivery_is_never_foretold_too_late() {
        let trace = Trace::parse("3\n4\n9\n").expect("right");
        for service in [
            Service::Unlimited,
            Service::Rate(1_000_000),
            Service::Trace(trace),
        ] {
            let mut link = Direction::new(shape(service), 1, 0, Nanos::ZERO);
            link.arrive(Nanos(MILLI), 1514, 0);
            let foretold = link.next_delivery().expect("something waits");
            let (_, due) = drained(&mut link)[0];
            assert!(
                foretold.millis() <= due,
                "foretold {} ms, due {due} ms",
                foretold.millis()
            );
        }
    }
}
