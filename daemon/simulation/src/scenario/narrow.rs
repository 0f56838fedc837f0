//! Super-segments into a narrow bond: they must not stand in a ping's way.

use super::Scenario;
use crate::report::Target;
use crate::setup::{Direction, Flow, Setup, Wan};
use crate::transport::tcp::Algorithm;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new(
        "narrow",
        "two links of 1 Mbit/s, a bulk flow and pings",
        |_| {
            Setup::new(30.0, vec![Wan::new(1.0, 15, 100), Wan::new(1.0, 15, 100)])
                .flow(Flow::tcp(Algorithm::Cubic, Direction::Up))
                .flow(Flow::ping())
        },
        |report| {
            vec![
                super::share(report, 0.9),
                Target::at_most("ping p99, ms", report.flows[1].latency[1], 60.0 + 30.0),
            ]
        },
    )]
}
