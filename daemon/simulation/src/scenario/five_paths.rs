//! Five paths of every kind, one of them metered and in reserve.

use std::time::Duration;

use sennit_engine::settings::Priority;

use super::Scenario;
use crate::network::{Jitter, Loss};
use crate::report::Target;
use crate::setup::{Direction, Flow, Setup, Wan};
use crate::transport::tcp::Algorithm;

fn wans() -> Vec<Wan> {
    let mut reserve = Wan::new(30.0, 40, 300).priority(Priority::Backup);
    reserve.settings.metered = true;
    vec![
        Wan::new(40.0, 8, 250),
        Wan::new(20.0, 20, 250).with(|link| link.loss = Loss::Random(0.01)),
        Wan::new(15.0, 30, 250).with(|link| {
            link.jitter = Some(Jitter {
                deviation: Duration::from_millis(3),
                correlation: Duration::from_millis(40),
            });
        }),
        Wan::new(6.0, 45, 150),
        reserve,
    ]
}

pub(super) fn scenarios() -> Vec<Scenario> {
    let metered = |report: &crate::report::Report| -> u64 {
        report
            .links
            .iter()
            .filter(|link| link.wan == 4)
            .map(|link| link.offered)
            .sum()
    };
    vec![
        Scenario::new(
            "five-paths",
            "five unlike paths, one in reserve",
            |_| Setup::new(20.0, wans()).flow(Flow::tcp(Algorithm::Cubic, Direction::Down)),
            move |report| {
                vec![
                    Target::at_least("goodput, Mbit/s", report.flows[0].goodput, 0.85 * 81.0 * 0.956),
                    Target::at_most("datagrams on the reserve", metered(report) as f64, 20.0),
                ]
            },
        ),
        Scenario::new(
            "five-paths-idle",
            "the same without traffic, for a day",
            |_| Setup::new(86_400.0, wans()),
            move |report| {
                vec![Target::at_most(
                    "datagrams on the reserve",
                    metered(report) as f64,
                    12_000.0,
                )]
            },
        ),
    ]
}
