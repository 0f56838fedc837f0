//! A session: the authenticated association of one client and one server. It outlives all its paths and keys.
//!
//! This file holds the state and what the roles call; `receive` takes datagrams in, `transmit` builds them, `timers`
//! does what is due, `path` is one path with all its estimators.

mod control;
mod leaving;
mod limit;
mod losses;
mod parity;
mod path;
mod receive;
mod timers;
mod transmit;
mod wan_status;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::event::{Event, SessionStatus};
use crate::flow::{DropReason, FlowQueues};
use crate::handshake::Keys;
use crate::ids::{NetworkPath, PathId, ReceiverIndex, WanId};
use crate::inner::{Compressor, VirtioHeader};
use crate::path::delay::PeerClock;
use crate::path::sent::Sent;
use crate::path::state::Condition;
use crate::resequencer::{Delivery, Resequencer};
use crate::scheduler::{self, PathView, Scheduler};
use crate::settings::{BytesPerSecond, Mode, WanSettings};
use crate::store::{DoubtBudget, Store};
use crate::time::Instant;
use crate::wire::frame::CloseReason;
use control::Control;
pub use control::{LONGEST_MESSAGE, NotSent};
use limit::Limit;
use path::{Carried, Path};
use wan_status::Departed;

/// Paths of one session; an authenticated peer that opens more is ignored.
const MOST_PATHS: usize = 16;
/// Replaced keys still open datagrams for this long: some are under way.
const OLD_KEYS_FOR: Duration = Duration::from_secs(10);
/// How often what follows from the paths' estimates is thought over.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often the peer is told how long holes are worth waiting for.
const HINT_EVERY: Duration = Duration::from_millis(20);

/// Queues hold at most this much time of the paths' rate: management by delay takes its time, and a sender inside that
/// does not heed it would fill seconds.
const LONGEST_QUEUE: Duration = Duration::from_millis(600);
/// But no fewer and no more bytes than these.
const QUEUE_BYTES: (u64, u64) = (512 << 10, 8 << 20);

/// What a sender inside takes its window back to after a loss is 0.7 of what it was (CUBIC, RFC 9438): with a queue of
/// this share of what is on its way, the paths stay busy nevertheless.
const QUEUE_SHARE: f64 = 0.45;
/// But no shorter and no longer than these.
const BULK_QUEUE: (Duration, Duration) = (Duration::from_millis(30), Duration::from_millis(150));
/// The queue of a bulk flow that is borne after a WAN was lost, for how long, and when the next time may begin.
const LENIENT_QUEUE: Duration = Duration::from_millis(300);
const LENIENT_FOR: Duration = Duration::from_secs(5);
const LENIENT_EVERY: Duration = Duration::from_secs(60);
/// Where a WAN's rate moves all the time, the window of a sender inside must fit its fastest moments, and at its slowest
/// ones most of that waits here: in the flow's own queue, where it delays nobody else.
const MOVING_QUEUE: Duration = Duration::from_millis(600);
const MOVING_QUEUE_BYTES: u64 = 4 << 20;

/// Bytes that a bulk flow may keep waiting however slow a limit is.
const SLOW_QUEUE: u64 = 10 * 1500;

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Where the datagrams that `poll_transmit` wrote go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The addresses and the socket.
    pub network: NetworkPath,
    /// The WAN (on a server: of no meaning).
    pub wan: WanId,
    /// Bytes of each datagram but the last, which may be shorter.
    pub segment_size: usize,
}

