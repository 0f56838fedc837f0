//! Images of the miniature start from their own disks in QEMU, and `sennit` runs in them.
//!
//! Needs the miniature (`cargo run --release -p ci -- miniature`), QEMU and EFI firmware. Images that are not built yet,
//! or are out of date, are built first.

use std::process::{Command, Output};

use camino::Utf8Path;
use serde_json::Value;

/// A PC image for EFI, and the board's image that most people flash.
const DEVICES: [&str; 2] = ["pc", "rpi4"];

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

fn event(output: &Output, kind: &str) -> Value {
    let said = String::from_utf8_lossy(&output.stdout);
    let events = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("one JSON object a line"));
    let mut found = events.filter(|event| event["event"] == kind);
    found
        .next()
        .unwrap_or_else(|| panic!("no `{kind}` event in:\n{said}"))
}

#[test]
fn images_of_the_miniature_boot_and_run_the_daemon() {
    let site = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../sources/miniature/site");
    if !site.is_dir() {
        eprintln!("skipped: no miniature here (cargo run --release -p ci -- miniature)");
        return;
    }
    for device in DEVICES {
        let built = builder(&["build", "--device", device, "--source", "miniature"]);
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );

        let arguments = [
            "boot",
            device,
            "--source",
            "miniature",
            "--timeout",
            TIMEOUT_SECONDS,
            "--json",
        ];
        let booted = builder(&arguments);
        let said = String::from_utf8_lossy(&booted.stdout);
        assert!(booted.status.success(), "{device}: {said}");
        let booted = event(&booted, "booted");
        assert_eq!(booted["loader"], "EFI", "{device}: {booted}");
        let findings = &booted["findings"];
        assert_eq!(findings["service_running"], true, "{device}: {booted}");
        assert_eq!(findings["interface"], true, "{device}: {booted}");
        let system = findings["system"].as_str().expect("a text");
        assert!(
            system.contains("miniature"),
            "{device} is not to be taken for OpenWrt: {system}"
        );
    }
}

#[test]
fn an_image_for_another_machine_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a folder");
    let image = Utf8Path::from_path(dir.path())
        .expect("UTF-8")
        .join("factory.ubi");
    std::fs::write(&image, b"UBI#\x01\0\0\0").expect("writes");

    let refused = builder(&["boot", "rpi4", "--image", image.as_str()]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("it is a UBI image"), "{said}");

    let refused = builder(&["boot", "flint"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("has no disk image"), "{said}");
}
