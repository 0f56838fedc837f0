//! The client: several WANs, one server. Handshakes, keeps the session's keys fresh, and makes a path of each WAN.
//!
//! The session outlives its keys: it is kept over outages and rekeying as long as the server still knows it. A server
//! that was restarted answers with a new instance; then both ends begin anew, and inner connections go on because the
//! addresses stay.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::event::{Event, SessionStatus};
use crate::flow::DropReason;
use crate::handshake::{
    Cookie, InitiationPayload, Initiator, Keys, PresharedKey, PrivateKey, PublicKey, ResponsePayload, VERSION,
};
use crate::ids::{NetworkPath, PathId, ReceiverIndex, WanId};
use crate::inner::VirtioHeader;
use crate::resequencer::Delivery;
use crate::session::{NotSent, Session, Side, Transmit};
use crate::settings::{BytesPerSecond, Encryption, Mode, Priority, WanSettings};
use crate::time::Instant;
use crate::wire::frame::CloseReason;
use crate::wire::{self, Kind};

/// Keys are replaced after this time.
const REKEY_AFTER: Duration = Duration::from_secs(120);
/// First wait for an answer to a handshake; doubles with each attempt.
const FIRST_RETRY: Duration = Duration::from_millis(400);
/// Longest wait between handshakes.
const LONGEST_RETRY: Duration = Duration::from_secs(3);
/// After the server left or fell silent it may be back any moment: for so long an initiation is repeated as it is, every so
/// often and up to half as long again, which costs a server that is there nothing.
const HURRY: Duration = Duration::from_secs(3);
const REPEAT: Duration = Duration::from_millis(50);
/// Silence of all WANs is a reason for a handshake before anything is certain, but not more often than this.
const DOUBT_EVERY: Duration = Duration::from_secs(2);
/// Attempts whose answer is still accepted: a slow answer to an old one must not be lost.
const REMEMBERED_ATTEMPTS: usize = 4;
/// Path ids are used once a session; the last ones are left unused.
const LAST_PATH: u8 = 250;

/// What a client needs to know.
#[derive(Debug)]
pub struct ClientConfig {
    /// The client's own key.
    pub private_key: PrivateKey,
    /// The server's public key.
    pub server_key: PublicKey,
    /// A secret shared beside the keys.
    pub preshared_key: Option<PresharedKey>,
    /// How packets are spread.
    pub mode: Mode,
    /// This machine has instructions for AES.
    pub aes_is_fast: bool,
    /// What the user wants; without encryption only if the server agrees.
    pub encryption: Encryption,
}

#[derive(Debug)]
struct Wan {
    network: NetworkPath,
    settings: WanSettings,
    /// The path in the present session.
    path: Option<PathId>,
}

/// The client's end of the tunnel.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    random: ChaCha12Rng,
    /// Differs with each start of this program: tells a resumed session from a new one.
    instance: u64,
    /// The server's instance, if the present session was made with it.
    server_instance: Option<u64>,
    wans: BTreeMap<WanId, Wan>,
    session: Session,
    next_path: u8,
    attempts: VecDeque<Initiator>,
    failures: u32,
    /// When to begin or repeat a handshake.
    handshake_at: Instant,
    /// The newest initiation, to be repeated until then, and when next.
    initiation: Vec<u8>,
    hurry_until: Instant,
    repeat_at: Instant,
    /// When silence of all WANs may be a reason for a handshake again.
    doubt_at: Instant,
    cookie: Option<Cookie>,
    connected: bool,
    /// The server said that it leaves, and has not answered a handshake since.
    left: bool,
    /// Datagrams that are not of the session: handshakes.
    outbox: VecDeque<(WanId, NetworkPath, Vec<u8>)>,
    events: VecDeque<Event>,
    /// That there is a connection, and whether it resumes the session, is announced once the first data under the new
    /// keys arrives.
    announcement: Option<bool>,
    /// The inner addresses of this client and of the server, as the last handshake told them.
    granted: (Vec<(IpAddr, u8)>, Vec<IpAddr>),
    closed: bool,
}

