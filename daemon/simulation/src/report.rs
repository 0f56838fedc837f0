//! What a run showed: for each link, path and flow the figures that tell causes, and what must not have happened.

use std::fmt::Write;
use std::time::Duration;

use sennit_engine::time::Instant;
use serde::Serialize;

use crate::setup::{Direction, FlowKind, Side, Via};
use crate::world::{Knowledge, PathKnowledge, World};

/// One direction of one WAN.
#[derive(Clone, Debug, Serialize)]
pub struct LinkReport {
    /// Number of the WAN.
    pub wan: usize,
    /// `up` or `down`.
    pub direction: &'static str,
    /// Mean rate, Mbit/s.
    pub rate: f64,
    /// Share of the rate that was used.
    pub utilisation: f64,
    /// Median time in the queue, milliseconds.
    pub queue_p50: f64,
    /// 99th percentile of it.
    pub queue_p99: f64,
    /// Packets that came.
    pub offered: u64,
    /// Lost because the queue was full.
    pub lost_queue: u64,
    /// Lost by chance.
    pub lost_random: u64,
    /// Lost to a policer.
    pub lost_policer: u64,
    /// Lost in outages.
    pub lost_outage: u64,
}

/// One path as its sender saw it.
#[derive(Clone, Debug, Serialize)]
pub struct PathReport {
    /// Number of the WAN.
    pub wan: usize,
    /// Who sends on it.
    pub sender: &'static str,
    /// Its condition at the end.
    pub condition: &'static str,
    /// Estimated rate at the end, Mbit/s.
    pub rate: f64,
    /// Datagrams sent.
    pub sent: u64,
    /// Packets lost.
    pub lost: u64,
    /// Packets wrongly taken for lost.
    pub spurious: u64,
    /// Thousands of bytes sent to repair losses of other paths.
    pub repairs: f64,
    /// Thousands of bytes sent beside another path.
    pub copies: f64,
    /// Thousands of bytes of parity.
    pub parity: f64,
    /// Packets of the other end that its parity brought back.
    pub recovered: u64,
    /// Suspicions.
    pub suspicions: u64,
    /// Deaths.
    pub deaths: u64,
}

/// One flow.
#[derive(Clone, Debug, Serialize)]
pub struct FlowReport {
    /// What it is.
    pub name: String,
    /// Mbit/s.
    pub goodput: f64,
    /// Of what one flow could get of all links together.
    pub share_of_ideal: f64,
    /// Goodput of each second.
    pub seconds: Vec<f64>,
    /// Packets sent.
    pub sent: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Of these needless.
    pub spurious: u64,
    /// Segments that came behind later ones.
    pub late: u64,
    /// Realtime packets or replies that did not come.
    pub missing: u64,
    /// Packets that came twice.
    pub twice: u64,
    /// Share of the bytes that entered the tunnel and never left it.
    pub residual_loss: f64,
    /// Retransmission time-outs.
    pub timeouts: u64,
    /// Reductions of the window.
    pub reductions: u64,
    /// Of these taken back.
    pub undone: u64,
    /// Longest gap between deliveries, milliseconds.
    pub longest_gap: f64,
    /// When it began, seconds.
    pub longest_gap_at: f64,
    /// Gaps of 15 ms and more: when they began, seconds, and their length, milliseconds.
    pub gaps: Vec<(f64, f64)>,
    /// When a transfer was through, seconds after its start.
    pub completed: Option<f64>,
    /// When 10 MB were through, seconds after its start.
    pub ten_megabytes: Option<f64>,
    /// Latency of realtime packets or pings, milliseconds: median, 99th, 99.9th percentile, largest.
    pub latency: [f64; 4],
    /// Congestion window at the end, bytes.
    pub window: u64,
}

/// A figure that is wanted of a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// What is measured.
    pub name: String,
    /// What was found.
    pub found: f64,
    /// The bound.
    pub wanted: f64,
    /// Whether the figure is to be at least (true) or at most the bound.
    pub at_least: bool,
}

impl Target {
    /// A figure that should be `wanted` or more.
    pub fn at_least(name: &str, found: f64, wanted: f64) -> Self {
        Self {
            name: name.to_owned(),
            found,
            wanted,
            at_least: true,
        }
    }

