//! One run: build the network, start a contestant, send the traffic, let the events happen, and judge the conditions.

use crate::Result;
use crate::contestant::{Kind, Started, Tools};
use crate::emulator::{Emulator, Report, Way};
use crate::interrupt;
use crate::link::Change;
use crate::machine::{self, Machine, Strain};
use crate::measure::{self, Measures, link_bins};
use crate::namespace::Namespace;
use crate::scenario::{Action, Bulk, Event, Host, Scenario, Side, Variant};
use crate::sys::clock;
use crate::time::Nanos;
use crate::topology::{Plan, SERVER, Topology, wan_interface};
use crate::traffic::bulk::{self, BulkPlan, BulkReport};
use crate::traffic::page::{self, Page, PagePlan};
use crate::traffic::probe::{self, ProbePlan, ProbeReport};
use crate::traffic::{Reach, Running, Window};

/// Most time between a frame's due time and its delivery, for 99 of 100.
const MOST_LATENESS: Nanos = Nanos(1_000_000);
/// Most processor time that the machine's host may take away.
const MOST_STEAL: f64 = 0.02;

/// What is fixed for one run.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// One of its variants.
    pub variant: &'a Variant,
    /// Who carries the traffic.
    pub kind: Kind,
    /// Chance of the links.
    pub seed: u64,
    /// Programs.
    pub tools: &'a Tools,
}

/// What one contestant did in one run. `direct` counts as one contestant a WAN, and their sum and best.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its name.
    pub contestant: String,
    /// Figures.
    pub measures: Measures,
    /// Why the run does not count; empty if it does.
    pub invalid: Vec<String>,
    /// What was checked and found in order, and what else a reader should know.
    pub notes: Vec<String>,
    /// For plots.
    pub timeline: Timeline,
}

/// What happened over time, from the start of the traffic.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// Payload of bulk transfers in bins of [`crate::emulator::BIN`].
    pub goodput: Vec<u64>,
    /// Bytes of frames of each WAN, the way of the bulk transfer.
    pub wans: Vec<Vec<u64>>,
    /// When each datagram of the first probe was sent (s), and its round trip (ms); not a number if it was lost.
    pub round_trips: Vec<(f64, f64)>,
    /// When what happened.
    pub events: Vec<(f64, String)>,
}

/// Traffic of one reach (or of a neighbour).
#[derive(Default)]
struct Traffic {
    bulks: Vec<Running<BulkReport>>,
    probes: Vec<Running<ProbeReport>>,
    pages: Vec<Running<Vec<Page>>>,
}

/// What was seen of it.
#[derive(Default)]
struct Seen {
    bulks: Vec<BulkReport>,
    probes: Vec<ProbeReport>,
    pages: Vec<Page>,
}

