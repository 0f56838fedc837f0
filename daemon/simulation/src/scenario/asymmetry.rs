//! Narrow or lossy ways back: acknowledgements must fit, and their loss must not look like loss of data.

use super::{Scenario, share};
use crate::network::Loss;
use crate::report::Target;
use crate::setup::{Direction, Flow, Setup, Wan};
use crate::transport::tcp::Algorithm;

pub(super) fn scenarios() -> Vec<Scenario> {
    let download = || Flow::tcp(Algorithm::Cubic, Direction::Down);
    vec![
        Scenario::new(
            "narrow-uplinks",
            "100/1 and 50/2 Mbit/s, a download",
            move |_| {
                let wans = vec![
                    Wan::new(100.0, 10, 250).uplink(1.0),
                    Wan::new(50.0, 10, 250).uplink(2.0),
                ];
                Setup::new(20.0, wans).flow(download())
            },
            |report| {
                let uplink = report.links.iter().filter(|link| link.direction == "up");
                let used = uplink.map(|link| link.utilisation).fold(0.0, f64::max);
                vec![
                    share(report, 0.9),
                    Target::at_most("share of the fuller uplink", used, 0.35),
                ]
            },
        ),
        Scenario::new(
            "lossy-return",
            "30 % loss of what goes back",
            move |_| {
                let wan = || {
                    let mut wan = Wan::new(50.0, 10, 250);
                    wan.up.loss = Loss::Random(0.3);
                    wan
                };
                Setup::new(20.0, vec![wan(), wan()]).flow(download())
            },
            |report| {
                let copies: f64 = report.paths.iter().map(|path| path.copies + path.repairs).sum();
                vec![
                    share(report, 0.9),
                    // 250 MB are carried; the inner acknowledgements that are lost are repaired.
                    Target::at_most("repairs and copies, kB", copies, 12_000.0),
                ]
            },
        ),
    ]
}
