//! Small datagrams at a steady rate that the far end sends back: round trips, gaps and losses, each way by itself.
//!
//! Both ends stand on one machine and one clock, so that one-way times are exact.

use std::net::UdpSocket;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use super::socket::{answering, datagrams, failed};
use super::{Progress, Reach, Running, Window};
use crate::Result;
use crate::namespace::Namespace;
use crate::sys::clock;
use crate::sys::thread::{PROBE_PRIORITY, real_time};
use crate::time::Nanos;

/// What to send.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbePlan {
    /// What its results are called.
    pub name: String,
    /// Datagrams a second.
    pub per_second: u32,
    /// Payload of each in bytes, at least 16: its number and when it was sent.
    pub bytes: usize,
}

/// What became of one datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When it was sent.
    pub sent: Nanos,
    /// When the far end had it first.
    pub there: Option<Nanos>,
    /// When its answer was first back.
    pub back: Option<Nanos>,
}

/// All datagrams of a plan, in the order of sending.
#[derive(Clone, Debug)]
pub struct ProbeReport {
    /// What was asked for.
    pub plan: ProbePlan,
    /// When it ran.
    pub window: Window,
    /// Each datagram.
    pub samples: Vec<Sample>,
    /// Datagrams that came more than once, at either end.
    pub duplicates: u64,
}

/// How long answers may be under way after the last datagram was sent.
const PATIENCE: Nanos = Nanos(1_500_000_000);

/// When each datagram came first, by its number.
#[derive(Default)]
struct Arrivals {
    times: Vec<Option<Nanos>>,
    duplicates: u64,
}

impl Arrivals {
    fn note(&mut self, datagram: &[u8]) {
        let Some(number) = datagram.first_chunk::<8>() else {
            return;
        };
        let number = u64::from_le_bytes(*number) as usize;
        // Nothing but our own datagrams can come here; a wild number must all the same not take all memory.
        if number > 100_000_000 {
            return;
        }
        if self.times.len() <= number {
            self.times.resize(number + 1, None);
        }
        match &mut self.times[number] {
            Some(_) => self.duplicates += 1,
            first => *first = Some(clock::now()),
        }
    }
}

/// Starts a probe from a host in `from` to the one in `to`.
pub fn start(
    from: &Namespace,
    to: &Namespace,
    reach: Reach,
    plan: ProbePlan,
    window: Window,
) -> Result<Running<ProbeReport>> {
    let (tell_port, port) = mpsc::channel();
    let target = reach.target;
    let end = window.end + PATIENCE;
    let far = to.spawn(move || {
        let socket = answering(target)?;
        let address = socket
            .local_addr()
            .map_err(|error| failed("open a UDP socket", &error))?;
        let _ = tell_port.send(address.port());
        real_time(PROBE_PRIORITY);
        let mut arrivals = Arrivals::default();
        let mut buffer = [0; 2048];
        while clock::now() < end {
            // A time-out looks at the clock; an error of a vanished peer is no reason to stop answering.
            let Ok((bytes, peer)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            arrivals.note(&buffer[..bytes]);
            let _ = socket.send_to(&buffer[..bytes], peer);
        }
        Ok(arrivals)
    })?;
    let near = from.spawn(move || {
        let Ok(port) = port.recv() else {
            return far
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .map(|_| empty(plan, window));
        };
        let socket = datagrams(&reach, port)?;
        let back = socket
            .try_clone()
            .map_err(|error| failed("open a UDP socket", &error))?;
        let progress = Arc::clone(&reach.progress);
        let receiver = std::thread::spawn(move || collect(&back, end, &progress));
        let sent = send(&socket, &plan, window);
        let back = receiver
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let there = far
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let at = |arrivals: &Arrivals, number: usize| arrivals.times.get(number).copied().flatten();
        let samples = sent.into_iter().enumerate();
        let samples = samples.map(|(number, sent)| Sample {
            sent,
            there: at(&there, number),
            back: at(&back, number),
        });
        Ok(ProbeReport {
            samples: samples.collect(),
            duplicates: there.duplicates + back.duplicates,
            plan,
            window,
        })
    })?;
    Ok(Running(near))
}

fn empty(plan: ProbePlan, window: Window) -> ProbeReport {
    ProbeReport {
        plan,
        window,
        samples: Vec::new(),
        duplicates: 0,
    }
}

fn send(socket: &UdpSocket, plan: &ProbePlan, window: Window) -> Vec<Nanos> {
    real_time(PROBE_PRIORITY);
    let mut datagram = vec![0; plan.bytes.max(16)];
    let spacing = 1_000_000_000 / u64::from(plan.per_second.max(1));
    let mut sent = Vec::new();
    loop {
        let due = window.start + Nanos(sent.len() as u64 * spacing);
        if due >= window.end {
            return sent;
        }
        clock::sleep_until(due);
        datagram[..8].copy_from_slice(&(sent.len() as u64).to_le_bytes());
        let now = clock::now();
        datagram[8..16].copy_from_slice(&now.0.to_le_bytes());
        sent.push(now);
        // A datagram that cannot be sent now (no route for a moment) is one that was lost.
        let _ = socket.send(&datagram);
    }
}

fn collect(socket: &UdpSocket, end: Nanos, progress: &Progress) -> Arrivals {
    real_time(PROBE_PRIORITY);
    let mut arrivals = Arrivals::default();
    let mut buffer = [0; 2048];
    while clock::now() < end {
        if let Ok(bytes) = socket.recv(&mut buffer) {
            arrivals.note(&buffer[..bytes]);
            // Zero means that none came yet.
            let trip = sent_at(&buffer).map_or(0, |sent| clock::now().since(sent).0.max(1));
            progress.round_trip.store(trip, Ordering::Relaxed);
        }
    }
    arrivals
}

/// When a datagram says that it was sent.
fn sent_at(datagram: &[u8]) -> Option<Nanos> {
    datagram
        .get(8..)?
        .first_chunk::<8>()
        .map(|time| Nanos(u64::from_le_bytes(*time)))
}
