//! Pauses of a second, 30 seconds and minutes between transfers: no burst, no slow phase, and few bytes while idle.

use super::Scenario;
use crate::report::Target;
use crate::setup::{Direction, Flow, FlowKind, Setup, Wan};
use crate::transport::tcp::Algorithm;

const STARTS: [f64; 4] = [0.5, 6.0, 40.0, 340.0];

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "idle-restart",
            "10 MB after pauses of 1 s, 30 s and 5 min",
            |_| {
                let mut setup = Setup::new(350.0, vec![Wan::new(50.0, 10, 250), Wan::new(50.0, 10, 250)]);
                let transfer = FlowKind::Tcp(Algorithm::Cubic, Some(10_000_000));
                setup.flows = STARTS
                    .map(|start| Flow::new(transfer, Direction::Down).from(start))
                    .into();
                setup
            },
            |report| {
                let times = report.flows.iter().map(|flow| flow.completed.unwrap_or(1000.0));
                vec![Target::at_most(
                    "slowest transfer, s",
                    times.fold(0.0, f64::max),
                    1.6,
                )]
            },
        ),
        Scenario::new(
            "idle-metered",
            "an hour without traffic, one WAN metered",
            |_| {
                let mut wans = vec![Wan::new(50.0, 10, 250), Wan::new(20.0, 40, 250)];
                wans[1].settings.metered = true;
                Setup::new(3600.0, wans)
            },
            |report| {
                let metered: u64 = report
                    .links
                    .iter()
                    .filter(|link| link.wan == 1)
                    .map(|link| link.offered)
                    .sum();
                // 40 KB an hour at about 80 bytes each.
                vec![Target::at_most(
                    "datagrams on the metered WAN",
                    metered as f64,
                    500.0,
                )]
            },
        ),
    ]
}
