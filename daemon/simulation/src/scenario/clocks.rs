//! Clocks that drift and jump, and machines that sleep or stall.

use std::time::Duration;

use super::Scenario;
use crate::report::{Report, Target};
use crate::setup::{Clock, Direction, Flow, Pause, Setup, Side, Wan};
use crate::transport::tcp::Algorithm;

pub(super) fn scenarios() -> Vec<Scenario> {
    let base = |seconds| {
        Setup::new(seconds, vec![Wan::new(50.0, 10, 250), Wan::new(20.0, 35, 150)])
            .flow(Flow::tcp(Algorithm::Cubic, Direction::Down))
            .flow(Flow::ping())
    };
    let drift = move |_| {
        let mut setup = base(30.0);
        setup.clocks = [
            Clock {
                offset: Duration::from_secs(5),
                drift: 200.0,
                jump: None,
            },
            Clock {
                offset: Duration::from_secs(900_000),
                drift: -200.0,
                jump: None,
            },
        ];
        setup
    };
    let jump = move |_| {
        let mut setup = base(20.0);
        setup.clocks[1].jump = Some((Duration::from_secs(8), Duration::from_secs(5)));
        setup.clear_from = Duration::from_secs(8);
        setup
    };
    let pause = move |side, length, asleep| {
        move |_| {
            let mut setup = base(15.0 + length);
            let length = Duration::from_secs_f64(length);
            setup.pauses = vec![Pause {
                side,
                from: Duration::from_secs(6),
                length,
                asleep,
            }];
            setup.clear_from = Duration::from_secs(6) + length;
            setup.survivable = !asleep;
            setup
        }
    };
    let after = |from: f64| {
        move |report: &Report| {
            let from = from.ceil() as usize;
            vec![Target::at_least(
                "goodput afterwards, Mbit/s",
                report.goodput_between(0, from + 2, from + 6),
                45.0,
            )]
        }
    };
    let no_death = |report: &Report| {
        vec![
            super::share(report, 0.9),
            Target::at_most(
                "deaths",
                report.paths.iter().map(|path| path.deaths as f64).sum(),
                0.0,
            ),
        ]
    };
    vec![
        Scenario::new("clock-drift", "clocks 400 ppm apart", drift, no_death),
        Scenario::new("clock-jump", "the server's clock jumps 5 s ahead", jump, no_death),
        Scenario::new(
            "stall-client",
            "the client does not run for 80 ms",
            pause(Side::Client, 0.08, false),
            no_death,
        ),
        Scenario::new(
            "stall-server",
            "the server does not run for 200 ms",
            pause(Side::Server, 0.2, false),
            no_death,
        ),
        Scenario::new(
            "sleep",
            "the client sleeps for 60 s",
            pause(Side::Client, 60.0, true),
            after(66.0),
        ),
        Scenario::new(
            "sleep-long",
            "the client sleeps for 10 min",
            pause(Side::Client, 600.0, true),
            after(606.0),
        ),
    ]
}
