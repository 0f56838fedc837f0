//! One path of a session: its estimators, its state, and what it still has to say to its other end.

use std::collections::VecDeque;
use std::time::Duration;

use crate::congestion::{self, Controller};
use crate::event::{PathCounters, PathStatus};
use crate::ids::{NetworkPath, PathId, WanId};
use crate::inner::ContextId;
use crate::path::decay::Decay;
use crate::path::delay::{DelayEstimator, PeerClock, STALE};
use crate::path::mtu::MtuDiscovery;
use crate::path::pacer::Pacer;
use crate::path::received::Received;
use crate::path::rhythm::Rhythm;
use crate::path::rtt::RttEstimator;
use crate::path::sent::SentPackets;
use crate::path::state::Condition;
use crate::path::state::PathState;
use crate::path::way_back::{AckPolicy, WayBack};
use crate::replay::ReplayWindow;
use crate::scheduler::PathView;
use crate::session::Side;
use crate::session::parity::Parity;
use crate::settings::{BytesPerSecond, Priority, WanSettings};
use crate::store::PieceId;
use crate::time::Instant;

/// Longest time that our peer waits before it acknowledges.
pub(super) const MAX_ACK_DELAY: Duration = Duration::from_millis(5);
/// Time over which the peer's rate is measured.
const RATE_WINDOW: Duration = Duration::from_millis(100);
/// Largest IP packet that is tried.
const LARGEST_PACKET: usize = 1500;
/// Bytes sent to an address that has not proved itself, for each byte that came from it.
const AMPLIFICATION: u64 = 3;

/// What one packet carried, apart from what nobody misses.
#[derive(Clone, Debug, Default)]
pub(super) struct Carried {
    pub(super) pieces: smallvec::SmallVec<[PieceId; 4]>,
    pub(super) contexts: smallvec::SmallVec<[ContextId; 2]>,
    /// The largest packet number that an acknowledgement in it covered, and the path.
    pub(super) acknowledged: Option<(PathId, u64)>,
    /// Paths and numbers of the WAN statuses in it.
    pub(super) statuses: smallvec::SmallVec<[(PathId, u32); 1]>,
    /// The number of the message in it.
    pub(super) message: Option<u32>,
    /// The size that it probed.
    pub(super) probe: Option<usize>,
}

/// One path.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) id: PathId,
    pub(super) wan: WanId,
    pub(super) network: NetworkPath,
    pub(super) settings: WanSettings,
    pub(super) state: PathState,
    /// Why it is in this state, for people.
    pub(super) why: &'static str,
    pub(super) rtt: RttEstimator,
    pub(super) rhythm: Rhythm,
    /// Answers stay out, for too short a time yet to be sure of anything.
    pub(super) doubtful: bool,
    pub(super) delay: DelayEstimator,
    pub(super) sent: SentPackets<Carried>,
    pub(super) received: Received,
    pub(super) replay: ReplayWindow,
    pub(super) pacer: Pacer,
    pub(super) mtu: MtuDiscovery,
    pub(super) congestion: Box<dyn Controller>,
    /// In redundant mode: what another WAN sent first and this one still has to.
    pub(super) copies: VecDeque<PieceId>,
    /// The other end's address has proved that it receives what is sent there.
    pub(super) validated: bool,
    /// A challenge of ours that waits for its answer.
    pub(super) challenge: Option<[u8; 8]>,
    /// An answer that we owe.
    pub(super) response: Option<[u8; 8]>,
    /// A new address of the other end, until it has answered the challenge.
    pub(super) moving: Option<Move>,
    /// The status that the client tells the server; its number, and whether it waits to be sent or acknowledged.
    pub(super) status_number: u32,
    pub(super) status_wanted: bool,
    pub(super) status_unconfirmed: bool,
    /// The client's operating system says that the WAN's link is gone; the server knows it from the client.
    pub(super) link_gone: bool,
    /// A packet of the peer's is missing since the last acknowledgement on another path.
    pub(super) gap_news: bool,
    /// What its way back carries, as far as acknowledgements show.
    pub(super) way_back: WayBack,
    /// Whether it loses so much that it should rest.
    pub(super) decay: Decay,
    /// It should, and a better one lives.
    pub(super) rests: bool,
    /// The share of packets that were lost here lately.
    pub(super) loss: f64,
    pub(super) parity: Parity,
    /// Something sent here was acknowledged since the last look.
    pub(super) delay_news: bool,
    /// Datagrams with nothing but an acknowledgement since one that wanted an answer.
    pub(super) unanswerable: u32,
    /// When data left here last.
    pub(super) data_sent: Instant,
    /// Bytes received at the last look, and when, for the rate at which the peer sends.
    pub(super) received_at_look: (u64, Instant),
    /// It has told the other end that this one leaves.
    pub(super) closed: bool,
    /// It could have sent and had nothing: rate samples say what was offered, not what the path can do.
    pub(super) app_limited: bool,
    pub(super) counters: PathCounters,
}