/// One end of a session.
#[derive(Debug)]
pub(crate) struct Session {
    side: Side,
    mode: Mode,
    keys: Option<Keys>,
    /// The keys before, for datagrams that are still under way, and until when.
    old_keys: Option<(Keys, Instant)>,
    paths: Vec<Path>,
    /// Paths that the client gave up, until the server knows.
    departed: Vec<Departed>,
    control: Control,
    peer_clock: PeerClock,
    queues: FlowQueues,
    limit: Limit,
    compressor: Compressor,
    resequencer: Resequencer,
    store: Store,
    scheduler: Box<dyn Scheduler>,
    /// The scheduler's view of `paths`, rebuilt before each use.
    views: Vec<PathView>,
    random: ChaCha12Rng,
    /// The latest time that a caller told.
    now: Instant,
    /// Room for the packets of one acknowledgement, kept so that none needs an allocation.
    acked: Vec<Sent<Carried>>,
    lost: Vec<Sent<Carried>>,
    /// Room for one parity, likewise.
    parity: Vec<u8>,
    /// When data came from the peer last, on any path.
    heard_at: Instant,
    next_hint: Instant,
    next_look: Instant,
    /// Since when long queues are, or were last, borne because a WAN was lost.
    lenient_since: Option<Instant>,
    housekeeping_at: Instant,
    doubt_budget: DoubtBudget,
    /// Why this end leaves, once it does.
    closing: Option<CloseReason>,
    /// The peer said that it leaves, until somebody asks.
    peer_left: Option<CloseReason>,
    events: VecDeque<Event>,
    packets_in: u64,
    bytes_in: u64,
    dropped: u64,
}

impl Session {
    /// A session without keys and paths. `seed` spreads flows over queues in a way that strangers cannot foresee.
    pub(crate) fn new(side: Side, mode: Mode, now: Instant, seed: u64) -> Self {
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        Self {
            side,
            mode,
            keys: None,
            old_keys: None,
            paths: Vec::new(),
            departed: Vec::new(),
            control: Control::default(),
            peer_clock: PeerClock::new(),
            queues: FlowQueues::new(random.next_u64()),
            limit: Limit::default(),
            compressor: Compressor::new(random.next_u64()),
            resequencer: Resequencer::new(random.next_u64()),
            store: Store::default(),
            scheduler: scheduler::create(mode),
            views: Vec::new(),
            random,
            now,
            acked: Vec::new(),
            lost: Vec::new(),
            parity: Vec::new(),
            heard_at: now,
            next_hint: now,
            next_look: now,
            lenient_since: None,
            housekeeping_at: now,
            doubt_budget: DoubtBudget::default(),
            closing: None,
            peer_left: None,
            events: VecDeque::new(),
            packets_in: 0,
            bytes_in: 0,
            dropped: 0,
        }
    }

    pub(crate) fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Seals with these keys from now on; datagrams under the ones before are still opened for a while.
    pub(crate) fn install_keys(&mut self, now: Instant, keys: Keys) {
        self.old_keys = self.keys.replace(keys).map(|old| (old, now + OLD_KEYS_FOR));
        self.heard_at = now;
    }

