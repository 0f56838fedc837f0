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
