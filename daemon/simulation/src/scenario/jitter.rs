//! Live links with strong delay variation: no false alarms.

use std::time::Duration;

use super::{Scenario, for_each_bulk, share};
use crate::network::{Jitter, Reordering};
use crate::report::{Report, Target};
use crate::setup::{Direction, Flow, FlowKind, Setup, Wan};

pub(super) fn scenarios() -> Vec<Scenario> {
    let jittery = |deviation: u64, correlation: u64| {
        move |_| {
            let wan = |rate, delay| {
                Wan::new(rate, delay, 500).with(move |link| {
                    link.jitter = Some(Jitter {
                        deviation: Duration::from_millis(deviation),
                        correlation: Duration::from_millis(correlation),
                    });
                })
            };
            let game = Flow::new(
                FlowKind::Realtime(Duration::from_micros(16_667), 200, 46),
                Direction::Down,
            );
            Setup::new(30.0, vec![wan(30.0, 15), wan(30.0, 25)]).flow(game)
        }
    };
    let reordered = |_| {
        let wan = || {
            Wan::new(30.0, 15, 500).with(|link| {
                link.reordering = Some(Reordering {
                    chance: 0.01,
                    by: Duration::from_millis(4),
                });
                link.duplication = 0.005;
            })
        };
        Setup::new(20.0, vec![wan(), wan()])
    };
    let targets = |report: &Report| {
        let copies: f64 = report.paths.iter().map(|path| path.copies).sum();
        let sent: f64 = report.links.iter().map(|link| link.offered as f64 * 1.5).sum();
        let suspicions: u64 = report.paths.iter().map(|path| path.suspicions).sum();
        vec![
            share(report, 0.85),
            Target::at_most("copies of all bytes", copies / sent.max(1.0), 0.02),
            Target::at_most("suspicions", suspicions as f64, 1.0),
            Target::at_most(
                "deaths",
                report.paths.iter().map(|path| path.deaths as f64).sum(),
                0.0,
            ),
        ]
    };
    let mut all = for_each_bulk("jitter", "two links with ±10 ms", jittery(4, 30), targets);
    all.extend(for_each_bulk(
        "jitter-slow",
        "two links with ±25 ms that change slowly",
        jittery(10, 200),
        targets,
    ));
    all.extend(for_each_bulk(
        "reordered",
        "two links that reorder and duplicate",
        reordered,
        targets,
    ));
    all
}
