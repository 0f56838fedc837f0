//! The server: many clients, one address. Answers handshakes of the clients it knows and nobody else.
//!
//! A client's new session replaces the old one only after its first authenticated data, so that a recorded handshake
//! that somebody sends again changes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::crypto::Suite;
use crate::event::{Event, SessionStatus};
use crate::flow::DropReason;
use crate::handshake::{
    self, Admission, Gate, Keys, PresharedKey, PrivateKey, PublicKey, Responder, ResponsePayload,
};
use crate::ids::{ClientId, NetworkPath, ReceiverIndex, WanId};
use crate::inner::VirtioHeader;
use crate::resequencer::Delivery;
use crate::session::{NotSent, Session, Side, Transmit};
use crate::settings::{Encryption, Limits, Mode};
use crate::time::Instant;
use crate::wire::frame::CloseReason;
use crate::wire::{self, DataHeader, Kind};

/// Sessions that wait for their first data, for each client: more than an honest client begins at a time.
const PENDING_SESSIONS: usize = 4;
/// How long a session waits for its first data.
const PENDING_FOR: Duration = Duration::from_secs(15);
/// Answers that are kept for the same initiation's other copies: after a restart all clients come at once, and each repeats its
/// initiation over every WAN.
const REMEMBERED_ANSWERS: usize = 256;
/// Answers that wait to be sent; more are dropped.
const OUTBOX: usize = 256;

/// What a server needs to know.
#[derive(Debug)]
pub struct ServerConfig {
    /// The server's own key.
    pub private_key: PrivateKey,
    /// Its inner addresses, told to clients.
    pub gateways: Vec<IpAddr>,
    /// This machine has instructions for AES.
    pub aes_is_fast: bool,
    /// What the user wants; without encryption only for clients that ask for it.
    pub encryption: Encryption,
}

/// Why a packet from the server's side did not enter a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its destination is no client's inner address.
    #[error("no client has this address")]
    NoClient,
    /// The client has not connected yet.
    #[error("the client is not connected")]
    NotConnected,
    /// The session did not take it.
    #[error(transparent)]
    Dropped(DropReason),
}

/// A client that may connect.
#[derive(Clone, Debug)]
pub struct ClientEntry {
    /// Its public key.
    pub public_key: PublicKey,
    /// A secret shared beside the keys.
    pub preshared_key: Option<PresharedKey>,
    /// Its inner addresses with prefix lengths: the only ones it may use.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// Bytes of inner packets that a client used since the server's start, over all its sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// From the client.
    pub up: u64,
    /// To the client; each packet once, however often it was sent.
    pub down: u64,
}

#[derive(Debug)]
struct Known {
    entry: ClientEntry,
    session: Option<Session>,
    /// The instance of the client that the session is with.
    instance: u64,
    pending: VecDeque<Pending>,
    limits: Limits,
}

/// Keys of a handshake that was answered and not yet used.
#[derive(Debug)]
struct Pending {
    keys: Keys,
    instance: u64,
    resumes: bool,
    mode: Mode,
    since: Instant,
    /// What the client was told, for copies of its initiation that come over its other WANs.
    answer: Vec<u8>,
}

/// The server's end of all tunnels.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    random: ChaCha12Rng,
    instance: u64,
    clients: BTreeMap<ClientId, Known>,
    by_key: BTreeMap<PublicKey, ClientId>,
    by_address: BTreeMap<IpAddr, ClientId>,
    by_index: BTreeMap<ReceiverIndex, ClientId>,
    gate: Gate,
    /// The last answers: a client sends the same initiation over every WAN.
    answered: VecDeque<([u8; 16], Vec<u8>)>,
    outbox: VecDeque<(NetworkPath, Vec<u8>)>,
    events: VecDeque<Event>,
    /// Whose turn it is to send.
    turn: ClientId,
    /// Whose delivery was fetched last.
    delivered_by: ClientId,
    /// It leaves.
    closing: bool,
    load: u8,
}

impl Server {
    /// A server without clients. `seed` must be unpredictable: keys come from it.
    pub fn new(config: ServerConfig, now: Instant, seed: [u8; 32]) -> Self {
        let mut random = ChaCha12Rng::from_seed(seed);
        Self {
            instance: random.next_u64() | 1,
            gate: Gate::new(config.private_key.public(), now, &mut random),
            random,
            clients: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_address: BTreeMap::new(),
            by_index: BTreeMap::new(),
            answered: VecDeque::new(),
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            turn: ClientId(0),
            load: 0,
            delivered_by: ClientId(0),
            closing: false,
            config,
        }
    }

    /// Says how busy this machine is, percent, to clients that choose among servers.
    pub fn set_load(&mut self, percent: u8) {
        self.load = percent;
    }