/// The other end seems to have a new address.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) network: NetworkPath,
    pub(super) challenge: [u8; 8],
    pub(super) ask_at: Instant,
    pub(super) asked: u8,
}

/// A path that carries less gathers what is small.
const NARROW: BytesPerSecond = BytesPerSecond(1_250_000);
/// Bytes that the path could carry meanwhile; and so little must wait for it to be worth gathering.
pub(super) const GATHER: u64 = 600;
const LONGEST_GATHERING: Duration = Duration::from_millis(5);
/// A path that was left because of a longer queue is asked whether it is still there.
const LEFT_FOR_QUEUE: Duration = Duration::from_millis(5);
/// Packets over which losses are averaged: a second of a link of 15 Mbit/s.
const LOSS_WINDOW: f64 = 1024.0;
/// A path that loses less is relied on.
const LOSSY: f64 = 0.001;
/// Nanoseconds of queue that are believed without having been measured.
const LONGEST_PREDICTED_QUEUE: i64 = 100_000_000;
/// The same where the rate moves all the time.
const LONGEST_MOVING_QUEUE: i64 = 200_000_000;

impl Path {
    pub(super) fn new(
        now: Instant,
        side: Side,
        peer_clock: &PeerClock,
        id: PathId,
        wan: WanId,
        network: NetworkPath,
        settings: WanSettings,
    ) -> Self {
        let congestion = congestion::create(congestion::Algorithm::default());
        let mut path = Self {
            id,
            wan,
            network,
            settings,
            state: PathState::new(now, settings.metered),
            why: "new",
            rtt: RttEstimator::new(),
            rhythm: Rhythm::default(),
            doubtful: false,
            delay: DelayEstimator::new(peer_clock),
            sent: SentPackets::new(id),
            received: Received::new(id),
            replay: ReplayWindow::new(),
            pacer: Pacer::new(congestion.pacing_rate()),
            mtu: MtuDiscovery::new(network.remote.is_ipv6(), LARGEST_PACKET),
            congestion,
            copies: VecDeque::new(),
            // The client chose the address itself; the server must see that it answers.
            validated: side == Side::Client,
            challenge: None,
            response: None,
            moving: None,
            status_number: 0,
            status_wanted: side == Side::Client,
            status_unconfirmed: side == Side::Client,
            link_gone: false,
            closed: false,
            gap_news: false,
            way_back: WayBack::default(),
            decay: Decay::default(),
            rests: false,
            loss: 0.0,
            parity: Parity::new(now),
            delay_news: false,
            unanswerable: 0,
            data_sent: Instant::ZERO,
            received_at_look: (0, now),
            app_limited: true,
            counters: PathCounters::default(),
        };
        path.set_settings(now, side, settings);
        path
    }

    pub(super) fn set_settings(&mut self, now: Instant, side: Side, settings: WanSettings) {
        self.settings = settings;
        self.state.set_metered(settings.metered);
        let limit = match side {
            Side::Client => settings.limit_up,
            Side::Server => settings.limit_down,
        };
        self.pacer.set_limit(now, limit);
        self.congestion.set_limit(limit);
        if side == Side::Client {
            self.status_changed();
        }
    }

    /// The server must be told again what the user wants of this WAN.
    pub(super) fn status_changed(&mut self) {
        self.status_number = self.status_number.wrapping_add(1);
        self.status_wanted = true;
        self.status_unconfirmed = true;
    }

    /// A challenge may be sent to the other end's address.
    pub(super) fn may_probe(&self) -> bool {
        self.amplification_room() > 100
    }

    /// May carry new data.
    pub(super) fn is_usable(&self) -> bool {
        self.lives() && !self.rests
    }

    /// May carry new data, or rests and could.
    pub(super) fn lives(&self) -> bool {
        self.validated
            && self.state.condition() == Condition::Active
            && self.settings.priority != Priority::Off
    }

    /// As the scheduler sees it.
    pub(super) fn view(&self) -> PathView {
        // A short queue is gone when nothing is in flight; whether a long one is, is asked.
        let one_way = if self.sent.in_flight() == 0 && self.delay.queue() <= LEFT_FOR_QUEUE {
            self.delay.base()
        } else {
            self.delay.smoothed()
        };
        PathView {
            wan: self.wan,
            priority: self.settings.priority,
            usable: self.is_usable(),
            one_way: one_way.unwrap_or(0),
            rate: self.rate(),
        }
    }

    /// Left because of its queue, it would be left for ever if nobody asked whether the queue is still there.
    pub(super) fn wants_fresh_delay(&self, now: Instant) -> bool {
        self.is_usable()
            && self.sent.in_flight() == 0
            && self.delay.queue() > LEFT_FOR_QUEUE
            && now.since(self.delay.updated()) > STALE
    }

