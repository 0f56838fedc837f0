//! The lab in real namespaces: needs root, and says so where it has none.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sennit_lab::contestant::{Kind, Tools};
use sennit_lab::run::{Outcome, Settings, run};
use sennit_lab::scenario::Scenario;
use sennit_lab::verify::{Check, verify};

/// Whether namespaces can be made; one test at a time, because each wants the machine for itself.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(std::io::stdout(), "skipped: needs root");
        return None;
    }
    Some(TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

fn lab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sennit-lab"))
        .args(arguments)
        .output()
        .expect("the program starts")
}

fn namespaces_of(process: u32) -> Vec<String> {
    let prefix = format!("sennit-lab-{process}-");
    let all = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    all.filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

/// Runs a scenario directly, once more if the machine was too busy for a valid run.
fn direct(text: &str) -> Vec<Outcome> {
    let scenario = Scenario::parse("test", text, Path::new(".")).expect("a right scenario");
    sennit_lab::machine::allow_congestion_controls(&["cubic"]).expect("root may");
    let settings = Settings {
        scenario: &scenario,
        variant: &scenario.variants[0],
        kind: Kind::Direct,
        seed: 1,
        tools: &Tools::default(),
    };
    let done = run(&settings, &mut |_| {}).expect("the run works");
    if done.iter().all(|outcome| outcome.invalid.is_empty()) {
        return done;
    }
    run(&settings, &mut |_| {}).expect("the run works")
}

fn value(outcomes: &[Outcome], contestant: &str, measure: &str) -> f64 {
    let outcome = outcomes
        .iter()
        .find(|outcome| outcome.contestant == contestant)
        .expect("it took part");
    outcome
        .measures
        .value(measure)
        .unwrap_or_else(|| panic!("{contestant} has no {measure}"))
}

const TWO_LINKS: &str = "
title = 'two'
seconds = 3
[[link]]
both = { rate = 50, delay_ms = 10 }
[[link]]
both = { rate = 20, delay_ms = 30 }
";

/// How late this machine wakes up who sleeps for a millisecond, in milliseconds: the median.
fn lateness_of_timers() -> f64 {
    let pause = Duration::from_millis(1);
    let mut late: Vec<Duration> = (0..201)
        .map(|_| {
            let start = Instant::now();
            std::thread::sleep(pause);
            start.elapsed().saturating_sub(pause)
        })
        .collect();
    late.sort();
    late[100].as_secs_f64() * 1000.0
}

#[test]
fn links_are_what_was_asked_for() {
    let Some(_turn) = alone() else { return };
    // As with every run, one that the machine disturbed is done again.
    let mut broken = Vec::new();
    for _ in 0..3 {
        let checks = verify(&[(50.0, 35.0, 0.02)], 1.5, &mut |_| {}).expect("it runs");
        assert!(checks.len() >= 10);
        // A frame waits for the host's own timers: once in the emulator, once at the end of its way.
        let own = 2.0 * lateness_of_timers();
        let holds = |check: &Check| {
            let off = (check.measured - check.asked).abs();
            check.holds() || check.unit == "ms" && off <= check.tolerance + own
        };
        broken = checks.into_iter().filter(|check| !holds(check)).collect();
        if broken.is_empty() {
            return;
        }
    }
    panic!("{broken:?}");
}

#[test]
fn a_flow_gets_what_its_link_carries_and_a_ping_sees_the_queue() {
    let Some(_turn) = alone() else { return };
    let text = format!("{TWO_LINKS}[[bulk]]\nstart = 1.0\n[[probe]]\nname = 'ping'\nper_second = 100\n");
    let outcomes = direct(&text);
    for (contestant, rate, delay) in [("direct:wan0", 50.0, 20.0), ("direct:wan1", 20.0, 60.0)] {
        let share = value(&outcomes, contestant, "share_of_ideal");
        assert!((0.6..1.0).contains(&share), "{contestant}: {share}");
        let idle = value(&outcomes, contestant, "ping.idle_p50");
        assert!((idle - delay).abs() < 1.0, "{contestant}: {idle} ms");
        let queue = value(&outcomes, contestant, "ping.added_p99");
        let full = 250_000.0 * 8.0 / (rate * 1000.0);
        assert!(
            queue > full / 3.0 && queue < full + 3.0,
            "{contestant}: {queue} of {full} ms"
        );
    }
    let sum = value(&outcomes, "direct:sum", "goodput");
    assert!(sum > value(&outcomes, "direct:best", "goodput") * 1.2);
    assert!(
        outcomes[0]
            .notes
            .iter()
            .any(|note| note.contains("1 flows ran cubic")),
        "{:?}",
        outcomes[0].notes
    );
}

#[test]
fn a_silent_link_delivers_nothing_until_it_heals() {
    let Some(_turn) = alone() else { return };
    let text = format!(
        "{TWO_LINKS}[[probe]]\nname = 'ping'\nper_second = 100\n\
         [[event]]\nat = 1.0\nlink = 0\naction = 'silence'\n\
         [[event]]\nat = 2.0\nlink = 0\naction = 'heal'\n"
    );
    let outcomes = direct(&text);
    let gap = value(&outcomes, "direct:wan0", "ping.gap_down");
    assert!((1000.0..1060.0).contains(&gap), "{gap} ms");
    assert_eq!(value(&outcomes, "direct:wan1", "ping.lost"), 0.0);
    assert_eq!(outcomes[0].timeline.events.len(), 2);
}

#[test]
fn a_pulled_plug_is_seen_and_a_lan_host_and_neighbours_have_their_way() {
    let Some(_turn) = alone() else { return };
    let text = format!(
        "{TWO_LINKS}[[probe]]\nname = 'near'\nper_second = 100\nfrom = 'neighbour1'\n\
         [[probe]]\nname = 'lan'\nper_second = 100\nfrom = 'lan'\n\
         [[event]]\nat = 2.0\nlink = 1\naction = 'unplug'\n"
    );
    let outcomes = direct(&text);
    // The LAN's packets follow the first default route.
    assert_eq!(value(&outcomes, "direct:wan0", "lan.lost"), 0.0);
    assert!((value(&outcomes, "direct:wan0", "lan.rtt_p50") - 20.0).abs() < 1.0);
}

#[test]
fn an_emulator_that_sees_super_packets_says_that_the_run_does_not_count() {
    let Some(_turn) = alone() else { return };
    use sennit_lab::emulator::{Emulator, MAX_FRAME};
    use sennit_lab::topology::{Plan, Topology};
    let shape = sennit_lab::link::Shape::default();
    let plan = Plan {
        wans: vec![(shape.clone(), shape)],
        ..Plan::default()
    };
    let topology = Topology::new(plan).expect("root may");
    let emulator = Emulator::start(topology.links(), 1).expect("it starts");
    topology.client.ip("link set wan0 mtu 9000").expect("veth may");
    topology.wans[0].ip("link set near mtu 9000").expect("veth may");
    // One datagram far longer than a frame.
    topology
        .client
        .run(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a port is free");
            for _ in 0..20 {
                let _ = socket.send_to(&[0; 4000], ("203.0.113.5", 9));
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        })
        .expect("the thread runs");
    let report = emulator.report().expect("it runs");
    assert!(report.oversize > 0, "frames over {MAX_FRAME} bytes went unseen");
    assert!(
        report.links[0].inner_frames > 0,
        "a packet that no tunnel hid went unseen"
    );
}

#[test]
fn results_are_tables_json_and_plots_and_nothing_is_left_behind() {
    let Some(_turn) = alone() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (json, plots) = (folder.path().join("out.json"), folder.path().join("plots"));
    let (json, plots) = (json.to_str().expect("UTF-8"), plots.to_str().expect("UTF-8"));
    let output = lab(&[
        "run",
        "quick",
        "--seconds",
        "2.5",
        "--json",
        json,
        "--plot",
        plots,
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 2 | 3)), "{said}");
    let results: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(json).expect("written")).expect("JSON");
    assert_eq!(results["scenarios"][0]["name"], "quick");
    assert!(
        results["scenarios"][0]["runs"]
            .as_array()
            .is_some_and(|runs| !runs.is_empty())
    );
    if output.status.code() == Some(0) {
        let measures = results["scenarios"][0]["measures"].as_array().expect("a list");
        let goodput = measures
            .iter()
            .find(|measure| measure["name"] == "down cubic speed/direct:wan0/goodput");
        assert!(
            goodput
                .is_some_and(|measure| measure["value"].as_f64() > Some(20.0) && measure["unit"] == "Mbit/s")
        );
        assert!(std::fs::read_dir(plots).expect("a folder").count() >= 3);
    }
    assert!(String::from_utf8_lossy(&output.stdout).contains("direct:sum"));
}

