//! The scenarios and traces that come with the program.

macro_rules! files {
    ($folder:literal, $end:literal, $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../", $folder, "/", $name, $end)))),*]
    };
}

/// Name and text of each shipped scenario, in the order of the report.
pub const SHIPPED: &[(&str, &str)] = files!("scenarios", ".toml", "equal", "quick");

/// Name and text of each shipped packet-delivery trace.
pub const TRACES: &[(&str, &str)] = files!("traces", ".trace", "car", "street", "room");
