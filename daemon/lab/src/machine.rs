//! What the machine itself did to a run: time stolen by its host, packets dropped before the lab saw them, and who
//! took the processor.

use std::fs;
use std::sync::{Mutex, PoisonError};

use crate::namespace::Namespace;
use crate::sys::clock;
use crate::{Error, Result};

/// Counters of the whole machine at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    total: u64,
    steal: u64,
    softnet_drops: u64,
    process_cpu: u64,
}

/// What happened between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strain {
    /// Share of processor time that the host took away, 0..1.
    pub steal: f64,
    /// Packets dropped because the kernel's backlog was full.
    pub softnet_drops: u64,
    /// Seconds of processor time that the lab's own process took, for all runs at once.
    pub lab_cpu: f64,
}

impl Machine {
    /// Reads the counters.
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        let softnet = fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
        let drops = softnet
            .lines()
            .filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok());
        Self {
            // Guest time is in user time already.
            total: fields.iter().take(8).sum(),
            steal: fields.get(7).copied().unwrap_or(0),
            softnet_drops: drops.sum(),
            process_cpu: clock::process_cpu(),
        }
    }

    /// What happened since `before`.
    pub fn since(&self, before: &Self) -> Strain {
        let total = self.total.saturating_sub(before.total).max(1);
        Strain {
            steal: self.steal.saturating_sub(before.steal) as f64 / total as f64,
            softnet_drops: self.softnet_drops.saturating_sub(before.softnet_drops),
            lab_cpu: self.process_cpu.saturating_sub(before.process_cpu) as f64 / 1e9,
        }
    }
}

/// Seconds of processor time that a process has taken, and the most bytes of it that were resident. None once it has
/// ended.
pub fn process(id: u32) -> Option<(f64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may contain anything; after it come plain numbers, the state first.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = most.trim().trim_end_matches("kB").trim().parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some((ticks as f64 / per_second as f64, kilobytes * 1024))
}

/// Lets flows inside namespaces run these congestion controls. The kernel refuses them there unless they are
/// allowed in the machine's own namespace, and falls back without a word when a program does not look.
pub fn allow_congestion_controls(wanted: &[&str]) -> Result<()> {
    const FILE: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
    // Scenarios that run at once must not lose what the other has added.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let allowed = fs::read_to_string(FILE).unwrap_or_default();
    let mut list: Vec<&str> = allowed.split_whitespace().collect();
    let before = list.len();
    // QUIC brings its own congestion control.
    for name in wanted.iter().filter(|name| **name != crate::traffic::quic::NAME) {
        if !list.contains(name) {
            list.push(name);
        }
    }
    if list.len() == before {
        return Ok(());
    }
    fs::write(FILE, list.join(" ")).map_err(|error| {
        Error::environment(
            format!(
                "failed to allow the congestion controls {}: {error}",
                wanted.join(", ")
            ),
            format!(
                "modprobe -a {}",
                wanted
                    .iter()
                    .map(|name| format!("tcp_{name}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
        )
    })
}

/// Packets that a host dropped by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// At an interface, either way.
    pub tunnel: u64,
    /// At UDP sockets, because their buffers were full.
    pub sockets: u64,
}

/// What a host dropped since its namespace was made.
pub fn drops(host: &Namespace, interface: &str) -> Result<Drops> {
    let text = host
        .output("ip", &["-j", "-s", "link", "show", "dev", interface])
        .unwrap_or_default();
    // An interface that is gone has dropped nothing that could be counted.
    let link: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let stats = &link[0]["stats64"];
    let tunnel = stats["rx"]["dropped"].as_u64().unwrap_or(0) + stats["tx"]["dropped"].as_u64().unwrap_or(0);
    let sockets = host.run(|| {
        // Each thread sees the counters of the namespace that it stands in.
        let text = fs::read_to_string("/proc/thread-self/net/snmp").unwrap_or_default();
        let mut rows = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (names, values) = (rows.next().unwrap_or_default(), rows.next().unwrap_or_default());
        let pairs = names.split(' ').zip(values.split(' '));
        let counted = pairs.filter(|(name, _)| matches!(*name, "RcvbufErrors" | "SndbufErrors"));
        Ok(counted.filter_map(|(_, value)| value.parse::<u64>().ok()).sum())
    })?;
    Ok(Drops { tunnel, sockets })
}
