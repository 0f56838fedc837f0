//! How long to wait and how often to try again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Retries and time-outs. There is no limit for a whole download: a slow line is not an error.
#[derive(Clone, Debug)]
pub struct Patience {
    /// For a connection to be there.
    pub connect: Duration,
    /// Without a byte.
    pub stall: Duration,
    /// In a row without progress, before a place is given up.
    pub attempts: u32,
    /// Before the second attempt; doubles each time.
    pub first_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            attempts: 4,
            first_pause: Duration::from_millis(500),
        }
    }
}

impl Patience {
    const LONGEST: Duration = Duration::from_secs(30);
    /// Of what a server asks for by `Retry-After`.
    const LONGEST_ASKED: Duration = Duration::from_secs(120);

    /// The pause after `failures` failed attempts in a row: exponential, its second half random, so that many
    /// builders do not come back at the same moment.
    pub(super) fn pause(&self, failures: u32, asked: Option<Duration>) -> Duration {
        if let Some(asked) = asked {
            return asked.min(Self::LONGEST_ASKED);
        }
        let whole = self
            .first_pause
            .saturating_mul(1 << failures.saturating_sub(1).min(10))
            .min(Self::LONGEST);
        // Each RandomState is seeded anew by the system: randomness enough, without a crate for it.
        let random = (RandomState::new().hash_one(failures) >> 11) as f64 / (1_u64 << 53) as f64;
        whole.div_f64(2.0) + whole.div_f64(2.0).mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_vary_and_end() {
        let patience = Patience::default();
        for (failures, least, most) in [
            (1, 250, 500),
            (2, 500, 1000),
            (3, 1000, 2000),
            (60, 15_000, 30_000),
        ] {
            let pause = patience.pause(failures, None).as_millis();
            assert!((least..=most).contains(&pause), "{failures}: {pause} ms");
        }
        assert_ne!(patience.pause(3, None), patience.pause(3, None));
    }

    #[test]
    fn a_server_may_ask_for_a_pause_but_not_for_an_hour() {
        let patience = Patience::default();
        assert_eq!(
            patience.pause(1, Some(Duration::from_secs(7))),
            Duration::from_secs(7)
        );
        assert_eq!(
            patience.pause(1, Some(Duration::from_secs(3600))),
            Duration::from_secs(120)
        );
    }
}