    /// Proves itself by another key from now on. Sessions go on; their next handshake needs the new key.
    pub fn set_private_key(&mut self, now: Instant, key: PrivateKey) {
        self.gate = Gate::new(key.public(), now, &mut self.random);
        self.config.private_key = key;
        self.answered.clear();
    }

    /// Lets a client connect, or changes what is known of it. A changed key ends its session.
    pub fn set_client(&mut self, id: ClientId, entry: ClientEntry) {
        if self
            .clients
            .get(&id)
            .is_some_and(|known| known.entry.public_key != entry.public_key)
        {
            self.remove_client(id);
        }
        self.by_address.retain(|_, of| *of != id);
        for (address, _) in &entry.addresses {
            self.by_address.insert(*address, id);
        }
        self.by_key.insert(entry.public_key, id);
        match self.clients.get_mut(&id) {
            Some(known) => known.entry = entry,
            None => {
                let known = Known {
                    entry,
                    session: None,
                    instance: 0,
                    pending: VecDeque::new(),
                    limits: Limits::default(),
                };
                self.clients.insert(id, known);
            }
        }
    }

    /// The most that a client may use from now on. It is held back here in one direction; in the other one it should hold
    /// itself back ([`Client::set_limit`](crate::Client::set_limit)), and what comes above its limit and a margin is
    /// dropped.
    pub fn set_limits(&mut self, id: ClientId, limits: Limits) {
        if let Some(known) = self.clients.get_mut(&id) {
            known.limits = limits;
            if let Some(session) = &mut known.session {
                session.set_limits(limits.down, limits.up);
            }
        }
    }

    /// Locks a client out: its session ends at once.
    pub fn remove_client(&mut self, id: ClientId) {
        self.clients.remove(&id);
        self.by_key.retain(|_, of| *of != id);
        self.by_address.retain(|_, of| *of != id);
        self.by_index.retain(|_, of| *of != id);
    }

    /// A packet for a client entered the tunnel.
    ///
    /// # Errors
    /// Says why the packet was dropped.
    pub fn handle_tun(&mut self, now: Instant, header: VirtioHeader, packet: Bytes) -> Result<(), Refused> {
        let destination = addresses(&packet)
            .map(|(_, destination)| destination)
            .ok_or(Refused::Dropped(DropReason::Malformed))?;
        let client = self.by_address.get(&destination).ok_or(Refused::NoClient)?;
        let known = self.clients.get_mut(client).ok_or(Refused::NoClient)?;
        let session = known.session.as_mut().ok_or(Refused::NotConnected)?;
        session.handle_tun(now, header, packet).map_err(Refused::Dropped)
    }

    /// Datagrams arrived: one, or several of `segment_size` bytes (the last may be shorter). `ce`: the network marked
    /// congestion on them.
    pub fn handle_udp(
        &mut self,
        now: Instant,
        network: NetworkPath,
        mut batch: BytesMut,
        segment_size: usize,
        ce: bool,
    ) {
        let mut touched = None;
        while !batch.is_empty() {
            let datagram = batch.split_to(segment_size.clamp(1, batch.len()));
            match wire::kind(&datagram) {
                Some(Kind::Data) => {
                    let client = self.handle_data(now, network, datagram, ce);
                    if client != touched {
                        self.after_input(now, touched);
                        touched = client;
                    }
                }
                Some(Kind::Initiation) => self.handle_initiation(now, network, &datagram),
                Some(Kind::Response | Kind::CookieReply) | None => {}
            }
        }
        self.after_input(now, touched);
    }

    /// Tells all clients that this server leaves, and why. Nothing but that is sent any more.
    pub fn close(&mut self, reason: CloseReason) {
        self.closing = true;
        for session in self.sessions() {
            session.close(reason);
        }
    }

