//! Delay that varies as radio links make it vary: slowly, or in grants of a scheduler, never drawn per packet.

use super::random::Random;
use crate::time::Nanos;

/// How the delay of a link varies. It only adds delay, and never changes the order of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Jitter {
    /// Constant delay.
    #[default]
    None,
    /// The size of an Ornstein–Uhlenbeck process: wanders and comes back.
    Wander {
        /// Standard deviation of the process; the mean added delay is 0.8 of it.
        spread: Nanos,
        /// Time over which the process forgets where it was.
        memory: Nanos,
    },
    /// Frames leave only at multiples of this interval, as uplink grants of a radio cell come.
    Grants {
        /// Between two grants.
        every: Nanos,
    },
}

/// Steps of the process: finer than what a receiver can tell from a constant delay.
const STEP: u64 = 1_000_000;

/// Where the process stands.
#[derive(Debug, Default)]
pub(super) struct JitterState {
    step: u64,
    value: f64,
}

impl JitterState {
    /// The delay to add for a frame that leaves at `now`.
    pub(super) fn added(&mut self, jitter: Jitter, now: Nanos, random: &mut Random) -> Nanos {
        match jitter {
            Jitter::None => Nanos::ZERO,
            Jitter::Grants { every } => match every.0 {
                0 => Nanos::ZERO,
                every => Nanos(now.0.next_multiple_of(every) - now.0),
            },
            Jitter::Wander { spread, memory } => {
                let keep = 1.0 - (STEP as f64 / memory.0.max(STEP) as f64).min(1.0);
                let fresh = (1.0 - keep * keep).sqrt();
                let step = now.0 / STEP;
                // After a pause longer than its memory the process has forgotten everything anyway.
                let steps = (step - self.step.min(step)).min(10 * (memory.0 / STEP).max(1));
                for _ in 0..steps {
                    self.value = keep * self.value + fresh * random.normal();
                }
                self.step = step;
                Nanos((self.value.abs() * spread.0 as f64) as u64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wandering_has_its_spread_and_its_memory() {
        let jitter = Jitter::Wander {
            spread: Nanos::from_millis(5.0),
            memory: Nanos::from_millis(50.0),
        };
        let (mut state, mut random) = (JitterState::default(), Random::new(3, 0));
        let values: Vec<f64> = (0..200_000)
            .map(|ms| state.added(jitter, Nanos(ms * STEP), &mut random).millis())
            .collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        assert!((mean - 4.0).abs() < 0.3, "{mean}");
        let near = values
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).abs())
            .sum::<f64>()
            / values.len() as f64;
        let far = values
            .windows(500)
            .map(|window| (window[499] - window[0]).abs())
            .sum::<f64>()
            / values.len() as f64;
        assert!(
            near < far / 3.0,
            "a millisecond apart {near}, half a second apart {far}"
        );
    }

    #[test]
    fn grants_come_at_their_interval() {
        let jitter = Jitter::Grants {
            every: Nanos::from_millis(4.0),
        };
        let added = JitterState::default().added(jitter, Nanos::from_millis(9.0), &mut Random::new(0, 0));
        assert_eq!(added, Nanos::from_millis(3.0));
    }
}
