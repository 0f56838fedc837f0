//! On what a benchmark ran: machine, kernel, programs and their versions, and how it differs from the ordinary one.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Plan;
use crate::contestant::{Kind, Tools};
use crate::link::cellular::CELLS;
use crate::scenario::Scenario;

/// What a reader must know beside the figures.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Facts {
    /// When it was begun or taken up again, UTC.
    pub(super) date: String,
    /// The source that lies around the lab's program.
    pub(super) commit: String,
    pub(super) kernel: String,
    pub(super) processor: String,
    pub(super) processors: usize,
    pub(super) memory_gigabytes: f64,
    /// The bond: what it says it is, and the hash of its file.
    pub(super) program: String,
    /// Each other contestant and its version, or why there is none.
    pub(super) peers: Vec<(String, String)>,
    /// What is not as in the ordinary benchmark.
    pub(super) changed: Vec<String>,
    /// The shipped packet-delivery traces.
    pub(super) traces: Vec<String>,
}

impl Facts {
    pub(super) fn gather(plan: &Plan, scenarios: &[Scenario], tools: &Tools) -> Self {
        let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Sennit);
        let takes_part = |kind: &Kind| scenarios.iter().any(|one| one.contestants.contains(kind));
        Self {
            date: date(SystemTime::now()),
            commit: commit(),
            kernel: read("/proc/sys/kernel/osrelease"),
            processor: processor(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gigabytes: memory(),
            program: tools.sennit.as_deref().map_or("none".into(), program),
            peers: kinds
                .filter(takes_part)
                .map(|kind| (kind.name().to_owned(), kind.version(tools)))
                .collect(),
            changed: changed(plan, scenarios),
            traces: CELLS
                .iter()
                .filter_map(|cell| {
                    let trace = cell.trace().ok()?;
                    Some(format!("{}: {}", cell.name, trace.describe()))
                })
                .collect(),
        }
    }
}

fn changed(plan: &Plan, scenarios: &[Scenario]) -> Vec<String> {
    let mut changed = Vec::new();
    if plan.quick {
        changed.push(
            "quick: every run is short and done once, with the first congestion control of each scenario only; good \
             for a first look, not for a verdict"
                .to_owned(),
        );
    }
    if let Some(seconds) = plan.wishes.seconds {
        changed.push(format!("every run lasts {seconds} s"));
    }
    if let Some(repeat) = plan.wishes.repeat {
        changed.push(format!("every run is done {repeat} times"));
    }
    if let Some(contestants) = &plan.wishes.contestants {
        let names: Vec<&str> = contestants.iter().map(|kind| kind.name()).collect();
        changed.push(format!("only {} take part", names.join(", ")));
    }
    if plan.wishes.seed != 1 {
        changed.push(format!("seed {}", plan.wishes.seed));
    }
    if plan.jobs > 1 {
        changed.push(format!(
            "{} scenarios at once, but for those that the machine limits, which ran alone",
            plan.jobs
        ));
    }
    if super::scenarios(&[]).is_ok_and(|all| all.len() > scenarios.len()) {
        changed.push("only a part of the scenarios".to_owned());
    }
    changed
}

/// What a program says it is, and the hash of its file: two builds of one version are not the same.
fn program(file: &Path) -> String {
    let version = Command::new(file)
        .arg("--version")
        .output()
        .map_or(String::new(), |output| {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        });
    let bytes = std::fs::read(file).unwrap_or_default();
    format!("{version} (SHA-256 {}…)", super::saved::digest(&bytes))
}

fn commit() -> String {
    let here = std::env::current_exe().unwrap_or_default();
    let folder = here.parent().unwrap_or(Path::new(".")).to_owned();
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(&folder)
            .args(arguments)
            .output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match git(&["rev-parse", "--short=12", "HEAD"]) {
        None => "unknown".into(),
        Some(commit) => match git(&["status", "--porcelain", "--untracked-files=no"]) {
            Some(changes) if !changes.is_empty() => format!("{commit}, with uncommitted changes"),
            _ => commit,
        },
    }
}

fn read(file: &str) -> String {
    std::fs::read_to_string(file)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn processor() -> String {
    let text = read("/proc/cpuinfo");
    let line = |key: &str| {
        let found = text.lines().find(|line| line.starts_with(key))?;
        Some(found.split_once(':')?.1.trim().to_owned())
    };
    let name = line("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let guest = line("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    if guest {
        format!("{name}, in a virtual machine")
    } else {
        name
    }
}

fn memory() -> f64 {
    let text = read("/proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line
        .and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok())
        .unwrap_or(f64::NAN);
    (kilobytes * 1024.0 / 1e8).round() / 10.0
}

/// `2026-01-31 12:05 UTC`.
pub(super) fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, minutes) = (seconds / 86_400, seconds / 60 % 1440);
    let (mut year, mut left) = (1970, days);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = |year: u64| 365 + u64::from(leap(year));
    while left >= length(year) {
        left -= length(year);
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    let (hour, minute) = (minutes / 60, minutes % 60);
    format!("{year}-{month:02}-{:02} {hour:02}:{minute:02} UTC", left + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_know_leap_years() {
        for (seconds, wanted) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_767_225_540, "2025-12-31 23:59 UTC"),
            (1_772_323_200, "2026-03-01 00:00 UTC"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), wanted);
        }
    }
}
