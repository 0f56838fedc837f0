//! Images of the miniature start from their own disks in QEMU, and `sennit` runs in them.
//!
//! Needs the miniature (`cargo run --release -p ci -- miniature`), QEMU and EFI firmware. Images that are not built yet,
//! or are out of date, are built first.

mod emulated;

use camino::Utf8Path;
use emulated::{NO_MINIATURE, TIMEOUT_SECONDS, build, builder, event, has_miniature};

/// A PC image for EFI, and the board's image that most people flash.
const DEVICES: [&str; 2] = ["pc", "rpi4"];

#[test]
fn images_of_the_miniature_boot_and_run_the_daemon() {
    if !has_miniature() {
        eprintln!("{NO_MINIATURE}");
        return;
    }
    for device in DEVICES {
        build(device);
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
