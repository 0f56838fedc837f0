//! A plain TCP flow on one of two links, beside the bond: neither may starve the other.

use super::Scenario;
use crate::report::Target;
use crate::setup::{Direction, Flow, Setup, Via, Wan};
use crate::transport::tcp::Algorithm;

pub(super) fn scenarios() -> Vec<Scenario> {
    ([Algorithm::Cubic, Algorithm::Bbr].into_iter())
        .map(|algorithm| {
            let setup = move |_| {
                let mut neighbour = Flow::tcp(algorithm, Direction::Up);
                neighbour.via = Via::Wan(0);
                Setup::new(60.0, vec![Wan::new(50.0, 10, 250), Wan::new(50.0, 10, 250)])
                    .flow(Flow::tcp(Algorithm::Cubic, Direction::Up))
                    .flow(neighbour)
            };
            let name = format!("neighbour-{algorithm:?}").to_lowercase();
            Scenario::new(name, "a plain TCP flow on one of two links", setup, |report| {
                let share = report.flows[1].goodput / 47.8;
                vec![
                    Target::at_least("neighbour's share", share, 1.0 / 3.0),
                    Target::at_most("neighbour's share", share, 2.0 / 3.0),
                    Target::at_least(
                        "both together, of both links",
                        (report.flows[0].goodput + report.flows[1].goodput) / 95.6,
                        0.9,
                    ),
                ]
            })
        })
        .collect()
}
