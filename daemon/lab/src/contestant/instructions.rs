//! Instructions that a contestant's processes take, counted by `perf stat` where the processor lets it.
//!
//! Virtual machines often do not: then there is no figure, and never an estimate.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::Started;
use crate::scenario::Side;

/// Counters that run.
#[derive(Debug)]
pub struct Instructions(Vec<(Side, Child, PathBuf)>);

impl Instructions {
    /// Begins to count, if `perf` is installed.
    pub fn count(started: &Started) -> Self {
        let mut running = Vec::new();
        for (number, process) in started.processes.iter().enumerate() {
            let (Some(id), Some(folder)) = (process.id(), started.folder()) else {
                continue;
            };
            let file = folder.join(format!("instructions-{number}"));
            let child = Command::new("perf")
                .args([
                    "stat",
                    "--event",
                    "instructions",
                    "--field-separator",
                    ",",
                    "--pid",
                ])
                .arg(id.to_string())
                .arg("--output")
                .arg(&file)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            running.extend(child.ok().map(|child| (process.side, child, file)));
        }
        Self(running)
    }

    /// Ends, and returns what was counted of each process that could be.
    pub fn finish(self) -> Vec<(Side, f64)> {
        let counted = self.0.into_iter().filter_map(|(side, mut child, file)| {
            // It writes its file when it is interrupted; one that has ended by itself has done so.
            let _ = kill_process(Pid::from_child(&child), Signal::INT);
            let _ = child.wait();
            Some((side, parse(&std::fs::read_to_string(file).ok()?)?))
        });
        counted.collect()
    }
}

/// The count in a line like `123456,,instructions,…`.
fn parse(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains(",instructions"))?;
    line.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_was_not_counted_is_no_figure() {
        let head = "# started on Sat Jan 31 12:00:00 2026\n\n";
        let counted = format!("{head}123456,,instructions,1000,100.00,1.20,insn per cycle\n");
        assert_eq!(parse(&counted), Some(123_456.0));
        for refused in [
            "<not supported>,,instructions,0,100.00,,\n",
            "<not counted>,,instructions,0,0.00,,\n",
            "",
        ] {
            assert_eq!(parse(&format!("{head}{refused}")), None);
        }
    }
}
