//! Which frames a link loses by itself, apart from full queues.

use super::random::Random;

/// Loss on the wire, after the frame has taken its share of the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each frame on its own, with this probability.
    Random(f64),
    /// Gilbert–Elliott: runs of lost frames.
    Burst {
        /// Share of frames lost in the long run.
        share: f64,
        /// Mean length of a run of lost frames, at least 1.
        length: f64,
    },
}

impl Loss {
    /// Share of frames lost in the long run, 0..1.
    pub fn share(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Random(share) | Self::Burst { share, .. } => share,
        }
    }
}

/// What a link remembers of its losses.
#[derive(Debug, Default)]
pub(super) struct LossState {
    bad: bool,
}

impl LossState {
    /// Decides over the next frame.
    pub(super) fn loses(&mut self, loss: Loss, random: &mut Random) -> bool {
        match loss {
            Loss::None => false,
            Loss::Random(share) => random.chance(share),
            Loss::Burst { share, length } => {
                // Leaves the bad state with 1/length, and enters it so often that the share comes out.
                let leave = 1.0 / length.max(1.0);
                let enter = share * leave / (1.0 - share).max(1e-9);
                self.bad = if self.bad {
                    !random.chance(leave)
                } else {
                    random.chance(enter)
                };
                self.bad
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(loss: Loss, frames: usize) -> Vec<bool> {
        let (mut state, mut random) = (LossState::default(), Random::new(7, 1));
        (0..frames).map(|_| state.loses(loss, &mut random)).collect()
    }

    #[test]
    fn the_share_is_what_was_asked_for() {
        for loss in [
            Loss::Random(0.03),
            Loss::Burst {
                share: 0.03,
                length: 5.0,
            },
        ] {
            let share = lost(loss, 1_000_000).iter().filter(|lost| **lost).count() as f64 / 1e6;
            assert!((share - 0.03).abs() < 0.001, "{loss:?}: {share}");
        }
    }

    #[test]
    fn bursts_have_the_length_that_was_asked_for() {
        let pattern = lost(
            Loss::Burst {
                share: 0.01,
                length: 5.0,
            },
            2_000_000,
        );
        let bursts = pattern.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        let mean = pattern.iter().filter(|lost| **lost).count() as f64 / bursts as f64;
        assert!((mean - 5.0).abs() < 0.25, "{mean}");
    }
}
