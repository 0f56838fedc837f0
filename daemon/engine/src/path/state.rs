//! Does the path live? `probing → active ⇄ suspect → down`, judged by silence where there should be answers.
//!
//! Silence S is the age of the oldest unanswered packet, in units of the time after which an answer is overdue. At 1 the
//! path is suspect: nothing new goes there, and what is unanswered is copied elsewhere, which costs little and can be
//! taken back. Unless there is little to judge by: a few packets, or many that left at once, get lost on a path that
//! lives. Then only what is overdue is copied, and a probe asks. At 2, and not before several probes were lost too, it is
//! down. How often a path that is down gets probed is one thing; whether it is trusted when it answers is another: a path
//! that flaps must answer for longer.

use std::time::Duration;

use super::rtt::RttEstimator;
use crate::time::Instant;

/// Beyond the round trip, silence up to this long is nothing: schedulers and radios pause so long.
const LEAST_SLACK: Duration = Duration::from_millis(8);
/// A path is not down before it was silent for this long: stalls of radio links pass, and being suspect is enough to keep
/// data off it.
const LEAST_SILENCE: Duration = Duration::from_millis(750);
/// Lost probes that it takes, beside the data that was lost.
const PROBES_BEFORE_DOWN: u32 = 3;
/// A silence that passed is allowed again, and a quarter more, for this long.
const STALLS_REMEMBERED: Duration = Duration::from_secs(120);
const LONGEST_TOLERANCE: Duration = Duration::from_millis(700);
/// Where bursts of acknowledgements get lost, answers pause for up to this long; a longer pause is an outage.
const LONGEST_PAUSE: Duration = Duration::from_millis(40);
const FIRST_PROBE: Duration = Duration::from_millis(100);
const LONGEST_PROBE: Duration = Duration::from_secs(1);
const LONGEST_PROBE_METERED: Duration = Duration::from_secs(30);
/// Answers that make a path valid.
const ANSWERS: u32 = 2;
const TRUST_FIRST: Duration = Duration::from_secs(2);
const TRUST_LONGEST: Duration = Duration::from_secs(60);
/// After this long without a failure a path is as good as new.
const FORGIVEN: Duration = Duration::from_secs(120);
/// An idle path is asked this often whether it lives; a metered one only to keep its NAT's mapping.
const IDLE_PROBE: Duration = Duration::from_secs(5);
const IDLE_PROBE_METERED: Duration = Duration::from_secs(20);

/// After data stopped to arrive for this long the path is asked, too: behind an address translator that forgot its
/// mapping nothing arrives any more, and only a packet from inside opens it again.
const QUIET: Duration = Duration::from_secs(1);
/// But only once for so many packets with data: now and then a packet is no stream that stopped.
const STREAM: u32 = 16;

/// So few overdue packets, or so many as left within this time, may all be lost by chance.
const FEW: usize = 4;
const BURST: Duration = Duration::from_millis(4);
/// Where no other path could take over, the question whether it lives may stay open for longer.
const PATIENCE_ALONE: Duration = Duration::from_millis(150);
/// While it is open, it is looked at this often whether there is more to judge by.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What a path has not answered yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unanswered {
    /// When the oldest packet left.
    pub oldest: Option<Instant>,
    /// Packets whose answer is overdue, see [`PathState::overdue_since`].
    pub overdue: usize,
    /// When the newest of them left.
    pub newest_overdue: Option<Instant>,
    /// No other path could take over, or others already have.
    pub alone: bool,
}

impl Unanswered {
    /// It may all be lost by chance, although the path lives.
    fn is_little(&self) -> bool {
        let within = match (self.oldest, self.newest_overdue) {
            (Some(oldest), Some(newest)) => newest.since(oldest),
            _ => Duration::ZERO,
        };
        self.alone || self.overdue <= FEW || within < BURST
    }
}

/// A silence that may be loss by chance.
#[derive(Clone, Copy, Debug)]
struct Question {
    /// When the oldest unanswered packet left.
    oldest: Instant,
    /// When the path was asked.
    at: Instant,
    /// When it was last looked at whether there is more to judge by.
    looked: Instant,
}

/// A path's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Not yet validated.
    Probing,
    /// Answers.
    Active,
    /// Silent for longer than it should be.
    Suspect,
    /// Dead, or not trusted again yet.
    Down,
}

/// A change of condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it was.
    pub from: Condition,
    /// What it is.
    pub to: Condition,
    /// Why, for people.
    pub why: &'static str,
}