/// Does one run.
pub fn run(settings: &Settings<'_>) -> Result<Vec<Outcome>> {
    let Settings {
        scenario,
        variant,
        kind,
        seed,
        tools,
    } = *settings;
    let topology = Topology::new(Plan {
        wans: scenario
            .links
            .iter()
            .map(|link| (link.up.clone(), link.down.clone()))
            .collect(),
        neighbours: scenario.neighbours(),
        bare: scenario.bare,
    })?;
    let emulator = Emulator::start(topology.links(), seed)?;
    let mut started = kind.start(&topology, scenario, variant, tools)?;
    let before = Machine::now();
    let lab_cpu_before = emulator.report()?.cpu;
    let process_cpu_before = cpu_of(&started);
    let start = clock::now() + Nanos::from_millis(200.0);
    let window = Window {
        start,
        end: start + Nanos::from_secs(scenario.seconds),
    };
    let own: Result<Vec<_>> = started
        .reaches
        .iter()
        .map(|reach| own_traffic(&topology, scenario, variant, reach, window))
        .collect();
    let (own, others) = (own?, neighbours_traffic(&topology, scenario, variant, window)?);
    let events = happen(&scenario.events, &topology, &emulator, &mut started, window)?;
    let process_cpu = cpu_of(&started);
    let strain = Machine::now().since(&before);
    let report = emulator.report()?;
    let tunnel_drops = drops(&topology, &started)?;
    let own: Result<Vec<Seen>> = own.into_iter().map(Traffic::finish).collect();
    let (own, others) = (own?, others.finish()?);

    let mut notes = condition_notes(
        &report,
        &strain,
        report.cpu - lab_cpu_before.min(report.cpu),
        &tunnel_drops,
    );
    let mut invalid = judge(scenario, &report, &strain);
    let multiple = own.len() > 1;
    let mut outcomes = Vec::new();
    for (number, (reach, seen)) in started.reaches.iter().zip(&own).enumerate() {
        let ideal = if multiple {
            scenario.ideal_of(number, variant.way)
        } else {
            scenario.ideal(variant.way)
        };
        let mut measures = Measures::default();
        let load = seen.bulks.iter().map(|bulk| bulk.window.start).min();
        let reports: Vec<&BulkReport> = seen.bulks.iter().collect();
        measure::bulk(&mut measures, "", &reports, ideal);
        seen.probes
            .iter()
            .for_each(|report| measure::probe(&mut measures, "", report, load));
        if !seen.pages.is_empty() {
            measure::pages(&mut measures, "", &seen.pages, load);
        }
        notes.extend(congestion_notes(&reports, &mut invalid));
        if !multiple {
            neighbour_measures(&mut measures, &others, scenario, &report, window);
            let bytes: u64 = seen
                .bulks
                .iter()
                .flat_map(|bulk| &bulk.flows)
                .map(bulk::FlowReport::bytes)
                .sum();
            for (side, before, after) in process_cpu_before
                .iter()
                .zip(&process_cpu)
                .map(|(b, a)| (a.0, b.1, a.1))
            {
                measures.add(
                    format!("cpu.{side}"),
                    "s/GB",
                    (after - before) / (bytes as f64 / 1e9),
                );
            }
            for process in &started.processes {
                measures.add(
                    format!("memory.{}", process.side),
                    "MB",
                    process.memory() as f64 / 1e6,
                );
            }
        }
        for (wan, link) in report.links.iter().enumerate() {
            let name = wan_interface(wan);
            if !multiple || name == reach.name {
                measure::link(&mut measures, &name, link, report.until.since(window.start));
            }
        }
        crate::response::measures(&mut measures, scenario, variant.way, &reports, &report, window);
        let shown = |wan: usize| !multiple || wan_interface(wan) == reach.name;
        let wans = report.links.iter().enumerate().filter(|(wan, _)| shown(*wan));
        outcomes.push(Outcome {
            contestant: if multiple {
                format!("{}:{}", kind.name(), reach.name)
            } else {
                kind.name().to_owned()
            },
            measures,
            invalid: Vec::new(),
            notes: Vec::new(),
            timeline: Timeline {
                goodput: measure::combined(&reports),
                wans: wans
                    .map(|(_, link)| link_bins(link, variant.way, report.started, window.start))
                    .collect(),
                round_trips: seen
                    .probes
                    .first()
                    .map(|probe| round_trips(probe, window))
                    .unwrap_or_default(),
                events: events.clone(),
            },
        });
    }
    if multiple {
        outcomes.extend(together(&outcomes));
    }
    for outcome in &mut outcomes {
        outcome.invalid.clone_from(&invalid);
        outcome.notes.clone_from(&notes);
    }
    Ok(outcomes)
}

impl Traffic {
    fn finish(self) -> Result<Seen> {
        let bulks: Result<Vec<_>> = self.bulks.into_iter().map(Running::finish).collect();
        let probes: Result<Vec<_>> = self.probes.into_iter().map(Running::finish).collect();
        let pages: Result<Vec<_>> = self.pages.into_iter().map(Running::finish).collect();
        Ok(Seen {
            bulks: bulks?,
            probes: probes?,
            pages: pages?.concat(),
        })
    }

