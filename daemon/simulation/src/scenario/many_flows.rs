//! Many flows at once: fair to each other, and short ones are not held up by long ones.

use super::{Scenario, share};
use crate::report::Target;
use crate::setup::{Direction, Flow, FlowKind, Setup, Wan};
use crate::transport::tcp::Algorithm;

pub(super) fn scenarios() -> Vec<Scenario> {
    let wans = || vec![Wan::new(50.0, 10, 250), Wan::new(50.0, 10, 250)];
    vec![
        Scenario::new(
            "sixty-four",
            "64 flows at once",
            move |_| {
                let mut setup = Setup::new(20.0, wans());
                setup.flows = (0..64)
                    .map(|_| Flow::tcp(Algorithm::Cubic, Direction::Down))
                    .collect();
                setup
            },
            |report| {
                vec![
                    share(report, 0.92),
                    Target::at_least("Jain's index", report.fairness(64), 0.95),
                ]
            },
        ),
        Scenario::new(
            "page-load",
            "30 short connections beside a bulk download",
            move |_| {
                let mut setup = Setup::new(12.0, wans()).flow(Flow::tcp(Algorithm::Cubic, Direction::Down));
                for number in 0..30u32 {
                    let kind = FlowKind::Tcp(Algorithm::Cubic, Some(20_000 + u64::from(number % 6) * 15_000));
                    setup
                        .flows
                        .push(Flow::new(kind, Direction::Down).from(6.0 + f64::from(number / 6) * 0.03));
                }
                setup
            },
            |report| {
                let times = report
                    .flows
                    .iter()
                    .skip(1)
                    .map(|flow| flow.completed.unwrap_or(100.0));
                vec![Target::at_most(
                    "slowest of the page, s",
                    times.fold(0.0, f64::max),
                    0.4,
                )]
            },
        ),
        Scenario::new(
            "far-origin",
            "a host 100 ms behind the server, IPv6",
            move |_| {
                let mut flow = Flow::tcp(Algorithm::Cubic, Direction::Down);
                flow.origin = std::time::Duration::from_millis(50);
                flow.v6 = true;
                Setup::new(20.0, wans()).flow(flow)
            },
            |report| vec![share(report, 0.85)],
        ),
    ]
}
