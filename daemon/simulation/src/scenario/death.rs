//! One of two links dies silently, in one direction or both, and comes back; or loses much, or becomes far.

use std::time::Duration;

use sennit_engine::settings::Mode;

use super::{Scenario, for_each_bulk};
use crate::network::{Change, Loss, Outage};
use crate::report::{Report, Target};
use crate::setup::{Action, Direction, Flow, FlowKind, Setup, Wan};
use crate::transport::tcp::Algorithm;

const DIES: Duration = Duration::from_secs(5);
const HEALS: Duration = Duration::from_secs(9);

fn wans() -> Vec<Wan> {
    vec![Wan::new(50.0, 10, 250), Wan::new(50.0, 10, 250)]
}

fn outage() -> Vec<Outage> {
    vec![Outage {
        from: DIES,
        until: HEALS,
    }]
}

fn game() -> Flow {
    Flow::new(
        FlowKind::Realtime(Duration::from_micros(16_667), 200, 46),
        Direction::Up,
    )
}

fn silent() -> Setup {
    let mut setup = Setup::new(14.0, wans()).flow(game());
    setup.wans[0] = setup.wans[0].clone().with(|link| link.outages = outage());
    setup.clear_from = HEALS;
    setup
}

/// Deaths beside a transfer as probes of 1,000 packets a second, each way, see them.
fn probed() -> Vec<Scenario> {
    let equal = wans();
    let fast_dies = vec![Wan::new(50.0, 10, 250), Wan::new(20.0, 35, 150)];
    let slow_dies = vec![Wan::new(20.0, 35, 150), Wan::new(50.0, 10, 250)];
    let probe = |direction| Flow::new(FlowKind::Realtime(Duration::from_millis(1), 64, 0), direction);
    let cases = [
        (
            "death-probed",
            "one of two equal links dies silently",
            equal.clone(),
            false,
            40.0,
        ),
        (
            "death-fast-probed",
            "the fast one of two links dies silently",
            fast_dies,
            false,
            65.0,
        ),
        (
            "death-slow-probed",
            "the slow one of two links dies silently",
            slow_dies,
            false,
            90.0,
        ),
        (
            "link-down-probed",
            "one of two equal links is unplugged",
            equal,
            true,
            20.0,
        ),
    ];
    let scenario = |(name, about, wans, told, limit): (&str, _, Vec<Wan>, bool, f64)| {
        let setup = move |_| {
            let mut setup = Setup::new(8.0, wans.clone());
            setup.flows = vec![
                probe(Direction::Up),
                probe(Direction::Down),
                Flow::tcp(Algorithm::Cubic, Direction::Down),
            ];
            setup.wans[0] = setup.wans[0].clone().with(|link| link.outages = outage());
            if told {
                setup.actions = vec![(DIES, Action::Link(0, false))];
            }
            setup
        };
        Scenario::new(name, about, setup, move |report| {
            vec![
                Target::at_most("gap up, ms", report.gap_between(0, 4.95, 5.3), limit),
                Target::at_most("gap down, ms", report.gap_between(1, 4.95, 5.3), limit),
                Target::at_most("lost up", report.flows[0].missing as f64, 0.0),
                Target::at_most("lost down", report.flows[1].missing as f64, 0.0),
                Target::at_most("gap of the transfer, ms", report.gap_between(2, 4.95, 7.0), 100.0),
            ]
        })
    };
    cases.into_iter().map(scenario).collect()
}

