//! The machine that a tunnel's end runs on: its clock, its sockets' buffers, its sleep.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use sennit_engine::ids::NetworkPath;
use sennit_engine::time::Instant;

use super::tunnel::TunnelEnd;
use crate::packet::Packet;
use crate::setup::{Clock, Pause};

/// Bytes that the sockets of a machine hold for a program that does not read.
const SOCKETS: usize = 4 << 20;
/// Packets that a TUN device holds.
const TUN: usize = 1000;

/// One machine.
#[derive(Debug)]
pub struct Host {
    /// The tunnel's end.
    pub end: Box<dyn TunnelEnd>,
    clock: Clock,
    datagrams: VecDeque<(NetworkPath, BytesMut, bool)>,
    datagram_bytes: usize,
    packets: VecDeque<(usize, Packet)>,
    pauses: VecDeque<Pause>,
    /// Sleeping or stalled, since when and until when.
    paused: Option<(Instant, Instant)>,
    asleep: bool,
    /// The next wake-up that is in the queue of events.
    pub wakes_at: Option<Instant>,
    /// Datagrams dropped at the sockets, packets dropped at the TUN device.
    pub overflow: (u64, u64),
    /// How often it ran without time having passed.
    pub idle_runs: (Instant, u64),
}

impl Host {
    /// A machine that runs `end`.
    pub fn new(end: Box<dyn TunnelEnd>, clock: Clock, pauses: impl Iterator<Item = Pause>) -> Self {
        Self {
            end,
            clock,
            datagrams: VecDeque::new(),
            datagram_bytes: 0,
            packets: VecDeque::new(),
            pauses: pauses.collect(),
            paused: None,
            asleep: false,
            wakes_at: None,
            overflow: (0, 0),
            idle_runs: (Instant::ZERO, 0),
        }
    }

    /// What its clock shows.
    pub fn local(&self, now: Instant) -> Instant {
        self.clock.local(now)
    }

    /// When its program may run next, `now` if it runs.
    pub fn runs_at(&mut self, now: Instant) -> Instant {
        if let Some(pause) = self.pauses.front()
            && Instant::ZERO + pause.from <= now
        {
            let from = Instant::ZERO + pause.from;
            self.paused = Some((from, from + pause.length));
            self.asleep = pause.asleep;
            self.pauses.pop_front();
        }
        match self.paused {
            Some((from, until)) if until <= now => {
                self.paused = None;
                self.asleep = false;
                self.end.clock_gap(now.since(from));
                now
            }
            Some((_, until)) => until,
            None => now,
        }
    }

    /// A datagram reaches its sockets.
    pub fn take_datagram(&mut self, now: Instant, network: NetworkPath, bytes: BytesMut, marked: bool) {
        self.runs_at(now);
        if self.asleep || self.datagram_bytes + bytes.len() > SOCKETS {
            self.overflow.0 += 1;
            return;
        }
        self.datagram_bytes += bytes.len();
        self.datagrams.push_back((network, bytes, marked));
    }

    /// A packet of the flow number `flow` reaches its TUN device.
    pub fn take_packet(&mut self, now: Instant, flow: usize, packet: Packet) {
        self.runs_at(now);
        if self.asleep || self.packets.len() >= TUN {
            self.overflow.1 += 1;
            return;
        }
        self.packets.push_back((flow, packet));
    }

    /// A batch of datagrams of one network path and size, as generic receive offload gives them.
    pub fn next_batch(&mut self) -> Option<(NetworkPath, BytesMut, usize, bool)> {
        let (network, mut batch, marked) = self.datagrams.pop_front()?;
        let size = batch.len();
        while let Some((next_network, next, next_marked)) = self.datagrams.front()
            && *next_network == network
            && *next_marked == marked
            && next.len() <= size
            && batch.len() + next.len() <= 60_000
            && batch.len() % size == 0
        {
            batch.extend_from_slice(next);
            self.datagrams.pop_front();
        }
        self.datagram_bytes -= batch.len();
        Some((network, batch, size, marked))
    }

    /// The next packet at the TUN device.
    pub fn next_packet(&mut self) -> Option<(usize, Packet)> {
        self.packets.pop_front()
    }

    /// When its program wants to run, by the time of the run; not before `now`.
    pub fn wants_to_run_at(&mut self, now: Instant) -> Option<Instant> {
        let next_pause = (self.pauses.front()).map(|pause| Instant::ZERO + pause.from + pause.length);
        let runs_at = self.runs_at(now);
        if runs_at > now {
            return Some(runs_at);
        }
        let wanted = self
            .end
            .poll_timeout()
            .map(|local| self.clock.global(local).max(now));
        [wanted, next_pause].into_iter().flatten().min()
    }

    /// Whether it had something to do less than a nanosecond after the last time, too often in a row.
    pub fn is_stuck(&mut self, now: Instant) -> bool {
        if now.since(self.idle_runs.0) > Duration::ZERO {
            self.idle_runs = (now, 0);
        }
        self.idle_runs.1 += 1;
        self.idle_runs.1 > 5000
    }
}