    /// The indices by which the peer's datagrams for this session are known.
    pub(crate) fn receiver_indices(&self) -> impl Iterator<Item = ReceiverIndex> + '_ {
        let old = self.old_keys.iter().map(|(keys, _)| keys.local);
        self.keys.iter().map(|keys| keys.local).chain(old)
    }

    /// True if a datagram was sealed by the holder of these keys. `expected`: the path's next packet number.
    pub(crate) fn authenticates(keys: &Keys, datagram: &[u8], expected: u64) -> bool {
        receive::authenticates(keys, datagram, expected)
    }

    /// The packet number that the peer is expected to use next on a path.
    pub(crate) fn expected_number(&self, id: PathId) -> u64 {
        self.path_index(id)
            .map_or(0, |index| self.paths[index].replay.expected())
    }

    pub(crate) fn add_path(
        &mut self,
        now: Instant,
        id: PathId,
        wan: WanId,
        network: NetworkPath,
        settings: WanSettings,
    ) {
        if self.paths.len() < MOST_PATHS && self.path_index(id).is_none() {
            self.paths.push(Path::new(
                now,
                self.side,
                &self.peer_clock,
                id,
                wan,
                network,
                settings,
            ));
        }
    }

    /// Forgets a path; what was in flight on it is repaired elsewhere.
    pub(crate) fn remove_path(&mut self, now: Instant, id: PathId) {
        if let Some(index) = self.path_index(id) {
            self.give_up_in_flight(now, index);
            let path = self.paths.remove(index);
            self.note_departure(&path);
            self.events.push_back(Event::PathChanged {
                wan: path.wan,
                path: id,
                state: Condition::Down,
                why: "removed",
            });
            self.set_resting();
            self.update_bulk_target();
            self.after_input(now);
        }
    }

    pub(crate) fn set_path_settings(&mut self, now: Instant, id: PathId, settings: WanSettings) {
        if let Some(index) = self.path_index(id) {
            self.paths[index].set_settings(now, self.side, settings);
        }
    }

    /// The WAN's link went down or up, as the operating system says.
    pub(crate) fn set_link(&mut self, now: Instant, id: PathId, up: bool) {
        let Some(index) = self.path_index(id) else { return };
        let path = &mut self.paths[index];
        if path.link_gone == up {
            path.link_gone = !up;
            if self.side == Side::Client {
                path.status_changed();
            }
        }
        if up {
            path.state.on_link_back(now);
        } else {
            let change = path.state.on_link_gone(now);
            self.changed(now, index, change);
        }
    }

    /// Every path that is out is tried again at once: the peer has just answered a handshake.
    pub(crate) fn probe_paths(&mut self, now: Instant) {
        for path in &mut self.paths {
            path.state.probe_now(now);
        }
    }

    /// Changes how packets are spread; the client tells the server by the status of its WANs.
    pub(crate) fn set_mode(&mut self, mode: Mode) {
        if self.mode == mode {
            return;
        }
        self.mode = mode;
        self.scheduler = scheduler::create(mode);
        for path in &mut self.paths {
            path.copies.clear();
            path.decay.use_again(self.now);
            path.rests = false;
            path.status_changed();
        }
    }

    pub(crate) fn handle_tun(
        &mut self,
        now: Instant,
        header: VirtioHeader,
        packet: Bytes,
    ) -> Result<(), DropReason> {
        self.now = now;
        self.packets_in += 1;
        self.bytes_in += packet.len() as u64;
        let outcome = self.queues.enqueue(now, header, packet);
        self.dropped += u64::from(outcome.is_err());
        outcome
    }

    pub(crate) fn poll_deliver(&mut self) -> Option<Delivery> {
        self.resequencer.poll()
    }

    pub(crate) fn recycle(&mut self, delivery: Delivery) {
        self.resequencer.recycle(delivery);
    }

    /// The last delivery's source address is not the client's.
    pub(crate) fn refused_source(&mut self) {
        self.dropped += 1;
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// True if no path answers.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        let longest = self.paths.iter().map(Path::silence_limit).max();
        let limit = longest.unwrap_or(Duration::from_millis(500));
        !self
            .paths
            .iter()
            .any(|path| path.state.condition() == Condition::Active)
            && now.since(self.heard_at) > limit
    }

    pub(crate) fn status(&self, now: Instant) -> SessionStatus {
        let (_, unacknowledged) = self.store.held();
        SessionStatus {
            connected: self.keys.is_some(),
            mode: self.mode,
            suite: self.keys.as_ref().map(|keys| keys.seal.suite()),
            paths: self.paths.iter().map(|path| path.status(now)).collect(),
            backlog: self.queues.backlog_bytes(),
            unacknowledged: unacknowledged as u64,
            packets_in: self.packets_in,
            bytes_in: self.bytes_in,
            dropped: self.dropped
                + self.queues.statistics().dropped_by_delay
                + self.queues.statistics().dropped_by_limit
                + self.store.abandoned(),
            held: self.resequencer.held_bytes() as u64,
            resequencer: self.resequencer.statistics(),
        }
    }

    fn path_index(&self, id: PathId) -> Option<usize> {
        self.paths.iter().position(|path| path.id == id)
    }

    /// Everything in flight on a path counts as lost, so that it is sent elsewhere: first what somebody waits for, then
    /// what was still on its way just now, then what probably arrived while the word of it got lost.
    fn give_up_in_flight(&mut self, now: Instant, index: usize) {
        let path = &mut self.paths[index];
        path.copies.clear();
        let wan = path.wan;
        let mut lost = std::mem::take(&mut self.lost);
        path.sent.take_all(now, &mut lost);
        let on_the_way = path.rtt.minimum() * 5 / 8 + path.delay.queue();
        let arrived = lost.partition_point(|packet| packet.sent + on_the_way < now);
        lost.rotate_left(arrived);
        for packet in lost.drain(..) {
            for piece in &packet.contents.pieces {
                self.store.lost(now, *piece, wan);
            }
            for (path, number) in &packet.contents.statuses {
                self.status_lost(*path, *number);
            }
            if let Some(number) = packet.contents.message {
                self.control.lost(number);
            }
        }
        self.lost = lost;
    }

    /// Rebuilds what the scheduler sees.
    fn refresh_views(&mut self) {
        self.views.clear();
        self.views.extend(self.paths.iter().map(Path::view));
    }

    /// A bulk flow's queue may hold what the slower paths need to find something in its depth, and what keeps one
    /// flow's sender from falling below the links' rate when it shrinks its window. After a WAN was lost it may hold what
    /// is too much now: a drop would stall the transfer for a round trip of the long queue, on top of the loss of the WAN.
    fn update_bulk_target(&mut self) {
        let usable = || self.paths.iter().filter(|path| path.is_usable());
        let fastest = usable().map(|path| path.view().one_way).min().unwrap_or(0);
        let skew = usable()
            .map(|path| path.view().one_way - fastest)
            .max()
            .unwrap_or(0);
        let round_trip = usable().map(|path| path.rtt.smoothed()).max().unwrap_or_default();
        let paths: u64 = usable().map(|path| path.rate().0).sum();
        let rate = self.limit.rate().map_or(paths, |limit| paths.min(limit.0));
        let skew = Duration::from_nanos(skew.clamp(0, 200_000_000) as u64);
        // The time that all paths together take to bring what is on its way.
        let on_its_way: f64 = usable()
            .map(|path| path.rate().0 as f64 * path.rtt.smoothed().as_secs_f64())
            .sum();
        let pipe = skew + Duration::from_secs_f64(on_its_way / (paths as f64).max(1.0));
        let share = pipe.mul_f64(QUEUE_SHARE).clamp(BULK_QUEUE.0, BULK_QUEUE.1);
        let lenient = match self.lenient_since {
            Some(since) if self.now.since(since) < LENIENT_FOR => LENIENT_QUEUE,
            _ => Duration::ZERO,
        };
        let (lenient, least) = if usable().any(|path| path.congestion.follows()) {
            (MOVING_QUEUE, MOVING_QUEUE_BYTES)
        } else {
            (lenient, QUEUE_BYTES.0)
        };
        self.queues.set_interval(round_trip);
        self.queues.set_rate(BytesPerSecond(rate));
        let most = BytesPerSecond(rate).bytes_in(LONGEST_QUEUE.as_nanos() as u64);
        let (least, slow) = if rate < paths {
            // A rate that is told needs no room for what the paths may turn out to carry; but senders inside need some
            // packets under way to notice that one is missing.
            (
                0,
                Duration::from_nanos(BytesPerSecond(rate).nanoseconds(SLOW_QUEUE)),
            )
        } else {
            (least, Duration::ZERO)
        };
        self.queues
            .set_bulk_target((skew + share).max(lenient).max(slow.min(MOVING_QUEUE)));
        self.queues.set_limit(most.clamp(least, QUEUE_BYTES.1));
    }
}
