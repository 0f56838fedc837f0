//! What tests of images in emulated machines share.

use std::process::{Command, Output};

use camino::Utf8Path;
use serde_json::Value;

/// Emulated machines are slow, and slower still where other tests run beside them.
pub(crate) const TIMEOUT_SECONDS: &str = "600";

/// What a test says that cannot run for want of the miniature.
pub(crate) const NO_MINIATURE: &str = "skipped: no miniature here (cargo run --release -p ci -- miniature)";

/// Whether there is a miniature to build from.
pub(crate) fn has_miniature() -> bool {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../sources/miniature/site")
        .is_dir()
}

/// Builds the images of a device from the miniature.
pub(crate) fn build(device: &str) {
    let built = builder(&["build", "--device", device, "--source", "miniature"]);
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
}

/// Calls the builder in this project.
pub(crate) fn builder(arguments: &[&str]) -> Output {
    let project = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Command::new(env!("CARGO_BIN_EXE_builder"))
        .arg("--project")
        .arg(project)
        .args(arguments)
        .output()
        .expect("the builder starts")
}

/// The first event of a kind that the builder told.
pub(crate) fn event(output: &Output, kind: &str) -> Value {
    let said = String::from_utf8_lossy(&output.stdout);
    let events = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("one JSON object a line"));
    let mut found = events.filter(|event| event["event"] == kind);
    found
        .next()
        .unwrap_or_else(|| panic!("no `{kind}` event in:\n{said}"))
}