impl Client {
    /// A client without WANs. `seed` must be unpredictable: keys come from it.
    pub fn new(config: ClientConfig, now: Instant, seed: [u8; 32]) -> Self {
        let mut random = ChaCha12Rng::from_seed(seed);
        let instance = random.next_u64() | 1;
        let session = Session::new(Side::Client, config.mode, now, random.next_u64());
        Self {
            config,
            random,
            instance,
            server_instance: None,
            wans: BTreeMap::new(),
            session,
            next_path: 0,
            attempts: VecDeque::new(),
            failures: 0,
            handshake_at: now,
            initiation: Vec::new(),
            hurry_until: now,
            repeat_at: now,
            doubt_at: now,
            cookie: None,
            connected: false,
            left: false,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            announcement: None,
            granted: (Vec::new(), Vec::new()),
            closed: false,
        }
    }

    /// Adds a WAN or changes it. A changed address is a new path; changed settings disturb nothing.
    pub fn set_wan(&mut self, now: Instant, wan: WanId, network: NetworkPath, settings: WanSettings) {
        match self.wans.get_mut(&wan) {
            Some(known) if known.network == network => {
                known.settings = settings;
                if let Some(path) = known.path {
                    self.session.set_path_settings(now, path, settings);
                }
            }
            _ => {
                self.remove_wan(now, wan);
                self.wans.insert(
                    wan,
                    Wan {
                        network,
                        settings,
                        path: None,
                    },
                );
                if self.session.has_keys() {
                    self.add_path(now, wan);
                }
                if !self.connected {
                    // Whatever waits for a retry on the other WANs: this one may work at once.
                    self.failures = 0;
                    self.handshake_at = now;
                }
            }
        }
    }

    /// Forgets a WAN: what is in flight on it is repaired on the others at once.
    pub fn remove_wan(&mut self, now: Instant, wan: WanId) {
        if let Some(Wan { path: Some(path), .. }) = self.wans.remove(&wan) {
            self.session.remove_path(now, path);
        }
        self.outbox.retain(|(of, _, _)| *of != wan);
    }

    /// The WAN's link went down or came up: its path leaves at once, or is tried at once.
    pub fn set_link(&mut self, now: Instant, wan: WanId, up: bool) {
        if let Some(path) = self.wans.get(&wan).and_then(|wan| wan.path) {
            self.session.set_link(now, path, up);
        }
        if up && !self.connected {
            self.failures = 0;
            self.handshake_at = now;
        }
    }

    /// Changes how packets are spread, on both ends.
    pub fn set_mode(&mut self, mode: Mode) {
        self.config.mode = mode;
        self.session.set_mode(mode);
    }

    /// Sends no more than this through the tunnel, as the server wants it.
    pub fn set_limit(&mut self, limit: Option<BytesPerSecond>) {
        self.session.set_limits(limit, None);
    }

    /// A packet entered the tunnel.
    ///
    /// # Errors
    /// Says why the packet was dropped.
    pub fn handle_tun(
        &mut self,
        now: Instant,
        header: VirtioHeader,
        packet: Bytes,
    ) -> Result<(), DropReason> {
        self.session.handle_tun(now, header, packet)
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
        while !batch.is_empty() {
            let datagram = batch.split_to(segment_size.clamp(1, batch.len()));
            match wire::kind(&datagram) {
                Some(Kind::Data) => {
                    let heard = self.session.handle_datagram(now, network, datagram, ce);
                    if heard {
                        self.heard(now);
                    }
                }
                Some(Kind::Response) => self.handle_response(now, &datagram),
                Some(Kind::CookieReply) => {
                    let cookie = self
                        .attempts
                        .iter()
                        .rev()
                        .find_map(|attempt| attempt.cookie(&datagram));
                    if let Some(cookie) = cookie {
                        self.cookie = Some(cookie);
                        self.handshake_at = now;
                    }
                }
                Some(Kind::Initiation) | None => {}
            }
        }
        if let Some(reason) = self.session.take_peer_left() {
            self.peer_left(now, reason);
        }
        self.session.after_input(now);
    }

