//! The loop of events: everything that happens passes here.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use sennit_engine::ids::{NetworkPath, SocketId};
use sennit_engine::time::Instant;

use super::event::{Event, Events};
use super::host::Host;
use super::ledger::Ledger;
use super::tunnel::{Knowledge, TunnelEnd};
use crate::dice::Dice;
use crate::network::{Fate, Link, Nat};
use crate::packet::{self, Body, Packet, View};
use crate::setup::{Action, FIRST_PORT, Setup, Side, Via};
use crate::transport::{End, FlowCounters};

/// Between a host and the tunnel's end beside it.
const LOCAL_DELAY: Duration = Duration::from_micros(50);
/// IP and UDP headers of a datagram.
const DATAGRAM_HEADERS: usize = 28;
/// How often state is written down and checked.
pub(crate) const SAMPLE: Duration = Duration::from_millis(10);
const MOST_VIOLATIONS: usize = 50;

/// Makes the end of one side: once at the start, and again for each restart (counted).
pub type MakeEnd = dyn Fn(Side, Instant, u32) -> Box<dyn TunnelEnd>;

#[derive(Debug)]
struct FlowState {
    ends: [Box<dyn End>; 2],
    scheduled: [Option<Instant>; 2],
    /// Of packets that entered at the client and at the server.
    ledgers: [Ledger; 2],
    stopped: bool,
}

/// State at one time, for traces and invariants.
#[derive(Debug)]
pub struct Sample<'a> {
    /// When.
    pub now: Instant,
    /// Of client and server.
    pub knowledge: [Knowledge; 2],
    /// Bytes that wait in each link, up and down.
    pub queues: Vec<[u64; 2]>,
    /// All that was sent and delivered so far.
    pub world: &'a World,
}

/// A run.
pub struct World {
    setup: Setup,
    now: Instant,
    events: Events,
    /// For each WAN up and down.
    links: Vec<[Link; 2]>,
    nats: Vec<Nat>,
    plugged: Vec<bool>,
    hosts: Option<[Host; 2]>,
    make: Option<Box<MakeEnd>>,
    restarts: u32,
    flows: Vec<FlowState>,
    hash: u64,
    log: Vec<(Instant, Side, String)>,
    violations: Vec<String>,
    scratch: Vec<u8>,
    aborted: bool,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// Where the server listens.
pub fn server_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(203, 0, 113, 1), 5180))
}

fn index(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Server => 1,
    }
}

