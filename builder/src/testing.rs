//! A small profile for unit tests, so that they do not depend on the project's own devices.

use crate::profile::{Feed, Flash, Limits, OpenWrt, Packages, Port, Ports, Profile, Settings};

/// A device with two ports, as plain as can be.
pub(crate) fn profile() -> Profile {
    let port = |name: &str| Port {
        name: name.into(),
        device_path: None,
    };
    Profile {
        name: "sample".into(),
        title: "Sample board".into(),
        aliases: Vec::new(),
        openwrt: OpenWrt {
            release: "25.12.5".into(),
            target: "x86/64".into(),
            profile: "generic".into(),
            arch: "x86_64".into(),
        },
        rust_target: "x86_64-unknown-linux-musl".into(),
        packages: Packages::default(),
        features: Vec::new(),
        overlays: Vec::new(),
        disabled_services: Vec::new(),
        ports: Ports {
            lan: vec![port("eth0")],
            wan: vec![port("eth1")],
        },
        rootfs_partsize: None,
        images: Vec::new(),
        flash: Flash::default(),
        limits: Limits::default(),
        feed: Feed::default(),
        settings: Settings {
            hostname: "sennit".into(),
            lan_address: [192, 168, 77, 1].into(),
            lan_prefix: 24,
            timezone: "UTC".into(),
            wifi_country: String::new(),
            ntp: vec!["0.openwrt.pool.ntp.org".into()],
            variables: Default::default(),
        },
    }
}
