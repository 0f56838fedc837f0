//! Both ends in one process, joined by links with a delay: enough to show what the engine promises.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sennit_engine::event::Event;
use sennit_engine::handshake::PrivateKey;
use sennit_engine::ids::{ClientId, NetworkPath, SocketId, WanId};
use sennit_engine::inner::VirtioHeader;
use sennit_engine::resequencer::Delivery;
use sennit_engine::settings::{Encryption, Mode, WanSettings};
use sennit_engine::time::Instant;
use sennit_engine::{Client, ClientConfig, ClientEntry, Server, ServerConfig};

pub(crate) const CLIENT_INNER: Ipv4Addr = Ipv4Addr::new(10, 73, 0, 2);
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// What happens to datagrams of one WAN.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub(crate) delay: Duration,
    /// Every n-th datagram is lost.
    pub(crate) lose_every: Option<u64>,
    pub(crate) silent: bool,
}

pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) client: Client,
    pub(crate) server: Server,
    pub(crate) links: Vec<Link>,
    /// By time of arrival; the counter keeps the order of equal times.
    flying: BTreeMap<(Instant, u64), (bool, NetworkPath, Vec<u8>)>,
    counter: u64,
    pub(crate) at_client: Vec<Bytes>,
    pub(crate) at_server: Vec<Bytes>,
    pub(crate) events: Vec<Event>,
    pub(crate) server_events: Vec<Event>,
    pub(crate) sent: Vec<u64>,
    /// Instead of keeping what arrives, only its bytes are counted.
    pub(crate) count_only: bool,
    pub(crate) delivered_bytes: usize,
}

pub(crate) fn wan_address(wan: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, wan as u8 + 1], 40000))
}

pub(crate) fn server_address() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 5], 7300))
}

fn server(now: Instant, seed: u8, client: &PrivateKey) -> Server {
    let config = ServerConfig {
        private_key: PrivateKey::from_bytes(&[2; 32]),
        gateways: vec![IpAddr::from([10, 73, 0, 1])],
        aes_is_fast: true,
        encryption: Encryption::On,
    };
    let mut server = Server::new(config, now, [seed; 32]);
    let entry = ClientEntry {
        public_key: client.public(),
        preshared_key: None,
        addresses: vec![(CLIENT_INNER.into(), 24)],
    };
    server.set_client(ClientId(0), entry);
    server
}

impl Pair {
    pub(crate) fn new(mode: Mode, links: &[Link]) -> Self {
        let now = Instant::from_millis(1000);
        let client_key = PrivateKey::from_bytes(&[1; 32]);
        let server_key = PrivateKey::from_bytes(&[2; 32]);
        let server = server(now, 3, &client_key);
        let mut client = Client::new(
            ClientConfig {
                private_key: client_key,
                server_key: server_key.public(),
                preshared_key: None,
                mode,
                aes_is_fast: true,
                encryption: Encryption::On,
            },
            now,
            [4; 32],
        );
        for wan in 0..links.len() as u16 {
            let network = NetworkPath {
                socket: SocketId(wan),
                local: None,
                remote: server_address(),
            };
            client.set_wan(now, WanId(wan), network, WanSettings::default());
        }
        Self {
            now,
            client,
            server,
            links: links.to_vec(),
            flying: BTreeMap::new(),
            counter: 0,
            at_client: Vec::new(),
            at_server: Vec::new(),
            events: Vec::new(),
            server_events: Vec::new(),
            sent: vec![0; links.len()],
            count_only: false,
            delivered_bytes: 0,
        }
    }

    /// Another server process takes the place of the one before.
    #[allow(dead_code)]
    pub(crate) fn restart_server(&mut self, seed: u8) {
        self.server = server(self.now, seed, &PrivateKey::from_bytes(&[1; 32]));
    }

