//! Our congestion control: finds the rate of a path, keeps the queue that is ours short, and does not fear loss.
//!
//! While our packets find a queue all the time, the bottleneck is busy, and what arrives is its rate: so the estimate
//! follows in both directions. Without a queue, what arrives is a lower bound. Sending is paced at the estimate, a
//! little faster or slower, so that a queue of a few milliseconds stands: enough to keep the link busy. Every second or
//! two the pace goes up for two round trips: if more arrives, the link has become faster. If not, and a queue grew, the
//! estimate was right. If not, and packets were lost instead, there is a policer or a buffer too small to see: the rate
//! is what arrived. Loss says nothing else: radio links lose some at any rate.
//!
//! A rate that moves all the time is followed by other means ([`follow`]).
//!
//! Every few seconds the pace goes down until our queue must be gone. Delay that remains is not ours: variation of the
//! link, which is added to all limits, or a neighbour that keeps the queue full, against whom we compete for one flow's
//! share ([`compete`]) and try again.

mod compete;
mod doubt;
mod follow;
mod learn;
mod round;
mod up;

use std::time::Duration;

use compete::Compete;
use doubt::Doubt;
use follow::Swings;
use round::{Observation, Round};

use super::{Controller, Loss, RateSample};
use crate::path::extremum::WindowedMinimum;
use crate::settings::BytesPerSecond;
use crate::time::Instant;

const PACKET: u64 = 1500;
/// In flight before anything is known of the path.
const INITIAL_WINDOW: u64 = 16 * PACKET;
/// Pace before anything is known of the path.
const INITIAL_RATE: f64 = 500_000.0;
const START_AGAIN_GAIN: f64 = 2.0;
/// Delay without our queue that makes a path one whose delay varies.
const WAVERING: Duration = Duration::from_millis(2);
/// What may always be in flight.
const SMALLEST_WINDOW: u64 = 4 * PACKET;
const STARTUP_GAIN: f64 = 2.77;
/// A queue beyond twice what we want ends probing upwards without looking at what it brought.
const UP_SLACK: Duration = Duration::from_millis(3);
/// Bytes that must have arrived for a queue to end the start.
const TELLING: u64 = 4 * PACKET;
/// Bytes lost in a round trip, beside their share, that end the start: fewer are lost by chance.
const DROWNED: u64 = 8 * PACKET;
/// A queue beyond what we want that ends the start.
const STARTUP_SLACK: Duration = Duration::from_millis(5);
/// Paces of probing upwards, one after the other while each finds more.
const UP_GAINS: [f64; 4] = [1.15, 1.3, 1.6, 2.2];
const DOWN_GAIN: f64 = 0.9;
/// Pace that empties our queue for certain.
const CLEAR_GAIN: f64 = 0.95;
/// The cruising pace, around the estimate.
const CRUISE: (f64, f64) = (0.7, 1.02);
/// Waiting of the peer before it acknowledges, and of both machines.
const ACK_SLACK: Duration = Duration::from_millis(6);
const UP_INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Where probing costs losses.
const UP_INTERVAL_CEILING: Duration = Duration::from_secs(5);
const CLEAR_INTERVAL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A queue that stays above this while we send half of what the path carries belongs to a neighbour.
const NEIGHBOUR: Duration = Duration::from_millis(4);
/// Round trips of sending slowly against a queue that stays, until that is plain.
const STUBBORN: u32 = 8;
const STUBBORN_GAIN: f64 = 0.9;
const MOST_NOISE: Duration = Duration::from_millis(15);
/// No link's delay varies by so much: this is a queue.
const PLAIN_QUEUE: Duration = Duration::from_millis(50);
const TRY_ALONE_INTERVAL: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(16));
/// Loss that comes with the load is more than what is usual by this.
const SUSPICIOUS_LOSS: f64 = 0.10;
const MOST_USUAL_LOSS: f64 = 0.15;
/// After such a pause the old rate is not believed any more.
const FORGET: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Doubles every round trip until a queue or a ceiling shows.
    Startup,
    /// Stays at the estimate.
    Cruise,
    /// Sends faster, to see whether more arrives.
    Up,
    /// Takes back what probing put into the queue.
    Down,
    /// Empties our queue, to see whose delay the rest is.
    Clear,
    /// A neighbour keeps the queue full.
    Compete,
    /// Sends half of what it did: would a queue of that delay not shrink?
    Doubt,
    /// As `Clear`, against a neighbour: is he still there?
    TryAlone,
    /// After a pause: the old rate may be wrong.
    Resume,
    /// The rate moves all the time: a longer queue, and a window instead of a pace.
    Follow,
}

