//! The engine's client and server as the two ends of the tunnel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::BytesMut;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use sennit_engine::event::{Event, PathStatus, SessionStatus};
use sennit_engine::handshake::{PresharedKey, PrivateKey};
use sennit_engine::ids::{ClientId, NetworkPath, SocketId, WanId};
use sennit_engine::inner::VirtioHeader;
use sennit_engine::inner::offload::Segmentation;
use sennit_engine::path::state::Condition;
use sennit_engine::resequencer::Delivery;
use sennit_engine::settings::{Encryption, WanSettings};
use sennit_engine::time::Instant;
use sennit_engine::{Client, ClientConfig, ClientEntry, Server, ServerConfig};

use super::run::server_address;
use super::tunnel::{Knowledge, Outgoing, PathKnowledge, TunnelEnd};
use crate::dice::Dice;
use crate::packet::{Offload, Packet};
use crate::setup::{Action, Setup, Side};

/// Datagrams of one transmission at most, as UDP segmentation offload takes them.
const SEGMENTS: usize = 44;
const CLIENT: ClientId = ClientId(1);

/// Makes the engine's ends for a setup.
pub fn engine(setup: &Setup, seed: u64) -> Box<super::MakeEnd> {
    let settings: Vec<WanSettings> = setup.wans.iter().map(|wan| wan.settings).collect();
    let mode = setup.mode;
    Box::new(move |side, now, restarts| {
        let mut keys = ChaCha12Rng::from_seed(Dice::new(seed, "keys").key());
        let client_key = PrivateKey::generate(&mut keys);
        let server_key = PrivateKey::generate(&mut keys);
        let preshared_key = PresharedKey::generate(&mut keys);
        let end_seed = Dice::new(seed, &format!("{side:?} {restarts}")).key();
        match side {
            Side::Client => {
                let config = ClientConfig {
                    private_key: client_key,
                    server_key: server_key.public(),
                    preshared_key: Some(preshared_key),
                    mode,
                    aes_is_fast: true,
                    encryption: Encryption::On,
                };
                Box::new(ClientEnd {
                    client: Client::new(config, now, end_seed),
                    settings: settings.clone(),
                })
            }
            Side::Server => {
                let config = ServerConfig {
                    private_key: server_key,
                    gateways: vec![Ipv4Addr::new(10, 7, 0, 1).into()],
                    aes_is_fast: true,
                    encryption: Encryption::On,
                };
                let addresses: Vec<(IpAddr, u8)> = vec![
                    (Ipv4Addr::new(10, 7, 0, 2).into(), 32),
                    (Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 2).into(), 128),
                ];
                let mut server = Server::new(config, now, end_seed);
                let entry = ClientEntry {
                    public_key: client_key.public(),
                    preshared_key: Some(preshared_key),
                    addresses,
                };
                server.set_client(CLIENT, entry);
                Box::new(ServerEnd { server })
            }
        }
    })
}

#[derive(Debug)]
struct ClientEnd {
    client: Client,
    settings: Vec<WanSettings>,
}

#[derive(Debug)]
struct ServerEnd {
    server: Server,
}

fn network(wan: usize) -> NetworkPath {
    NetworkPath {
        socket: SocketId(wan as u16),
        local: None,
        remote: server_address(),
    }
}

impl TunnelEnd for ClientEnd {
    fn handle_tun(&mut self, now: Instant, packet: Packet) -> bool {
        self.client.handle_tun(now, header(&packet), packet.bytes).is_ok()
    }

    fn handle_udp(
        &mut self,
        now: Instant,
        network: NetworkPath,
        batch: BytesMut,
        segment_size: usize,
        marked: bool,
    ) {
        self.client.handle_udp(now, network, batch, segment_size, marked);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.client.handle_timeout(now);
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.client.poll_timeout()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Outgoing> {
        let transmit = self.client.poll_transmit(now, out, SEGMENTS)?;
        Some(Outgoing {
            network: transmit.network,
            segment_size: transmit.segment_size,
        })
    }

    fn poll_deliver(&mut self) -> Option<Packet> {
        self.client.poll_deliver().map(|delivery| packet(&delivery))
    }

    fn clock_gap(&mut self, gap: Duration) {
        self.client.clock_gap(gap);
    }

    fn act(&mut self, now: Instant, action: &Action) {
        match *action {
            Action::Mode(mode) => self.client.set_mode(mode),
            Action::Settings(wan, settings) => {
                self.settings[wan] = settings;
                self.client
                    .set_wan(now, WanId(wan as u16), network(wan), settings);
            }
            Action::Link(wan, up) => self.client.set_link(now, WanId(wan as u16), up),
            Action::Unplug(wan) => self.client.remove_wan(now, WanId(wan as u16)),
            Action::Limits(limits) => self.client.set_limit(limits.up),
            Action::Restart(_) => {}
        }
    }

    fn join(&mut self, now: Instant, wan: usize) {
        self.client
            .set_wan(now, WanId(wan as u16), network(wan), self.settings[wan]);
    }

    fn events(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.client.poll_event())
            .map(|event| sentence(&event))
            .collect()
    }

    fn knowledge(&self, now: Instant) -> Knowledge {
        knowledge(&self.client.status(now), |path| usize::from(path.wan.0))
    }
}

impl TunnelEnd for ServerEnd {
    fn handle_tun(&mut self, now: Instant, packet: Packet) -> bool {
        self.server.handle_tun(now, header(&packet), packet.bytes).is_ok()
    }

