//! Datagrams at given rates one way, whatever becomes of them: what a link or a tunnel carries at most.

use std::net::UdpSocket;
use std::sync::mpsc;
use std::time::Duration;

use super::socket::{answering, datagrams, failed};
use super::{Reach, Running, Window};
use crate::Result;
use crate::emulator::Way;
use crate::namespace::Namespace;
use crate::sys::clock;
use crate::time::Nanos;

/// What to send.
#[derive(Clone, Debug, PartialEq)]
pub struct FloodPlan {
    /// Which end sends.
    pub way: Way,
    /// Datagrams a second, one rate after the other, each for an equal part of the window.
    pub per_second: Vec<u32>,
    /// Payload of each in bytes, at least 8.
    pub bytes: usize,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct FloodReport {
    /// Datagrams sent in each step.
    pub sent: Vec<u64>,
    /// Length of a step.
    pub step: Nanos,
    /// Which of them came, in the order of arrival, and when.
    pub arrivals: Vec<(u64, Nanos)>,
}

/// What came of one rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Datagrams sent.
    pub sent: u64,
    /// Those of them that came.
    pub arrived: u64,
    /// Those, a second.
    pub rate: f64,
}

impl FloodReport {
    /// What came of each rate.
    pub fn steps(&self) -> Vec<Step> {
        let mut first = 0;
        let step = |sent: &u64| {
            let range = first..first + sent;
            first += sent;
            let arrived = self
                .arrivals
                .iter()
                .filter(|(number, _)| range.contains(number))
                .count() as u64;
            Step {
                sent: *sent,
                arrived,
                rate: arrived as f64 / self.step.secs().max(1e-9),
            }
        };
        self.sent.iter().map(step).collect()
    }

    /// Datagrams that came after one that was sent later.
    pub fn reordered(&self) -> u64 {
        let mut highest = 0;
        let late = |(number, _): &&(u64, Nanos)| {
            let late = *number < highest;
            highest = highest.max(*number);
            late
        };
        self.arrivals.iter().filter(late).count() as u64
    }

    /// Datagrams a second between two moments.
    pub fn rate(&self, from: Nanos, to: Nanos) -> f64 {
        let within = self
            .arrivals
            .iter()
            .filter(|(_, at)| (from..to).contains(at))
            .count();
        within as f64 / to.since(from).secs().max(1e-9)
    }
}

/// How long datagrams may be under way after the window.
const PATIENCE: Nanos = Nanos(1_000_000_000);

/// Starts sending between a host in `from` and the one in `to`.
pub fn start(
    from: &Namespace,
    to: &Namespace,
    reach: Reach,
    plan: FloodPlan,
    window: Window,
) -> Result<Running<FloodReport>> {
    let (tell_port, port) = mpsc::channel();
    let (server_plan, target) = (plan.clone(), reach.target);
    let server = to.spawn(move || {
        let socket = answering(target)?;
        let address = socket
            .local_addr()
            .map_err(|error| failed("open a UDP socket", &error))?;
        let _ = tell_port.send(address.port());
        if server_plan.way == Way::Up {
            return Ok(receive(&socket, window));
        }
        // The client's first datagrams tell where to send to.
        let mut buffer = [0; 64];
        while clock::now() < window.end {
            if let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                socket
                    .connect(peer)
                    .map_err(|error| failed("answer a client", &error))?;
                return Ok(send(&socket, &server_plan, window));
            }
        }
        Ok(empty())
    })?;
    let client = from.spawn(move || {
        let join = || {
            server
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let Ok(port) = port.recv() else { return join() };
        let socket = datagrams(&reach, port)?;
        if plan.way == Way::Up {
            let sent = send(&socket, &plan, window);
            return Ok(FloodReport {
                arrivals: join()?.arrivals,
                ..sent
            });
        }
        while clock::now() < window.start {
            // One that is lost is followed by another.
            let _ = socket.send(&[0; 8]);
            std::thread::sleep(Duration::from_millis(20));
        }
        let received = receive(&socket, window);
        Ok(FloodReport {
            arrivals: received.arrivals,
            ..join()?
        })
    })?;
    Ok(Running(client))
}

fn send(socket: &UdpSocket, plan: &FloodPlan, window: Window) -> FloodReport {
    let mut datagram = vec![0; plan.bytes.max(8)];
    let step = Nanos(window.end.since(window.start).0 / plan.per_second.len().max(1) as u64);
    let mut number = 0_u64;
    let mut report = FloodReport {
        sent: Vec::new(),
        step,
        arrivals: Vec::new(),
    };
    let mut start = window.start;
    for per_second in &plan.per_second {
        clock::sleep_until(start);
        let before = number;
        loop {
            let now = clock::now();
            if now >= start + step {
                break;
            }
            // Small groups: a wake-up for each datagram would cost more than sending it. What cannot be sent in
            // time is not made up for later.
            let due = (now.since(start).secs() * f64::from(*per_second)) as u64;
            let group = due
                .saturating_sub(number - before)
                .min(u64::from(*per_second) / 500 + 1);
            for _ in 0..group {
                datagram[..8].copy_from_slice(&number.to_le_bytes());
                let _ = socket.send(&datagram);
                number += 1;
            }
            clock::sleep_until(now + Nanos(200_000));
        }
        report.sent.push(number - before);
        start = start + step;
    }
    report
}

fn receive(socket: &UdpSocket, window: Window) -> FloodReport {
    let mut arrivals = Vec::new();
    let mut buffer = [0; 2048];
    while clock::now() < window.end + PATIENCE {
        let Ok(bytes) = socket.recv(&mut buffer) else {
            continue;
        };
        if let Some(number) = buffer[..bytes].first_chunk::<8>() {
            arrivals.push((u64::from_le_bytes(*number), clock::now()));
        }
    }
    FloodReport {
        sent: Vec::new(),
        step: Nanos::ZERO,
        arrivals,
    }
}

fn empty() -> FloodReport {
    FloodReport {
        sent: Vec::new(),
        step: Nanos::ZERO,
        arrivals: Vec::new(),
    }
}
