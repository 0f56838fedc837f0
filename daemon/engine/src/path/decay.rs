//! Does the path lose so much that it should carry nothing while another one lives?
//!
//! Losses are repaired, at the price of time for everything behind them. From a fifth on, what a path still brings is not
//! worth that. But a full queue or a policer loses as much for a moment: only a share that stays, without a queue, speaks
//! against the path. Then it is left, and small probes show what the loss comes from. If they all arrive, it came with
//! the load: the path is used again at once, and congestion control has some time to find the rate. If not, it is the
//! path's own, and the path rests until probes have arrived for a few seconds; longer each time that it was too early.

use std::time::Duration;

use crate::time::Instant;

/// A share of this is too much, as far as it is certain.
const TOO_MUCH: f64 = 0.13;
/// Of each part of the time that is looked at, more than this must be lost: a moment's loss is none that stays.
const STAYS: f64 = 0.10;
const PARTS: usize = 4;
/// A part is this long, or one and a half round trips.
const PART: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(150));
/// Packets in a part that say anything.
const TELLING: u32 = 8;
/// With a longer queue, loss is that of a queue.
const QUEUE: Duration = Duration::from_millis(20);

/// Probes that show whether the loss came with the load, and how often they are sent.
const TRIAL: u32 = 24;
const TRIAL_PROBE: Duration = Duration::from_millis(20);
/// Afterwards; and where each costs money.
const PROBE: Duration = Duration::from_millis(50);
const PROBE_METERED: Duration = Duration::from_millis(500);
/// A path is good again when less than this is lost, over this time at least and so many probes.
const GOOD: f64 = 0.05;
const REST: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(60));
const ENOUGH: u32 = 40;
/// Where loss came with the load, the path is not left again for this long.
const STAY: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(64));
/// After this long in use a path is as good as new.
const FORGIVEN: Duration = Duration::from_secs(120);

/// What became of the packets of some time.
#[derive(Clone, Copy, Debug, Default)]
struct Fates {
    packets: u32,
    lost: u32,
}

impl Fates {
    fn note(&mut self, lost: bool) {
        self.packets += 1;
        self.lost += u32::from(lost);
    }

    fn share(self) -> f64 {
        f64::from(self.lost) / f64::from(self.packets.max(1))
    }
}

/// A path that is left.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// What was sent before is of no interest.
    since: Instant,
    /// The first probes are still out.
    trial: bool,
    fates: Fates,
    /// Since when they are counted.
    from: Instant,
    next_probe: Instant,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing new goes there.
    Leave,
    /// It is used again.
    Return,
}

/// The losses of one path.
#[derive(Clone, Debug)]
pub struct Decay {
    /// The newest part first, which began then.
    parts: [Fates; PARTS],
    began: Instant,
    rest: Option<Rest>,
    /// Not left before this.
    stays_until: Instant,
    stay: Duration,
    resting: Duration,
    returned: Instant,
}

impl Default for Decay {
    fn default() -> Self {
        Self {
            parts: [Fates::default(); PARTS],
            began: Instant::ZERO,
            rest: None,
            stays_until: Instant::ZERO,
            stay: STAY.0,
            resting: REST.0,
            returned: Instant::ZERO,
        }
    }
}

impl Decay {
    /// A packet that left at `sent` arrived or is lost.
    pub fn on_fate(&mut self, sent: Instant, lost: bool) {
        match &mut self.rest {
            Some(rest) if sent >= rest.since => rest.fates.note(lost),
            Some(_) => {}
            None => self.parts[0].note(lost),
        }
    }

    /// A packet that counts as lost has arrived.
    pub fn on_late(&mut self) {
        let parts = match &mut self.rest {
            Some(rest) => std::slice::from_mut(&mut rest.fates),
            None => &mut self.parts,
        };
        if let Some(part) = parts.iter_mut().find(|part| part.lost > 0) {
            part.lost -= 1;
        }
    }

    /// True if nothing new should go there.
    pub fn rests(&self) -> bool {
        self.rest.is_some()
    }

    /// The share of packets that was lost lately.
    pub fn share(&self) -> f64 {
        self.sum().share()
    }

    /// Judges; call every few milliseconds. `queue`: how much of the path's delay is one; `better`: the share that the
    /// best other path loses, none if there is no other.
    pub fn look(
        &mut self,
        now: Instant,
        round_trip: Duration,
        queue: Duration,
        better: Option<f64>,
    ) -> Option<Verdict> {
        let Some(rest) = self.rest else {
            return self.look_in_use(now, round_trip, queue, better);
        };
        if rest.trial {
            if rest.fates.packets < TRIAL {
                return None;
            }
            if rest.fates.share() < GOOD {
                self.stays_until = now + self.stay;
                self.stay = (self.stay * 2).min(STAY.1);
                self.use_again(now);
                return Some(Verdict::Return);
            }
        } else if rest.fates.packets < ENOUGH || now.since(rest.from) < self.resting {
            return None;
        } else if rest.fates.share() < GOOD {
            self.resting = (self.resting * 2).min(REST.1);
            self.use_again(now);
            return Some(Verdict::Return);
        }
        self.rest = Some(Rest {
            trial: false,
            fates: Fates::default(),
            from: now,
            ..rest
        });
        None
    }