/// See the module's description.
#[derive(Clone, Debug)]
pub struct Bond {
    state: State,
    /// Round trips and begin of the state.
    rounds: u32,
    since: Instant,
    round: Round,
    /// Estimated rate of the path, bytes per second; zero: unknown.
    bandwidth: f64,
    limit: Option<BytesPerSecond>,
    gain: f64,
    rtt_minimum: WindowedMinimum<Duration>,
    /// The same over minutes: against a neighbour, the path without queue is seldom seen.
    rtt_lately: WindowedMinimum<Duration>,
    rtt: Duration,
    /// Delay above the base that was there when our queue was empty.
    noise: Duration,
    /// Share of bytes that is lost at any rate, from these counts.
    usual_loss: f64,
    usual_delivered: f64,
    usual_lost: f64,
    /// More load brings loss, not queue: the rate is what arrives.
    ceiling: bool,
    ceiling_rate: f64,
    /// More was offered than the path carries: a queue grew, or a round trip was not short of data.
    loaded: bool,
    /// Window at the start: grows by what is acknowledged, as the slow start of a sender inside does, which must not
    /// find a queue here.
    opened: u64,
    /// Rate and growth at the start.
    full_rate: f64,
    full_rounds: u32,
    /// Round trips at the start in which our queue was never gone.
    standing_rounds: u32,
    /// How often to begin anew on a path whose delay varies.
    starts_again: u32,
    /// Rate before probing upwards, and how far that went.
    reference: f64,
    before_up: f64,
    step: usize,
    next_up: Instant,
    up_interval: Duration,
    idle_rounds: u32,
    lossy_rounds: u32,
    next_clear: Instant,
    clear_interval: Duration,
    try_interval: Duration,
    /// Round trips in a row in which the queue stayed though we sent slowly.
    stubborn_rounds: u32,
    queue_before: Duration,
    /// The estimate when the queue was last as we want it.
    unspoilt: f64,
    doubt: Option<Doubt>,
    next_doubt: Instant,
    /// The delay grew and turned out to be no queue; nobody has been told yet.
    longer: bool,
    /// What arrives while a queue stands that is far too long: no more than this fills the path just now.
    squeezed: Option<f64>,
    compete: Option<Compete>,
    /// Whether the rate moves all the time.
    swings: Swings,
    /// When the queue was short, while following.
    short_queue: Instant,
    /// What the estimate was before loss lowered it.
    before_loss: Option<(f64, bool)>,
    last_sent: Instant,
    in_flight: u64,
}

impl Default for Bond {
    fn default() -> Self {
        Self::new()
    }
}

impl Bond {
    /// A path of which nothing is known.
    pub fn new() -> Self {
        Self {
            state: State::Startup,
            rounds: 0,
            since: Instant::ZERO,
            round: Round::default(),
            bandwidth: 0.0,
            limit: None,
            gain: STARTUP_GAIN,
            rtt_minimum: WindowedMinimum::new(Duration::from_secs(10)),
            rtt_lately: WindowedMinimum::new(Duration::from_secs(120)),
            rtt: Duration::ZERO,
            noise: Duration::ZERO,
            usual_loss: 0.0,
            usual_delivered: 0.0,
            usual_lost: 0.0,
            ceiling: false,
            ceiling_rate: 0.0,
            loaded: false,
            opened: INITIAL_WINDOW,
            full_rate: 0.0,
            full_rounds: 0,
            standing_rounds: 0,
            starts_again: 3,
            reference: 0.0,
            before_up: 0.0,
            step: 0,
            next_up: Instant::ZERO,
            up_interval: UP_INTERVAL.0,
            idle_rounds: 0,
            lossy_rounds: 0,
            next_clear: Instant::ZERO,
            clear_interval: CLEAR_INTERVAL.0,
            try_interval: TRY_ALONE_INTERVAL.0,
            stubborn_rounds: 0,
            queue_before: Duration::ZERO,
            unspoilt: 0.0,
            doubt: None,
            next_doubt: Instant::ZERO,
            longer: false,
            squeezed: None,
            compete: None,
            swings: Swings::default(),
            short_queue: Instant::ZERO,
            before_loss: None,
            last_sent: Instant::ZERO,
            in_flight: 0,
        }
    }