#[test]
fn a_benchmark_writes_one_report_and_is_not_done_twice() {
    let Some(_turn) = alone() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().to_str().expect("UTF-8");
    let bench = |more: &[&str]| {
        let arguments = [
            "bench",
            "--only",
            "policer",
            "--quick",
            "--seconds",
            "1",
            "--folder",
            place,
        ];
        let output = lab(&[&arguments[..], &["--contestants", "direct"], more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 2)), "{said}");
        said
    };
    assert!(bench(&[]).contains("2 runs"));
    let report = std::fs::read_to_string(folder.path().join("report.md")).expect("written");
    for wanted in [
        "## 3. Lossy links look lossless",
        "### policer",
        "quick",
        "| down cubic speed | direct:sum | 1 |",
    ] {
        // A machine that was too busy has no valid run, and says so.
        assert!(
            report.contains(wanted) || report.contains("not valid"),
            "{wanted}:\n{report}"
        );
    }
    let json = std::fs::read_to_string(folder.path().join("report.json")).expect("written");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["scenarios"][0]["name"], "policer");
    assert_eq!(json["items"].as_array().map(Vec::len), Some(12));
    let again = bench(&["--resume"]);
    assert!(again.contains("1 of them done before; 0 runs"), "{again}");
    // Other settings are another benchmark.
    assert!(bench(&["--resume", "--seed", "2"]).contains("0 of them done before; 2 runs"));
}