/// The state machine of one path.
#[derive(Clone, Debug)]
pub struct PathState {
    condition: Condition,
    metered: bool,
    /// The interface or its address is gone: nothing is probed.
    link_gone: bool,
    /// When the condition began.
    since: Instant,
    answers: u32,
    failures: u32,
    /// While down: not active before this, even if it answers.
    trusted_at: Instant,
    probe_interval: Duration,
    next_probe: Instant,
    /// Probes sent since the path became suspect.
    suspect_probes: u32,
    /// Longest silence lately that ended by itself, and when that was.
    stall: Duration,
    stall_at: Instant,
    /// Longest time lately without any answer that was taken for a death in vain, and when that was.
    pause: Duration,
    pause_at: Instant,
    last_sent: Instant,
    last_answer: Instant,
    /// Packets with data that arrived since it was asked last, and when the newest did.
    heard: u32,
    heard_at: Instant,
    asked: Option<Question>,
    /// The question has not left yet.
    asks: bool,
}

impl PathState {
    /// A new path, to be probed at once.
    pub fn new(now: Instant, metered: bool) -> Self {
        Self {
            condition: Condition::Probing,
            metered,
            link_gone: false,
            since: now,
            answers: 0,
            failures: 0,
            trusted_at: now,
            probe_interval: FIRST_PROBE,
            next_probe: now,
            suspect_probes: 0,
            stall: Duration::ZERO,
            stall_at: Instant::ZERO,
            pause: Duration::ZERO,
            pause_at: Instant::ZERO,
            last_sent: now,
            last_answer: now,
            heard: 0,
            heard_at: now,
            asked: None,
            asks: false,
        }
    }

    /// What it is now.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// True if new data may be sent here.
    pub fn is_usable(&self) -> bool {
        self.condition == Condition::Active
    }

    /// Probes cost money from now on, or no longer.
    pub fn set_metered(&mut self, metered: bool) {
        self.metered = metered;
        if !metered {
            self.probe_interval = self.probe_interval.min(LONGEST_PROBE);
        }
    }

    /// A packet that was sent at `sent` was acknowledged.
    pub fn on_acked(&mut self, now: Instant, sent: Instant, rtt: &RttEstimator) -> Option<Change> {
        let pause = now.since(std::mem::replace(&mut self.last_answer, now));
        if self.link_gone {
            return None;
        }
        match self.condition {
            Condition::Active => {
                self.remember_stall(now, now.since(sent), rtt);
                self.remember_pause(now, Duration::ZERO);
                if self.failures > 0 && now.since(self.since) >= FORGIVEN {
                    self.failures = 0;
                }
                None
            }
            Condition::Suspect => {
                self.remember_stall(now, now.since(sent), rtt);
                self.remember_pause(now, pause);
                self.change(now, Condition::Active, "answers again")
            }
            Condition::Probing | Condition::Down => {
                // Only what was sent since then proves anything, and only if it came back promptly.
                if sent < self.since || now.since(sent) > self.prompt(rtt) {
                    return None;
                }
                self.answers += 1;
                if self.answers < ANSWERS {
                    self.next_probe = now;
                    return None;
                }
                self.probe_interval = FIRST_PROBE;
                if now < self.trusted_at {
                    return None;
                }
                let why = if self.failures > 0 {
                    "answers again"
                } else {
                    "validated"
                };
                self.change(now, Condition::Active, why)
            }
        }
    }

    /// What left by then should have been answered.
    pub fn overdue_since(&self, now: Instant, rtt: &RttEstimator, max_ack_delay: Duration) -> Instant {
        now - rtt.overdue(max_ack_delay)
    }

    /// A silence with little to judge by is more likely loss than the path's death: then a probe asks, and only if that
    /// stays unanswered too, or more comes to be overdue, the path is suspect. True while the question is open: what is
    /// overdue should be copied elsewhere already. Call before [`Self::on_silence`].
    pub fn asks_first(
        &mut self,
        now: Instant,
        unanswered: &Unanswered,
        rtt: &RttEstimator,
        max_ack_delay: Duration,
    ) -> bool {
        let Some(oldest) = unanswered.oldest.filter(|oldest| {
            self.condition == Condition::Active && now >= self.silent_at(*oldest, rtt, max_ack_delay)
        }) else {
            return false;
        };
        if !unanswered.is_little() {
            self.asked = None;
            return false;
        }
        if let Some(question) = self.asked.as_mut().filter(|question| question.oldest == oldest) {
            question.looked = now;
            return true;
        }
        self.asked = Some(Question {
            oldest,
            at: now,
            looked: now,
        });
        self.asks = true;
        true
    }

    /// Judges the silence; call after acknowledgements were taken in, and at [`Self::deadline`].
    pub fn on_silence(
        &mut self,
        now: Instant,
        unanswered: &Unanswered,
        rtt: &RttEstimator,
        max_ack_delay: Duration,
    ) -> Option<Change> {
        match self.condition {
            Condition::Active if now >= self.suspect_at(unanswered, rtt, max_ack_delay) => {
                self.suspect_probes = 0;
                self.next_probe = now;
                self.change(now, Condition::Suspect, "does not answer")
            }
            Condition::Suspect if self.suspect_probes >= PROBES_BEFORE_DOWN => {
                (now >= self.down_at(rtt, max_ack_delay)).then(|| self.fail(now, "silent"))?
            }
            _ => None,
        }
    }

