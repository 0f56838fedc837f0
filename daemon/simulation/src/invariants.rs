//! What must hold in every run, whatever the weather: watched while it runs, and judged after it.

use std::time::Duration;

use sennit_engine::settings::Mode;
use sennit_engine::time::Instant;

use crate::setup::{Action, Direction, FlowKind, Setup, Side, Via};
use crate::world::{Knowledge, Sample, World};

/// Most bytes that an end may hold in its resequencer.
const MOST_HELD: u64 = 17 << 20;
/// Most bytes that an end may queue.
const MOST_BACKLOG: u64 = 18 << 20;
/// A flow with data must move within this time of fair weather, plus the time that it stood still before (an inner
/// sender's time-outs double).
const PROGRESS: Duration = Duration::from_secs(5);
/// Datagrams a second and link that an idle bond may send.
const IDLE_DATAGRAMS: f64 = 25.0;

/// The last stretch of a run, in which nothing new is to be carried.
#[derive(Debug)]
pub struct Idle {
    /// Datagrams sent in it.
    pub datagrams: u64,
    /// How long it was.
    pub time: Duration,
    /// What the ends knew as it began.
    pub before: [Knowledge; 2],
    /// The hosts had nothing outstanding any more as it began.
    pub hosts_rest: bool,
}

/// Watches a run.
#[derive(Debug)]
pub struct Watch {
    clear_from: Instant,
    /// For each flow what was delivered, and when that last changed.
    progress: Vec<(u64, Instant)>,
    stuck: Vec<bool>,
    found: Vec<String>,
    most_in_flight: u64,
}

impl Watch {
    /// A watch over a run of `setup`.
    pub fn new(setup: &Setup) -> Self {
        Self {
            clear_from: Instant::ZERO + setup.clear_from,
            progress: vec![(0, Instant::ZERO); setup.flows.len()],
            stuck: vec![false; setup.flows.len()],
            found: Vec::new(),
            most_in_flight: 0,
        }
    }

    /// Looks at the state of a moment.
    pub fn look(&mut self, sample: &Sample<'_>) {
        for (side, knowledge) in ["client", "server"].iter().zip(&sample.knowledge) {
            let in_flight: u64 = knowledge.paths.iter().map(|path| path.in_flight).sum();
            self.most_in_flight = self.most_in_flight.max(in_flight);
            if knowledge.held > MOST_HELD {
                self.tell(
                    sample.now,
                    format!("{side} holds {} bytes for order", knowledge.held),
                );
            }
            if knowledge.backlog > MOST_BACKLOG {
                self.tell(sample.now, format!("{side} queues {} bytes", knowledge.backlog));
            }
        }
        if sample.now.as_nanos().is_multiple_of(100_000_000) {
            self.look_at_progress(sample);
        }
    }

    fn look_at_progress(&mut self, sample: &Sample<'_>) {
        let setup = sample.world.setup();
        for (number, flow) in setup.flows.iter().enumerate() {
            let started = sample.now > Instant::ZERO + flow.start;
            let FlowKind::Tcp(_, length) = flow.kind else {
                continue;
            };
            if !started || Instant::ZERO + flow.end.min(setup.length) < sample.now {
                self.progress[number].1 = sample.now;
                continue;
            }
            let counters = sample.world.counters(number);
            if counters.delivered != self.progress[number].0
                || length.is_some_and(|length| counters.delivered > length)
            {
                self.progress[number] = (counters.delivered, sample.now);
                continue;
            }
            let since = self.progress[number].1;
            let bad_weather = self.clear_from.since(since);
            let allowed = PROGRESS + bad_weather;
            if sample.now.since(since.max(self.clear_from)) > allowed && !self.stuck[number] {
                self.stuck[number] = true;
                self.tell(
                    sample.now,
                    format!(
                        "flow {number} stands still since {:.2} s",
                        since.as_nanos() as f64 / 1e9
                    ),
                );
            }
        }
    }

    fn tell(&mut self, now: Instant, what: String) {
        if self.found.len() < 20 {
            self.found
                .push(format!("at {:.2} s: {what}", now.as_nanos() as f64 / 1e9));
        }
    }

    /// Judges a run that is over and drained. `at_end` is what the ends knew as the flows ended.
    pub fn judge(mut self, world: &World, at_end: &[Knowledge; 2], idle: &Idle) -> Vec<String> {
        let setup = world.setup();
        self.judge_flows(world);
        if setup.flows.iter().all(|flow| flow.via != Via::Tunnel) {
            return self.found;
        }
        self.judge_conservation(world);
        self.judge_paths(setup, at_end);
        if self.clear_from <= Instant::ZERO + setup.length {
            self.judge_idle(world, idle);
        }
        self.found
    }

    fn judge_flows(&mut self, world: &World) {
        for (number, flow) in world.setup().flows.iter().enumerate() {
            let counters = world.counters(number);
            for violation in counters.violations {
                self.found.push(format!("flow {number}: {violation}"));
            }
            if flow.via == Via::Tunnel && counters.twice > 0 {
                self.found.push(format!(
                    "flow {number}: {} packets were delivered twice",
                    counters.twice
                ));
            }
            if world.setup().fair && flow.via == Via::Tunnel {
                // Of a realtime flow no order is kept.
                let ordered = !matches!(flow.kind, FlowKind::Realtime(..) | FlowKind::Ping(_));
                let allowed = 1 + counters.sent / 100_000;
                let late = crate::report::late(world, number);
                if ordered && late > allowed {
                    self.found.push(format!(
                        "flow {number}: {late} of {} came late in fair weather",
                        counters.sent
                    ));
                }
            }
        }
    }

