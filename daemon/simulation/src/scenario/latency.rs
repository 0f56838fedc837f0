//! Pings and a game beside a bulk flow, with 250 ms of queue in the links.

use std::time::Duration;

use super::{Scenario, for_each_bulk, share};
use crate::report::Target;
use crate::setup::{Direction, Flow, FlowKind, Setup, Wan};

pub(super) fn scenarios() -> Vec<Scenario> {
    let setup = |_| {
        // 250 ms of queue.
        let wan = || Wan::new(50.0, 10, 1560);
        let game = |direction| {
            Flow::new(
                FlowKind::Realtime(Duration::from_micros(16_667), 200, 0),
                direction,
            )
        };
        Setup::new(20.0, vec![wan(), wan()])
            .flow(Flow::ping())
            .flow(game(Direction::Up))
            .flow(game(Direction::Down))
    };
    for_each_bulk(
        "latency",
        "pings and a game beside a bulk flow",
        setup,
        |report| {
            vec![
                share(report, 0.93),
                Target::at_most("ping p99, ms", report.flows[1].latency[1], 40.0),
                Target::at_most("game up p99, ms", report.flows[2].latency[1], 30.0),
                Target::at_most("game down p99, ms", report.flows[3].latency[1], 30.0),
            ]
        },
    )
}
