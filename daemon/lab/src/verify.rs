//! Is an emulated link what was asked for? Rate, delay, loss and order, measured through the kernel with plain sockets.

use crate::emulator::{Emulator, Way};
use crate::link::{Loss, Service, Shape};
use crate::measure::{quantile, sorted};
use crate::sys::clock;
use crate::time::Nanos;
use crate::topology::{Plan, SERVER, Topology, wan_interface};
use crate::traffic::flood::{self, FloodPlan, FloodReport};
use crate::traffic::probe::{self, ProbePlan, ProbeReport};
use crate::traffic::{Reach, Window};
use crate::{Result, interrupt};

/// A link's rate may differ by this share from what was asked for.
const RATE_TOLERANCE: f64 = 0.01;
/// The median delay may differ by this.
const DELAY_TOLERANCE_MS: f64 = 0.2;
/// Losses may differ by this many standard deviations: once in 15,000 by chance.
const LOSS_TOLERANCE: f64 = 4.0;
/// Payload that makes a frame of 1514 bytes.
const FULL: usize = 1472;
const FULL_FRAME: f64 = 1514.0;
/// Payload of a probe, and the frame that it makes.
const SMALL: usize = 64;
const SMALL_FRAME: f64 = 64.0 + 28.0 + 14.0;

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Which link and what of it.
    pub name: String,
    /// The unit of both values.
    pub unit: &'static str,
    /// What was asked for.
    pub asked: f64,
    /// What was measured.
    pub measured: f64,
    /// By how much it may differ.
    pub tolerance: f64,
}

impl Check {
    /// Whether it is what was asked for.
    pub fn holds(&self) -> bool {
        (self.measured - self.asked).abs() <= self.tolerance
    }
}

/// Links to verify: rate in Mbit/s, delay in ms, loss.
pub const LINKS: [(f64, f64, f64); 5] = [
    (1.0, 40.0, 0.0),
    (20.0, 35.0, 0.01),
    (50.0, 10.0, 0.0),
    (50.0, 10.0, 0.03),
    (300.0, 10.0, 0.01),
];

/// Verifies links one after the other, both ways at once, each for some seconds.
pub fn verify(links: &[(f64, f64, f64)], seconds: f64, talk: &mut dyn FnMut(&str)) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (rate, delay, loss) in links {
        interrupt::check()?;
        talk(&format!("{rate} Mbit/s, {delay} ms, {} % loss", loss * 100.0));
        checks.extend(link(*rate, *delay, *loss, seconds)?);
    }
    Ok(checks)
}

fn link(rate: f64, delay: f64, loss: f64, seconds: f64) -> Result<Vec<Check>> {
    let shape = Shape {
        service: Service::Rate((rate * 1e6) as u64),
        delay: Nanos::from_millis(delay),
        loss: if loss > 0.0 {
            Loss::Random(loss)
        } else {
            Loss::None
        },
        ..Shape::default()
    };
    let topology = Topology::new(Plan {
        wans: vec![(shape.clone(), shape)],
        ..Plan::default()
    })?;
    let emulator = Emulator::start(topology.links(), 1)?;
    let reach = Reach::new("verify", SERVER.into(), Some(wan_interface(0)));
    // First an idle link, for its delay; then one that gets less than it carries, for its loss; then one that gets
    // more, for its rate.
    let now = clock::now() + Nanos::from_millis(100.0);
    let idle = Window {
        start: now,
        end: now + Nanos::from_secs(seconds.min(3.0)),
    };
    let plan = ProbePlan {
        name: "delay".into(),
        per_second: 200,
        bytes: SMALL,
    };
    let probes = probe::start(&topology.client, &topology.server, reach.clone(), plan, idle)?.finish()?;
    let flood = |share: f64| -> Result<_> {
        let now = clock::now() + Nanos::from_millis(200.0);
        let window = Window {
            start: now,
            end: now + Nanos::from_secs(seconds),
        };
        let start = |way| {
            let per_second = vec![(rate * share * 1e6 / 8.0 / FULL_FRAME) as u32 + 1];
            let plan = FloodPlan {
                way,
                per_second,
                bytes: FULL,
            };
            flood::start(&topology.client, &topology.server, reach.clone(), plan, window)
        };
        let (up, down) = (start(Way::Up)?, start(Way::Down)?);
        Ok((window, up.finish()?, down.finish()?))
    };
    let (_, loss_up, loss_down) = flood(0.8)?;
    let (full, up, down) = flood(1.1)?;
    let report = emulator.report()?;
    let name = format!("{rate} Mbit/s {delay} ms {} %", loss * 100.0);
    let mut checks = delays(&name, rate, delay, &probes);
    checks.extend(rates(&format!("{name} up"), rate, loss, &loss_up, &up, full));
    checks.extend(rates(
        &format!("{name} down"),
        rate,
        loss,
        &loss_down,
        &down,
        full,
    ));
    let late = report.lateness.quantile(0.99).millis();
    checks.push(Check {
        name: format!("{name}: lateness of 99 %"),
        unit: "ms",
        asked: 0.0,
        measured: late,
        tolerance: 1.0,
    });
    let lost = (report.socket_drops + report.oversize) as f64;
    checks.push(Check {
        name: format!("{name}: frames dropped unasked"),
        unit: "",
        asked: 0.0,
        measured: lost,
        tolerance: 0.0,
    });
    Ok(checks)
}

/// The idle link's delay each way, the time on its wire included.
fn delays(name: &str, rate: f64, delay: f64, probes: &ProbeReport) -> Vec<Check> {
    let asked = delay + SMALL_FRAME * 8.0 / (rate * 1000.0);
    let up = sorted(
        probes
            .samples
            .iter()
            .filter_map(|sample| Some(sample.there?.since(sample.sent).millis())),
    );
    let down = sorted(
        probes
            .samples
            .iter()
            .filter_map(|sample| Some(sample.back?.since(sample.there?).millis())),
    );
    [("up", up), ("down", down)]
        .into_iter()
        .map(|(way, times)| Check {
            name: format!("{name} {way}: delay"),
            unit: "ms",
            asked,
            measured: quantile(&times, 0.5),
            tolerance: DELAY_TOLERANCE_MS,
        })
        .collect()
}

/// What came of datagrams below (`light`) and above (`full`) the link's rate.
fn rates(
    name: &str,
    rate: f64,
    loss: f64,
    light: &FloodReport,
    full: &FloodReport,
    window: Window,
) -> Vec<Check> {
    // After the queue is full, and before the senders end.
    let (from, to) = (
        window.start + Nanos::from_millis(500.0),
        window.end - Nanos::from_millis(50.0),
    );
    // What was lost on the wire has taken its share of the rate.
    let carried = full.rate(from, to) * FULL_FRAME * 8.0 / 1e6 / (1.0 - loss);
    let sent = light.sent.iter().sum::<u64>().max(1) as f64;
    let lost = 1.0 - light.arrivals.len() as f64 / sent;
    let spread = (loss * (1.0 - loss) / sent).sqrt();
    let reordered = (light.reordered() + full.reordered()) as f64;
    let checks = [
        ("rate", "Mbit/s", rate, carried, rate * RATE_TOLERANCE),
        ("loss", "", loss, lost, LOSS_TOLERANCE * spread),
        ("out of order", "", 0.0, reordered, 0.0),
    ];
    checks
        .map(|(what, unit, asked, measured, tolerance)| Check {
            name: format!("{name}: {what}"),
            unit,
            asked,
            measured,
            tolerance,
        })
        .into()
}