    /// A figure that should be `wanted` or less.
    pub fn at_most(name: &str, found: f64, wanted: f64) -> Self {
        Self {
            name: name.to_owned(),
            found,
            wanted,
            at_least: false,
        }
    }

    /// Whether it was reached.
    pub fn is_met(&self) -> bool {
        if self.at_least {
            self.found >= self.wanted
        } else {
            self.found <= self.wanted
        }
    }
}

/// All of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which scenario.
    pub scenario: String,
    /// Which seed.
    pub seed: u64,
    /// Virtual seconds in which flows sent.
    pub seconds: f64,
    /// Same seed, same hash.
    pub hash: u64,
    /// Events of the simulator.
    pub events: u64,
    /// What the setup has beside links and flows, in words.
    pub circumstances: Vec<String>,
    /// Links.
    pub links: Vec<LinkReport>,
    /// Paths.
    pub paths: Vec<PathReport>,
    /// Flows.
    pub flows: Vec<FlowReport>,
    /// What the resequencers of client and server counted.
    pub resequencers: [String; 2],
    /// Packets dropped by queue management at client and server.
    pub dropped: [u64; 2],
    /// Datagrams and packets dropped because an end did not run.
    pub overflow: [(u64, u64); 2],
    /// What the ends told: seconds, side, event.
    pub log: Vec<(f64, &'static str, String)>,
    /// Figures that are wanted.
    pub targets: Vec<Target>,
    /// What must not have happened.
    pub violations: Vec<String>,
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn seconds(instant: Instant) -> f64 {
    instant.as_nanos() as f64 / 1e9
}

fn side_name(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Server => "server",
    }
}

