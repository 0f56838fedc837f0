//! The models of inner transports over plain links, beside figures measured with real kernels.

use std::time::Duration;

use sennit_engine::time::Instant;
use sennit_simulation::network::Loss;
use sennit_simulation::setup::{Direction, Flow, FlowKind, Setup, Wan};
use sennit_simulation::transport::FlowCounters;
use sennit_simulation::transport::tcp::Algorithm;
use sennit_simulation::world::World;

const SECONDS: f64 = 20.0;

fn run(flow: Flow, wan: Wan, seed: u64) -> FlowCounters {
    let setup = Setup::new(SECONDS, vec![wan]).flow(flow.from(0.0)).directly(0);
    let mut world = World::new(setup, seed, None);
    world.run(Instant::ZERO + Duration::from_secs_f64(SECONDS), &mut |_| {});
    let counters = world.counters(0);
    assert!(counters.violations.is_empty(), "{:?}", counters.violations);
    counters
}

fn goodput(counters: &FlowCounters) -> f64 {
    counters.delivered as f64 * 8.0 / SECONDS / 1e6
}

fn check(flow: Flow, wan: Wan, wanted: std::ops::Range<f64>) {
    for seed in 1..=3 {
        let counters = run(flow.clone(), wan.clone(), seed);
        let found = goodput(&counters);
        assert!(
            wanted.contains(&found),
            "{}: {found:.2} Mbit/s, wanted {wanted:?}",
            flow.name()
        );
    }
}

#[test]
fn every_algorithm_fills_a_clean_link() {
    for direction in [Direction::Up, Direction::Down] {
        for algorithm in [Algorithm::Reno, Algorithm::Cubic, Algorithm::Bbr] {
            check(
                Flow::tcp(algorithm, direction),
                Wan::new(50.0, 10, 250),
                46.0..47.85,
            );
        }
        for algorithm in [Algorithm::PlainCubic, Algorithm::Bbr] {
            let flow = Flow::new(FlowKind::Quic(algorithm, None), direction);
            check(flow, Wan::new(50.0, 10, 250), 44.5..47.1);
        }
    }
}

#[test]
fn a_slower_link_is_filled_too() {
    check(
        Flow::tcp(Algorithm::Cubic, Direction::Up),
        Wan::new(20.0, 35, 150),
        17.5..19.2,
    );
}

#[test]
fn one_percent_of_loss_breaks_cubic_as_it_does_in_reality_and_not_bbr() {
    let lossy = || Wan::new(50.0, 10, 250).with(|link| link.loss = Loss::Random(0.01));
    check(Flow::tcp(Algorithm::Cubic, Direction::Up), lossy(), 5.0..9.0);
    check(Flow::tcp(Algorithm::Bbr, Direction::Up), lossy(), 42.0..47.4);
}

#[test]
fn an_outage_is_survived_by_time_outs() {
    let wan = Wan::new(50.0, 10, 250).with(|link| {
        link.outages = vec![sennit_simulation::network::Outage {
            from: Duration::from_secs(3),
            until: Duration::from_secs(5),
        }];
    });
    let counters = run(Flow::tcp(Algorithm::Cubic, Direction::Down), wan, 1);
    assert!(counters.timeouts >= 2 && counters.longest_gap > Duration::from_secs(2));
    assert!(goodput(&counters) > 30.0, "{}", goodput(&counters));
}

#[test]
fn reordering_costs_cubic_little_because_it_is_noticed() {
    let wan = Wan::new(50.0, 10, 250).with(|link| {
        link.reordering = Some(sennit_simulation::network::Reordering {
            chance: 0.01,
            by: Duration::from_millis(3),
        });
    });
    let counters = run(Flow::tcp(Algorithm::Cubic, Direction::Up), wan, 1);
    assert!(counters.late > 100 && counters.undone > 0, "{counters:?}");
    assert!(goodput(&counters) > 40.0, "{}", goodput(&counters));
}

#[test]
fn a_transfer_of_limited_length_ends() {
    for kind in [
        FlowKind::Tcp(Algorithm::Cubic, Some(1_000_000)),
        FlowKind::Quic(Algorithm::PlainCubic, Some(1_000_000)),
    ] {
        let counters = run(Flow::new(kind, Direction::Down), Wan::new(50.0, 10, 250), 1);
        let completed = counters.completed.expect("completed").as_nanos() as f64 / 1e9;
        assert!((0.2..0.5).contains(&completed), "{completed}");
        assert!(counters.delivered >= 1_000_000);
    }
}

#[test]
fn pings_measure_the_round_trip() {
    let counters = run(Flow::ping(), Wan::new(50.0, 10, 250), 1);
    assert!(counters.missing <= 1, "{}", counters.missing);
    let median = counters.latency.quantile(0.5);
    assert!(
        (Duration::from_millis(20)..Duration::from_millis(21)).contains(&median),
        "{median:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let hash = |seed| {
        let wan = Wan::new(50.0, 10, 250).with(|link| link.loss = Loss::Random(0.01));
        let setup = Setup::new(2.0, vec![wan])
            .flow(Flow::tcp(Algorithm::Bbr, Direction::Up))
            .directly(0);
        let mut world = World::new(setup, seed, None);
        world.run(Instant::from_millis(2000), &mut |_| {});
        world.hash()
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}