    /// Silence in units of the time after which an answer is overdue, per cent: 100 makes a path suspect.
    pub fn silence(
        &self,
        now: Instant,
        oldest: Option<Instant>,
        rtt: &RttEstimator,
        max_ack_delay: Duration,
    ) -> u32 {
        let Some(oldest) = oldest else {
            return 0;
        };
        let age = now.since(oldest).as_nanos() * 100;
        u32::try_from(age / self.tolerance(rtt, max_ack_delay).as_nanos().max(1)).unwrap_or(u32::MAX)
    }

    /// The interface, its address or its route is gone, or its socket failed.
    pub fn on_link_gone(&mut self, now: Instant) -> Option<Change> {
        self.on_left(now, "link is gone")
    }

    /// Nothing is to be expected here, and nothing is asked, until [`Self::on_link_back`]. `why` is for people.
    pub fn on_left(&mut self, now: Instant, why: &'static str) -> Option<Change> {
        self.link_gone = true;
        match self.condition {
            Condition::Down => None,
            _ => self.fail(now, why),
        }
    }

    /// The interface is there again: probed at once. Losing a link visibly is no flapping, so that it is trusted at once
    /// too, unless it had other failures.
    pub fn on_link_back(&mut self, now: Instant) {
        if self.link_gone {
            self.link_gone = false;
            self.answers = 0;
            self.since = now;
            self.probe_now(now);
        }
    }

    /// Nothing better lives: a path that answers is trusted, however often it failed.
    pub fn trust_now(&mut self, now: Instant) -> Option<Change> {
        self.trusted_at = self.trusted_at.min(now);
        self.regain_trust(now)
    }

    /// Probing begins anew: there is need, or news about the interface.
    pub fn probe_now(&mut self, now: Instant) {
        if matches!(self.condition, Condition::Probing | Condition::Down) {
            self.probe_interval = FIRST_PROBE;
            self.next_probe = now;
        }
    }

    /// Data arrived on this path, and the end of that stream is to be noticed.
    pub fn on_data(&mut self, now: Instant) {
        self.heard = self.heard.saturating_add(1);
        self.heard_at = now;
    }

    /// Anything left on this path.
    pub fn on_sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// True if a probe, a packet that wants an answer, should leave now; [`Self::on_probe_sent`] must follow.
    pub fn wants_probe(&self, now: Instant) -> bool {
        self.probe_at().is_some_and(|at| at <= now)
    }

    /// A probe left.
    pub fn on_probe_sent(&mut self, now: Instant, rtt: &RttEstimator) {
        self.last_sent = now;
        self.heard = 0;
        match self.condition {
            Condition::Probing | Condition::Down => {
                self.next_probe = now + self.probe_interval;
                let longest = if self.metered {
                    LONGEST_PROBE_METERED
                } else {
                    LONGEST_PROBE
                };
                self.probe_interval = (self.probe_interval * 2).min(longest);
            }
            Condition::Suspect => {
                self.suspect_probes += 1;
                self.next_probe = now + (rtt.smoothed() / 2).clamp(Duration::from_millis(10), FIRST_PROBE);
            }
            Condition::Active => self.asks = false,
        }
    }

    /// A path that is down and answers becomes active once it is trusted; call at [`Self::deadline`].
    pub fn regain_trust(&mut self, now: Instant) -> Option<Change> {
        let answered = self.answers >= ANSWERS && now.since(self.last_answer) <= 2 * LONGEST_PROBE;
        if self.condition == Condition::Down && !self.link_gone && answered && now >= self.trusted_at {
            return self.change(now, Condition::Active, "answers for long enough");
        }
        None
    }

    /// When to call [`Self::on_silence`], [`Self::regain_trust`] or to send a probe next.
    pub fn deadline(
        &self,
        oldest: Option<Instant>,
        rtt: &RttEstimator,
        max_ack_delay: Duration,
    ) -> Option<Instant> {
        let judgement = match self.condition {
            Condition::Active => oldest.map(|oldest| {
                let silent = self.silent_at(oldest, rtt, max_ack_delay);
                match self.asked {
                    Some(question) if question.oldest == oldest => silent.max(question.looked + LOOK_AGAIN),
                    _ => silent,
                }
            }),
            Condition::Suspect if self.suspect_probes >= PROBES_BEFORE_DOWN => {
                Some(self.down_at(rtt, max_ack_delay))
            }
            Condition::Down if self.answers >= ANSWERS && !self.link_gone => Some(self.trusted_at),
            _ => None,
        };
        let judgement = judgement.filter(|at| *at < Instant::NEVER);
        [judgement, self.probe_at()].into_iter().flatten().min()
    }

