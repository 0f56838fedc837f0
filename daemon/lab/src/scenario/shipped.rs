//! The scenarios and traces that come with the program.

macro_rules! files {
    ($folder:literal, $end:literal, $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../", $folder, "/", $name, $end)))),*]
    };
}

/// Name and text of each shipped scenario, in the order of the report.
pub const SHIPPED: &[(&str, &str)] = files!(
    "scenarios",
    ".toml",
    "equal",
    "unequal",
    "unequal-three",
    "lossy-one-05",
    "lossy-one-1",
    "lossy-one-3",
    "lossy-both",
    "lossy-bursts",
    "radio",
    "policer",
    "small-buffer",
    "rate-drop",
    "cellular",
    "death",
    "death-fast",
    "death-slow",
    "death-redundant",
    "death-redundant-load",
    "unplugged",
    "healed",
    "flapping",
    "turns-lossy",
    "turns-slow",
    "no-false-alarm",
    "latency",
    "neighbour",
    "many-flows",
    "page",
    "narrow-uplink",
    "lan",
    "killed",
    "leak",
    "many-clients",
    "many-clients-contend",
    "many-clients-attacked",
    "idle",
    "full-load",
    "raw",
    "raw-two",
    "raw-lan",
    "raw-small",
    "reduced-speed",
    "reduced-unequal",
    "reduced-lossy",
    "reduced-death",
    "live",
    "quick",
);

/// Name and text of each shipped packet-delivery trace.
pub const TRACES: &[(&str, &str)] = files!("traces", ".trace", "car", "street", "room");
