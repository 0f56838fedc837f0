//! Loss and delay variation as processes in time.

use std::time::Duration;

use sennit_engine::time::Instant;

use crate::dice::Dice;

/// Which packets a link loses, besides those that its queue has no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each packet with this probability.
    Random(f64),
    /// Gilbert–Elliott: all packets of bursts that are `length` packets long on average; `share` of all packets.
    Bursts {
        /// Share of all packets that is lost.
        share: f64,
        /// Mean length of a burst, in packets.
        length: f64,
    },
}

impl Loss {
    /// Share of packets lost over a long time.
    pub fn share(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Random(share) | Self::Bursts { share, .. } => share,
        }
    }
}

/// Draws losses.
#[derive(Clone, Debug, Default)]
pub struct LossProcess {
    in_burst: bool,
}

impl LossProcess {
    /// Whether the next packet is lost.
    pub fn next(&mut self, loss: Loss, dice: &mut Dice) -> bool {
        match loss {
            Loss::None => false,
            Loss::Random(chance) => dice.chance(chance),
            Loss::Bursts { share, length } => {
                let leave = 1.0 / length.max(1.0);
                let enter = share * leave / (1.0 - share).max(1e-9);
                self.in_burst = if self.in_burst {
                    !dice.chance(leave)
                } else {
                    dice.chance(enter)
                };
                self.in_burst
            }
        }
    }
}

/// Delay variation that is correlated in time, as radio schedulers make it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter {
    /// Standard deviation; the delay grows by 0 to 5 of it, 2.5 on average.
    pub deviation: Duration,
    /// How long the delay stays similar.
    pub correlation: Duration,
}

/// An Ornstein–Uhlenbeck process.
#[derive(Clone, Debug, Default)]
pub struct JitterProcess {
    level: f64,
    at: Instant,
}

impl JitterProcess {
    /// The delay to add to a packet at `now`; times must not go back.
    pub fn next(&mut self, jitter: Jitter, now: Instant, dice: &mut Dice) -> Duration {
        let passed = now.since(self.at).as_secs_f64();
        let keep = (-passed / jitter.correlation.as_secs_f64().max(1e-6)).exp();
        self.level = self.level * keep + dice.normal() * (1.0 - keep * keep).sqrt();
        self.at = now;
        jitter.deviation.mul_f64(self.level.clamp(-2.5, 2.5) + 2.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_have_their_share_and_length() {
        let mut dice = Dice::new(5, "bursts");
        let mut process = LossProcess::default();
        let loss = Loss::Bursts {
            share: 0.02,
            length: 5.0,
        };
        let (mut lost, mut bursts, mut before) = (0, 0, false);
        for _ in 0..500_000 {
            let now = process.next(loss, &mut dice);
            lost += u32::from(now);
            bursts += u32::from(now && !before);
            before = now;
        }
        assert!((9_000..11_000).contains(&lost), "{lost}");
        let length = f64::from(lost) / f64::from(bursts);
        assert!((4.5..5.5).contains(&length), "{length}");
    }

    #[test]
    fn jitter_is_similar_at_near_times_and_not_at_far_ones() {
        let jitter = Jitter {
            deviation: Duration::from_millis(4),
            correlation: Duration::from_millis(50),
        };
        let mut dice = Dice::new(5, "jitter");
        let mean_step = |gap: u64, dice: &mut Dice| {
            let mut process = JitterProcess::default();
            let mut last = process.next(jitter, Instant::ZERO, dice).as_secs_f64();
            let steps: f64 = (1..2000)
                .map(|index| {
                    let next = process
                        .next(jitter, Instant::from_millis(index * gap), dice)
                        .as_secs_f64();
                    let step = (next - last).abs();
                    last = next;
                    step
                })
                .sum();
            steps / 2000.0
        };
        assert!(mean_step(1, &mut dice) * 3.0 < mean_step(500, &mut dice));
    }
}