impl Report {
    /// Reads a world whose flows sent for `length`. `knowledge` is what the ends knew as the flows ended.
    pub fn new(
        scenario: &str,
        seed: u64,
        world: &World,
        length: Duration,
        knowledge: &[Knowledge; 2],
    ) -> Self {
        let end = Instant::ZERO + length;
        let flows = (0..world.setup().flows.len())
            .map(|flow| flow_report(world, flow, end))
            .collect();
        let links = (world.links().iter().enumerate())
            .flat_map(|(wan, pair)| {
                [("up", &pair[0]), ("down", &pair[1])].map(|(direction, link)| {
                    let capacity = link.settings().rate.capacity(Instant::ZERO, world.now());
                    let during = link.settings().rate.capacity(Instant::ZERO, end);
                    let statistics = link.statistics();
                    LinkReport {
                        wan,
                        direction,
                        rate: capacity * 8e-6 / seconds(world.now()),
                        utilisation: statistics.carried_bytes as f64 / during.max(1.0),
                        queue_p50: milliseconds(statistics.queueing.quantile(0.5)),
                        queue_p99: milliseconds(statistics.queueing.quantile(0.99)),
                        offered: statistics.offered,
                        lost_queue: statistics.lost_queue,
                        lost_random: statistics.lost_random,
                        lost_policer: statistics.lost_policer,
                        lost_outage: statistics.lost_outage,
                    }
                })
            })
            .collect();
        let paths = (Side::BOTH.iter().zip(knowledge))
            .flat_map(|(side, knowledge)| knowledge.paths.iter().map(|path| path_report(*side, path)))
            .collect();
        Self {
            scenario: scenario.to_owned(),
            seed,
            seconds: length.as_secs_f64(),
            hash: world.hash(),
            events: world.event_count(),
            circumstances: world.setup().circumstances(),
            links,
            paths,
            flows,
            resequencers: [knowledge[0].resequencer.clone(), knowledge[1].resequencer.clone()],
            dropped: [knowledge[0].dropped, knowledge[1].dropped],
            overflow: world.overflow(),
            log: (world.log().iter())
                .map(|(at, side, event)| (seconds(*at), side_name(*side), event.clone()))
                .collect(),
            targets: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// Adds what only shows when all that was under way has arrived.
    pub fn finish(&mut self, world: &World) {
        for (number, flow) in self.flows.iter_mut().enumerate() {
            let counters = world.counters(number);
            flow.late = late(world, number);
            flow.missing = counters.missing;
            flow.twice = counters.twice;
            flow.residual_loss = residual_loss(world, number);
        }
    }

    /// Goodput of all bulk flows through the tunnel as a share of the ideal.
    pub fn share(&self) -> f64 {
        (self.flows.iter())
            .filter(|flow| !flow.name.contains("beside") && flow.sent > 0)
            .map(|flow| flow.share_of_ideal)
            .sum()
    }

    /// Jain's index of the goodput of the first `count` flows.
    pub fn fairness(&self, count: usize) -> f64 {
        let goodputs: Vec<f64> = self.flows.iter().take(count).map(|flow| flow.goodput).collect();
        let sum: f64 = goodputs.iter().sum();
        let squares: f64 = goodputs.iter().map(|goodput| goodput * goodput).sum();
        if squares > 0.0 {
            sum * sum / (squares * goodputs.len() as f64)
        } else {
            0.0
        }
    }

    /// The longest gap of a flow that began between two times in seconds; milliseconds.
    pub fn gap_between(&self, flow: usize, from: f64, to: f64) -> f64 {
        (self.flows[flow].gaps.iter())
            .filter(|(at, _)| (from..to).contains(at))
            .map(|(_, length)| *length)
            .fold(0.0, f64::max)
    }

    /// Mean goodput of a flow in Mbit/s between two times in whole seconds.
    pub fn goodput_between(&self, flow: usize, from: usize, to: usize) -> f64 {
        let seconds = &self.flows[flow].seconds;
        let sum: f64 = seconds.iter().skip(from).take(to - from).sum();
        sum / (to - from) as f64
    }

    /// Tables for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "{}, seed {}: {} s, {} events, hash {:016x}",
            self.scenario, self.seed, self.seconds, self.events, self.hash
        )?;
        for circumstance in &self.circumstances {
            writeln!(out, "  {circumstance}")?;
        }
        writeln!(
            out,
            "  link       rate Mbit/s   used   queue p50/p99 ms   packets   lost: queue random policer outage"
        )?;
        for link in &self.links {
            writeln!(
                out,
                "  wan {} {:<5} {:>10.1} {:>6.1}% {:>9.1} / {:<7.1} {:>9} {:>11} {:>6} {:>7} {:>6}",
                link.wan,
                link.direction,
                link.rate,
                link.utilisation * 100.0,
                link.queue_p50,
                link.queue_p99,
                link.offered,
                link.lost_queue,
                link.lost_random,
                link.lost_policer,
                link.lost_outage
            )?;
        }
        if !self.paths.is_empty() {
            writeln!(
                out,
                "  path            condition   rate      sent    lost spurious  repairs kB  copies kB  parity kB  recovered  suspicions deaths"
            )?;
        }
        for path in &self.paths {
            writeln!(
                out,
                "  wan {} {:<9} {:<9} {:>7.1} {:>9} {:>7} {:>8} {:>11.1} {:>10.1} {:>10.1} {:>10} {:>11} {:>6}",
                path.wan,
                path.sender,
                path.condition,
                path.rate,
                path.sent,
                path.lost,
                path.spurious,
                path.repairs,
                path.copies,
                path.parity,
                path.recovered,
                path.suspicions,
                path.deaths
            )?;
        }
        for (side, resequencer) in ["client", "server"].iter().zip(&self.resequencers) {
            if !resequencer.is_empty() {
                writeln!(out, "  resequencer of {side}: {resequencer}")?;
            }
        }
        if self.dropped != [0, 0] || self.overflow != [(0, 0), (0, 0)] {
            writeln!(
                out,
                "  dropped by queues {:?}, at sockets and TUN {:?}",
                self.dropped, self.overflow
            )?;
        }
        for flow in &self.flows {
            write!(out, "  {}: ", flow.name)?;
            if flow.latency[3] > 0.0 {
                let [median, high, higher, largest] = flow.latency;
                write!(
                    out,
                    "latency ms {median:.1} / p99 {high:.1} / p99.9 {higher:.1} / {largest:.1}, "
                )?;
                write!(
                    out,
                    "{} of {} missing, {} late",
                    flow.missing, flow.sent, flow.late
                )?;
            } else {
                write!(
                    out,
                    "{:.2} Mbit/s = {:.1} % of ideal, ",
                    flow.goodput,
                    flow.share_of_ideal * 100.0
                )?;
                write!(
                    out,
                    "{} of {} sent again ({} needless), ",
                    flow.retransmitted, flow.sent, flow.spurious
                )?;
                write!(
                    out,
                    "{} late, residual loss {:.1e}, ",
                    flow.late, flow.residual_loss
                )?;
                write!(
                    out,
                    "{} reductions ({} undone), {} time-outs",
                    flow.reductions, flow.undone, flow.timeouts
                )?;
            }
            write!(
                out,
                ", longest gap {:.0} ms at {:.2} s",
                flow.longest_gap, flow.longest_gap_at
            )?;
            if let Some(completed) = flow.completed {
                write!(out, ", through after {completed:.3} s")?;
            }
            if let Some(time) = flow.ten_megabytes {
                write!(out, ", 10 MB after {time:.2} s")?;
            }
            writeln!(out)?;
        }
        for target in &self.targets {
            let (verdict, sign) = (
                if target.is_met() { "met" } else { "MISSED" },
                if target.at_least { "≥" } else { "≤" },
            );
            writeln!(
                out,
                "  target {}: {:.4} ({sign} {}): {verdict}",
                target.name, target.found, target.wanted
            )?;
        }
        for violation in &self.violations {
            writeln!(out, "  VIOLATION {violation}")?;
        }
        Ok(())
    }
}