    fn rtt_minimum(&self) -> Duration {
        let window = if self.compete.is_some() {
            &self.rtt_lately
        } else {
            &self.rtt_minimum
        };
        window.value().unwrap_or(Duration::from_millis(50))
    }

    /// The longest queue that we want to make.
    fn queue_most(&self) -> Duration {
        // A few packets at least; but no link that is worth bonding takes long for them.
        let packets = self.time_of(3 * PACKET).min(Duration::from_millis(20));
        Duration::from_millis(5).max(self.rtt_minimum() / 4).max(packets)
    }

    /// The queue that we let stand.
    fn queue_target(&self) -> Duration {
        (self.queue_most() * 2 / 5)
            .min(Duration::from_millis(5))
            .max(self.time_of(PACKET))
    }

    /// How long `bytes` take at the estimated rate.
    fn time_of(&self, bytes: u64) -> Duration {
        if self.bandwidth < 1.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64((bytes as f64 / self.bandwidth).min(1.0))
    }

    /// Bytes on the way at the estimated rate, with a queue of this length.
    fn pipe(&self, queue: Duration) -> u64 {
        (self.bandwidth * (self.rtt_minimum() + queue).as_secs_f64()) as u64
    }

    /// The part of a delay that may be our queue.
    fn ours(&self, queue: Duration) -> Duration {
        queue.saturating_sub(self.noise)
    }

    fn enter(&mut self, now: Instant, state: State, gain: f64) {
        self.state = state;
        self.since = now;
        self.rounds = 0;
        self.gain = gain;
        self.round.begin_anew();
    }

    fn cruise(&mut self, now: Instant) {
        self.enter(now, State::Cruise, 1.0);
        self.next_up = now + self.up_interval.max(4 * self.rtt);
        self.idle_rounds = 0;
        self.stubborn_rounds = 0;
    }

    /// Within a round: a queue that grows must not wait for the round's end.
    fn watch_queue(&mut self, now: Instant, sample: &RateSample, in_flight: u64) {
        let ours = self.ours(sample.queue_delay);
        // A few packets that came late say nothing about the rate.
        let enough = sample.delivered >= TELLING;
        let held_up = enough && (4 * sample.rate.0 < 3 * sample.send_rate.0 || ours > PLAIN_QUEUE);
        match self.state {
            State::Up if ours > 2 * self.queue_most() + UP_SLACK => self.found_queue(now),
            State::Doubt if ours < self.queue_most() => self.cruise(now),
            State::Down if in_flight <= self.pipe(self.noise + self.queue_target()) => self.cruise(now),
            // What is acknowledged from here on was sent when our queue was gone, or nearly.
            State::Clear | State::TryAlone if in_flight > self.window() + 2 * PACKET => {
                self.rounds = 0;
                self.round.begin_anew();
            }
            State::Startup if ours > self.queue_most() + STARTUP_SLACK && held_up && self.bandwidth > 0.0 => {
                self.bandwidth = self.bandwidth.max(sample.rate.0 as f64);
                self.loaded = true;
                self.begin_clear(now);
            }
            _ => {}
        }
    }

