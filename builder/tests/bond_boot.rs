//! The PC image of the miniature bonds over two virtual network cards to a server outside, and a TCP connection survives
//! when one of them is unplugged.
//!
//! Needs root, the miniature (`cargo run --release -p ci -- miniature`), QEMU and EFI firmware.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use camino::Utf8Path;
use serde_json::Value;

/// Emulated machines are slow, and slower still where other tests run beside them.
const TIMEOUT_SECONDS: &str = "600";

fn builder(arguments: &[&str]) -> Output {
    let project = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Command::new(env!("CARGO_BIN_EXE_builder"))
        .arg("--project")
        .arg(project)
        .args(arguments)
        .output()
        .expect("the builder starts")
}

#[test]
fn a_transfer_through_the_routers_bond_survives_the_loss_of_a_wan() {
    let site = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../sources/miniature/site");
    if !site.is_dir() {
        eprintln!("skipped: no miniature here (cargo run --release -p ci -- miniature)");
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root (a network namespace and TAP devices)");
        return;
    }
    let built = builder(&["build", "--device", "pc", "--source", "miniature"]);
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let arguments = ["boot", "pc", "--bond", "--source", "miniature", "--json"];
    let booted = builder(&[&arguments[..], &["--timeout", TIMEOUT_SECONDS]].concat());
    let said = String::from_utf8_lossy(&booted.stdout);
    assert!(booted.status.success(), "{said}");
    let booted = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("one JSON object a line"))
        .find(|event| event["event"] == "booted")
        .expect("an event `booted`");
    let bonded = &booted["bonded"];
    assert_eq!(bonded["wans"], serde_json::json!(["eth1", "eth2"]), "{bonded}");
    for share in bonded["shares"].as_array().expect("a list") {
        assert!(share.as_f64() > Some(0.0), "{bonded}");
    }
    let bytes = |key: &str| bonded[key].as_u64().expect("a number");
    assert!(bytes("bytes_before") > 0 && bytes("bytes_after") > 0, "{bonded}");
    assert!(bonded["stall"].as_f64() < Some(3.0), "{bonded}");
}

#[test]
fn without_root_the_bond_is_not_tried_and_the_error_says_why() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_builder"));
    if rustix::process::geteuid().is_root() {
        command.uid(65_534);
    }
    let refused = command
        .args(["boot", "pc", "--bond"])
        .output()
        .expect("the builder starts");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("only root"), "{said}");
}