impl World {
    /// A world at time zero. Without `make` there is no tunnel, and all flows must go beside it.
    pub fn new(setup: Setup, seed: u64, make: Option<Box<MakeEnd>>) -> Self {
        let links = (setup.wans.iter().enumerate())
            .map(|(index, wan)| {
                let link = |settings: &crate::network::LinkSettings, name: &str| {
                    Link::new(settings.clone(), Dice::new(seed, &format!("link {index} {name}")))
                };
                [link(&wan.up, "up"), link(&wan.down, "down")]
            })
            .collect();
        let nats = (setup.wans.iter().enumerate())
            .map(|(index, wan)| Nat::new(wan.nat.clone(), index as u8))
            .collect();
        let flows = (setup.flows.iter().enumerate())
            .map(|(index, flow)| FlowState {
                ends: flow.ends(index as u16),
                scheduled: [None; 2],
                ledgers: Default::default(),
                stopped: false,
            })
            .collect();
        let hosts = make.as_ref().map(|make| {
            Side::BOTH.map(|side| {
                let clock = setup.clocks[index(side)];
                let end = make(side, clock.local(Instant::ZERO), 0);
                let pauses = setup.pauses.iter().filter(|pause| pause.side == side).copied();
                Host::new(end, clock, pauses)
            })
        });
        let mut world = Self {
            plugged: vec![false; setup.wans.len()],
            now: Instant::ZERO,
            events: Events::default(),
            links,
            nats,
            hosts,
            make,
            restarts: 0,
            flows,
            hash: 0xcbf2_9ce4_8422_2325,
            log: Vec::new(),
            violations: Vec::new(),
            scratch: Vec::new(),
            aborted: false,
            setup,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for wan in 0..self.setup.wans.len() {
            self.events
                .put(Instant::ZERO + self.setup.wans[wan].joins, Event::Join { wan });
        }
        for (index, (at, _)) in self.setup.actions.iter().enumerate() {
            self.events.put(Instant::ZERO + *at, Event::Action { index });
        }
        for flow in 0..self.flows.len() {
            for side in Side::BOTH {
                self.schedule_flow(side, flow);
            }
        }
        for side in Side::BOTH {
            self.schedule_host(side);
        }
        self.events.put(Instant::ZERO, Event::Sample);
    }

    /// Runs until `until`; `sampled` is called every 10 ms.
    pub fn run(&mut self, until: Instant, sampled: &mut dyn FnMut(&Sample<'_>)) {
        while !self.aborted
            && let Some((at, event)) = self.events.take(until)
        {
            self.now = at;
            match event {
                Event::Datagram {
                    to,
                    wan,
                    outside,
                    bytes,
                    marked,
                } => {
                    self.arrive_datagram(to, wan, outside, bytes, marked);
                }
                Event::Enter { at, flow, packet } => self.enter(at, flow, packet),
                Event::Pass {
                    from,
                    wan,
                    flow,
                    packet,
                } => self.pass(from, wan, flow, &packet),
                Event::Arrive { at, flow, packet } => self.arrive(at, flow, &packet),
                Event::Flow { at, flow } => self.wake_flow(at, flow),
                Event::Host { at } => {
                    if let Some(hosts) = &mut self.hosts {
                        let wakes_at = &mut hosts[index(at)].wakes_at;
                        if wakes_at.is_some_and(|wakes_at| wakes_at <= self.now) {
                            *wakes_at = None;
                            self.run_host(at);
                        }
                    }
                }
                Event::Action { index } => self.act(index),
                Event::Join { wan } => {
                    self.plugged[wan] = true;
                    self.with_client(|end, now| end.join(now, wan));
                }
                Event::Sample => {
                    sampled(&self.sample());
                    self.events.put(self.now + SAMPLE, Event::Sample);
                }
            }
        }
        if !self.aborted {
            self.now = until;
        }
    }

    fn sample(&mut self) -> Sample<'_> {
        let now = self.now;
        let queues = self
            .links
            .iter_mut()
            .map(|pair| [pair[0].backlog(now), pair[1].backlog(now)])
            .collect();
        Sample {
            now,
            knowledge: [self.knowledge(Side::Client), self.knowledge(Side::Server)],
            queues,
            world: self,
        }
    }

    /// What an end knows.
    pub fn knowledge(&self, side: Side) -> Knowledge {
        self.hosts.as_ref().map_or_else(Knowledge::default, |hosts| {
            let host = &hosts[index(side)];
            host.end.knowledge(host.local(self.now))
        })
    }

    /// No flow begins anything new.
    pub fn stop_flows(&mut self) {
        for flow in 0..self.flows.len() {
            self.flows[flow].stopped = true;
            for side in Side::BOTH {
                self.flows[flow].ends[index(side)].stop();
                self.schedule_flow(side, flow);
            }
        }
    }

    fn act(&mut self, number: usize) {
        let (_, action) = self.setup.actions[number];
        match action {
            Action::Restart(side) => {
                self.restarts += 1;
                let (Some(hosts), Some(make)) = (&mut self.hosts, &self.make) else {
                    return;
                };
                let host = &mut hosts[index(side)];
                let local = host.local(self.now);
                host.end = make(side, local, self.restarts);
                host.wakes_at = None;
                if side == Side::Client {
                    for wan in 0..self.plugged.len() {
                        if self.plugged[wan] {
                            host.end.join(local, wan);
                        }
                    }
                }
                self.run_host(side);
            }
            Action::Unplug(wan) => {
                self.plugged[wan] = false;
                self.with_client(|end, now| end.act(now, &action));
            }
            Action::Limits(_) => {
                for side in Side::BOTH {
                    self.with_end(side, |end, now| end.act(now, &action));
                }
            }
            _ => self.with_client(|end, now| end.act(now, &action)),
        }
    }

    fn with_client(&mut self, call: impl FnOnce(&mut dyn TunnelEnd, Instant)) {
        self.with_end(Side::Client, call);
    }

    fn with_end(&mut self, side: Side, call: impl FnOnce(&mut dyn TunnelEnd, Instant)) {
        if let Some(hosts) = &mut self.hosts {
            let host = &mut hosts[index(side)];
            let local = host.local(self.now);
            call(host.end.as_mut(), local);
            self.run_host(side);
        }
    }

    fn schedule_host(&mut self, side: Side) {
        let Some(hosts) = &mut self.hosts else { return };
        let host = &mut hosts[index(side)];
        let Some(at) = host.wants_to_run_at(self.now) else {
            return;
        };
        if host.wakes_at.is_none_or(|wakes_at| at < wakes_at) {
            host.wakes_at = Some(at);
            self.events.put(at, Event::Host { at: side });
        }
    }

    /// Gives the end at `side` all that came for it, and takes from it all that it has.
    fn run_host(&mut self, side: Side) {
        let Some(hosts) = &mut self.hosts else { return };
        let host = &mut hosts[index(side)];
        if host.runs_at(self.now) > self.now {
            self.schedule_host(side);
            return;
        }
        if host.is_stuck(self.now) {
            let due = host
                .end
                .poll_timeout()
                .map(|deadline| host.local(self.now).since(deadline));
            self.violation(format!(
                "{side:?} runs on without time passing (its deadline passed by {due:?})"
            ));
            self.aborted = true;
            return;
        }
        let local = host.local(self.now);
        while let Some((network, batch, size, marked)) = host.next_batch() {
            host.end.handle_udp(local, network, batch, size, marked);
        }
        while let Some((flow, packet)) = host.next_packet() {
            let copy = packet.clone();
            if host.end.handle_tun(local, packet) {
                match packet::read(&copy) {
                    Ok(view) => self.flows[flow].ledgers[index(side)].enters(&view),
                    Err(why) => unreachable!("a host sent a bad packet: {why}"),
                }
            }
        }
        if host.end.poll_timeout().is_some_and(|deadline| deadline <= local) {
            host.end.handle_timeout(local);
        }
        let mut delivered = Vec::new();
        let mut out = std::mem::take(&mut self.scratch);
        for round in 0.. {
            let Some(hosts) = &mut self.hosts else { return };
            let host = &mut hosts[index(side)];
            out.clear();
            let Some(outgoing) = host.end.poll_transmit(local, &mut out) else {
                break;
            };
            if out.is_empty() || round > 20_000 {
                self.violation(format!("{side:?} transmits without end"));
                self.aborted = true;
                break;
            }
            for datagram in out.chunks(outgoing.segment_size.max(1)) {
                self.send_datagram(side, outgoing.network, datagram);
            }
        }
        self.scratch = out;
        let Some(hosts) = &mut self.hosts else { return };
        let host = &mut hosts[index(side)];
        while let Some(packet) = host.end.poll_deliver() {
            delivered.push(packet);
        }
        for event in host.end.events() {
            self.log.push((self.now, side, event));
        }
        for packet in delivered {
            self.leave(side, packet);
        }
        self.schedule_host(side);
    }

    fn send_datagram(&mut self, from: Side, network: NetworkPath, datagram: &[u8]) {
        let wan = match from {
            Side::Client => usize::from(network.socket.0),
            Side::Server => match network.remote {
                SocketAddr::V4(address) => usize::from(address.ip().octets()[2]).wrapping_sub(100),
                SocketAddr::V6(_) => usize::MAX,
            },
        };
        let length = datagram.len() + DATAGRAM_HEADERS;
        if wan >= self.links.len() || length > 1500 {
            self.violation(format!(
                "{from:?} sent {} bytes to {}",
                datagram.len(),
                network.remote
            ));
            return;
        }
        if !self.plugged[wan] {
            return;
        }
        let outside = match from {
            Side::Client => self.nats[wan].outward(self.now),
            Side::Server => network.remote,
        };
        let fate = self.links[wan][index(from)].offer(self.now, length);
        let Fate::Arrives {
            at,
            again,
            marked,
            corrupted,
        } = fate
        else {
            return;
        };
        self.note(at, length as u64);
        let mut bytes = BytesMut::from(datagram);
        if let Some(bit) = corrupted {
            let bit = bit % (bytes.len() as u64 * 8);
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        let to = from.other();
        if let Some(at) = again {
            let bytes = bytes.clone();
            self.events.put(
                at,
                Event::Datagram {
                    to,
                    wan,
                    outside,
                    bytes,
                    marked,
                },
            );
        }
        self.events.put(
            at,
            Event::Datagram {
                to,
                wan,
                outside,
                bytes,
                marked,
            },
        );
    }

    fn arrive_datagram(&mut self, to: Side, wan: usize, outside: SocketAddr, bytes: BytesMut, marked: bool) {
        if !self.plugged[wan] || (to == Side::Client && !self.nats[wan].inward(self.now, outside)) {
            return;
        }
        let network = match to {
            Side::Client => NetworkPath {
                socket: SocketId(wan as u16),
                local: None,
                remote: server_address(),
            },
            Side::Server => NetworkPath {
                socket: SocketId(0),
                local: None,
                remote: outside,
            },
        };
        let Some(hosts) = &mut self.hosts else { return };
        hosts[index(to)].take_datagram(self.now, network, bytes, marked);
        self.run_host(to);
    }

    /// A packet leaves the tunnel at `side`, for a host behind it.
    fn leave(&mut self, side: Side, packet: Packet) {
        let view = match packet::read(&packet) {
            Ok(view) => view,
            Err(why) => {
                self.violation(format!(
                    "{side:?} delivered a bad packet of {} bytes: {why}",
                    packet.bytes.len()
                ));
                return;
            }
        };
        self.note(self.now, packet.bytes.len() as u64);
        let Some(flow) = self.flow_of(side, &view) else {
            self.violation(format!(
                "{side:?} delivered a packet that is not for its hosts: {:?}",
                view.ends
            ));
            return;
        };
        if let Err(why) = self.flows[flow].ledgers[index(side.other())].leaves(&view) {
            self.violation(format!("flow {flow}, towards {side:?}: {why}"));
        }
        let delay = self.host_delay(side, flow);
        self.events.put(
            self.now + delay,
            Event::Arrive {
                at: side,
                flow,
                packet,
            },
        );
    }

    fn flow_of(&self, side: Side, view: &View<'_>) -> Option<usize> {
        let number = match (&view.body, side) {
            (Body::Echo { identifier, .. }, _) => *identifier,
            (_, Side::Client) => view.ends.destination.port().checked_sub(FIRST_PORT)?,
            (_, Side::Server) => view.ends.source.port().checked_sub(FIRST_PORT)?,
        };
        let (near, far) = crate::setup::addresses(view.ends.source.is_ipv6(), number);
        let (source, destination) = match side {
            Side::Client => (far, near),
            Side::Server => (near, far),
        };
        let right = view.ends.source.ip() == source.ip() && view.ends.destination.ip() == destination.ip();
        let flow = usize::from(number);
        (right && flow < self.flows.len()).then_some(flow)
    }

    fn host_delay(&self, side: Side, flow: usize) -> Duration {
        match side {
            Side::Client => LOCAL_DELAY,
            Side::Server => LOCAL_DELAY + self.setup.flows[flow].origin,
        }
    }

    fn enter(&mut self, at: Side, flow: usize, packet: Packet) {
        let Some(hosts) = &mut self.hosts else { return };
        hosts[index(at)].take_packet(self.now, flow, packet);
        self.run_host(at);
    }

    /// A packet goes over a link without a tunnel, cut by the sender's network card.
    fn pass(&mut self, from: Side, wan: usize, flow: usize, packet: &Packet) {
        let delay = self.host_delay(from.other(), flow);
        for packet in packet::segments(packet) {
            let fate = self.links[wan][index(from)].offer(self.now, packet.bytes.len());
            if let Fate::Arrives { at, .. } = fate {
                self.note(at, packet.bytes.len() as u64);
                self.events.put(
                    at + delay,
                    Event::Arrive {
                        at: from.other(),
                        flow,
                        packet,
                    },
                );
            }
        }
    }

    fn arrive(&mut self, at: Side, flow: usize, packet: &Packet) {
        // What the network can damage, the host's kernel drops.
        let Ok(view) = packet::read(packet) else { return };
        let mut out = Vec::new();
        self.flows[flow].ends[index(at)].receive(self.now, &view, packet, &mut out);
        self.send(at, flow, out);
        self.schedule_flow(at, flow);
    }

    fn wake_flow(&mut self, at: Side, flow: usize) {
        let state = &mut self.flows[flow];
        if state.scheduled[index(at)].is_none_or(|scheduled| scheduled > self.now) {
            return;
        }
        state.scheduled[index(at)] = None;
        if !state.stopped && Instant::ZERO + self.setup.flows[flow].end <= self.now {
            state.stopped = true;
            for end in &mut state.ends {
                end.stop();
            }
        }
        let end = &mut state.ends[index(at)];
        let mut out = Vec::new();
        if end.deadline().is_some_and(|deadline| deadline <= self.now) {
            end.timeout(self.now, &mut out);
        }
        self.send(at, flow, out);
        self.schedule_flow(at, flow);
    }

    fn send(&mut self, at: Side, flow: usize, packets: Vec<Packet>) {
        let when = self.now + self.host_delay(at, flow);
        for packet in packets {
            let event = match self.setup.flows[flow].via {
                Via::Tunnel => Event::Enter { at, flow, packet },
                Via::Wan(wan) => Event::Pass {
                    from: at,
                    wan,
                    flow,
                    packet,
                },
            };
            self.events.put(when, event);
        }
    }

    fn schedule_flow(&mut self, at: Side, flow: usize) {
        let state = &mut self.flows[flow];
        let Some(deadline) = state.ends[index(at)].deadline() else {
            return;
        };
        let deadline = deadline.max(self.now);
        let scheduled = &mut state.scheduled[index(at)];
        if scheduled.is_none_or(|scheduled| deadline < scheduled) {
            *scheduled = Some(deadline);
            self.events.put(deadline, Event::Flow { at, flow });
        }
    }

    fn note(&mut self, at: Instant, what: u64) {
        for word in [at.as_nanos(), what] {
            self.hash = (self.hash ^ word)
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(17);
        }
    }

    /// Something happened that must not.
    pub fn violation(&mut self, what: String) {
        if self.violations.len() < MOST_VIOLATIONS {
            let seconds = self.now.as_nanos() as f64 / 1e9;
            self.violations.push(format!("at {seconds:.3} s: {what}"));
        }
    }

    /// Takes what must not have happened.
    pub fn take_violations(&mut self) -> Vec<String> {
        std::mem::take(&mut self.violations)
    }

    /// The setup.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The links of each WAN, up and down.
    pub fn links(&self) -> &[[Link; 2]] {
        &self.links
    }

    /// What a flow counted.
    pub fn counters(&self, flow: usize) -> FlowCounters {
        let mut counters = FlowCounters::default();
        let ends = &self.flows[flow].ends;
        // The sender's count comes first.
        let order = match self.setup.flows[flow].direction {
            crate::setup::Direction::Up => [0, 1],
            crate::setup::Direction::Down => [1, 0],
        };
        for end in order {
            ends[end].count(&mut counters);
        }
        counters
    }

    /// The books of a flow, by the side at which packets entered.
    pub fn ledger(&self, flow: usize, entered_at: Side) -> &Ledger {
        &self.flows[flow].ledgers[index(entered_at)]
    }

    /// Datagrams dropped at the sockets and packets dropped at the TUN devices of both machines.
    pub fn overflow(&self) -> [(u64, u64); 2] {
        (self.hosts.as_ref()).map_or_else(Default::default, |hosts| [hosts[0].overflow, hosts[1].overflow])
    }

    /// Events of the ends.
    pub fn log(&self) -> &[(Instant, Side, String)] {
        &self.log
    }

    /// Differs if anything on the links or behind the tunnel happened otherwise.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    pub fn event_count(&self) -> u64 {
        self.events.count()
    }

    /// The time of the run.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The run was broken off.
    pub fn is_aborted(&self) -> bool {
        self.aborted
    }
}
