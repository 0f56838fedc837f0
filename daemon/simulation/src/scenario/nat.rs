//! Address translators that forget, on purpose or by age.

use std::time::Duration;

use super::{Scenario, for_each_bulk};
use crate::report::Target;
use crate::setup::{Direction, Flow, FlowKind, Setup, Wan};

pub(super) fn scenarios() -> Vec<Scenario> {
    let rebind = |changes_address: bool| {
        move |_| {
            let mut setup =
                Setup::new(15.0, vec![Wan::new(50.0, 10, 250), Wan::new(50.0, 10, 250)]).flow(Flow::ping());
            setup.wans[0].nat.rebinds = vec![Duration::from_secs(5), Duration::from_secs(9)];
            setup.wans[1].nat.rebinds = vec![Duration::from_secs(9)];
            setup.wans[0].nat.changes_address = changes_address;
            setup.clear_from = Duration::from_secs(9);
            setup
        }
    };
    let targets = |report: &crate::report::Report| {
        vec![
            Target::at_most("longest gap, ms", report.flows[0].longest_gap, 150.0),
            Target::at_least("afterwards, Mbit/s", report.goodput_between(0, 11, 15), 85.0),
        ]
    };
    let mut all = for_each_bulk("rebind", "translators forget their ports", rebind(false), targets);
    all.extend(for_each_bulk(
        "readdress",
        "translators get other addresses",
        rebind(true),
        targets,
    ));
    all.push(Scenario::new(
        "nat-timeout",
        "translators forget after 30 s; a packet from the internet every 100 s",
        |_| {
            let mut setup = Setup::new(600.0, vec![Wan::new(50.0, 10, 250), Wan::new(20.0, 30, 250)]);
            for wan in &mut setup.wans {
                wan.nat.forgets_after = Some(Duration::from_secs(30));
            }
            setup.flow(
                Flow::new(
                    FlowKind::Realtime(Duration::from_secs(100), 100, 0),
                    Direction::Down,
                )
                .from(50.0),
            )
        },
        |report| {
            vec![Target::at_most(
                "packets lost",
                report.flows[0].missing as f64,
                0.0,
            )]
        },
    ));
    all
}
