//! Either end is killed and started anew: inner connections go on.

use std::time::Duration;

use super::{Scenario, for_each_bulk};
use crate::network::Outage;
use crate::report::Target;
use crate::setup::{Action, Setup, Side, Wan};

pub(super) fn scenarios() -> Vec<Scenario> {
    let restart = |side| {
        move |_| {
            let mut setup = Setup::new(15.0, vec![Wan::new(50.0, 10, 250), Wan::new(50.0, 10, 250)]);
            setup.actions = vec![(Duration::from_secs(5), Action::Restart(side))];
            setup.clear_from = Duration::from_secs(5);
            setup.survivable = false;
            setup
        }
    };
    let blackout = |_| {
        let dead = |wan: Wan| {
            wan.with(|link| {
                link.outages = vec![Outage {
                    from: Duration::from_secs(5),
                    until: Duration::from_secs(35),
                }];
            })
        };
        let mut setup = Setup::new(
            75.0,
            vec![dead(Wan::new(50.0, 10, 250)), dead(Wan::new(50.0, 10, 250))],
        );
        setup.clear_from = Duration::from_secs(35);
        setup.survivable = false;
        setup
    };
    let back = |report: &crate::report::Report| {
        vec![
            Target::at_most("longest gap, ms", report.flows[0].longest_gap, 800.0),
            Target::at_least("afterwards, Mbit/s", report.goodput_between(0, 10, 15), 80.0),
        ]
    };
    let mut all = for_each_bulk(
        "restart-client",
        "the client is killed and started",
        restart(Side::Client),
        back,
    );
    all.extend(for_each_bulk(
        "restart-server",
        "the server is killed and started",
        restart(Side::Server),
        back,
    ));
    all.extend(for_each_bulk(
        "blackout",
        "all links are dead for 30 s",
        blackout,
        |report| {
            vec![Target::at_least(
                "afterwards, Mbit/s",
                report.goodput_between(0, 70, 75),
                80.0,
            )]
        },
    ));
    all
}