    fn end_round(&mut self, now: Instant, seen: &Observation) {
        self.rounds += 1;
        self.loaded |= self.state != State::Startup && !seen.app_limited;
        if self.state == State::Cruise && self.is_doubtful(now, seen) {
            self.begin_doubt(now, seen);
            return;
        }
        self.learn_loss(seen);
        if !matches!(self.state, State::Doubt | State::Follow) {
            self.learn_rate(seen);
        }
        match self.state {
            State::Startup => self.startup(now, seen),
            State::Cruise => self.steer(now, seen),
            State::Up => self.up(now, seen),
            State::Down => self.down(now, seen),
            State::Clear => self.clear(now, seen),
            State::Doubt => self.doubt(now, seen),
            State::Compete => self.compete_on(now),
            State::TryAlone => self.try_alone(now, seen),
            State::Resume => self.resume(now),
            State::Follow => self.follow(now, seen),
        }
    }

    fn startup(&mut self, now: Instant, seen: &Observation) {
        let drowned = seen.loss() > 0.2 && seen.lost >= DROWNED;
        let stands = self.ours(seen.queue_smallest) > self.queue_most();
        self.standing_rounds = if stands { self.standing_rounds + 1 } else { 0 };
        if self.standing_rounds >= 4 {
            // What senders inside have under way stands in the link's queue: it belongs in ours, where others see it.
            self.bandwidth = self.bandwidth.max(seen.rate);
            self.loaded = true;
            self.begin_clear(now);
            return;
        }
        if seen.app_limited && !drowned {
            return;
        }
        if self.bandwidth >= 1.25 * self.full_rate && !drowned {
            self.full_rate = self.bandwidth;
            self.full_rounds = 0;
            return;
        }
        self.full_rounds += 1;
        if self.full_rounds >= 3 || drowned {
            self.ceiling = drowned;
            self.ceiling_rate = seen.rate;
            if drowned && seen.rate > 1.0 {
                self.bandwidth = seen.rate;
            }
            self.begin_clear(now);
        }
    }

    fn begin_clear(&mut self, now: Instant) {
        self.clear_interval = (self.clear_interval * 2).min(CLEAR_INTERVAL.1);
        self.next_clear = now + self.clear_interval.max(20 * self.rtt_minimum());
        self.enter(now, State::Clear, CLEAR_GAIN);
    }

    /// Cruising: a little faster or slower than the estimate, so that the queue we want stands.
    fn steer(&mut self, now: Instant, seen: &Observation) {
        let ours = self.ours(seen.queue).as_secs_f64();
        let target = self.queue_target().as_secs_f64();
        let full = self.ours(seen.queue_smallest) > self.queue_most();
        if !full {
            self.unspoilt = self.bandwidth;
        }
        // Our own would shrink.
        let stays = seen.queue_smallest * 20 >= self.queue_before * 19;
        self.queue_before = seen.queue_smallest;
        let stubborn = full && stays && self.gain <= STUBBORN_GAIN;
        self.stubborn_rounds = if stubborn { self.stubborn_rounds + 1 } else { 0 };
        let error = (target - ours) / (2.0 * self.rtt.as_secs_f64().max(0.01));
        let most = if self.ceiling { 1.0 } else { CRUISE.1 };
        self.gain = (1.0 + error).clamp(CRUISE.0, most);
        if seen.app_limited {
            return;
        }
        if !self.ceiling && seen.lost_more_than(self.usual_loss, SUSPICIOUS_LOSS) {
            self.lossy_rounds += 1;
            if self.lossy_rounds >= 2 && seen.rate > 1.0 {
                // Take it for a ceiling, and probe at once whether it is one.
                self.before_loss = Some((self.bandwidth, self.ceiling));
                self.bandwidth = seen.rate;
                self.ceiling = true;
                self.ceiling_rate = seen.rate;
                self.lossy_rounds = 0;
                self.begin_up(now);
                return;
            }
        } else {
            self.lossy_rounds = 0;
        }
        self.idle_rounds = if ours < 0.3 * target && !self.ceiling {
            self.idle_rounds + 1
        } else {
            0
        };
        if self.stubborn_rounds == STUBBORN / 3 && seen.rate > 1.0 {
            // The window holds us back as well: then what arrives is what there is.
            self.bandwidth = self.bandwidth.min(seen.rate);
        }
        if self.stubborn_rounds >= STUBBORN {
            self.begin_compete(now, seen.queue);
        } else if full {
            // First our own queue must go.
        } else if now >= self.next_clear && !self.ceiling {
            self.begin_clear(now);
        } else if now >= self.next_up || self.idle_rounds >= 4 {
            self.begin_up(now);
        }
    }

