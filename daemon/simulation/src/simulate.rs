//! Runs a scenario from beginning to end: weather, drain, a time of quiet, judgement.

use std::io::Write;
use std::time::Duration;

use sennit_engine::settings::Mode;
use sennit_engine::time::Instant;

use crate::invariants::{Idle, Watch, outstanding};
use crate::report::Report;
use crate::scenario::Scenario;
use crate::setup::{Setup, Side};
use crate::trace;
use crate::world::{World, engine};

/// Time after the drain in which nothing should happen any more.
const QUIET: Duration = Duration::from_secs(2);
/// Longest time for what is queued to leave over narrow links.
const LONGEST_DRAIN: Duration = Duration::from_secs(30);
/// After this time at the latest the client of a metered WAN speaks, so that its address translator knows it.
const NAT_KEEPALIVE: Duration = Duration::from_secs(20);

/// What a caller changes of a scenario.
#[derive(Default)]
pub struct Options<'a> {
    /// Another length.
    pub seconds: Option<f64>,
    /// Another mode.
    pub mode: Option<Mode>,
    /// No tunnel: all flows over this WAN.
    pub direct: Option<usize>,
    /// Where state is written, every 10 ms one line of JSON.
    pub trace: Option<&'a mut dyn Write>,
}

/// Runs `scenario` with `seed`.
///
/// # Errors
/// The trace could not be written.
pub fn simulate(scenario: &Scenario, seed: u64, options: Options<'_>) -> std::io::Result<Report> {
    let mut setup = (scenario.setup)(seed);
    if let Some(seconds) = options.seconds {
        setup.length = Duration::from_secs_f64(seconds);
    }
    if let Some(mode) = options.mode {
        setup.mode = mode;
    }
    if let Some(wan) = options.direct {
        setup = setup.directly(wan);
    }
    let (world, mut report) = run(
        &scenario.name,
        setup,
        seed,
        options.direct.is_none(),
        options.trace,
    )?;
    if options.direct.is_none() && options.seconds.is_none() && !world.is_aborted() {
        report.targets = (scenario.targets)(&report);
    }
    Ok(report)
}

fn run(
    name: &str,
    setup: Setup,
    seed: u64,
    tunnel: bool,
    mut out: Option<&mut dyn Write>,
) -> std::io::Result<(World, Report)> {
    let make = tunnel.then(|| engine(&setup, seed));
    let (length, drain) = (setup.length, setup.drain);
    let mut watch = Watch::new(&setup);
    let mut world = World::new(setup, seed, make);
    let mut failure = None;
    let mut sampled = |sample: &crate::world::Sample<'_>| {
        watch.look(sample);
        if let Some(out) = &mut out
            && let Err(error) = trace::write(out, sample)
        {
            failure.get_or_insert(error);
        }
    };
    world.run(Instant::ZERO + length, &mut sampled);
    let at_end = Side::BOTH.map(|side| world.knowledge(side));
    let mut report = Report::new(name, seed, &world, length, &at_end);
    world.stop_flows();
    let mut end = Instant::ZERO + length + drain;
    world.run(end, &mut sampled);
    // A narrow link may have something to carry yet; as long as that becomes less, it is waited for. And to a client whose
    // address translator forgot it nothing can be sent before it says something by itself.
    let forgotten = world.setup().wans.iter().any(|wan| !wan.nat.rebinds.is_empty());
    let patience = if forgotten { NAT_KEEPALIVE } else { QUIET };
    let (mut left, mut moved) = (waiting(&world), end);
    while left > 0 && end < Instant::ZERO + length + drain + LONGEST_DRAIN {
        end += QUIET;
        world.run(end, &mut sampled);
        let before = std::mem::replace(&mut left, waiting(&world));
        if left < before {
            moved = end;
        } else if end.since(moved) >= patience {
            break;
        }
    }
    let offered = |world: &World| -> u64 {
        world
            .links()
            .iter()
            .flatten()
            .map(|link| link.statistics().offered)
            .sum()
    };
    let begun = offered(&world);
    let before = Side::BOTH.map(|side| world.knowledge(side));
    let hosts_rest = outstanding(&world) == 0;
    world.run(end + QUIET, &mut sampled);
    if let Some(error) = failure {
        return Err(error);
    }
    report.violations = world.take_violations();
    let idle = Idle {
        datagrams: offered(&world) - begun,
        time: QUIET,
        before,
        hosts_rest,
    };
    report.violations.extend(watch.judge(&world, &at_end, &idle));
    report.hash = world.hash();
    report.finish(&world);
    Ok((world, report))
}

/// Bytes that both ends have yet to bring across, and what the hosts wait for.
fn waiting(world: &World) -> u64 {
    let of = |side| {
        let knowledge = world.knowledge(side);
        knowledge.backlog + knowledge.unacknowledged
    };
    Side::BOTH.map(of).iter().sum::<u64>() + outstanding(world)
}
