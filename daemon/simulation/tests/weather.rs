//! Property tests: many seeds of random weather, each with all invariants. `SEEDS=N` takes more of them.

use std::sync::atomic::{AtomicU64, Ordering};

use sennit_simulation::scenario;
use sennit_simulation::simulate::{Options, simulate};

/// Runs seeds 1 to `SEEDS` (or `count`) of a scenario on all processors; fails with the command that replays each.
fn search(name: &str, count: u64) {
    let count = std::env::var("SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(count);
    let scenario = scenario::find(name).expect("the scenario exists");
    let next = AtomicU64::new(1);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed > count {
                            return failures;
                        }
                        let report = simulate(&scenario, seed, Options::default()).expect("nothing is written");
                        if !report.violations.is_empty() {
                            failures.push(format!(
                                "cargo run --release -p sennit-simulation -- replay --scenario {name} --seed {seed}\n    {}",
                                report.violations.join("\n    ")
                            ));
                        }
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("no panic"))
            .collect()
    });
    assert!(
        failures.is_empty(),
        "{} of {count} seeds fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn invariants_hold_in_random_weather() {
    search("weather", if cfg!(debug_assertions) { 20 } else { 1200 });
}

#[test]
fn live_links_raise_no_false_alarms() {
    search("drizzle", if cfg!(debug_assertions) { 10 } else { 300 });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let scenario = scenario::find("weather").expect("the scenario exists");
    for seed in 1..=5 {
        let run = || simulate(&scenario, seed, Options::default()).expect("nothing is written");
        let (first, second) = (run(), run());
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.events, second.events, "seed {seed}");
    }
}
