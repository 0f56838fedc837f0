//! One direction of one WAN: a queue in front of a rate, a delay behind it, and what weather does to packets.
//!
//! All that happens over time is written in the settings beforehand, so that a packet's fate is known when it enters.

use std::collections::VecDeque;
use std::time::Duration;

use sennit_engine::time::Instant;

use super::rate::Rate;
use super::weathering::{Jitter, JitterProcess, Loss, LossProcess};
use crate::dice::Dice;
use crate::histogram::Histogram;

/// Bytes that a link counts for each packet beyond its IP length: the Ethernet header.
pub const FRAME_OVERHEAD: u64 = 14;

/// A token bucket that drops, without any queue.
#[derive(Clone, Copy, Debug)]
pub struct Policer {
    /// Bytes per second.
    pub rate: f64,
    /// Bytes that may come at once.
    pub burst: f64,
}

/// Some packets take longer than those behind them.
#[derive(Clone, Copy, Debug)]
pub struct Reordering {
    /// Share of packets.
    pub chance: f64,
    /// How much longer they take.
    pub by: Duration,
}

/// A time in which a link loses everything, silently.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// Since the start of the run.
    pub from: Duration,
    /// Since the start of the run.
    pub until: Duration,
}

/// A change of weather.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Another delay.
    Delay(Duration),
    /// Another delay variation.
    Jitter(Option<Jitter>),
    /// Another loss.
    Loss(Loss),
}

/// What a link is like.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// How fast.
    pub rate: Rate,
    /// Propagation delay.
    pub delay: Duration,
    /// Delay variation; keeps the order of packets.
    pub jitter: Option<Jitter>,
    /// Bytes that wait at most.
    pub queue: u64,
    /// Loss behind the queue: a lost packet has used its share of the rate.
    pub loss: Loss,
    /// Packets overtaken by later ones.
    pub reordering: Option<Reordering>,
    /// Share of packets that arrive twice.
    pub duplication: f64,
    /// Share of packets in which a bit is wrong.
    pub corruption: f64,
    /// In front of the queue.
    pub policer: Option<Policer>,
    /// Packets that wait longer are marked with congestion experienced.
    pub mark_above: Option<Duration>,
    /// Silent outages.
    pub outages: Vec<Outage>,
    /// What changes when, in order of time.
    pub changes: Vec<(Duration, Change)>,
}

impl LinkSettings {
    /// A clean link: rate in bytes per second, delay, queue in bytes.
    pub fn new(rate: f64, delay: Duration, queue: u64) -> Self {
        Self {
            rate: Rate::constant(rate),
            delay,
            jitter: None,
            queue,
            loss: Loss::None,
            reordering: None,
            duplication: 0.0,
            corruption: 0.0,
            policer: None,
            mark_above: None,
            outages: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Whether nothing passes at a time.
    pub fn is_dead(&self, now: Instant) -> bool {
        let now = now.since(Instant::ZERO);
        (self.outages.iter()).any(|outage| outage.from <= now && now < outage.until)
    }
}

/// Why a packet did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// The queue had no room.
    QueueFull,
    /// Chance.
    Random,
    /// Over the policer's rate.
    Policer,
    /// The link was dead.
    Outage,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Arrives {
        /// When.
        at: Instant,
        /// When a second copy arrives.
        again: Option<Instant>,
        /// With congestion experienced.
        marked: bool,
        /// Which bit is wrong; to be taken modulo the length.
        corrupted: Option<u64>,
    },
    /// It does not.
    Lost(LossCause),
}

/// What a link has seen.
#[derive(Clone, Debug, Default)]
pub struct LinkStatistics {
    /// Packets that came.
    pub offered: u64,
    /// Packets that arrived.
    pub delivered: u64,
    /// Bytes of packets that arrived, frame overhead included.
    pub delivered_bytes: u64,
    /// Bytes that used the rate, lost behind it or not.
    pub carried_bytes: u64,
    /// Packets lost, by cause.
    pub lost_queue: u64,
    /// By chance.
    pub lost_random: u64,
    /// By the policer.
    pub lost_policer: u64,
    /// In outages.
    pub lost_outage: u64,
    /// Time from entering to having left the queue.
    pub queueing: Histogram,
}

impl LinkStatistics {
    /// All packets lost.
    pub fn lost(&self) -> u64 {
        self.lost_queue + self.lost_random + self.lost_policer + self.lost_outage
    }
}

/// One direction of one WAN.
#[derive(Debug)]
pub struct Link {
    settings: LinkSettings,
    dice: Dice,
    /// When each waiting packet has left, and its size.
    waiting: VecDeque<(Instant, u64)>,
    waiting_bytes: u64,
    busy_until: Instant,
    last_arrival: Instant,
    jitter: JitterProcess,
    loss: LossProcess,
    tokens: f64,
    tokens_at: Instant,
    changes_done: usize,
    statistics: LinkStatistics,
}

impl Link {
    /// An idle link whose luck comes from `dice`.
    pub fn new(settings: LinkSettings, dice: Dice) -> Self {
        Self {
            tokens: settings.policer.map_or(0.0, |policer| policer.burst),
            settings,
            dice,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            busy_until: Instant::ZERO,
            last_arrival: Instant::ZERO,
            jitter: JitterProcess::default(),
            loss: LossProcess::default(),
            tokens_at: Instant::ZERO,
            changes_done: 0,
            statistics: LinkStatistics::default(),
        }
    }