    fn add_bulk(
        &mut self,
        from: &Namespace,
        to: &Namespace,
        reach: &Reach,
        bulk: &Bulk,
        variant: &Variant,
        window: Window,
    ) -> Result<()> {
        let plan = BulkPlan {
            way: bulk.way.unwrap_or(variant.way),
            flows: bulk.flows,
            congestion: bulk
                .congestion
                .clone()
                .unwrap_or_else(|| variant.congestion.clone()),
        };
        let window = Window {
            start: window.start + bulk.start,
            end: window.end,
        };
        self.bulks
            .push(bulk::start(from, to, reach.clone(), plan, window)?);
        Ok(())
    }

    fn add_probe(
        &mut self,
        from: &Namespace,
        to: &Namespace,
        reach: &Reach,
        probe: &crate::scenario::Probe,
        window: Window,
    ) -> Result<()> {
        let plan = ProbePlan {
            name: probe.name.clone(),
            per_second: probe.per_second,
            bytes: probe.bytes,
        };
        let window = Window {
            start: window.start + probe.start,
            end: window.end,
        };
        self.probes
            .push(probe::start(from, to, reach.clone(), plan, window)?);
        Ok(())
    }
}

/// Traffic that the contestant carries.
fn own_traffic(
    topology: &Topology,
    scenario: &Scenario,
    variant: &Variant,
    reach: &Reach,
    window: Window,
) -> Result<Traffic> {
    let host = |host: Host| match host {
        Host::Client => Some((&topology.client, reach.clone())),
        // A LAN host knows nothing of the client's interfaces.
        Host::Lan => Some((
            &topology.lan,
            Reach {
                device: None,
                ..reach.clone()
            },
        )),
        Host::Neighbour(_) => None,
    };
    let mut traffic = Traffic::default();
    for bulk in &scenario.bulks {
        if let Some((from, reach)) = host(bulk.host) {
            traffic.add_bulk(from, &topology.server, &reach, bulk, variant, window)?;
        }
    }
    for probe in &scenario.probes {
        if let Some((from, reach)) = host(probe.host) {
            traffic.add_probe(from, &topology.server, &reach, probe, window)?;
        }
    }
    for page in &scenario.pages {
        if let Some((from, reach)) = host(page.host) {
            let plan = PagePlan {
                congestion: variant.congestion.clone(),
                seed: 1,
            };
            let window = Window {
                start: window.start + page.start,
                end: window.end,
            };
            traffic
                .pages
                .push(page::start(from, &topology.server, reach, plan, window)?);
        }
    }
    Ok(traffic)
}

/// Traffic of hosts that do not use it.
fn neighbours_traffic(
    topology: &Topology,
    scenario: &Scenario,
    variant: &Variant,
    window: Window,
) -> Result<Traffic> {
    let mut traffic = Traffic::default();
    for (wan, from) in &topology.neighbours {
        let reach = Reach {
            name: format!("neighbour{wan}"),
            target: SERVER.into(),
            device: None,
        };
        for bulk in scenario
            .bulks
            .iter()
            .filter(|bulk| bulk.host == Host::Neighbour(*wan))
        {
            traffic.add_bulk(from, &topology.server, &reach, bulk, variant, window)?;
        }
        for probe in scenario
            .probes
            .iter()
            .filter(|probe| probe.host == Host::Neighbour(*wan))
        {
            traffic.add_probe(from, &topology.server, &reach, probe, window)?;
        }
    }
    Ok(traffic)
}

