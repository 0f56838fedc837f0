//! The clients: one task each, all in one thread that stands in the clients' namespace.

use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};
use std::time::Duration;

use bytes::BytesMut;
use sennit_engine::event::Event;
use sennit_engine::handshake::{PrivateKey, PublicKey};
use sennit_engine::ids::{NetworkPath, SocketId, WanId};
use sennit_engine::inner::VirtioHeader;
use sennit_engine::settings::{Encryption, Mode, WanSettings};
use sennit_engine::time::Instant;
use sennit_engine::{Client, ClientConfig};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;

use super::arrivals::PORT_INSIDE;
use super::inner::{HEADERS, datagram};
use super::{INNER_SERVER, inner_address, outer_address, random};
use crate::emulator::{BIN, Way};
use crate::histogram::Histogram;
use crate::namespace::Namespace;
use crate::sys::clock;
use crate::time::Nanos;
use crate::topology::wan_interface;
use crate::traffic::{Running, Window};
use crate::{Error, Result};

/// They do not all come in the same moment.
const APART: Nanos = Nanos(5_000_000);
/// A gap between two runs of a task that is longer than this is no silence of the network.
const GAP: Nanos = Nanos(5_000_000);
/// The longest datagram.
const LONGEST: usize = 2048;

/// What all of them do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) window: Window,
    /// Which way the datagrams go.
    pub(super) way: Way,
    /// Payload of each in bytes.
    pub(super) bytes: usize,
    /// Between two of one client.
    pub(super) interval: Nanos,
    pub(super) server_key: PublicKey,
    pub(super) server: SocketAddr,
    pub(super) wans: usize,
}

/// What one client saw.
#[derive(Debug)]
pub(super) struct Member {
    /// When it was connected.
    pub(super) connected: Option<Nanos>,
    /// Payload that left the tunnel here, in bins from the window's start.
    pub(super) bins: Vec<u32>,
    /// How late its task ran.
    pub(super) lateness: Histogram,
}

/// Starts one client for each key.
pub(super) fn start(from: &Namespace, keys: Vec<PrivateKey>, plan: Plan) -> Result<Running<Vec<Member>>> {
    Running::start(from, move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed("start", error))?;
        runtime.block_on(async move {
            let mut tasks = Vec::new();
            for (number, key) in keys.into_iter().enumerate() {
                let sockets: Result<Vec<UdpSocket>> = (0..plan.wans)
                    .map(|wan| socket(wan, number, plan.server))
                    .collect();
                tasks.push(tokio::spawn(take_part(number, key, sockets?, plan, random()?)));
            }
            let mut members = Vec::new();
            for task in tasks {
                members.push(task.await.map_err(|error| failed("run", error))?);
            }
            Ok(members)
        })
    })
}

fn failed(what: &str, error: impl std::fmt::Display) -> Error {
    Error::environment(format!("the crowd failed to {what}: {error}"), "")
}

fn socket(wan: usize, number: usize, server: SocketAddr) -> Result<UdpSocket> {
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind_device(Some(wan_interface(wan).as_bytes()))?;
        let address: IpAddr = outer_address(wan, number).into();
        socket.bind(&SockAddr::from(SocketAddr::new(address, 0)))?;
        socket.connect(&SockAddr::from(server))?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(StdSocket::from(socket))
    };
    open().map_err(|error| failed("open a socket", error))
}

/// The engine's clock is the lab's.
fn engine_time(time: Nanos) -> Instant {
    Instant::from_nanos(time.0)
}

async fn take_part(
    number: usize,
    key: PrivateKey,
    sockets: Vec<UdpSocket>,
    plan: Plan,
    seed: [u8; 32],
) -> Member {
    let network = |wan: usize| NetworkPath {
        socket: SocketId(wan as u16),
        local: None,
        remote: plan.server,
    };
    tokio::time::sleep(Duration::from(Nanos(APART.0 * number as u64))).await;
    let config = ClientConfig {
        private_key: key,
        server_key: plan.server_key,
        preshared_key: None,
        mode: Mode::Speed,
        aes_is_fast: true,
        encryption: Encryption::On,
    };
    let begun = engine_time(clock::now());
    let mut engine = Client::new(config, begun, seed);
    for wan in 0..sockets.len() {
        engine.set_wan(begun, WanId(wan as u16), network(wan), WanSettings::default());
    }
    engine.handle_timeout(begun);

    let packet = datagram(
        inner_address(number),
        INNER_SERVER,
        (PORT_INSIDE, PORT_INSIDE),
        &vec![0x5a; plan.bytes],
    );
    let sends = plan.way == Way::Up;
    // Each at its own moment within the interval.
    let mut next = plan.window.start + Nanos(plan.interval.0 * (number as u64 * 61 % 200) / 200);
    let mut member = Member {
        connected: None,
        bins: Vec::new(),
        lateness: Histogram::new(),
    };
    let mut out = Vec::with_capacity(LONGEST);
    let mut room = [0; LONGEST];
    loop {
        let now = clock::now();
        if now >= plan.window.end {
            return member;
        }
        while sends && next <= now {
            // What has no room in the queue is lost, as at any interface.
            let _ = engine.handle_tun(engine_time(now), VirtioHeader::default(), packet.clone());
            next = next + plan.interval;
        }
        while let Some(transmit) = engine.poll_transmit(engine_time(now), &mut out, 1) {
            if let Some(socket) = sockets.get(usize::from(transmit.network.socket.0)) {
                // A full socket buffer drops it, as at any interface.
                let _ = socket.try_send(&out);
            }
            out.clear();
        }
        while let Some(delivery) = engine.poll_deliver() {
            member.count(now, delivery.len().saturating_sub(HEADERS), plan.window);
            engine.recycle(delivery);
        }
        while let Some(event) = engine.poll_event() {
            if matches!(event, Event::Connected { .. }) {
                member.connected.get_or_insert(now);
            }
        }
        let deadline = engine
            .poll_timeout()
            .map_or(plan.window.end, |at| Nanos(at.as_nanos()))
            .min(if sends { next } else { plan.window.end })
            .min(plan.window.end);
        let slept = tokio::time::timeout(deadline.since(now).into(), any_readable(&sockets)).await;
        let woken = clock::now();
        for (wan, socket) in sockets.iter().enumerate() {
            while let Ok(length) = socket.try_recv(&mut room) {
                let batch = BytesMut::from(&room[..length]);
                engine.handle_udp(engine_time(woken), network(wan), batch, length, false);
            }
        }
        if slept.is_err() {
            // The runtime's timers count in milliseconds; beyond that, the thread was busy with others.
            let late = woken.since(deadline);
            member.lateness.record(late);
            if late > GAP {
                engine.clock_gap(late.into());
            }
        }
        let due = |at: Instant| at <= engine_time(woken);
        if engine.poll_timeout().is_some_and(due) {
            engine.handle_timeout(engine_time(woken));
        }
    }
}

/// Waits for a datagram on any of the WANs.
async fn any_readable(sockets: &[UdpSocket]) {
    std::future::poll_fn(|context| {
        let ready = sockets
            .iter()
            .any(|socket| socket.poll_recv_ready(context).is_ready());
        if ready {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

impl Member {
    fn count(&mut self, now: Nanos, payload: usize, window: Window) {
        if now < window.start {
            return;
        }
        let index = (now.since(window.start).0 / BIN.0) as usize;
        if self.bins.len() <= index {
            self.bins.resize(index + 1, 0);
        }
        self.bins[index] += payload as u32;
    }
}