    /// The caller did not run for `gap`: silence in that time means nothing.
    pub fn clock_gap(&mut self, gap: Duration) {
        self.session.clock_gap(gap);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.session.handle_timeout(now);
        let silent = self.session.is_silent(now);
        if silent && self.connected {
            self.connected = false;
            self.failures = 0;
            self.handshake_at = now;
            self.events.push_back(Event::Disconnected);
        } else if self.is_doubtful(now) {
            self.doubt_at = now + DOUBT_EVERY;
            self.hurry(now);
        }
        if self.closed || !self.wans.values().any(Wan::is_used) {
            return;
        }
        if now >= self.handshake_at {
            self.begin_handshake(now);
        } else if self.is_hurrying() && now >= self.repeat_at {
            self.repeat_initiation(now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let mut handshake = Instant::NEVER;
        if !self.closed && self.wans.values().any(Wan::is_used) {
            handshake = self.handshake_at;
            if self.is_hurrying() {
                handshake = handshake.min(self.repeat_at);
            }
            if self.connected && self.announcement.is_none() {
                handshake = handshake.min(self.session.doubtful_from().max(self.doubt_at));
            }
        }
        let next = handshake.min(self.session.deadline());
        (next != Instant::NEVER).then_some(next)
    }

    /// Appends datagrams for one destination to `out`: at most `max_segments`, all but the last of equal size.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
        max_segments: usize,
    ) -> Option<Transmit> {
        if let Some((wan, network, datagram)) = self.outbox.pop_front() {
            out.extend_from_slice(&datagram);
            return Some(Transmit {
                network,
                wan,
                segment_size: datagram.len(),
            });
        }
        self.session.poll_transmit(now, out, max_segments)
    }

    /// The next packet, or several merged into one, that leaves the tunnel here.
    pub fn poll_deliver(&mut self) -> Option<Delivery> {
        self.session.poll_deliver()
    }

    /// Takes a delivery's memory back when it is written, so that the next one needs no allocation.
    pub fn recycle(&mut self, delivery: Delivery) {
        self.session.recycle(delivery);
    }

    /// Sends a message to the server's program: reliably, and in order with the others, within the session. What was
    /// not delivered when the session begins anew ([`Event::Connected`] with `resumed` false) is forgotten.
    ///
    /// # Errors
    /// Says why it was not taken.
    pub fn send_control(&mut self, message: &[u8]) -> Result<(), NotSent> {
        if !self.session.has_keys() {
            return Err(NotSent::NotConnected);
        }
        self.session.send_control(message)
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| self.session.poll_event())
    }

    /// The state.
    pub fn status(&self, now: Instant) -> SessionStatus {
        let mut status = self.session.status(now);
        status.connected = self.connected;
        status
    }

    /// Tells the server that this client leaves, and why. Nothing is sent after the next `poll_transmit`s.
    pub fn close(&mut self, reason: CloseReason) {
        self.closed = true;
        self.session.close(reason);
    }

    fn peer_left(&mut self, now: Instant, reason: CloseReason) {
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        self.connected = false;
        self.announcement = None;
        self.events.push_back(Event::PeerLeft(reason));
        match reason {
            CloseReason::Restarts => self.hurry(now),
            CloseReason::Ends => {
                self.failures = 0;
                self.handshake_at = now;
            }
        }
    }

    fn is_doubtful(&self, now: Instant) -> bool {
        self.connected && self.announcement.is_none() && now >= self.doubt_at && self.session.is_doubtful(now)
    }

    /// The server may be back any moment, or not know this session any more.
    fn hurry(&mut self, now: Instant) {
        self.failures = 0;
        self.handshake_at = now;
        self.hurry_until = now + HURRY;
    }

    /// An initiation waits for its answer, which may come as soon as the server is there.
    fn is_hurrying(&self) -> bool {
        !self.attempts.is_empty() && self.repeat_at < self.hurry_until
    }