    /// The caller did not run for `gap`: silence in that time means nothing.
    pub fn clock_gap(&mut self, gap: Duration) {
        for session in self.sessions() {
            session.clock_gap(gap);
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for session in self.sessions() {
            if session.deadline() <= now {
                session.handle_timeout(now);
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        self.sessions()
            .map(Session::deadline)
            .min()
            .filter(|next| *next != Instant::NEVER)
    }

    /// Appends datagrams for one destination to `out`: at most `max_segments`, all but the last of equal size.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
        max_segments: usize,
    ) -> Option<Transmit> {
        if let Some((network, datagram)) = self.outbox.pop_front() {
            out.extend_from_slice(&datagram);
            return Some(Transmit {
                network,
                wan: WanId(0),
                segment_size: datagram.len(),
            });
        }
        // In turn, so that no client waits for another's whole queue.
        let first = self.turn;
        let after = self.clients.range_mut(ClientId(first.0.wrapping_add(1))..);
        for (id, known) in after {
            if let Some(transmit) = known.transmit(now, out, max_segments) {
                self.turn = *id;
                return Some(transmit);
            }
        }
        for (id, known) in self.clients.range_mut(..=first) {
            if let Some(transmit) = known.transmit(now, out, max_segments) {
                self.turn = *id;
                return Some(transmit);
            }
        }
        None
    }

    /// The next packet, or several merged into one, that leaves the tunnel here. One whose inner source address is
    /// not its client's own is dropped.
    pub fn poll_deliver(&mut self) -> Option<Delivery> {
        for (id, known) in &mut self.clients {
            let Some(session) = known.session.as_mut() else {
                continue;
            };
            while let Some(delivery) = session.poll_deliver() {
                let head = if delivery.head.is_empty() {
                    delivery.parts.first().map_or(&[][..], |part| part)
                } else {
                    &delivery.head
                };
                let source = addresses(head).map(|(source, _)| source);
                if !source.is_some_and(|source| known.entry.addresses.iter().any(|(own, _)| *own == source)) {
                    session.refused_source();
                    session.recycle(delivery);
                    continue;
                }
                if !session.may_arrive(delivery.len()) {
                    session.recycle(delivery);
                    continue;
                }
                self.delivered_by = *id;
                return Some(delivery);
            }
        }
        None
    }

    /// Takes a delivery's memory back when it is written, so that the next one needs no allocation.
    pub fn recycle(&mut self, delivery: Delivery) {
        let known = self.clients.get_mut(&self.delivered_by);
        if let Some(session) = known.and_then(|known| known.session.as_mut()) {
            session.recycle(delivery);
        }
    }

    /// Sends a message to a client's program: reliably, and in order with the others, within the session. What was not
    /// delivered when the session begins anew ([`Event::ClientConnected`] with `resumed` false) is forgotten.
    ///
    /// # Errors
    /// Says why it was not taken.
    pub fn send_control(&mut self, client: ClientId, message: &[u8]) -> Result<(), NotSent> {
        let known = self.clients.get_mut(&client);
        let session = known.and_then(|known| known.session.as_mut());
        session.ok_or(NotSent::NotConnected)?.send_control(message)
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<(Option<ClientId>, Event)> {
        if let Some(event) = self.events.pop_front() {
            return Some((None, event));
        }
        self.clients.iter_mut().find_map(|(id, known)| {
            let session = known.session.as_mut()?;
            let left = session.take_peer_left().map(Event::PeerLeft);
            let event = left.or_else(|| session.poll_event())?;
            Some((Some(*id), event))
        })
    }

    /// The state of one client's session, if it has one.
    pub fn status(&self, now: Instant, client: ClientId) -> Option<SessionStatus> {
        let session = self.clients.get(&client)?.session.as_ref()?;
        let mut status = session.status(now);
        status.connected = !session.is_silent(now);
        Some(status)
    }

    /// What one client used.
    pub fn usage(&self, client: ClientId) -> Usage {
        let session = self.clients.get(&client).and_then(|known| known.session.as_ref());
        let (down, up) = session.map_or((0, 0), Session::carried);
        Usage { up, down }
    }

    fn sessions(&mut self) -> impl Iterator<Item = &mut Session> {
        self.clients
            .values_mut()
            .filter_map(|known| known.session.as_mut())
    }

    fn after_input(&mut self, now: Instant, client: Option<ClientId>) {
        let known = client.and_then(|client| self.clients.get_mut(&client));
        if let Some(session) = known.and_then(|known| known.session.as_mut()) {
            session.after_input(now);
        }
    }

    fn handle_data(
        &mut self,
        now: Instant,
        network: NetworkPath,
        datagram: BytesMut,
        ce: bool,
    ) -> Option<ClientId> {
        let header = DataHeader::decode(&datagram)?;
        let id = *self.by_index.get(&header.receiver)?;
        let known = self.clients.get_mut(&id)?;
        if let Some(at) = known
            .pending
            .iter()
            .position(|pending| pending.keys.local == header.receiver)
        {
            let pending = &known.pending[at];
            let resumed = known.session.as_ref().filter(|_| pending.resumes);
            let expected = resumed.map_or(0, |session| session.expected_number(header.path));
            if !Session::authenticates(&pending.keys, &datagram, expected) {
                return None;
            }
            self.promote(now, id, at);
        }
        let session = self.clients.get_mut(&id)?.session.as_mut()?;
        session.handle_datagram(now, network, datagram, ce);
        Some(id)
    }

    /// The first data under pending keys arrived: they become the session's.
    fn promote(&mut self, now: Instant, id: ClientId, at: usize) {
        let Some(known) = self.clients.get_mut(&id) else {
            return;
        };
        let Some(pending) = known.pending.remove(at) else {
            return;
        };
        let resumed = pending.resumes && known.session.is_some() && known.instance == pending.instance;
        if !resumed {
            let mut session = Session::new(Side::Server, pending.mode, now, self.random.next_u64());
            if let Some(before) = known.session.take() {
                session.inherit(now, before);
            }
            session.set_limits(known.limits.down, known.limits.up);
            known.session = Some(session);
        }
        known.instance = pending.instance;
        if let Some(session) = known.session.as_mut() {
            session.install_keys(now, pending.keys);
        }
        let indices: Vec<_> = known
            .pending
            .iter()
            .map(|pending| pending.keys.local)
            .chain(known.session.iter().flat_map(Session::receiver_indices))
            .collect();
        self.by_index
            .retain(|index, of| *of != id || indices.contains(index));
        self.events
            .push_back(Event::ClientConnected { client: id, resumed });
    }

    fn handle_initiation(&mut self, now: Instant, network: NetworkPath, datagram: &[u8]) {
        if self.closing {
            // It is for the one who comes after us.
            return;
        }
        let Some(fingerprint) = handshake::fingerprint(datagram) else {
            return;
        };
        if let Some((_, answer)) = self.answered.iter().find(|(known, _)| *known == fingerprint) {
            let answer = answer.clone();
            return self.answer(network, answer);
        }
        match self.gate.admit(datagram, network.remote, now, &mut self.random) {
            Admission::Compute => {}
            Admission::Prove(reply) => return self.answer(network, reply),
            Admission::Drop => return,
        }
        let Ok(received) = Responder::read(&self.config.private_key, datagram) else {
            return;
        };
        let Some(id) = self.by_key.get(&received.client).copied() else {
            return;
        };
        let Some(known) = self.clients.get_mut(&id) else {
            return;
        };
        let config = &self.config;
        let Some(suite) = Suite::choose(received.payload.suites, config.aes_is_fast, config.encryption)
        else {
            return;
        };
        let copy_of = |pending: &&Pending| {
            pending.keys.remote == received.payload.receiver && pending.instance == received.payload.instance
        };
        if let Some(pending) = known.pending.iter().find(copy_of) {
            let answer = pending.answer.clone();
            return self.answer(network, answer);
        }
        let mut index = ReceiverIndex(self.random.next_u32() & 0x00ff_ffff);
        while self.by_index.contains_key(&index) {
            index = ReceiverIndex(self.random.next_u32() & 0x00ff_ffff);
        }
        let (instance, mode) = (received.payload.instance, received.payload.mode);
        let resumes = known.session.is_some()
            && known.instance == instance
            && received.payload.peer_instance == self.instance;
        let payload = ResponsePayload {
            suite,
            instance: self.instance,
            resumed: resumes,
            receiver: index,
            addresses: known.entry.addresses.clone(),
            gateway: self.config.gateways.clone(),
            load: self.load,
        };
        let answered = received.respond(known.entry.preshared_key.as_ref(), &payload, &mut self.random);
        let Ok((keys, answer)) = answered else { return };
        known
            .pending
            .retain(|pending| now.since(pending.since) < PENDING_FOR);
        if known.pending.len() == PENDING_SESSIONS {
            known.pending.pop_front();
        }
        known.pending.push_back(Pending {
            keys,
            instance,
            resumes,
            mode,
            since: now,
            answer: answer.clone(),
        });
        let live: Vec<_> = known
            .pending
            .iter()
            .map(|pending| pending.keys.local)
            .chain(known.session.iter().flat_map(Session::receiver_indices))
            .collect();
        self.by_index
            .retain(|index, of| *of != id || live.contains(index));
        for index in live {
            self.by_index.insert(index, id);
        }
        if self.answered.len() == REMEMBERED_ANSWERS {
            self.answered.pop_front();
        }
        self.answered.push_back((fingerprint, answer.clone()));
        self.answer(network, answer);
    }

    fn answer(&mut self, network: NetworkPath, datagram: Vec<u8>) {
        if self.outbox.len() < OUTBOX {
            self.outbox.push_back((network, datagram));
        }
    }
}

impl Known {
    fn transmit(&mut self, now: Instant, out: &mut Vec<u8>, max_segments: usize) -> Option<Transmit> {
        self.session.as_mut()?.poll_transmit(now, out, max_segments)
    }
}

/// Source and destination of an IP packet.
fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    fn read<const N: usize>(packet: &[u8], at: usize) -> Option<IpAddr>
    where
        IpAddr: From<[u8; N]>,
    {
        let bytes: [u8; N] = packet.get(at..at + N)?.try_into().ok()?;
        Some(IpAddr::from(bytes))
    }
    match packet.first()? >> 4 {
        4 => Some((read::<4>(packet, 12)?, read::<4>(packet, 16)?)),
        6 => Some((read::<16>(packet, 8)?, read::<16>(packet, 24)?)),
        _ => None,
    }
}