    /// What it is like.
    pub fn settings(&self) -> &LinkSettings {
        &self.settings
    }

    /// What it has seen.
    pub fn statistics(&self) -> &LinkStatistics {
        &self.statistics
    }

    /// Bytes that wait at `now`.
    pub fn backlog(&mut self, now: Instant) -> u64 {
        while let Some((departure, size)) = self.waiting.front()
            && *departure <= now
        {
            self.waiting_bytes -= size;
            self.waiting.pop_front();
        }
        self.waiting_bytes
    }

    /// Takes a packet of `length` bytes (IP header included).
    pub fn offer(&mut self, now: Instant, length: usize) -> Fate {
        self.statistics.offered += 1;
        let fate = self.fate(now, length as u64 + FRAME_OVERHEAD);
        match fate {
            Fate::Arrives { again, .. } => {
                self.statistics.delivered += 1 + u64::from(again.is_some());
                self.statistics.delivered_bytes += length as u64 + FRAME_OVERHEAD;
            }
            Fate::Lost(LossCause::QueueFull) => self.statistics.lost_queue += 1,
            Fate::Lost(LossCause::Random) => self.statistics.lost_random += 1,
            Fate::Lost(LossCause::Policer) => self.statistics.lost_policer += 1,
            Fate::Lost(LossCause::Outage) => self.statistics.lost_outage += 1,
        }
        fate
    }

    fn fate(&mut self, now: Instant, size: u64) -> Fate {
        if self.settings.is_dead(now) {
            return Fate::Lost(LossCause::Outage);
        }
        if !self.police(now, size) {
            return Fate::Lost(LossCause::Policer);
        }
        if self.backlog(now) + size > self.settings.queue {
            return Fate::Lost(LossCause::QueueFull);
        }
        let departure = self.settings.rate.finish(now.max(self.busy_until), size);
        self.busy_until = departure;
        self.waiting.push_back((departure, size));
        self.waiting_bytes += size;
        self.apply_changes(departure);
        if departure == Instant::NEVER || self.settings.is_dead(departure) {
            return Fate::Lost(LossCause::Outage);
        }
        self.statistics.carried_bytes += size;
        self.statistics.queueing.record(departure.since(now));
        if self.loss.next(self.settings.loss, &mut self.dice) {
            return Fate::Lost(LossCause::Random);
        }
        let marked = (self.settings.mark_above).is_some_and(|limit| departure.since(now) > limit);
        let at = self.arrival(departure);
        let again = (self.dice.chance(self.settings.duplication)).then(|| at + Duration::from_micros(300));
        let corrupted = (self.dice.chance(self.settings.corruption)).then(|| self.dice.bits());
        Fate::Arrives {
            at,
            again,
            marked,
            corrupted,
        }
    }

    fn arrival(&mut self, departure: Instant) -> Instant {
        let mut delay = self.settings.delay;
        if let Some(jitter) = self.settings.jitter {
            delay += self.jitter.next(jitter, departure, &mut self.dice);
        }
        let in_order = (departure + delay).max(self.last_arrival);
        match self.settings.reordering {
            Some(reordering) if self.dice.chance(reordering.chance) => in_order + reordering.by,
            _ => {
                self.last_arrival = in_order;
                in_order
            }
        }
    }

    fn police(&mut self, now: Instant, size: u64) -> bool {
        let Some(policer) = self.settings.policer else {
            return true;
        };
        let gained = policer.rate * now.since(self.tokens_at).as_secs_f64();
        self.tokens = (self.tokens + gained).min(policer.burst);
        self.tokens_at = now;
        let passes = self.tokens >= size as f64;
        if passes {
            self.tokens -= size as f64;
        }
        passes
    }

