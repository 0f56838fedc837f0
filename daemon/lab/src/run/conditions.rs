//! The conditions of a run: what makes it not count, and what a reader should know about it.

use crate::Result;
use crate::contestant::Started;
use crate::emulator::Report;
use crate::machine::{self, Strain};
use crate::scenario::Scenario;
use crate::time::Nanos;
use crate::topology::Topology;
use crate::traffic::bulk::BulkReport;
use crate::traffic::quic;

/// Most time between a frame's due time and its delivery, for 99 of 100.
const MOST_LATENESS: Nanos = Nanos(1_000_000);
/// Most processor time that the machine's host may take away.
const MOST_STEAL: f64 = 0.02;

/// Conditions under which a run does not count.
pub(super) fn judge(scenario: &Scenario, report: &Report, strain: &Strain) -> Vec<String> {
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

pub(super) fn condition_notes(
    report: &Report,
    strain: &Strain,
    emulator_cpu: u64,
    tunnel_drops: &[String],
) -> Vec<String> {
    let mut notes = Vec::new();
    if !report.links.is_empty() {
        notes.push(format!(
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
    ));
    }
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
pub(super) fn congestion_notes(reports: &[BulkReport], invalid: &mut Vec<String>) -> Vec<String> {
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
        let flows = report.flows.len();
        notes.push(if asked == quic::NAME {
            format!("{flows} flows ran QUIC with quinn's own CUBIC")
        } else {
            format!("{flows} flows ran {asked}, read back from the sockets at both ends")
        });
    }
    notes
}

/// Packets that the contestant's interfaces and sockets dropped: not losses of links.
pub(super) fn drops(topology: &Topology, started: &Started) -> Result<Vec<String>> {
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
