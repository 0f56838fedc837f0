//! How far a benchmark is, and how long it will take: runs have a known length, and what is around them is learned.

use std::time::Instant;

use crate::scenario::Scenario;
use crate::series::turns;

/// What building and taking down a network takes, before any was timed, in seconds.
const AROUND: f64 = 3.0;

/// How far it is.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Runs in all, and those begun.
    all: usize,
    begun: usize,
    /// Seconds of traffic in the runs that have not begun.
    open: f64,
    /// Seconds of traffic of the run that goes on.
    current: f64,
    /// When the first began.
    started: Option<Instant>,
    /// Seconds of traffic in all runs that have begun, repetitions included, and their number.
    traffic: (f64, usize),
}

impl Progress {
    /// Of these scenarios, none of which has begun.
    pub(super) fn new<'a>(scenarios: impl Iterator<Item = &'a Scenario>) -> Self {
        let (mut all, mut open) = (0, 0.0);
        for scenario in scenarios {
            let runs = turns(scenario).len();
            all += runs;
            open += runs as f64 * length(scenario);
        }
        Self {
            all,
            begun: 0,
            open,
            current: 0.0,
            started: None,
            traffic: (0.0, 0),
        }
    }

    /// Runs in all.
    pub(super) fn runs(&self) -> usize {
        self.all
    }

    /// A run of that many seconds begins.
    pub(super) fn begin(&mut self, seconds: f64) {
        self.begun += 1;
        self.open -= seconds;
        self.again(seconds);
    }

    /// A run is done again.
    pub(super) fn again(&mut self, seconds: f64) {
        self.started.get_or_insert_with(Instant::now);
        self.current = seconds;
        self.traffic.0 += seconds;
        self.traffic.1 += 1;
    }

    /// All turns of this scenario but so many have fallen out.
    pub(super) fn skip(&mut self, scenario: &Scenario, done: usize) {
        let out = turns(scenario).len().saturating_sub(done);
        self.all -= out;
        self.open -= out as f64 * length(scenario);
    }

    /// Which run it is, and how long the rest takes.
    pub(super) fn stand(&self) -> String {
        format!("{} of {}, {} left", self.begun, self.all, self.left())
    }

    /// How long the rest takes, the run that goes on included.
    pub(super) fn left(&self) -> String {
        let spent = self
            .started
            .map_or(0.0, |started| started.elapsed().as_secs_f64());
        // The run that has just begun has no time around it yet.
        let (traffic, runs) = (self.traffic.0 - self.current, self.traffic.1.saturating_sub(1));
        let around = if runs == 0 {
            AROUND
        } else {
            ((spent - traffic) / runs as f64).max(0.0)
        };
        let runs = (self.all - self.begun) as f64;
        let current = if self.begun > 0 {
            self.current + around
        } else {
            0.0
        };
        duration(self.open + runs * around + current)
    }
}

/// Seconds that a run lasts.
pub(super) fn length(scenario: &Scenario) -> f64 {
    scenario.settle + scenario.seconds
}

/// Seconds in words.
pub(super) fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).ceil() as u64;
    match (minutes / 60, minutes % 60) {
        _ if seconds < 90.0 => format!("{seconds:.0} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_shrinks_with_every_run_to_nothing() {
        let mut scenario = Scenario::find("quick").expect("shipped");
        scenario.repeat = 3;
        let mut progress = Progress::new([&scenario].into_iter());
        assert_eq!((progress.runs(), progress.left().as_str()), (3, "18 s"));
        progress.begin(3.0);
        assert_eq!(progress.stand(), "1 of 3, 18 s left");
        progress.skip(&scenario, 1);
        assert_eq!((progress.runs(), progress.open), (1, 0.0));
    }

    #[test]
    fn durations_are_told_as_people_do() {
        assert_eq!(
            [40.0, 600.0, 7500.0].map(duration),
            ["40 s", "10 min", "2 h 5 min"]
        );
    }
}
