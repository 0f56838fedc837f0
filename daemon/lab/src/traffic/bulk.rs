//! Bulk transfers: one or many TCP flows that send as much as they can, up or down.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::socket::{accept, congestion, connect, failed, is_glance, listen};
use super::{Progress, Reach, Running, TcpInfo, Window};
use crate::emulator::{BIN, Way};
use crate::namespace::Namespace;
use crate::sys::{clock, tcp};
use crate::time::Nanos;
use crate::{Error, Result};

/// What to send.
#[derive(Clone, Debug, PartialEq)]
pub struct BulkPlan {
    /// Which end sends.
    pub way: Way,
    /// How many flows at once.
    pub flows: usize,
    /// Congestion control of both ends.
    pub congestion: String,
}

/// One flow, as it was.
#[derive(Clone, Debug)]
pub struct FlowReport {
    /// Payload received, in bins of [`BIN`] from the start of the window.
    pub bins: Vec<u32>,
    /// When the first 10 MB were there, after the start.
    pub ten_megabytes: Option<Nanos>,
    /// What the sender's kernel counted.
    pub sender: TcpInfo,
    /// What the receiver's kernel counted.
    pub receiver: TcpInfo,
    /// What the client's socket really ran.
    pub client_congestion: String,
    /// What the server's socket really ran.
    pub server_congestion: String,
}

impl FlowReport {
    /// Payload received, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bins.iter().map(|bytes| u64::from(*bytes)).sum()
    }
}

/// All flows of a plan.
#[derive(Clone, Debug)]
pub struct BulkReport {
    /// What was asked for.
    pub plan: BulkPlan,
    /// When it ran.
    pub window: Window,
    /// Each flow.
    pub flows: Vec<FlowReport>,
}

/// One end of one flow.
struct EndReport {
    bins: Vec<u32>,
    ten_megabytes: Option<Nanos>,
    info: TcpInfo,
    congestion: String,
}

/// Starts the flows, from a host in `from` to the one in `to`.
pub fn start(
    from: &Namespace,
    to: &Namespace,
    reach: Reach,
    plan: BulkPlan,
    window: Window,
) -> Result<Running<BulkReport>> {
    let (tell_port, port) = mpsc::channel();
    let (server_plan, server_reach) = (plan.clone(), reach.clone());
    let progress = Arc::clone(&reach.progress);
    let server = to.spawn(move || {
        let listener = listen(&server_reach, &server_plan.congestion)?;
        let address = listener.local_addr().map_err(|error| failed("listen", &error))?;
        // The other side waits for it, unless it has failed already.
        let _ = tell_port.send(address.port());
        let mut threads = Vec::new();
        while threads.len() < server_plan.flows {
            let Some(stream) = accept(&listener, window.end)? else {
                break;
            };
            let sends = server_plan.way == Way::Down;
            let progress = Arc::clone(&progress);
            threads.push(std::thread::spawn(move || end(stream, sends, window, &progress)));
        }
        join(threads)
    })?;
    let progress = Arc::clone(&reach.progress);
    let client = from.spawn(move || {
        // The server's own error says more.
        let Ok(port) = port.recv() else {
            return Ok(BulkReport {
                plan,
                window,
                flows: Vec::new(),
            });
        };
        clock::sleep_until(window.start);
        let mut threads = Vec::new();
        for _ in 0..plan.flows {
            let limit = Duration::from(window.end.since(clock::now()))
                .clamp(Duration::from_millis(1), Duration::from_secs(10));
            let stream = connect(&reach, port, &plan.congestion, limit)?;
            let sends = plan.way == Way::Up;
            let progress = Arc::clone(&progress);
            threads.push(std::thread::spawn(move || end(stream, sends, window, &progress)));
        }
        let clients = join(threads)?;
        let servers = server
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        // Which of the server's connections is whose does not matter: they are alike.
        let flows = clients
            .into_iter()
            .zip(servers)
            .map(|(client, server)| pair(plan.way, client, server))
            .collect();
        Ok(BulkReport { plan, window, flows })
    })?;
    Ok(Running(client))
}

fn join(threads: Vec<std::thread::JoinHandle<Result<EndReport>>>) -> Result<Vec<EndReport>> {
    threads
        .into_iter()
        .map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .collect()
}

fn pair(way: Way, client: EndReport, server: EndReport) -> FlowReport {
    let (client_congestion, server_congestion) = (client.congestion.clone(), server.congestion.clone());
    let (sender, receiver) = match way {
        Way::Up => (client, server),
        Way::Down => (server, client),
    };
    FlowReport {
        bins: receiver.bins,
        ten_megabytes: receiver.ten_megabytes,
        sender: sender.info,
        receiver: receiver.info,
        client_congestion,
        server_congestion,
    }
}

/// Sends or receives until the window ends.
fn end(stream: TcpStream, sends: bool, window: Window, progress: &Progress) -> Result<EndReport> {
    let mut report = EndReport {
        bins: Vec::new(),
        ten_megabytes: None,
        info: TcpInfo::default(),
        congestion: congestion(&stream),
    };
    let outcome = if sends {
        send(&stream, window)
    } else {
        receive(&stream, window, &mut report, progress)
    };
    report.info = tcp::info(&stream).unwrap_or_default();
    // The other end may have closed before.
    let _ = stream.shutdown(Shutdown::Both);
    outcome.map(|()| report)
}

fn send(mut stream: &TcpStream, window: Window) -> Result<()> {
    let chunk = vec![0x5a; 128 << 10];
    while clock::now() < window.end {
        match stream.write(&chunk) {
            Ok(_) => {}
            Err(error) if is_glance(&error) => {}
            // The receiver ends a moment earlier or later than we do.
            Err(_) if clock::now() + Nanos::from_millis(200.0) > window.end => return Ok(()),
            Err(error) => return Err(failed("send", &error)),
        }
    }
    Ok(())
}

fn receive(
    mut stream: &TcpStream,
    window: Window,
    report: &mut EndReport,
    progress: &Progress,
) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0_u64;
    while clock::now() < window.end {
        let bytes = match stream.read(&mut buffer) {
            Ok(0) if clock::now() + Nanos::from_millis(200.0) > window.end => return Ok(()),
            Ok(0) => {
                return Err(Error::environment(
                    "a connection was closed in the middle of a transfer",
                    "",
                ));
            }
            Ok(bytes) => bytes,
            Err(error) if is_glance(&error) => continue,
            Err(error) => return Err(failed("receive", &error)),
        };
        let since = clock::now().since(window.start);
        let index = (since.0 / BIN.0) as usize;
        if report.bins.len() <= index {
            report.bins.resize(index + 1, 0);
        }
        report.bins[index] += bytes as u32;
        progress.received.fetch_add(bytes as u64, Ordering::Relaxed);
        total += bytes as u64;
        if total >= 10_000_000 && report.ten_megabytes.is_none() {
            report.ten_megabytes = Some(since);
        }
    }
    Ok(())
}