    /// Our queue is gone, as less is in flight than fills the path: what delay is left is not ours.
    fn clear(&mut self, now: Instant, seen: &Observation) {
        if self.rounds < 2 {
            return;
        }
        // Variation comes and goes: believe the longest, and forget it slowly.
        let rest = seen.queue.min(MOST_NOISE);
        self.noise = rest.max((self.noise * 3 + rest) / 4);
        // On a narrow path the least that is in flight makes a queue, which is no variation.
        let emptied = self.pipe(Duration::ZERO) > SMALLEST_WINDOW;
        if self.starts_again > 0 && emptied && rest > WAVERING.max(self.rtt_minimum() / 8) {
            // The start may have ended because the delay varied, not because the path was full.
            self.starts_again -= 1;
            self.full_rate = self.bandwidth;
            self.full_rounds = 1;
            self.enter(now, State::Startup, START_AGAIN_GAIN);
            return;
        }
        self.starts_again = 0;
        self.begin_up(now);
    }

    /// We hardly send, and yet the queue stays: it is a neighbour's, and waiting would starve us.
    fn begin_compete(&mut self, now: Instant, queue: Duration) {
        // We gave way all the time: half of what was ours before is a fair share to begin with.
        self.bandwidth = self.bandwidth.max(self.unspoilt / 2.0);
        self.compete = Some(Compete::new(now, self.pipe(queue)));
        self.try_interval = TRY_ALONE_INTERVAL.0;
        self.next_clear = now + self.try_interval;
        self.enter(now, State::Compete, 1.2);
    }

    fn compete_on(&mut self, now: Instant) {
        if now >= self.next_clear {
            self.enter(now, State::TryAlone, 0.5);
        }
    }

    fn try_alone(&mut self, now: Instant, seen: &Observation) {
        if self.rounds < 2 {
            return;
        }
        // By round trips: the base of one-way delays has grown used to the neighbour.
        let rest = seen
            .rtt_smallest
            .map_or(Duration::ZERO, |rtt| rtt.saturating_sub(self.rtt_minimum()));
        if rest < NEIGHBOUR + self.noise.min(NEIGHBOUR) {
            self.compete = None;
            self.cruise(now);
        } else {
            self.try_interval = (self.try_interval * 2).min(TRY_ALONE_INTERVAL.1);
            self.next_clear = now + self.try_interval;
            self.enter(now, State::Compete, 1.2);
        }
    }

    fn resume(&mut self, now: Instant) {
        if self.rounds == 1 {
            self.gain = 0.5;
        } else {
            self.begin_up(now);
        }
    }

    fn limited(&self, rate: f64) -> BytesPerSecond {
        let rate = BytesPerSecond(rate as u64);
        self.limit.map_or(rate, |limit| rate.min(limit))
    }
}

impl Controller for Bond {
    fn on_sent(&mut self, now: Instant, _bytes: u64, _in_flight: u64) {
        self.last_sent = now;
    }

    fn on_ack(&mut self, now: Instant, sample: &RateSample, in_flight: u64) {
        if !sample.rtt.is_zero() {
            self.rtt_minimum.update(now, sample.rtt);
            self.rtt_lately.update(now, sample.rtt);
            self.rtt = if self.rtt.is_zero() {
                sample.rtt
            } else {
                (self.rtt * 7 + sample.rtt) / 8
            };
        }
        if let Some(compete) = &mut self.compete {
            compete.on_ack(now, sample.newly_acked, self.rtt);
            if sample.ce > 0 {
                compete.on_loss(now, now);
            }
        }
        let used = in_flight + sample.newly_acked;
        if self.state == State::Startup && used >= self.opened / 2 {
            self.opened += sample.newly_acked;
        }
        self.in_flight = used;
        if self.state == State::Follow {
            self.follow_rate(sample);
        }
        self.squeeze(sample);
        self.watch_swings(now, sample);
        self.watch_queue(now, sample, in_flight);
        if let Some(seen) = self.round.on_ack(sample) {
            self.end_round(now, &seen);
        }
    }

