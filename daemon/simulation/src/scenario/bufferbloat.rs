//! A link with seconds of buffer, and a neighbour that fills it.

use std::time::Duration;

use super::Scenario;
use crate::report::Target;
use crate::setup::{Direction, Flow, FlowKind, Setup, Via, Wan};
use crate::transport::tcp::Algorithm;

pub(super) fn scenarios() -> Vec<Scenario> {
    let wans = || vec![Wan::new(20.0, 20, 5000), Wan::new(20.0, 20, 250)];
    let with_ping = move |_| {
        Setup::new(20.0, wans())
            .flow(Flow::tcp(Algorithm::Cubic, Direction::Up))
            .flow(Flow::ping())
    };
    let filled = move |_| {
        let mut setup = Setup::new(40.0, wans()).flow(Flow::tcp(Algorithm::Cubic, Direction::Up));
        setup.flows.push(Flow::new(
            FlowKind::Ping(Duration::from_millis(50)),
            Direction::Up,
        ));
        let mut filler = Flow::tcp(Algorithm::Cubic, Direction::Up).from(10.0);
        filler.via = Via::Wan(0);
        filler.end = Duration::from_secs(30);
        setup.flow(filler)
    };
    vec![
        Scenario::new("bufferbloat", "2 s of buffer in one link", with_ping, |report| {
            let queue = report
                .links
                .iter()
                .filter(|link| link.direction == "up")
                .map(|link| link.queue_p99);
            vec![
                super::share(report, 0.9),
                Target::at_most("ping p99, ms", report.flows[1].latency[1], 60.0),
                Target::at_most("queue p99, ms", queue.fold(0.0, f64::max), 40.0),
            ]
        }),
        Scenario::new(
            "bufferbloat-filled",
            "2 s of buffer, filled by a neighbour for 20 s",
            filled,
            |report| {
                vec![
                    Target::at_most("ping p99, ms", report.flows[1].latency[1], 100.0),
                    Target::at_least("goodput, Mbit/s", report.flows[0].goodput, 17.5),
                ]
            },
        ),
    ]
}