    /// All times move: the caller did not run for that long.
    pub fn on_clock_gap(&mut self, gap: Duration) {
        for time in [
            &mut self.since,
            &mut self.next_probe,
            &mut self.last_answer,
            &mut self.last_sent,
            &mut self.heard_at,
        ] {
            *time += gap;
        }
    }

    /// How often it was given up lately.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn probe_at(&self) -> Option<Instant> {
        match self.condition {
            _ if self.link_gone => None,
            Condition::Active if self.asks => self.asked.map(|question| question.at),
            Condition::Active if self.heard >= STREAM => Some(self.heard_at + QUIET),
            Condition::Active if self.metered => Some(self.last_sent + IDLE_PROBE_METERED),
            Condition::Active => Some(self.last_sent + IDLE_PROBE),
            _ => Some(self.next_probe),
        }
    }

    /// How old an unanswered packet may be.
    fn tolerance(&self, rtt: &RttEstimator, max_ack_delay: Duration) -> Duration {
        let usual = rtt.probe_timeout(max_ack_delay).max(rtt.smoothed() + LEAST_SLACK);
        usual.max((self.stall * 5 / 4).min(LONGEST_TOLERANCE.max(usual)))
    }

    /// When the silence since `oldest` is too long.
    fn silent_at(&self, oldest: Instant, rtt: &RttEstimator, max_ack_delay: Duration) -> Instant {
        // What was sent before the last answer and is not lost yet was overtaken, or is about to be lost: the path lives,
        // so that the clock starts again with the answer.
        let pause = (rtt.variation() * 4).max(LEAST_SLACK).max(self.pause);
        let floor = self.last_answer + pause + max_ack_delay;
        (oldest + self.tolerance(rtt, max_ack_delay)).max(floor)
    }

    fn suspect_at(&self, unanswered: &Unanswered, rtt: &RttEstimator, max_ack_delay: Duration) -> Instant {
        let Some(oldest) = unanswered.oldest else {
            return Instant::NEVER;
        };
        let silent = self.silent_at(oldest, rtt, max_ack_delay);
        let tolerance = self.tolerance(rtt, max_ack_delay);
        let patience = if unanswered.alone {
            tolerance.max(PATIENCE_ALONE)
        } else {
            tolerance
        };
        match self.asked {
            Some(question) if question.oldest == oldest => silent.max(question.at + patience),
            _ => silent,
        }
    }

    fn down_at(&self, rtt: &RttEstimator, max_ack_delay: Duration) -> Instant {
        let tolerance = self.tolerance(rtt, max_ack_delay);
        // An idle path had nothing to answer: its last answer may be old.
        let silent_since = self.last_answer.max(self.since - tolerance).min(self.since);
        (silent_since + (2 * tolerance).max(LEAST_SILENCE)).max(self.since + tolerance)
    }

    /// A validating answer must come within this.
    fn prompt(&self, rtt: &RttEstimator) -> Duration {
        if rtt.is_measured() {
            (2 * rtt.smoothed()).max(LEAST_SILENCE)
        } else {
            Duration::from_secs(3)
        }
    }

    fn remember_stall(&mut self, now: Instant, age: Duration, rtt: &RttEstimator) {
        if now.since(self.stall_at) >= STALLS_REMEMBERED {
            self.stall = Duration::ZERO;
        }
        // A long round trip is a queue, which the estimator follows; a stall is what comes on top.
        if age > self.stall && age > rtt.smoothed() + LEAST_SLACK {
            self.stall = age;
            self.stall_at = now;
        }
    }

    fn remember_pause(&mut self, now: Instant, pause: Duration) {
        if now.since(self.pause_at) >= STALLS_REMEMBERED {
            self.pause = Duration::ZERO;
        }
        if pause > self.pause && pause <= LONGEST_PAUSE {
            self.pause = pause;
            self.pause_at = now;
        }
    }

    fn fail(&mut self, now: Instant, why: &'static str) -> Option<Change> {
        if self.condition != Condition::Probing {
            if !self.link_gone {
                self.trusted_at = match self.failures {
                    0 => now,
                    again => now + (TRUST_FIRST * (1 << (again - 1).min(5))).min(TRUST_LONGEST),
                };
                self.failures += 1;
            }
            self.next_probe = now + FIRST_PROBE;
            self.probe_interval = FIRST_PROBE;
        }
        self.change(now, Condition::Down, why)
    }

    fn change(&mut self, now: Instant, to: Condition, why: &'static str) -> Option<Change> {
        let from = std::mem::replace(&mut self.condition, to);
        if from != Condition::Suspect || to != Condition::Active {
            self.since = now;
        }
        self.answers = 0;
        self.asked = None;
        self.asks = false;
        Some(Change { from, to, why })
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