    /// Runs until `until`.
    pub(crate) fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        loop {
            self.drain();
            let arrival = self.flying.keys().next().map(|(at, _)| *at);
            let next = [arrival, self.client.poll_timeout(), self.server.poll_timeout()]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(Instant::NEVER);
            if next > until {
                self.now = until;
                return;
            }
            self.now = self.now.max(next);
            while let Some(entry) = self.flying.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let (to_server, network, datagram) = entry.remove();
                let size = datagram.len();
                let datagram = BytesMut::from(&datagram[..]);
                if to_server {
                    self.server.handle_udp(self.now, network, datagram, size, false);
                } else {
                    self.client.handle_udp(self.now, network, datagram, size, false);
                }
            }
            if self.client.poll_timeout().is_some_and(|at| at <= self.now) {
                self.client.handle_timeout(self.now);
            }
            if self.server.poll_timeout().is_some_and(|at| at <= self.now) {
                self.server.handle_timeout(self.now);
            }
        }
    }

    fn drain(&mut self) {
        let mut out = Vec::new();
        while let Some(transmit) = self.client.poll_transmit(self.now, &mut out, 16) {
            let wan = transmit.network.socket.0;
            for datagram in out.chunks(transmit.segment_size) {
                let network = NetworkPath {
                    socket: SocketId(0),
                    local: None,
                    remote: wan_address(wan),
                };
                self.fly(wan, true, network, datagram);
            }
            out.clear();
        }
        while let Some(transmit) = self.server.poll_transmit(self.now, &mut out, 16) {
            let IpAddr::V4(address) = transmit.network.remote.ip() else {
                panic!("IPv4 only")
            };
            let wan = u16::from(address.octets()[3]) - 1;
            for datagram in out.chunks(transmit.segment_size) {
                let network = NetworkPath {
                    socket: SocketId(wan),
                    local: None,
                    remote: server_address(),
                };
                self.fly(wan, false, network, datagram);
            }
            out.clear();
        }
        while let Some(delivery) = self.client.poll_deliver() {
            self.at_client.push(whole(&delivery));
        }
        while let Some(delivery) = self.server.poll_deliver() {
            self.delivered_bytes += delivery.len();
            if !self.count_only {
                self.at_server.push(whole(&delivery));
            }
            self.server.recycle(delivery);
        }
        while let Some(event) = self.client.poll_event() {
            self.events.push(event);
        }
        while let Some((_, event)) = self.server.poll_event() {
            self.server_events.push(event);
        }
    }

    fn fly(&mut self, wan: u16, to_server: bool, network: NetworkPath, datagram: &[u8]) {
        self.counter += 1;
        let link = self.links[usize::from(wan)];
        self.sent[usize::from(wan)] += 1;
        assert!(datagram.len() <= 1472, "a datagram of {} bytes", datagram.len());
        if link.silent
            || link
                .lose_every
                .is_some_and(|every| self.counter.is_multiple_of(every))
        {
            return;
        }
        let arrival = (self.now + link.delay, self.counter);
        self.flying
            .insert(arrival, (to_server, network, datagram.to_vec()));
    }

    /// A UDP packet from behind the client to a host beyond the server.
    pub(crate) fn send_up(&mut self, number: u32, size: usize) {
        let packet = udp_packet(CLIENT_INNER, HOST, number, size);
        self.client
            .handle_tun(self.now, VirtioHeader::default(), packet)
            .expect("the queue has room");
    }
}

/// An IPv4 UDP packet of `size` bytes in all that carries a number. Without a UDP checksum, as IPv4 allows.
pub(crate) fn udp_packet(source: Ipv4Addr, destination: Ipv4Addr, number: u32, size: usize) -> Bytes {
    assert!(size >= 32);
    let mut packet = vec![0u8; size];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(size as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    let mut sum: u32 = (0..20)
        .step_by(2)
        .map(|at| u32::from(u16::from_be_bytes([packet[at], packet[at + 1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet[20..22].copy_from_slice(&5000u16.to_be_bytes());
    packet[22..24].copy_from_slice(&6000u16.to_be_bytes());
    packet[24..26].copy_from_slice(&((size - 20) as u16).to_be_bytes());
    packet[28..32].copy_from_slice(&number.to_be_bytes());
    Bytes::from(packet)
}

/// The number that [`udp_packet`] put in.
pub(crate) fn number_of(packet: &[u8]) -> u32 {
    u32::from_be_bytes([packet[28], packet[29], packet[30], packet[31]])
}

fn whole(delivery: &Delivery) -> Bytes {
    let mut bytes = delivery.head.to_vec();
    delivery
        .parts
        .iter()
        .for_each(|part| bytes.extend_from_slice(part));
    Bytes::from(bytes)
}
