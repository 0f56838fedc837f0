//! A trickle for minutes, then bulk: what was learnt must neither fade nor grow.

use std::time::Duration;

use super::Scenario;
use crate::report::Target;
use crate::setup::{Direction, Flow, FlowKind, Setup, Wan};
use crate::transport::tcp::Algorithm;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new(
        "trickle-then-bulk",
        "30 % of one link for 100 s, then as much as it gets",
        |_| {
            let mut setup = Setup::new(115.0, vec![Wan::new(20.0, 10, 250), Wan::new(20.0, 10, 250)]);
            let mut trickle = Flow::new(
                FlowKind::Realtime(Duration::from_micros(1333), 1000, 0),
                Direction::Up,
            );
            trickle.end = Duration::from_secs(100);
            setup.flows = vec![Flow::tcp(Algorithm::Cubic, Direction::Up).from(100.0), trickle];
            setup
        },
        |report| {
            vec![
                Target::at_least(
                    "bulk in the fourth second, Mbit/s",
                    report.goodput_between(0, 103, 105),
                    33.0,
                ),
                Target::at_most("trickle lost", report.flows[1].missing as f64, 0.0),
                Target::at_most("trickle p99, ms", report.flows[1].latency[1], 20.0),
            ]
        },
    )]
}
