//! How regularly a path answers, so that a pause shows long before it is certain that the path has fallen silent.
//!
//! A path under load answers every millisecond or two. If it then stops for several times as long, while something is
//! unanswered that should have been answered, there is reason for doubt: enough to send the little that somebody waits
//! for over another path as well, and far too little to move everything.

use std::time::Duration;

use super::rtt::RttEstimator;
use crate::time::Instant;

/// Machines pause for so long by themselves.
const LEAST_PAUSE: Duration = Duration::from_millis(3);

/// When answers came.
#[derive(Clone, Debug, Default)]
pub struct Rhythm {
    answered: Instant,
    /// Something was left unanswered, so that the next answer should follow.
    more: bool,
    /// Mean and mean deviation of the time between answers, nanoseconds.
    spacing: i64,
    deviation: i64,
}

impl Rhythm {
    /// An answer came; `more` are still to come.
    pub fn on_answer(&mut self, now: Instant, more: bool) {
        let passed = now.since(self.answered).as_nanos() as i64;
        // Acknowledgements that came together are one answer.
        if self.more && passed > 0 {
            self.deviation += ((passed - self.spacing).abs() - self.deviation) / 8;
            self.spacing += (passed - self.spacing) / 8;
        }
        self.answered = now;
        self.more = more;
    }

    /// When there is reason for doubt, if the oldest unanswered packet left at `oldest` and no answer comes until then.
    pub fn doubtful_at(&self, oldest: Instant, rtt: &RttEstimator, max_ack_delay: Duration) -> Instant {
        let pause = Duration::from_nanos((self.spacing + 4 * self.deviation).unsigned_abs()).max(LEAST_PAUSE);
        (self.answered + pause).max(oldest + rtt.overdue(max_ack_delay))
    }

    /// All times move: the caller did not run for that long.
    pub fn on_clock_gap(&mut self, gap: Duration) {
        self.answered += gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK_DELAY: Duration = Duration::from_millis(5);

    fn at(milliseconds: u64) -> Instant {
        Instant::from_millis(milliseconds)
    }

    /// A path of 20 ms that answers every `spacing` milliseconds for a second; the time of its last answer.
    fn answering(spacing: u64) -> (Rhythm, RttEstimator, u64) {
        let (mut rhythm, mut rtt) = (Rhythm::default(), RttEstimator::new());
        let mut last = 0;
        for time in (0..1_000).step_by(spacing as usize) {
            rtt.update(Duration::from_millis(20), Duration::ZERO, at(time));
            rhythm.on_answer(at(time), true);
            last = time;
        }
        (rhythm, rtt, last)
    }

    #[test]
    fn a_path_that_answers_often_is_doubted_after_a_few_milliseconds() {
        let (rhythm, rtt, last) = answering(1);
        // The oldest packet without an answer left a round trip before the last answer came.
        let doubtful = rhythm.doubtful_at(at(last - 19), &rtt, ACK_DELAY);
        assert!(doubtful > at(last + 2) && doubtful < at(last + 6), "{doubtful:?}");
    }

    #[test]
    fn one_that_answers_seldom_gets_the_time_that_it_takes() {
        let (rhythm, rtt, last) = answering(15);
        assert!(rhythm.doubtful_at(at(last - 19), &rtt, ACK_DELAY) >= at(last + 15));
    }

    #[test]
    fn nothing_is_doubted_before_an_answer_could_be_there() {
        let (rhythm, rtt, last) = answering(1);
        assert!(rhythm.doubtful_at(at(last + 10), &rtt, ACK_DELAY) > at(last + 30));
    }

    #[test]
    fn a_pause_in_which_nothing_was_unanswered_says_nothing() {
        let (mut rhythm, rtt, last) = answering(1);
        rhythm.on_answer(at(last), false);
        rhythm.on_answer(at(last + 5_000), true);
        assert!(rhythm.doubtful_at(at(last + 4_981), &rtt, ACK_DELAY) < at(last + 5_006));
    }
}