pub(super) fn scenarios() -> Vec<Scenario> {
    let one_way = |up: bool| {
        move |_| {
            let mut setup = silent();
            if up {
                &mut setup.wans[0].down
            } else {
                &mut setup.wans[0].up
            }
            .outages
            .clear();
            setup
        }
    };
    let linked = |_| {
        let mut setup = silent();
        setup.actions = vec![(DIES, Action::Link(0, false)), (HEALS, Action::Link(0, true))];
        setup
    };
    let flapping = |_| {
        let mut setup = silent();
        setup.length = Duration::from_secs(40);
        let flaps = (1..10).map(|flap| Outage {
            from: Duration::from_secs(flap * 3),
            until: Duration::from_millis(flap * 3000 + 700),
        });
        let flaps: Vec<Outage> = flaps.collect();
        setup.wans[0] = setup.wans[0].clone().with(|link| link.outages.clone_from(&flaps));
        setup.clear_from = Duration::from_secs(28);
        setup
    };
    let worse = |change: Change| {
        move |_| {
            let mut setup = Setup::new(14.0, wans()).flow(game());
            setup.wans[0] = setup.wans[0]
                .clone()
                .with(|link| link.changes = vec![(DIES, change)]);
            setup
        }
    };
    let gap = |limit: f64| {
        move |report: &Report| {
            vec![
                // Queue management that answers to the lost capacity comes later, and is another matter.
                Target::at_most("gap at the death, ms", report.gap_between(0, 4.95, 5.1), limit),
                Target::at_most("gap of the game, ms", report.gap_between(1, 4.95, 5.1), limit),
                Target::at_most("gap at the healing, ms", report.gap_between(0, 8.95, 9.6), limit),
                Target::at_most("game's packets lost", report.flows[1].missing as f64, 0.0),
                Target::at_least(
                    "healed after 2 s, Mbit/s",
                    report.goodput_between(0, 11, 14),
                    85.0,
                ),
            ]
        }
    };
    let redundant = |_| {
        let mut setup = silent();
        setup.mode = Mode::Redundant;
        setup.flows = vec![
            Flow::new(
                FlowKind::Realtime(Duration::from_millis(1), 300, 0),
                Direction::Up,
            ),
            Flow::new(
                FlowKind::Realtime(Duration::from_millis(1), 300, 0),
                Direction::Down,
            ),
            Flow::tcp(Algorithm::Cubic, Direction::Down),
        ];
        setup
    };
    let mut all = for_each_bulk(
        "death",
        "one of two equal links dies silently for 4 s",
        |_| silent(),
        gap(40.0),
    );
    let between = |wans: Vec<Wan>| {
        move |_| {
            let mut setup = Setup::new(14.0, wans.clone()).flow(game());
            setup.wans[0] = setup.wans[0].clone().with(|link| link.outages = outage());
            setup.clear_from = HEALS;
            setup
        }
    };
    let pause = |report: &Report| {
        vec![
            Target::at_most("gap of the game, ms", report.gap_between(1, 4.95, 5.3), 65.0),
            // Of the bytes in order: what an application sees.
            Target::at_most("gap of the transfer, ms", report.gap_between(0, 4.95, 7.0), 100.0),
            Target::at_most("game's packets lost", report.flows[1].missing as f64, 0.0),
        ]
    };
    all.extend(for_each_bulk(
        "death-fast",
        "the fast one of two unequal links dies silently for 4 s",
        between(vec![Wan::new(50.0, 10, 250), Wan::new(20.0, 35, 150)]),
        pause,
    ));
    all.extend(for_each_bulk(
        "death-three",
        "the fastest of three links dies silently for 4 s",
        between(vec![
            Wan::new(40.0, 15, 250),
            Wan::new(25.0, 30, 250),
            Wan::new(15.0, 45, 250),
        ]),
        pause,
    ));
    all.extend(probed());
    all.extend(for_each_bulk(
        "link-down",
        "the same, and the kernel says so",
        linked,
        gap(20.0),
    ));
    all.extend(for_each_bulk(
        "death-up",
        "one link dies upwards only",
        one_way(true),
        gap(40.0),
    ));
    all.extend(for_each_bulk(
        "death-down",
        "one link dies downwards only",
        one_way(false),
        gap(40.0),
    ));
    all.extend(for_each_bulk(
        "flapping",
        "one link is dead for 0.7 s every 3 s",
        flapping,
        |report| {
            vec![
                Target::at_most("longest gap, ms", report.flows[0].longest_gap, 60.0),
                Target::at_most(
                    "deaths",
                    report.paths.iter().map(|path| path.deaths as f64).sum(),
                    8.0,
                ),
                Target::at_least("goodput, Mbit/s", report.flows[0].goodput, 45.0),
            ]
        },
    ));
    let moved = |report: &Report| {
        vec![
            Target::at_least(
                "half a second later, Mbit/s",
                report.goodput_between(0, 6, 13),
                44.0,
            ),
            Target::at_most("game p99, ms", report.flows[1].latency[1], 40.0),
            Target::at_most("game's packets lost", report.flows[1].missing as f64, 0.0),
        ]
    };
    all.extend(for_each_bulk(
        "loses-much",
        "one link begins to lose 30 %",
        worse(Change::Loss(Loss::Random(0.3))),
        move |report: &Report| {
            let lost: u64 = report.links.iter().map(|link| link.lost_random).sum();
            let mut targets = moved(report);
            // What half a second of both directions loses.
            targets.push(Target::at_most("packets lost by chance", lost as f64, 1300.0));
            targets.push(Target::at_most(
                "gap of the transfer, ms",
                report.gap_between(0, 4.95, 7.0),
                100.0,
            ));
            targets
        },
    ));
    let far = Change::Delay(Duration::from_millis(310));
    all.extend(for_each_bulk(
        "becomes-far",
        "one link's delay grows by 300 ms",
        worse(far),
        moved,
    ));
    all.push(Scenario::new(
        "death-redundant",
        "in redundant one of two links dies: nothing is lost",
        redundant,
        |report| {
            vec![
                Target::at_most("lost up", report.flows[0].missing as f64, 0.0),
                Target::at_most("lost down", report.flows[1].missing as f64, 0.0),
                Target::at_most("p99.9 up, ms", report.flows[0].latency[2], 12.5),
                Target::at_most("p99.9 down, ms", report.flows[1].latency[2], 12.5),
                Target::at_least("goodput beside, Mbit/s", report.flows[2].goodput, 38.0),
            ]
        },
    ));
    all
}
