//! How far a benchmark is, and how long it will take: runs have a known length, and what is around them is learned.

use std::time::Instant;

use crate::scenario::Scenario;
use crate::series::turns;

/// What building and taking down a network takes, before any was timed, in seconds.
const AROUND: f64 = 3.0;

/// How far it is.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Scenarios that run at once.
    jobs: usize,
    /// All scenarios, in the order in which they begin: those that may run beside others, and then the rest.
    beside: Vec<Work>,
    alone: Vec<Work>,
    /// Seconds around the traffic of runs that have ended, and their number.
    around: (f64, usize),
}

/// What there is to do in one scenario.
#[derive(Clone, Debug)]
struct Work {
    name: String,
    /// Runs in all, and those begun.
    all: usize,
    begun: usize,
    /// Seconds that each lasts.
    length: f64,
    /// When the one that goes on began.
    since: Option<Instant>,
}

impl Work {
    fn of(scenario: &Scenario) -> Self {
        Self {
            name: scenario.name.clone(),
            all: turns(scenario).len(),
            begun: 0,
            length: scenario.settle + scenario.seconds,
            since: None,
        }
    }

    /// Seconds until it is done, if each run takes so long beside its traffic.
    fn left(&self, around: f64) -> f64 {
        let each = self.length + around;
        let current = self
            .since
            .map_or(0.0, |since| (each - since.elapsed().as_secs_f64()).max(0.0));
        (self.all - self.begun) as f64 * each + current
    }
}

impl Progress {
    /// Of scenarios none of which has begun: so many run at once of those that may run beside others, and the rest
    /// one by one.
    pub(super) fn new(jobs: usize, beside: &[&Scenario], alone: &[&Scenario]) -> Self {
        let works = |scenarios: &[&Scenario]| scenarios.iter().map(|one| Work::of(one)).collect();
        Self {
            jobs: jobs.max(1),
            beside: works(beside),
            alone: works(alone),
            around: (0.0, 0),
        }
    }

    /// Runs in all.
    pub(super) fn runs(&self) -> usize {
        self.works().map(|work| work.all).sum()
    }

    /// A run of the scenario begins, for the first time or once more.
    pub(super) fn begin(&mut self, name: &str, again: bool) {
        self.pause(name);
        if let Some(work) = self.work(name) {
            work.begun += usize::from(!again);
            work.since = Some(Instant::now());
        }
    }

    /// A scenario is done; turns of it that did not begin have fallen out.
    pub(super) fn end(&mut self, name: &str) {
        self.pause(name);
        if let Some(work) = self.work(name) {
            work.all = work.begun;
        }
    }

    /// Which run it is, how long the rest takes, and what else runs now.
    pub(super) fn stand(&self, name: &str) -> String {
        let begun: usize = self.works().map(|work| work.begun).sum();
        let others: Vec<&str> = self
            .works()
            .filter(|work| work.since.is_some() && work.name != name)
            .map(|work| work.name.as_str())
            .collect();
        let stand = format!("{begun} of {}, {} left", self.runs(), self.left());
        if others.is_empty() {
            stand
        } else {
            format!("{stand}, beside {}", others.join(" and "))
        }
    }

    /// How long the rest takes, the runs that go on included.
    pub(super) fn left(&self) -> String {
        let (seconds, runs) = self.around;
        let around = if runs == 0 { AROUND } else { seconds / runs as f64 };
        // As it will happen: whoever is done first takes the next scenario.
        let mut busy = vec![0.0; self.jobs];
        for work in &self.beside {
            if let Some(first) = busy.iter_mut().min_by(|a, b| f64::total_cmp(a, b)) {
                *first += work.left(around);
            }
        }
        let alone: f64 = self.alone.iter().map(|work| work.left(around)).sum();
        duration(busy.into_iter().fold(0.0, f64::max) + alone)
    }

    /// The run of that scenario that goes on has ended, if there is one.
    fn pause(&mut self, name: &str) {
        let Some(work) = self.work(name) else { return };
        if let Some(since) = work.since.take() {
            let around = (since.elapsed().as_secs_f64() - work.length).max(0.0);
            self.around.0 += around;
            self.around.1 += 1;
        }
    }

    fn works(&self) -> impl Iterator<Item = &Work> {
        self.beside.iter().chain(&self.alone)
    }

    fn work(&mut self, name: &str) -> Option<&mut Work> {
        self.beside
            .iter_mut()
            .chain(&mut self.alone)
            .find(|work| work.name == name)
    }
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

    fn quick(name: &str, repeat: u32) -> Scenario {
        let mut scenario = Scenario::find("quick").expect("shipped");
        scenario.name = name.to_owned();
        scenario.repeat = repeat;
        scenario
    }

    #[test]
    fn what_is_left_shrinks_with_every_run_to_nothing() {
        let scenario = quick("one", 3);
        let mut progress = Progress::new(1, &[], &[&scenario]);
        assert_eq!((progress.runs(), progress.left().as_str()), (3, "18 s"));
        progress.begin("one", false);
        assert_eq!(progress.stand("one"), "1 of 3, 18 s left");
        progress.begin("one", true);
        assert_eq!(progress.stand("one"), "1 of 3, 9 s left", "nothing was around it");
        progress.end("one");
        assert_eq!((progress.runs(), progress.left().as_str()), (1, "0 s"));
    }

    #[test]
    fn what_runs_at_once_takes_as_long_as_the_busiest_and_the_rest_comes_after() {
        let scenarios = [
            quick("long", 3),
            quick("first", 2),
            quick("second", 2),
            quick("raw", 1),
        ];
        let [long, first, second, raw] = &scenarios;
        let mut progress = Progress::new(2, &[long, first, second], &[raw]);
        // 6 s each: 3 runs beside 2, then 2 more, and 1 after them.
        assert_eq!(progress.left(), "30 s");
        progress.begin("long", false);
        progress.begin("first", false);
        assert_eq!(progress.stand("first"), "2 of 8, 30 s left, beside long");
    }

    #[test]
    fn durations_are_told_as_people_do() {
        assert_eq!(
            [40.0, 600.0, 7500.0].map(duration),
            ["40 s", "10 min", "2 h 5 min"]
        );
    }
}