fn path_report(side: Side, path: &PathKnowledge) -> PathReport {
    PathReport {
        wan: path.wan,
        sender: side_name(side),
        condition: path.condition,
        rate: path.rate as f64 * 8e-6,
        sent: path.sent,
        lost: path.lost,
        spurious: path.spurious,
        repairs: path.repair_bytes as f64 / 1e3,
        copies: path.copy_bytes as f64 / 1e3,
        parity: path.parity_bytes as f64 / 1e3,
        recovered: path.recovered,
        suspicions: path.suspicions,
        deaths: path.deaths,
    }
}

fn flow_report(world: &World, number: usize, end: Instant) -> FlowReport {
    let flow = &world.setup().flows[number];
    let counters = world.counters(number);
    let start = Instant::ZERO + flow.start;
    let stop = end
        .min(counters.completed.unwrap_or(end))
        .min(Instant::ZERO + flow.end);
    let slots = |instant: Instant| (instant.as_nanos() / 100_000_000) as usize;
    let within = counters.series.iter().take(slots(stop) + 1).sum::<u64>();
    let time = stop.since(start).as_secs_f64().max(1e-3);
    let ideal = world.setup().ideal(flow.direction, start, stop);
    let quantile = |quantile| milliseconds(counters.latency.quantile(quantile));
    FlowReport {
        name: flow.name(),
        goodput: within as f64 * 8e-6 / time,
        share_of_ideal: if flow.is_bulk() {
            within as f64 / ideal.max(1.0)
        } else {
            0.0
        },
        seconds: counters
            .series
            .chunks(10)
            .map(|tenths| tenths.iter().sum::<u64>() as f64 * 8e-6)
            .collect(),
        sent: counters.sent,
        retransmitted: counters.retransmitted,
        spurious: counters.spurious,
        late: late(world, number),
        missing: counters.missing,
        twice: counters.twice,
        residual_loss: residual_loss(world, number),
        timeouts: counters.timeouts,
        reductions: counters.reductions,
        undone: counters.undone,
        longest_gap: milliseconds(counters.longest_gap),
        longest_gap_at: seconds(counters.longest_gap_at),
        gaps: (counters.gaps.iter())
            .map(|(at, length)| (seconds(*at), milliseconds(*length)))
            .collect(),
        completed: counters.completed.map(|at| at.since(start).as_secs_f64()),
        ten_megabytes: counters.ten_megabytes.map(|at| at.since(start).as_secs_f64()),
        latency: [
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            milliseconds(counters.latency.largest()),
        ],
        window: counters.window,
    }
}

fn residual_loss(world: &World, number: usize) -> f64 {
    world.ledger(number, data_enters_at(world, number)).loss()
}

/// Packets that left the tunnel behind ones that had entered it later; without a tunnel what the receiver saw.
pub(crate) fn late(world: &World, number: usize) -> u64 {
    let flow = &world.setup().flows[number];
    match (flow.via, flow.kind) {
        (Via::Tunnel, FlowKind::Tcp(..)) => world.ledger(number, data_enters_at(world, number)).late,
        _ => world.counters(number).late,
    }
}

fn data_enters_at(world: &World, number: usize) -> Side {
    match world.setup().flows[number].direction {
        Direction::Up => Side::Client,
        Direction::Down => Side::Server,
    }
}