    /// The delay that what is on its way may have: as measured, or longer if more is in flight than was when that was
    /// measured. A queue that has just begun to grow shows a round trip later in measurements.
    pub(super) fn latest_arrival(&self) -> i64 {
        let measured = self.delay.quantile95().unwrap_or(0);
        let Some(base) = self.delay.base() else {
            return measured;
        };
        let least = self.rtt.minimum();
        let drain = self
            .rate()
            .nanoseconds(self.sent.in_flight())
            .min(i64::MAX as u64) as i64;
        let longest = if self.congestion.follows() {
            LONGEST_MOVING_QUEUE
        } else {
            LONGEST_PREDICTED_QUEUE
        };
        let queue = drain.saturating_sub(least.as_nanos() as i64).clamp(0, longest);
        measured.max(base.saturating_add(queue))
    }

    /// When there will be reason for doubt whether it lives; none if there is already, or if nothing is unanswered.
    pub(super) fn doubtful_at(&self) -> Option<Instant> {
        let oldest = self.sent.oldest_unacknowledged().filter(|_| !self.doubtful)?;
        Some(self.rhythm.doubtful_at(oldest, &self.rtt, MAX_ACK_DELAY))
    }

    /// Notes that the packet with this number that left at `sent` arrived, or was lost.
    pub(super) fn note_fate(&mut self, number: u64, sent: Instant, lost: bool) {
        self.decay.on_fate(sent, lost);
        self.loss += (f64::from(u8::from(lost)) - self.loss) / LOSS_WINDOW;
        self.parity.policy.note_fate(number, lost, self.delay.queue());
    }

    /// Loses so much that what is urgent should not rely on it.
    pub(super) fn is_lossy(&self) -> bool {
        self.loss > LOSSY
    }

    /// On a narrow path little that waits goes out together: before this, datagrams would be mostly headers, and of many
    /// acknowledgements the last one is enough.
    pub(super) fn gathers_until(&self) -> Instant {
        let rate = self.rate();
        if rate < NARROW && self.congestion.knows_rate() {
            self.data_sent + Duration::from_nanos(rate.nanoseconds(GATHER)).min(LONGEST_GATHERING)
        } else {
            Instant::ZERO
        }
    }

    /// What the path delivers, as far as it is known.
    pub(super) fn rate(&self) -> BytesPerSecond {
        self.congestion.bandwidth()
    }

    /// Bytes that may be sent to an address that has not proved itself.
    pub(super) fn amplification_room(&self) -> u64 {
        if self.validated {
            return u64::MAX;
        }
        (self.counters.received_bytes * AMPLIFICATION).saturating_sub(self.counters.sent_bytes)
    }

    pub(super) fn window_room(&self) -> u64 {
        self.congestion.window().saturating_sub(self.sent.in_flight())
    }

    /// Acknowledges as often as the peer's estimates need and the way back affords; looked at once in a while.
    pub(super) fn adapt_acknowledgements(&mut self, now: Instant) {
        let (bytes, at) = self.received_at_look;
        let elapsed = now.since(at);
        if elapsed < RATE_WINDOW || !self.rtt.is_measured() {
            return;
        }
        let received = u128::from(self.counters.received_bytes - bytes);
        let incoming = (received * 1_000_000_000 / elapsed.as_nanos()) as u64;
        if std::mem::take(&mut self.delay_news) {
            self.way_back.learn(self.delay.queue());
        }
        let returning = self.way_back.carries(self.rate().0, self.congestion.knows_rate());
        self.received
            .set_ack_policy(AckPolicy::new(self.rtt.smoothed(), incoming, returning));
        self.received_at_look = (self.counters.received_bytes, now);
    }

    /// How long silence is ordinary.
    pub(super) fn silence_limit(&self) -> Duration {
        (self.rtt.probe_timeout(MAX_ACK_DELAY) * 2).max(Duration::from_millis(500))
    }

    /// Bytes that IP and UDP add to a datagram.
    pub(super) fn outer_overhead(&self) -> usize {
        if self.network.remote.is_ipv6() { 48 } else { 28 }
    }

    pub(super) fn status(&self, _now: Instant) -> PathStatus {
        PathStatus {
            id: self.id,
            wan: self.wan,
            network: self.network,
            condition: self.state.condition(),
            why: self.why,
            priority: self.settings.priority,
            rtt: self.rtt.is_measured().then(|| self.rtt.smoothed()),
            rtt_minimum: self.rtt.is_measured().then(|| self.rtt.minimum()),
            one_way: self.delay.smoothed(),
            queue: self.delay.queue(),
            rate: self.rate(),
            window: self.congestion.window(),
            in_flight: self.sent.in_flight(),
            congestion: self.congestion.state_name(),
            mtu: self.mtu.current_packet() as u16,
            counters: self.counters,
        }
    }
}
