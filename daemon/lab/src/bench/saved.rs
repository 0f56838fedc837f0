//! One file a scenario, so that an interrupted benchmark goes on where it ended. Only what was made in the same way,
//! by the same program, is taken up again.

use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest as sha256};
use serde::{Deserialize, Serialize};

use super::write;
use crate::scenario::Scenario;
use crate::series::{Entry, ScenarioReport};
use crate::{Error, Result, verdict};

const VERSION: u32 = 1;

/// Stands for everything that a result depends on but the machine: the scenario as it was run, chance, the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key(String);

impl Key {
    pub(super) fn of(scenario: &Scenario, seed: u64, program: &str) -> Self {
        Self(digest(
            format!("{VERSION} {seed} {program} {scenario:?}").as_bytes(),
        ))
    }
}

/// The first half of a SHA-256 in hexadecimal digits.
pub(super) fn digest(bytes: &[u8]) -> String {
    let hash = sha256(&SHA256, bytes);
    hash.as_ref()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    key: Key,
    entries: Vec<Entry>,
    absent: Vec<Absent>,
}

#[derive(Serialize, Deserialize)]
struct Absent {
    contestant: String,
    why: String,
    hint: String,
}

fn file(folder: &Path, scenario: &Scenario) -> PathBuf {
    folder.join("scenarios").join(format!("{}.json", scenario.name))
}

/// Keeps a scenario that was done to its end.
pub(super) fn write_report(folder: &Path, key: &Key, report: &ScenarioReport) -> Result<()> {
    let absent = report.absent.iter().map(|(contestant, why)| Absent {
        contestant: contestant.clone(),
        why: why.to_string(),
        hint: why.hint().to_owned(),
    });
    let saved = Saved {
        version: VERSION,
        key: key.clone(),
        entries: report.entries.clone(),
        absent: absent.collect(),
    };
    let text = serde_json::to_string_pretty(&saved)
        .map_err(|error| Error::environment(format!("failed to write a result as JSON: {error}"), ""))?;
    write(&file(folder, &report.scenario), &text)
}

/// What was kept, if it was made in the same way. Goals are judged anew.
pub(super) fn read(folder: &Path, scenario: &Scenario, key: &Key) -> Option<ScenarioReport> {
    let text = std::fs::read_to_string(file(folder, scenario)).ok()?;
    let saved: Saved = serde_json::from_str(&text).ok()?;
    if saved.version != VERSION || saved.key != *key {
        return None;
    }
    let absent = saved
        .absent
        .into_iter()
        .map(|absent| (absent.contestant, Error::environment(absent.why, absent.hint)));
    let mut report = ScenarioReport {
        scenario: scenario.clone(),
        entries: saved.entries,
        verdicts: Vec::new(),
        absent: absent.collect(),
        stopped: None,
    };
    report.verdicts = verdict::judge(&report);
    Some(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::report_of;

    #[test]
    fn what_was_kept_is_taken_up_only_if_it_was_made_in_the_same_way() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("scenarios")).expect("made");
        let report = report_of("unequal", 60.0);
        let key = Key::of(&report.scenario, 1, "sennit 0.1.0");
        write_report(folder.path(), &key, &report).expect("written");
        let again = read(folder.path(), &report.scenario, &key).expect("kept");
        assert_eq!(again.verdicts, report.verdicts);
        assert_eq!(again.entries.len(), report.entries.len());
        assert!(again.verdicts.iter().any(|verdict| verdict.value.is_some()));
        for other in [
            Key::of(&report.scenario, 2, "sennit 0.1.0"),
            Key::of(&report.scenario, 1, "sennit 0.2.0"),
            Key::of(
                &Scenario {
                    seconds: 7.0,
                    ..report.scenario.clone()
                },
                1,
                "sennit 0.1.0",
            ),
        ] {
            assert!(read(folder.path(), &report.scenario, &other).is_none());
        }
    }
}
