//! The two ends: an engine, and the hostile peer that made keys with it.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sennit_engine::client::{Client, ClientConfig};
use sennit_engine::crypto::Suite;
use sennit_engine::handshake::{
    InitiationPayload, Initiator, Keys, PrivateKey, Responder, ResponsePayload, VERSION,
};
use sennit_engine::ids::{ClientId, NetworkPath, PathId, ReceiverIndex, WanId};
use sennit_engine::inner::VirtioHeader;
use sennit_engine::server::{ClientEntry, Server, ServerConfig};
use sennit_engine::settings::{Encryption, Mode, WanSettings};
use sennit_engine::time::Instant;
use sennit_engine::wire::frame::{self, AckFrame, AckRanges};
use sennit_engine::wire::{DataHeader, Kind, expand_packet_number, kind};

const CLIENT: [u8; 4] = [10, 77, 0, 2];
const SERVER: [u8; 4] = [10, 77, 0, 1];

/// The end that is tried.
pub(super) enum Engine {
    Client(Box<Client>),
    Server(Box<Server>),
}

/// The other end.
pub(super) struct HostilePeer {
    rng: ChaCha12Rng,
    client_key: PrivateKey,
    server_key: PrivateKey,
    instance: u64,
    keys: Vec<Keys>,
    /// Packet numbers that this end used, and the next that the engine is expected to use, for each path.
    sent: BTreeMap<u8, u64>,
    expected: BTreeMap<u8, u64>,
    /// The engine's newest initiation or response.
    kept: Option<Vec<u8>>,
}

/// An engine and a peer that share keys.
pub(super) fn connected(client: bool, now: Instant) -> (Engine, HostilePeer) {
    let client_key = PrivateKey::from_bytes(&[3; 32]);
    let server_key = PrivateKey::from_bytes(&[4; 32]);
    let mut engine = if client {
        let config = ClientConfig {
            private_key: client_key.clone(),
            server_key: server_key.public(),
            preshared_key: None,
            mode: Mode::Speed,
            aes_is_fast: true,
            encryption: Encryption::On,
        };
        let mut client = Client::new(config, now, [1; 32]);
        for wan in 0..2 {
            client.set_wan(now, WanId(wan), super::network(wan as u8), WanSettings::default());
        }
        Engine::Client(Box::new(client))
    } else {
        let config = ServerConfig {
            private_key: server_key.clone(),
            gateways: vec![SERVER.into()],
            aes_is_fast: true,
            encryption: Encryption::On,
        };
        let mut server = Server::new(config, now, [2; 32]);
        let entry = ClientEntry {
            public_key: client_key.public(),
            preshared_key: None,
            addresses: vec![(CLIENT.into(), 24)],
        };
        server.set_client(ClientId(1), entry);
        Engine::Server(Box::new(server))
    };
    let mut peer = HostilePeer {
        rng: ChaCha12Rng::from_seed([5; 32]),
        client_key,
        server_key,
        instance: 77,
        keys: Vec::new(),
        sent: BTreeMap::new(),
        expected: BTreeMap::new(),
        kept: None,
    };
    engine.handle_timeout(now);
    peer.shake_hands(&mut engine, now, super::network(0), false);
    let ping = peer.seal(0, &[1]);
    engine.handle_udp(now, super::network(0), &ping);
    (engine, peer)
}

impl Engine {
    pub(super) fn handle_udp(&mut self, now: Instant, network: NetworkPath, datagram: &[u8]) {
        let (batch, size) = (BytesMut::from(datagram), datagram.len().max(1));
        match self {
            Self::Client(client) => client.handle_udp(now, network, batch, size, false),
            Self::Server(server) => server.handle_udp(now, network, batch, size, false),
        }
    }

    pub(super) fn handle_tun(&mut self, now: Instant, header: VirtioHeader, packet: Bytes) {
        // Refusing is right as well.
        let _ = match self {
            Self::Client(client) => client.handle_tun(now, header, packet).is_ok(),
            Self::Server(server) => server.handle_tun(now, header, packet).is_ok(),
        };
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Client(client) => client.handle_timeout(now),
            Self::Server(server) => server.handle_timeout(now),
        }
    }

    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        match self {
            Self::Client(client) => client.poll_timeout(),
            Self::Server(server) => server.poll_timeout(),
        }
    }

    pub(super) fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<usize> {
        let transmit = match self {
            Self::Client(client) => client.poll_transmit(now, out, 44),
            Self::Server(server) => server.poll_transmit(now, out, 44),
        };
        transmit.map(|transmit| transmit.segment_size)
    }

    /// Takes what leaves the tunnel and what happened. A server lets nothing out that is not its client's.
    pub(super) fn deliver(&mut self) {
        match self {
            Self::Client(client) => {
                while let Some(delivery) = client.poll_deliver() {
                    client.recycle(delivery);
                }
                while client.poll_event().is_some() {}
            }
            Self::Server(server) => {
                while let Some(delivery) = server.poll_deliver() {
                    let mut packet = delivery.head.to_vec();
                    delivery
                        .parts
                        .iter()
                        .for_each(|part| packet.extend_from_slice(part));
                    assert_eq!(packet[12..16], CLIENT, "somebody else's source address");
                    server.recycle(delivery);
                }
                while server.poll_event().is_some() {}
            }
        }
    }

    /// Source and destination of what enters the tunnel at this end.
    pub(super) fn inner_addresses(&self) -> ([u8; 4], [u8; 4]) {
        match self {
            Self::Client(_) => (CLIENT, SERVER),
            Self::Server(_) => (SERVER, CLIENT),
        }
    }
}