#[test]
fn scenarios_at_once_make_one_report_in_the_order_of_its_items() {
    let Some(_turn) = alone() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().to_str().expect("UTF-8");
    let bench = |more: &[&str]| {
        let only = ["bench", "--only", "policer,equal", "--quick", "--seconds", "1"];
        let who = [
            "--jobs",
            "3",
            "--contestants",
            "direct,wireguard-go",
            "--folder",
            place,
        ];
        let output = lab(&[&only[..], &who, more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 2)), "{said}");
        said
    };
    let said = bench(&[]);
    assert!(said.contains("beside"), "two run at once:\n{said}");
    let json = std::fs::read_to_string(folder.path().join("report.json")).expect("written");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let scenarios = json["scenarios"].as_array().expect("a list");
    let names: Vec<&str> = scenarios.iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["equal", "policer"]);
    let report = std::fs::read_to_string(folder.path().join("report.md")).expect("written");
    assert!(report.contains("3 scenarios at once"), "{report}");
    // With however many at once: what is done is done.
    assert!(bench(&["--resume"]).contains("2 of them done before; 0 runs"));
}

#[test]
fn an_interrupted_run_takes_its_namespaces_down() {
    let Some(_turn) = alone() else { return };
    let mut child = Command::new(env!("CARGO_BIN_EXE_sennit-lab"))
        .args(["run", "quick", "--seconds", "60"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the program starts");
    let begun = Instant::now();
    while namespaces_of(child.id()).len() < 5 {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "no namespaces were made"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).expect("it lives");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(namespaces_of(child.id()), Vec::<String>::new());
}

#[test]
fn what_is_wrong_is_said_with_what_would_be_right() {
    let output = lab(&["run", "equall"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no scenario is called equall"));
    let output = lab(&["run", "equal", "--seconds", "0"]);
    assert_eq!(output.status.code(), Some(1));
    let output = lab(&["list"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("death-redundant"));
}