    fn apply_changes(&mut self, now: Instant) {
        while let Some((from, change)) = self.settings.changes.get(self.changes_done)
            && Instant::ZERO + *from <= now
        {
            match *change {
                Change::Delay(delay) => self.settings.delay = delay,
                Change::Jitter(jitter) => self.settings.jitter = jitter,
                Change::Loss(loss) => self.settings.loss = loss,
            }
            self.changes_done += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::megabits;

    fn link(settings: LinkSettings) -> Link {
        Link::new(settings, Dice::new(1, "link"))
    }

    fn clean() -> LinkSettings {
        LinkSettings::new(megabits(12.112), Duration::from_millis(10), 15_140)
    }

    fn arrival(fate: Fate) -> Instant {
        match fate {
            Fate::Arrives { at, .. } => at,
            Fate::Lost(cause) => panic!("lost: {cause:?}"),
        }
    }

    #[test]
    fn a_packet_takes_its_transmission_and_the_delay() {
        let mut link = link(clean());
        // 1,514 bytes at 1.514 MB/s are 1 ms.
        assert_eq!(arrival(link.offer(Instant::ZERO, 1500)), Instant::from_millis(11));
        assert_eq!(arrival(link.offer(Instant::ZERO, 1500)), Instant::from_millis(12));
        assert_eq!(link.backlog(Instant::from_millis(1)), 1514);
    }

    #[test]
    fn the_queue_drops_what_does_not_fit() {
        let mut link = link(clean());
        let lost = (0..12)
            .filter(|_| link.offer(Instant::ZERO, 1500) == Fate::Lost(LossCause::QueueFull))
            .count();
        assert_eq!(lost, 2);
    }

    #[test]
    fn an_outage_takes_also_what_is_in_the_queue() {
        let mut settings = clean();
        settings.outages = vec![Outage {
            from: Duration::from_millis(2),
            until: Duration::from_millis(100),
        }];
        let mut link = link(settings);
        let fates: Vec<Fate> = (0..4).map(|_| link.offer(Instant::ZERO, 1500)).collect();
        assert!(matches!(fates[0], Fate::Arrives { .. }));
        assert_eq!(fates[2], Fate::Lost(LossCause::Outage));
        assert!(matches!(
            link.offer(Instant::from_millis(100), 1500),
            Fate::Arrives { .. }
        ));
    }

    #[test]
    fn a_policer_lets_its_rate_pass() {
        let mut settings = LinkSettings::new(megabits(1000.0), Duration::ZERO, 1_000_000);
        settings.policer = Some(Policer {
            rate: 1_514_000.0,
            burst: 15_140.0,
        });
        let mut link = link(settings);
        let passed = (0..10_000u64)
            .filter(|index| {
                !matches!(
                    link.offer(Instant::from_nanos(index * 500_000), 1500),
                    Fate::Lost(_)
                )
            })
            .count();
        assert!((5_000..5_020).contains(&passed), "{passed}");
    }

    #[test]
    fn jitter_keeps_order_and_reordering_breaks_it() {
        let mut settings = LinkSettings::new(megabits(50.0), Duration::from_millis(10), 1_000_000);
        settings.jitter = Some(Jitter {
            deviation: Duration::from_millis(5),
            correlation: Duration::from_millis(20),
        });
        let overtaken = |settings: LinkSettings| {
            let mut link = link(settings);
            let arrivals: Vec<Instant> = (0..2000u64)
                .map(|index| arrival(link.offer(Instant::from_nanos(index * 300_000), 1500)))
                .collect();
            arrivals.windows(2).filter(|pair| pair[1] < pair[0]).count()
        };
        assert_eq!(overtaken(settings.clone()), 0);
        settings.reordering = Some(Reordering {
            chance: 0.05,
            by: Duration::from_millis(5),
        });
        assert!(overtaken(settings) > 50);
    }

    #[test]
    fn weather_changes_when_it_is_told_to() {
        let mut settings = clean();
        settings.changes = vec![(
            Duration::from_millis(50),
            Change::Delay(Duration::from_millis(310)),
        )];
        let mut link = link(settings);
        assert_eq!(
            arrival(link.offer(Instant::from_millis(10), 1500)),
            Instant::from_millis(21)
        );
        assert_eq!(
            arrival(link.offer(Instant::from_millis(60), 1500)),
            Instant::from_millis(371)
        );
    }
}
