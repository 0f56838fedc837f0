//! One path stops in the middle of flows: no flow waits for what will not come.

use std::time::Duration;

use super::{Scenario, for_each_bulk};
use crate::network::Outage;
use crate::report::Target;
use crate::setup::{Action, Direction, Flow, FlowKind, Setup, Side, Wan};
use crate::transport::tcp::Algorithm;

pub(super) fn scenarios() -> Vec<Scenario> {
    let stop = |_| {
        let stopping = Wan::new(50.0, 10, 250).with(|link| {
            link.outages = vec![Outage {
                from: Duration::from_secs(4),
                until: Duration::from_secs(1000),
            }];
        });
        let mut setup = Setup::new(10.0, vec![Wan::new(50.0, 30, 250), stopping]);
        setup.clear_from = Duration::from_secs(4);
        setup.drain = Duration::from_secs(8);
        setup
    };
    let mut all = for_each_bulk("path-stops", "one of two paths stops for good", stop, |report| {
        vec![Target::at_most(
            "longest gap, ms",
            report.flows[0].longest_gap,
            150.0,
        )]
    });
    all.push(Scenario::new(
        "many-short",
        "3,000 short flows, and a restart of the server on the way",
        |_| {
            let mut setup = Setup::new(20.0, vec![Wan::new(50.0, 10, 250), Wan::new(20.0, 35, 150)]);
            setup.flows = (0..3000u32)
                .map(|number| {
                    let kind = FlowKind::Tcp(Algorithm::Cubic, Some(20_000));
                    Flow::new(kind, Direction::Down).from(0.5 + f64::from(number) * 0.005)
                })
                .collect();
            setup.actions = vec![(Duration::from_secs(8), Action::Restart(Side::Server))];
            setup.clear_from = Duration::from_secs(9);
            setup.survivable = false;
            setup
        },
        |report| {
            let open = report
                .flows
                .iter()
                .filter(|flow| flow.completed.is_none())
                .count();
            vec![Target::at_most("flows not through", open as f64, 0.0)]
        },
    ));
    all
}
