//! A flow that needs a little more than one path: the other must be found when demand jumps.

use std::time::Duration;

use super::Scenario;
use crate::report::Target;
use crate::setup::{Direction, Flow, FlowKind, Setup, Wan};
use crate::transport::tcp::Algorithm;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new(
        "demand-jumps",
        "22 Mbit/s of UDP over two links of 20, then a bulk flow beside",
        |_| {
            let mut setup = Setup::new(20.0, vec![Wan::new(20.0, 10, 250), Wan::new(20.0, 10, 250)]);
            let steady = Flow::new(
                FlowKind::Realtime(Duration::from_micros(436), 1200, 0),
                Direction::Up,
            );
            setup.flows = vec![steady, Flow::tcp(Algorithm::Cubic, Direction::Up).from(10.0)];
            setup
        },
        |report| {
            vec![
                Target::at_most("UDP lost", report.flows[0].missing as f64, 200.0),
                Target::at_least(
                    "TCP after a second, Mbit/s",
                    report.goodput_between(1, 11, 13),
                    12.0,
                ),
            ]
        },
    )]
}