    fn look_in_use(
        &mut self,
        now: Instant,
        round_trip: Duration,
        queue: Duration,
        better: Option<f64>,
    ) -> Option<Verdict> {
        if now.since(self.returned) >= FORGIVEN {
            self.stay = STAY.0;
            self.resting = REST.0;
        }
        if now.since(self.began) < (round_trip * 3 / 2).clamp(PART.0, PART.1) {
            return None;
        }
        let all = self.sum();
        let share = all.share();
        let chance = 2.0 * (share * (1.0 - share) / f64::from(all.packets.max(1))).sqrt();
        let stays = (self.parts.iter()).all(|part| part.packets >= TELLING && part.share() > STAYS);
        let leave = stays
            && share - chance > TOO_MUCH
            && queue < QUEUE
            && now >= self.stays_until
            && better.is_some_and(|better| 2.0 * better < share);
        self.parts.rotate_right(1);
        self.parts[0] = Fates::default();
        self.began = now;
        if leave {
            self.rest = Some(Rest {
                since: now,
                trial: true,
                fates: Fates::default(),
                from: now,
                next_probe: now,
            });
        }
        leave.then_some(Verdict::Leave)
    }

    /// It is as good as new: it has died, and what comes back is another matter.
    pub fn use_again(&mut self, now: Instant) {
        self.rest = None;
        self.parts = [Fates::default(); PARTS];
        self.began = now;
        self.returned = now;
    }

    /// When the next probe should leave; none while the path is in use.
    pub fn probe_at(&self) -> Option<Instant> {
        self.rest.map(|rest| rest.next_probe)
    }

    /// A probe left.
    pub fn on_probe_sent(&mut self, now: Instant, metered: bool) {
        if let Some(rest) = &mut self.rest {
            rest.next_probe = now
                + match (rest.trial, metered) {
                    (true, _) => TRIAL_PROBE,
                    (false, false) => PROBE,
                    (false, true) => PROBE_METERED,
                };
        }
    }

    fn sum(&self) -> Fates {
        self.parts.iter().fold(Fates::default(), |sum, part| Fates {
            packets: sum.packets + part.packets,
            lost: sum.lost + part.lost,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(20);

    /// A path that loses every `nth` of the packets that leave each millisecond, or of the probes while it rests.
    struct Path {
        decay: Decay,
        now: Instant,
        sent: u64,
    }

    impl Path {
        fn new() -> Self {
            Self {
                decay: Decay::default(),
                now: Instant::from_millis(10_000),
                sent: 0,
            }
        }

        /// Runs until there is a verdict, or for so many milliseconds.
        fn run(
            &mut self,
            milliseconds: u64,
            queue: Duration,
            better: Option<f64>,
            loses: impl Fn(u64, bool) -> bool,
        ) -> Option<(Verdict, u64)> {
            for passed in 0..milliseconds {
                self.now += Duration::from_millis(1);
                let probes = self.decay.rests();
                if probes && self.decay.probe_at().is_some_and(|at| at <= self.now) {
                    self.decay.on_probe_sent(self.now, false);
                } else if probes {
                    let verdict = self.decay.look(self.now, ROUND_TRIP, queue, better);
                    if let Some(verdict) = verdict {
                        return Some((verdict, passed));
                    }
                    continue;
                }
                self.sent += 1;
                self.decay.on_fate(self.now, loses(self.sent, probes));
                if let Some(verdict) = self.decay.look(self.now, ROUND_TRIP, queue, better) {
                    return Some((verdict, passed));
                }
            }
            None
        }
    }

    #[test]
    fn a_path_that_loses_a_third_is_left_and_returns_when_it_is_good_for_seconds() {
        let mut path = Path::new();
        let third = |number: u64, _: bool| number.is_multiple_of(3);
        let (verdict, after) = path
            .run(1_000, Duration::ZERO, Some(0.0), third)
            .expect("a verdict");
        assert_eq!(verdict, Verdict::Leave);
        assert!(after <= 250, "{after}");
        assert_eq!(path.run(20_000, Duration::ZERO, Some(0.0), third), None);
        let (verdict, after) = path
            .run(10_000, Duration::ZERO, Some(0.0), |_, _| false)
            .expect("a verdict");
        assert_eq!(verdict, Verdict::Return);
        assert!((2_900..6_200).contains(&after), "{after}");
        // It was too early: the next time it rests for longer.
        path.run(1_000, Duration::ZERO, Some(0.0), third);
        path.run(1_000, Duration::ZERO, Some(0.0), third);
        assert_eq!(
            path.run(5_000, Duration::ZERO, Some(0.0), |_, _| false),
            None,
            "rests for longer"
        );
    }

    #[test]
    fn loss_that_comes_with_the_load_costs_half_a_second_and_seldom() {
        let mut path = Path::new();
        let loaded = |number: u64, probe: bool| !probe && number.is_multiple_of(3);
        assert!(path.run(1_000, Duration::ZERO, Some(0.0), loaded).is_some());
        let back = path.run(1_000, Duration::ZERO, Some(0.0), loaded);
        assert!(
            matches!(back, Some((Verdict::Return, after)) if after < 600),
            "{back:?}"
        );
        assert_eq!(
            path.run(3_900, Duration::ZERO, Some(0.0), loaded),
            None,
            "it stays in use"
        );
    }

    #[test]
    fn nothing_is_left_for_a_moments_loss_a_queues_or_where_nothing_is_better() {
        let third = |number: u64, _: bool| number.is_multiple_of(3);
        let mut path = Path::new();
        assert_eq!(path.run(5_000, Duration::from_millis(30), Some(0.0), third), None);
        assert_eq!(path.run(5_000, Duration::ZERO, Some(0.2), third), None);
        assert_eq!(path.run(5_000, Duration::ZERO, None, third), None);
        let mut path = Path::new();
        // 100 ms of nothing but loss in every second, and 5 % at any time.
        let moments = |number: u64, _: bool| number % 1_000 < 100 || number.is_multiple_of(20);
        assert_eq!(path.run(10_000, Duration::ZERO, Some(0.0), moments), None);
    }
}