    fn on_loss(&mut self, now: Instant, loss: &Loss) {
        self.round.on_loss(loss.bytes);
        if let Some(compete) = &mut self.compete {
            compete.on_loss(now, loss.sent);
        }
    }

    fn on_spurious_loss(&mut self, _now: Instant, bytes: u64) {
        self.round.on_spurious_loss(bytes);
        if let Some((bandwidth, ceiling)) = self.before_loss.take() {
            self.bandwidth = self.bandwidth.max(bandwidth);
            self.ceiling = ceiling;
        }
    }

    fn on_idle_restart(&mut self, now: Instant) {
        if now.since(self.last_sent) >= FORGET {
            *self = Self {
                limit: self.limit,
                ..Self::new()
            };
        } else if self.bandwidth > 0.0 && self.state != State::Startup {
            self.compete = None;
            self.enter(now, State::Resume, 1.0);
        }
    }

    fn window(&self) -> u64 {
        let most = 2 * self.noise + 2 * self.queue_most() + ACK_SLACK;
        if let (State::Doubt, Some(doubt)) = (self.state, &self.doubt) {
            return doubt.window().max(SMALLEST_WINDOW);
        }
        match (self.state, &self.compete) {
            (State::TryAlone, _) => (self.pipe(ACK_SLACK) / 2).max(SMALLEST_WINDOW),
            (_, Some(compete)) => compete.window(),
            (State::Startup, _) => (3 * self.pipe(ACK_SLACK)).max(self.opened),
            (State::Clear, _) => (self.pipe(Duration::ZERO) * 19 / 20).max(SMALLEST_WINDOW),
            (State::Resume, _) if self.rounds == 0 => {
                INITIAL_WINDOW.min(self.pipe(most)).max(SMALLEST_WINDOW)
            }
            (State::Follow, _) => self.follow_window(),
            (State::Up, _) => ((self.pipe(most) as f64 * self.gain) as u64).max(SMALLEST_WINDOW),
            _ => self
                .squeezed_window(self.pipe(most) + 2 * PACKET)
                .max(SMALLEST_WINDOW),
        }
    }

    fn pacing_rate(&self) -> BytesPerSecond {
        if let (State::Compete, Some(compete)) = (self.state, &self.compete) {
            let round = self.rtt.as_secs_f64().max(0.001);
            return self.limited(1.2 * compete.window() as f64 / round);
        }
        let rate = self.gain * self.bandwidth;
        if self.state == State::Startup {
            let opened = 1.25 * self.opened as f64 / self.rtt_minimum().as_secs_f64().max(0.001);
            let least = if self.rtt.is_zero() { INITIAL_RATE } else { opened };
            return self.limited(rate.max(least));
        }
        self.limited(rate.max(PACKET as f64))
    }

    fn bandwidth(&self) -> BytesPerSecond {
        self.limited(self.bandwidth)
    }

    fn knows_rate(&self) -> bool {
        self.loaded && self.state != State::Startup
    }

    fn way_is_longer(&mut self) -> bool {
        std::mem::take(&mut self.longer)
    }

    fn follows(&self) -> bool {
        self.state == State::Follow
    }

    fn wants_probe_traffic(&self) -> bool {
        matches!(self.state, State::Startup | State::Up)
    }

    fn set_limit(&mut self, limit: Option<BytesPerSecond>) {
        self.limit = limit;
    }

    fn state_name(&self) -> &'static str {
        match self.state {
            State::Startup => "startup",
            State::Cruise => "cruise",
            State::Up => "probing up",
            State::Down => "probing down",
            State::Clear => "clearing",
            State::Doubt => "doubting",
            State::Compete => "competing",
            State::TryAlone => "trying alone",
            State::Resume => "resuming",
            State::Follow => "following",
        }
    }
}

#[cfg(test)]
mod tests;