    /// What entered has left, or was announced as dropped.
    fn judge_conservation(&mut self, world: &World) {
        let setup = world.setup();
        if !setup.survivable || self.clear_from > Instant::ZERO + setup.length {
            return;
        }
        for side in Side::BOTH {
            let mut lost = 0;
            let mut where_lost = String::new();
            for (number, flow) in setup.flows.iter().enumerate() {
                let ledger = world.ledger(number, side);
                let data_way = (flow.direction == Direction::Up) == (side == Side::Client);
                let missing = match flow.kind {
                    FlowKind::Tcp(..) if data_way => ledger.unique_loss().div_ceil(1448),
                    FlowKind::Tcp(..) => 0,
                    _ => ledger.packets_in.saturating_sub(ledger.packets_out),
                };
                if missing > 0 {
                    where_lost += &format!(" {missing} of flow {number}");
                }
                lost += missing;
            }
            let knowledge = world.knowledge(side);
            if lost > knowledge.dropped {
                self.found.push(format!(
                    "of what entered at the {side:?} {lost} packets never left ({where_lost} ), only {} were dropped by its queue",
                    knowledge.dropped
                ));
            }
        }
    }

    fn judge_paths(&mut self, setup: &Setup, at_end: &[Knowledge; 2]) {
        let redundant = setup.mode == Mode::Redundant
            || setup
                .actions
                .iter()
                .any(|(_, action)| matches!(action, Action::Mode(Mode::Redundant)));
        let live = setup.calm && is_live(setup);
        let minutes = setup.length.as_secs_f64() / 60.0;
        for (side, knowledge) in ["client", "server"].iter().zip(at_end) {
            let sum =
                |what: fn(&crate::world::PathKnowledge) -> u64| knowledge.paths.iter().map(what).sum::<u64>();
            let (sent, copies, repairs) = (
                sum(|path| path.sent_bytes),
                sum(|path| path.copy_bytes),
                sum(|path| path.repair_bytes),
            );
            let (lost, suspicions, deaths) = (
                sum(|path| path.lost),
                sum(|path| path.suspicions),
                sum(|path| path.deaths),
            );
            let once = (suspicions + deaths) * self.most_in_flight + 100_000;
            if !redundant && copies > sent / 50 + once {
                self.found.push(format!(
                    "{side}: {copies} bytes of copies beside {sent} sent, {suspicions} suspicions"
                ));
            }
            if repairs > 3 * 1500 * lost + once + sent / 50 {
                self.found
                    .push(format!("{side}: {repairs} bytes of repairs for {lost} losses"));
            }
            let parity = sum(|path| path.parity_bytes);
            // A share of what is sent, and on paths that have nothing else to send a game's worth.
            let idle = 32_000.0 * setup.length.as_secs_f64() * knowledge.paths.len() as f64;
            if parity > sent / 6 + idle as u64 + 100_000 {
                self.found
                    .push(format!("{side}: {parity} bytes of parity beside {sent} sent"));
            }
            if live && deaths > 0 {
                self.found
                    .push(format!("{side}: {deaths} deaths declared, all links lived"));
            }
            // A full queue that has just come to be looks like it for a moment; and on a narrow link a burst of losses lasts
            // for several round trips.
            if live && suspicions as f64 > (minutes + 3.0) * setup.wans.len() as f64 {
                self.found
                    .push(format!("{side}: {suspicions} suspicions, all links lived"));
            }
        }
    }

    fn judge_idle(&mut self, world: &World, idle: &Idle) {
        // A host inside whose data was lost sends it again for a while.
        let hosts_rest = idle.hosts_rest && outstanding(world) == 0;
        let mut busy = !hosts_rest;
        for (side, before) in Side::BOTH.into_iter().zip(&idle.before) {
            let after = world.knowledge(side);
            // A narrow link may still have something to carry; but then less and less.
            let amounts = [
                ("queued", before.backlog, after.backlog),
                ("unacknowledged", before.unacknowledged, after.unacknowledged),
                ("held for order", before.held, after.held),
            ];
            busy |= amounts.iter().any(|(_, before, _)| *before > 0);
            for (what, before, after) in amounts {
                if hosts_rest && after > 0 && after >= before && before > 0 {
                    self.found.push(format!(
                        "{side:?}, idle for long: {before} bytes {what} became {after}"
                    ));
                }
            }
        }
        let links = world.links().len() as f64 * 2.0;
        let rate = idle.datagrams as f64 / idle.time.as_secs_f64().max(1e-3) / links;
        if !busy && rate > IDLE_DATAGRAMS {
            self.found
                .push(format!("idle, but {rate:.0} datagrams a second and link"));
        }
    }
}

/// What the hosts inside sent and nobody acknowledged yet.
pub fn outstanding(world: &World) -> u64 {
    (0..world.setup().flows.len())
        .map(|flow| world.counters(flow).outstanding)
        .sum()
}

/// Whether all links pass packets all the time, as far as a path can be expected to know.
fn is_live(setup: &Setup) -> bool {
    let links_live = setup
        .wans
        .iter()
        .flat_map(|wan| [&wan.up, &wan.down])
        .all(|link| {
            link.outages.is_empty()
                && link.changes.is_empty()
                && link.loss.share() < 0.05
                && !link.rate.has_stalls()
        });
    let calm = setup
        .actions
        .iter()
        .all(|(_, action)| matches!(action, Action::Mode(_) | Action::Settings(..) | Action::Limits(_)));
    links_live
        && calm
        && setup.pauses.is_empty()
        && setup
            .wans
            .iter()
            .all(|wan| wan.nat.rebinds.is_empty() && wan.nat.forgets_after.is_none())
}
