//! What happens during a run, when, and who is told how it stands meanwhile.

use std::sync::atomic::Ordering;

use super::Moment;
use crate::contestant::{Process, Started};
use crate::emulator::{Emulator, Way};
use crate::link::Change;
use crate::scenario::{Action, Event};
use crate::sys::clock;
use crate::time::Nanos;
use crate::topology::{Topology, wan_interface};
use crate::traffic::{Reach, Window};
use crate::{Result, interrupt};

/// Lets the events happen, and returns at the end of the window what happened when.
pub(super) fn happen(
    events: &[Event],
    topology: &Topology,
    emulator: &Emulator,
    started: &mut Started,
    window: Window,
    watch: &mut dyn FnMut(&Moment<'_>, &Started),
) -> Result<Vec<(f64, String)>> {
    let mut happened = Vec::new();
    for event in events.iter().filter(|event| window.start + event.at < window.end) {
        wait_until(window.start + event.at, started, &mut |started| {
            look(watch, emulator, started, window, &happened)
        })?;
        match &event.action {
            Action::Change { link, ways, change } => {
                ways.iter()
                    .for_each(|way| emulator.change(*link, *way, change.clone()));
            }
            Action::Plug { link, plugged } => topology.plug(*link, *plugged)?,
            Action::Kill(side) => started.side(*side).for_each(Process::kill),
            Action::Restart(side) => started.side(*side).try_for_each(Process::restart)?,
        }
        happened.push((clock::now().since(window.start).secs(), describe(&event.action)));
    }
    wait_until(window.end, started, &mut |started| {
        look(watch, emulator, started, window, &happened)
    })?;
    Ok(happened)
}

/// How often who watches is told.
const GLANCE: Nanos = Nanos(200_000_000);

/// Waits precisely for that moment, and looks now and then that all processes live.
pub(super) fn wait_until(
    at: Nanos,
    started: &mut Started,
    look: &mut dyn FnMut(&Started) -> Result<()>,
) -> Result<()> {
    // The last moment is waited for precisely.
    let early = at - Nanos::from_millis(25.0);
    while clock::now() < early {
        let wait = early.since(clock::now()).min(GLANCE);
        interrupt::wait(wait.into(), || started.check().map(|()| false))?;
        look(started)?;
    }
    clock::sleep_until(at);
    Ok(())
}

/// Tells who watches how it stands.
fn look(
    watch: &mut dyn FnMut(&Moment<'_>, &Started),
    emulator: &Emulator,
    started: &Started,
    window: Window,
    events: &[(f64, String)],
) -> Result<()> {
    let received = |reach: &Reach| reach.progress.received.load(Ordering::Relaxed);
    let trip = started
        .reaches
        .first()
        .map_or(0, |reach| reach.progress.round_trip.load(Ordering::Relaxed));
    let moment = Moment {
        at: clock::now().since(window.start).secs(),
        wans: emulator.delivered()?,
        received: started.reaches.iter().map(received).sum(),
        round_trip: (trip > 0).then(|| Nanos(trip).millis()),
        events,
    };
    watch(&moment, started);
    Ok(())
}

/// What happens, in a few words.
pub fn describe(action: &Action) -> String {
    match action {
        Action::Change { link, ways, change } => {
            let name = wan_interface(*link);
            let way = match ways.as_slice() {
                [Way::Up] => " up",
                [Way::Down] => " down",
                _ => "",
            };
            match change {
                Change::Silence => format!("{name}{way} silent"),
                Change::Heal => format!("{name}{way} healed"),
                Change::Rate(rate) => format!("{name}{way} {} Mbit/s", *rate as f64 / 1e6),
                Change::Delay(delay) => format!("{name}{way} {} ms", delay.millis()),
                Change::Loss(loss) => format!("{name}{way} loses {} %", loss.share() * 100.0),
                Change::Jitter(_) => format!("{name}{way} jitter"),
            }
        }
        Action::Plug { link, plugged: true } => format!("{} plugged in", wan_interface(*link)),
        Action::Plug { link, plugged: false } => format!("{} unplugged", wan_interface(*link)),
        Action::Kill(side) => format!("{side} killed"),
        Action::Restart(side) => format!("{side} started"),
    }
}