impl HostilePeer {
    /// Makes new keys, if the engine plays along.
    pub(super) fn shake_hands(
        &mut self,
        engine: &mut Engine,
        now: Instant,
        network: NetworkPath,
        resume: bool,
    ) {
        match engine {
            Engine::Client(_) => self.answer(engine, now, network, resume),
            Engine::Server(_) => self.begin(engine, now, network, resume),
        }
    }

    fn begin(&mut self, engine: &mut Engine, now: Instant, network: NetworkPath, resume: bool) {
        if !resume {
            self.instance += 1;
        }
        let payload = InitiationPayload {
            version: VERSION,
            suites: Suite::offer(true, Encryption::On),
            instance: self.instance,
            peer_instance: 0,
            receiver: ReceiverIndex(self.rng.next_u32() & 0xff_ffff),
            mode: Mode::Redundant,
            path: PathId(0),
        };
        let server = self.server_key.public();
        let (mut initiator, datagram) =
            Initiator::start(&self.client_key, &server, None, &payload, None, &mut self.rng)
                .expect("it starts");
        self.kept = None;
        engine.handle_udp(now, network, &datagram);
        self.collect(engine, now);
        if let Some((keys, _)) = self.kept.take().and_then(|answer| initiator.finish(&answer).ok()) {
            self.take(keys);
        }
    }

    fn answer(&mut self, engine: &mut Engine, now: Instant, network: NetworkPath, resume: bool) {
        self.collect(engine, now);
        let Some(received) = self
            .kept
            .take()
            .and_then(|datagram| Responder::read(&self.server_key, &datagram).ok())
        else {
            return;
        };
        if !resume {
            self.instance += 1;
        }
        let payload = ResponsePayload {
            suite: Suite::Aes256Gcm,
            instance: self.instance,
            resumed: resume,
            receiver: ReceiverIndex(self.rng.next_u32() & 0xff_ffff),
            addresses: vec![(CLIENT.into(), 24)],
            gateway: vec![SERVER.into()],
            load: 42,
        };
        let (keys, datagram) = received
            .respond(None, &payload, &mut self.rng)
            .expect("it answers");
        self.take(keys);
        engine.handle_udp(now, network, &datagram);
    }

    fn take(&mut self, keys: Keys) {
        self.keys.push(keys);
        // Whether the engine goes on with its numbers or not: these are what it may expect.
        if self.keys.len() > 4 {
            self.keys.remove(0);
        }
    }

    /// Takes handshake datagrams out of the engine; what else comes is lost on the way.
    fn collect(&mut self, engine: &mut Engine, now: Instant) {
        let mut out = Vec::new();
        for _ in 0..100 {
            let Some(segment_size) = engine.poll_transmit(now, &mut out) else {
                break;
            };
            out.chunks(segment_size).for_each(|datagram| self.keep(datagram));
            out.clear();
        }
    }

    /// Keeps a handshake datagram.
    pub(super) fn keep(&mut self, datagram: &[u8]) {
        if matches!(kind(datagram), Some(Kind::Initiation | Kind::Response)) {
            self.kept = Some(datagram.to_vec());
        }
    }

    /// A datagram with these frames, under the newest keys.
    pub(super) fn seal(&mut self, path: u8, frames: &[u8]) -> Vec<u8> {
        let Some(keys) = self.keys.last() else {
            return frames.to_vec();
        };
        let next = self.sent.entry(path).or_default();
        let header = DataHeader {
            receiver: keys.remote,
            path: PathId(path),
            packet_number: *next as u32,
        };
        let mut datagram = header.encode().to_vec();
        datagram.extend_from_slice(frames);
        keys.seal.seal(PathId(path), *next, &mut datagram, 0);
        *next += 1;
        datagram
    }

    /// The packet number of a datagram that the engine sealed; none if the keys are forgotten.
    pub(super) fn open(&mut self, header: DataHeader, datagram: &[u8]) -> Option<u64> {
        let keys = self.keys.iter().find(|keys| keys.local == header.receiver)?;
        let next = self.expected.entry(header.path.0).or_default();
        // A session that begins anew counts from zero again.
        for expected in [*next, 0] {
            let number = expand_packet_number(header.packet_number, expected);
            let mut copy = datagram.to_vec();
            if keys.open.open(header.path, number, &mut copy).is_some() {
                *next = number + 1;
                return Some(number);
            }
        }
        panic!("the engine sealed what does not open: {header:?}");
    }

    /// Acknowledges everything that the engine sent, on every path.
    pub(super) fn acknowledge(&self) -> Vec<u8> {
        let mut frames = Vec::new();
        for (path, next) in &self.expected {
            let Some(largest) = next.checked_sub(1) else {
                continue;
            };
            let mut ranges = AckRanges::new();
            ranges.push(largest.saturating_sub(1000), largest);
            let ack = AckFrame {
                path: PathId(*path),
                largest,
                received_at: 5,
                delay: std::time::Duration::ZERO,
                ecn_ce: 0,
                ranges,
            };
            frame::write_ack(&mut frames, &ack, 1000);
        }
        frames
    }
}
