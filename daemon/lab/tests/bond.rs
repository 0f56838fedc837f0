//! Reduced scenarios with the real daemon: invariants, not speed. Needs root and a compiled `sennit` beside
//! `sennit-lab` (the one test command of the project makes both), and says so where it has none.

use std::io::Write;
use std::process::Command;

/// Runs a reduced scenario; none if something that it needs is not there.
fn reduced(scenario: &str) -> Option<serde_json::Value> {
    let skip = |why: &str| {
        let _ = writeln!(std::io::stdout(), "skipped: {why}");
        None
    };
    if !rustix::process::geteuid().is_root() {
        return skip("needs root");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_sennit-lab"))
        .args(["run", scenario, "--json", "-"])
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let results: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {said}"));
    let mut scenario = results["scenarios"][0].clone();
    let absent = scenario["absent"].as_array().expect("a list");
    if absent.iter().any(|absent| {
        absent["why"]
            .as_str()
            .is_some_and(|why| why.contains("is not beside"))
    }) {
        return skip("needs the program sennit: cargo build -p sennit");
    }
    assert!(absent.is_empty(), "{absent:?}");
    Some(scenario.take())
}

fn all_goals_reached(scenario: &serde_json::Value) {
    let verdicts = scenario["verdicts"].as_array().expect("a list");
    assert!(!verdicts.is_empty());
    // A machine that is too busy says nothing about the bond.
    let missed: Vec<_> = verdicts
        .iter()
        .filter(|verdict| verdict["standing"] == "MISSED")
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn two_links_are_faster_than_one() {
    if let Some(scenario) = reduced("reduced-speed") {
        all_goals_reached(&scenario);
    }
}

#[test]
fn a_transfer_survives_a_silent_death_in_speed_and_in_redundant() {
    if let Some(scenario) = reduced("reduced-death") {
        all_goals_reached(&scenario);
    }
}
