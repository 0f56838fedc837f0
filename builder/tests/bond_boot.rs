//! The PC image of the miniature bonds over two virtual network cards to a server outside, and a TCP connection survives
//! when one of them is unplugged.
//!
//! Needs root, the miniature (`cargo run --release -p ci -- miniature`), QEMU and EFI firmware.

mod emulated;

use std::os::unix::process::CommandExt;
use std::process::Command;

use emulated::{NO_MINIATURE, TIMEOUT_SECONDS, build, builder, event, has_miniature};

#[test]
fn a_transfer_through_the_routers_bond_survives_the_loss_of_a_wan() {
    if !has_miniature() {
        eprintln!("{NO_MINIATURE}");
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root (a network namespace and TAP devices)");
        return;
    }
    build("pc");
    let arguments = ["boot", "pc", "--bond", "--source", "miniature", "--json"];
    let booted = builder(&[&arguments[..], &["--timeout", TIMEOUT_SECONDS]].concat());
    let said = String::from_utf8_lossy(&booted.stdout);
    assert!(booted.status.success(), "{said}");
    let booted = event(&booted, "booted");
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