    fn handle_udp(
        &mut self,
        now: Instant,
        network: NetworkPath,
        batch: BytesMut,
        segment_size: usize,
        marked: bool,
    ) {
        self.server.handle_udp(now, network, batch, segment_size, marked);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.server.handle_timeout(now);
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.server.poll_timeout()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Outgoing> {
        let transmit = self.server.poll_transmit(now, out, SEGMENTS)?;
        Some(Outgoing {
            network: transmit.network,
            segment_size: transmit.segment_size,
        })
    }

    fn poll_deliver(&mut self) -> Option<Packet> {
        self.server.poll_deliver().map(|delivery| packet(&delivery))
    }

    fn clock_gap(&mut self, gap: Duration) {
        self.server.clock_gap(gap);
    }

    fn act(&mut self, _: Instant, action: &Action) {
        if let Action::Limits(limits) = *action {
            self.server.set_limits(CLIENT, limits);
        }
    }

    fn join(&mut self, _: Instant, _: usize) {}

    fn events(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.server.poll_event())
            .map(|(_, event)| sentence(&event))
            .collect()
    }

    fn knowledge(&self, now: Instant) -> Knowledge {
        // The WAN shows in the outside address.
        let wan = |path: &PathStatus| match path.network.remote.ip() {
            IpAddr::V4(address) => usize::from(address.octets()[2]).wrapping_sub(100),
            IpAddr::V6(_) => usize::MAX,
        };
        self.server
            .status(now, CLIENT)
            .map_or_else(Knowledge::default, |status| knowledge(&status, wan))
    }
}

fn header(packet: &Packet) -> VirtioHeader {
    if !packet.offload.needs_checksum {
        return VirtioHeader {
            data_valid: packet.offload.verified,
            ..VirtioHeader::default()
        };
    }
    let v4 = packet.bytes[0] >> 4 == 4;
    let ip: u16 = if v4 { 20 } else { 40 };
    // Only TCP leaves its checksum to the device here.
    let tcp = u16::from(packet.bytes[usize::from(ip) + 12] >> 4) * 4;
    VirtioHeader {
        needs_checksum: true,
        data_valid: false,
        segmentation: match (packet.offload.segment_size, v4) {
            (None, _) => Segmentation::None,
            (Some(_), true) => Segmentation::Tcp4,
            (Some(_), false) => Segmentation::Tcp6,
        },
        ecn: false,
        header_len: ip + tcp,
        segment_size: packet.offload.segment_size.unwrap_or(0),
        checksum_start: ip,
        checksum_offset: 16,
    }
}

fn packet(delivery: &Delivery) -> Packet {
    let mut bytes = Vec::with_capacity(delivery.len());
    bytes.extend_from_slice(&delivery.head);
    for part in &delivery.parts {
        bytes.extend_from_slice(part);
    }
    let header = &delivery.header;
    Packet {
        offload: Offload {
            needs_checksum: header.needs_checksum,
            verified: header.data_valid,
            segment_size: (header.segmentation != Segmentation::None).then_some(header.segment_size),
        },
        bytes: bytes.into(),
    }
}

fn sentence(event: &Event) -> String {
    match event {
        Event::Connected { resumed: true, .. } => "connected, resumed".to_owned(),
        Event::Connected { resumed: false, .. } => "connected".to_owned(),
        Event::Disconnected => "disconnected".to_owned(),
        Event::PeerLeft(reason) => format!("the other end left: {reason:?}"),
        Event::PathChanged { path, state, why, .. } => format!("path {path} {}: {why}", condition(*state)),
        Event::ClientConnected { resumed, .. } => {
            format!("client connected{}", if *resumed { ", resumed" } else { "" })
        }
        Event::Control { message } => format!("message of {} bytes", message.len()),
        Event::PathMoved { path, network } => format!("path {path} moved to {}", network.remote),
    }
}

fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Probing => "probing",
        Condition::Active => "active",
        Condition::Suspect => "suspect",
        Condition::Down => "down",
    }
}

fn knowledge(status: &SessionStatus, wan: impl Fn(&PathStatus) -> usize) -> Knowledge {
    let statistics = &status.resequencer;
    Knowledge {
        connected: status.connected,
        paths: (status.paths.iter())
            .map(|path| PathKnowledge {
                wan: wan(path),
                condition: condition(path.condition),
                rate: path.rate.0,
                window: path.window,
                in_flight: path.in_flight,
                queue: path.queue,
                round_trip: path.rtt.unwrap_or_default(),
                congestion: path.congestion,
                sent: path.counters.sent,
                sent_bytes: path.counters.sent_bytes,
                lost: path.counters.lost,
                spurious: path.counters.spurious,
                repair_bytes: path.counters.repair_bytes,
                copy_bytes: path.counters.copy_bytes,
                parity_bytes: path.counters.parity_bytes,
                recovered: path.counters.recovered,
                suspicions: path.counters.suspicions,
                deaths: path.counters.deaths,
            })
            .collect(),
        backlog: status.backlog,
        unacknowledged: status.unacknowledged,
        dropped: status.dropped,
        held: status.held,
        resequencer: format!(
            "{} delivered, {} again, {} late, {} gaps: {} filled, {} timed out, {} overflowed, {} reset, {} forgotten, {} refused",
            statistics.delivered,
            statistics.duplicates,
            statistics.late,
            statistics.gaps,
            statistics.filled,
            statistics.timed_out,
            statistics.overflowed,
            statistics.reset,
            statistics.forgotten,
            statistics.refused
        ),
    }
}