/// Lets the events happen, and returns at the end of the window what happened when.
fn happen(
    events: &[Event],
    topology: &Topology,
    emulator: &Emulator,
    started: &mut Started,
    window: Window,
) -> Result<Vec<(f64, String)>> {
    let mut happened = Vec::new();
    for event in events.iter().filter(|event| window.start + event.at < window.end) {
        wait_until(window.start + event.at, started)?;
        match &event.action {
            Action::Change { link, ways, change } => {
                ways.iter()
                    .for_each(|way| emulator.change(*link, *way, change.clone()));
            }
            Action::Plug { link, plugged } => topology.plug(*link, *plugged)?,
            Action::Kill(side) => started.side(*side).for_each(crate::contestant::Process::kill),
            Action::Restart(side) => started
                .side(*side)
                .try_for_each(crate::contestant::Process::restart)?,
        }
        happened.push((clock::now().since(window.start).secs(), describe(&event.action)));
    }
    wait_until(window.end, started)?;
    Ok(happened)
}

fn wait_until(at: Nanos, started: &mut Started) -> Result<()> {
    // The last moment is waited for precisely.
    let early = at - Nanos::from_millis(25.0);
    while clock::now() < early {
        interrupt::wait(early.since(clock::now()).into(), || {
            started.check().map(|()| false)
        })?;
    }
    clock::sleep_until(at);
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

/// Conditions under which a run does not count.
fn judge(scenario: &Scenario, report: &Report, strain: &Strain) -> Vec<String> {
    let mut invalid = Vec::new();
    let late = report.lateness.quantile(0.99);
    if late > MOST_LATENESS {
        invalid.push(format!(
            "the emulator was late: 99 of 100 frames within {:.2} ms, not 1 ms",
            late.millis()
        ));
    }
    if report.socket_drops > 0 {
        invalid.push(format!(
            "{} frames were dropped at the emulator's sockets",
            report.socket_drops
        ));
    }
    if report.oversize > 0 {
        invalid.push(format!(
            "{} frames were longer than any wire carries (segmentation offload)",
            report.oversize
        ));
    }
    if strain.steal > MOST_STEAL {
        invalid.push(format!(
            "the machine's host took {:.1} % of the processors away",
            strain.steal * 100.0
        ));
    }
    if strain.softnet_drops > 0 && !scenario.bare {
        invalid.push(format!(
            "{} packets were dropped in the kernel's backlog",
            strain.softnet_drops
        ));
    }
    invalid
}

fn condition_notes(
    report: &Report,
    strain: &Strain,
    emulator_cpu: u64,
    tunnel_drops: &[String],
) -> Vec<String> {
    let mut notes = vec![format!(
        "emulator: 99 of 100 frames within {:.2} ms of their time, mean {:.3} ms{}; {:.1} s of processor time, the \
         lab as a whole {:.1} s; steal {:.1} %",
        report.lateness.quantile(0.99).millis(),
        report.lateness.mean().millis(),
        if report.real_time {
            ""
        } else {
            " (no real-time priority)"
        },
        emulator_cpu as f64 / 1e9,
        strain.lab_cpu,
        strain.steal * 100.0
    )];
    notes.extend_from_slice(tunnel_drops);
    if report.send_failures > 0 {
        notes.push(format!(
            "{} frames found their interface down",
            report.send_failures
        ));
    }
    notes
}

/// What flows really ran; another congestion control than asked for makes the run not valid.
fn congestion_notes(reports: &[&BulkReport], invalid: &mut Vec<String>) -> Vec<String> {
    let mut notes = Vec::new();
    for report in reports {
        let asked = &report.plan.congestion;
        for flow in &report.flows {
            let (client, server) = (&flow.client_congestion, &flow.server_congestion);
            if client != asked || server != asked {
                invalid.push(format!(
                    "a flow ran {client} at the client and {server} at the server, not {asked}"
                ));
            }
        }
        if report.flows.len() < report.plan.flows {
            invalid.push(format!(
                "only {} of {} flows were connected",
                report.flows.len(),
                report.plan.flows
            ));
        }
        notes.push(format!(
            "{} flows ran {asked}, read back from the sockets at both ends",
            report.flows.len()
        ));
    }
    notes
}

/// Goodput of neighbours, and the share of their link that was not theirs.
fn neighbour_measures(
    measures: &mut Measures,
    others: &Seen,
    scenario: &Scenario,
    report: &Report,
    window: Window,
) {
    let reports: Vec<&BulkReport> = others.bulks.iter().collect();
    if !reports.is_empty() {
        measure::bulk(measures, "neighbour.", &reports, f64::NAN);
    }
    others
        .probes
        .iter()
        .for_each(|report| measure::probe(measures, "neighbour.", report, None));
    let Some((first, wan)) = others.bulks.first().zip(scenario.neighbours().first().copied()) else {
        return;
    };
    let Some(link) = report.links.get(wan) else { return };
    let start = first.window.start;
    let carried: u64 = link_bins(link, first.plan.way, report.started, start)
        .iter()
        .sum();
    let theirs: u64 = others
        .bulks
        .iter()
        .flat_map(|bulk| &bulk.flows)
        .map(bulk::FlowReport::bytes)
        .sum();
    let theirs = theirs as f64 * 1514.0 / 1448.0;
    debug_assert!(start >= window.start);
    measures.add(
        "bond_share_of_shared_link",
        "",
        1.0 - theirs / (carried as f64).max(1.0),
    );
}

/// `direct:sum` and `direct:best`, of what each WAN did by itself.
fn together(each: &[Outcome]) -> Vec<Outcome> {
    let goodputs: Vec<f64> = each
        .iter()
        .filter_map(|outcome| outcome.measures.value("goodput"))
        .collect();
    let name = |suffix: &str| format!("{}:{suffix}", Kind::Direct.name());
    let empty = |contestant: String, measures: Measures| Outcome {
        contestant,
        measures,
        invalid: Vec::new(),
        notes: Vec::new(),
        timeline: Timeline::default(),
    };
    let mut sum = Measures::default();
    if !goodputs.is_empty() {
        sum.add("goodput", "Mbit/s", goodputs.iter().sum());
    }
    // The best WAN is the one with the most goodput, or, where nothing is downloaded, the shortest round trip.
    let rank = |outcome: &Outcome| {
        let trip = outcome
            .measures
            .0
            .iter()
            .find(|measure| measure.name.ends_with(".rtt_p50"));
        outcome
            .measures
            .value("goodput")
            .or(trip.map(|trip| -trip.value))
            .unwrap_or(f64::NEG_INFINITY)
    };
    let best = each.iter().max_by(|a, b| rank(a).total_cmp(&rank(b)));
    let best = best.map(|best| Outcome {
        contestant: name("best"),
        ..best.clone()
    });
    [Some(empty(name("sum"), sum)), best]
        .into_iter()
        .flatten()
        .collect()
}

fn round_trips(probe: &ProbeReport, window: Window) -> Vec<(f64, f64)> {
    let trip = |sample: &probe::Sample| {
        sample
            .back
            .map_or(f64::NAN, |back| back.since(sample.sent).millis())
    };
    probe
        .samples
        .iter()
        .map(|sample| (sample.sent.since(window.start).secs(), trip(sample)))
        .collect()
}

fn cpu_of(started: &Started) -> Vec<(Side, f64)> {
    started
        .processes
        .iter()
        .map(|process| (process.side, process.cpu()))
        .collect()
}

/// Packets that the contestant's interfaces and sockets dropped: not losses of links.
fn drops(topology: &Topology, started: &Started) -> Result<Vec<String>> {
    let Some((client, server)) = &started.tunnel else {
        return Ok(Vec::new());
    };
    let mut notes = Vec::new();
    for (side, host, interface) in [
        ("client", &topology.client, client),
        ("server", &topology.server, server),
    ] {
        let drops = machine::drops(host, interface)?;
        if drops.tunnel + drops.sockets > 0 {
            notes.push(format!(
                "{side}: {} packets dropped at the tunnel interface, {} at UDP sockets",
                drops.tunnel, drops.sockets
            ));
        }
    }
    Ok(notes)
}