    fn heard(&mut self, now: Instant) {
        if self.left {
            // This was on its way when the server left.
            return;
        }
        // A path of the session may also answer again before any handshake did: that resumes it.
        let news = self.announcement.take().or((!self.connected).then_some(true));
        if let Some(resumed) = news {
            let (addresses, gateways) = self.granted.clone();
            self.events.push_back(Event::Connected {
                addresses,
                gateways,
                resumed,
            });
        }
        if news.is_some() {
            self.connected = true;
            self.failures = 0;
            self.handshake_at = now + REKEY_AFTER;
        }
    }

    fn begin_handshake(&mut self, now: Instant) {
        let retry = FIRST_RETRY * 2u32.saturating_pow(self.failures.min(8));
        self.handshake_at = now + retry.min(LONGEST_RETRY);
        if now >= self.hurry_until {
            self.failures += 1;
        }
        let resuming = self.server_instance.filter(|_| self.next_path < LAST_PATH);
        let payload = InitiationPayload {
            version: VERSION,
            suites: crate::crypto::Suite::offer(self.config.aes_is_fast, self.config.encryption),
            instance: self.instance,
            peer_instance: resuming.unwrap_or(0),
            receiver: ReceiverIndex(self.random.next_u32() & 0x00ff_ffff),
            mode: self.config.mode,
            path: PathId(self.next_path),
        };
        let started = Initiator::start(
            &self.config.private_key,
            &self.config.server_key,
            self.config.preshared_key.as_ref(),
            &payload,
            self.cookie.as_ref(),
            &mut self.random,
        );
        let Ok((attempt, datagram)) = started else { return };
        if self.attempts.len() == REMEMBERED_ATTEMPTS {
            self.attempts.pop_front();
        }
        self.attempts.push_back(attempt);
        self.initiation = datagram;
        self.repeat_initiation(now);
    }

    /// Sends the newest initiation over every WAN.
    fn repeat_initiation(&mut self, now: Instant) {
        self.repeat_at = now + REPEAT + REPEAT * (self.random.next_u32() % 64) / 128;
        self.outbox.clear();
        for (id, wan) in self.wans.iter().filter(|(_, wan)| wan.is_used()) {
            self.outbox.push_back((*id, wan.network, self.initiation.clone()));
        }
    }

    fn handle_response(&mut self, now: Instant, datagram: &[u8]) {
        let finished = self
            .attempts
            .iter_mut()
            .rev()
            .find_map(|attempt| attempt.finish(datagram).ok());
        let Some((keys, payload)) = finished else { return };
        self.attempts.clear();
        self.cookie = None;
        self.install(now, keys, &payload);
        self.session.probe_paths(now);
    }

    fn install(&mut self, now: Instant, keys: Keys, payload: &ResponsePayload) {
        let resumed = payload.resumed && self.server_instance == Some(payload.instance);
        if !resumed {
            // The server begins anew; nothing it was sent before means anything to it.
            self.session.restart(now);
            self.next_path = 0;
            for wan in self.wans.values_mut() {
                wan.path = None;
            }
        }
        self.left = false;
        self.server_instance = Some(payload.instance);
        self.session.install_keys(now, keys);
        let without_path: Vec<_> = self
            .wans
            .iter()
            .filter(|(_, wan)| wan.path.is_none())
            .map(|(id, _)| *id)
            .collect();
        for wan in without_path {
            self.add_path(now, wan);
        }
        self.granted = (payload.addresses.clone(), payload.gateway.clone());
        if !self.connected || !resumed {
            self.announcement = Some(resumed);
        }
        self.failures = 0;
        // Until the server is heard under the new keys, it may not have them.
        let confirmed = if self.connected && self.announcement.is_none() {
            REKEY_AFTER
        } else {
            LONGEST_RETRY
        };
        self.handshake_at = now + confirmed;
    }

    fn add_path(&mut self, now: Instant, id: WanId) {
        let Some(wan) = self.wans.get_mut(&id) else { return };
        if self.next_path >= LAST_PATH {
            // A new session, in which the numbers begin anew.
            self.handshake_at = now;
            return;
        }
        let path = PathId(self.next_path);
        self.next_path += 1;
        wan.path = Some(path);
        self.session.add_path(now, path, id, wan.network, wan.settings);
    }
}

impl Wan {
    fn is_used(&self) -> bool {
        self.settings.priority != Priority::Off
    }
}
