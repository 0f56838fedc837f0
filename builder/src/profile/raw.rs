//! The shape of a profile file and of `features.toml`, as TOML has it; every value carries its place.
//!
//! Checks nothing beyond keys and types: `resolve` turns this into [`super::Profile`].

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// A text with its place in the file.
pub(super) type Text = Spanned<String>;

/// `profiles/NAME.toml`. All keys are optional here: a base may give any of them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawProfile {
    /// True: for others to extend, no device of its own.
    pub(super) base: bool,
    /// Names of the profiles whose values this one starts from, in order: later ones are nearer.
    pub(super) extends: Vec<Text>,
    pub(super) title: Option<Text>,
    /// The device's own: never taken from a base.
    pub(super) aliases: Vec<Text>,
    pub(super) openwrt: RawOpenWrt,
    pub(super) rust_target: Option<Text>,
    /// Appended to those of the bases; `-NAME` takes a package away.
    pub(super) packages: Vec<Text>,
    /// Appended to those of the bases; `-NAME` switches a base's feature off.
    pub(super) features: Vec<Text>,
    /// Appended to those of the bases; `-NAME` takes an overlay away.
    pub(super) overlays: Vec<Text>,
    /// Appended to those of the bases; `-NAME` takes one away.
    pub(super) disabled_services: Vec<Text>,
    pub(super) ports: RawPorts,
    pub(super) rootfs_partsize: Option<Spanned<u32>>,
    pub(super) images: Option<Spanned<Vec<RawImage>>>,
    pub(super) flash: RawFlash,
    pub(super) limits: RawLimits,
    pub(super) feed: RawFeed,
    pub(super) settings: RawSettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOpenWrt {
    pub(super) release: Option<Text>,
    pub(super) target: Option<Text>,
    pub(super) profile: Option<Text>,
    pub(super) arch: Option<Text>,
}

/// Each list replaces a base's list as a whole: two half lists of ports make no router.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPorts {
    pub(super) lan: Option<Spanned<Vec<RawPort>>>,
    pub(super) wan: Option<Spanned<Vec<RawPort>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPort {
    pub(super) name: Text,
    pub(super) device_path: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawImage {
    pub(super) file: Text,
    pub(super) purpose: String,
    #[serde(default)]
    pub(super) disk: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFlash {
    pub(super) steps: Option<Spanned<Vec<String>>>,
    pub(super) recovery: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) image_bytes: Option<Spanned<u64>>,
    pub(super) ram_mib: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFeed {
    pub(super) url: Option<Text>,
    pub(super) key: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSettings {
    pub(super) hostname: Option<Text>,
    pub(super) lan_address: Option<Text>,
    pub(super) lan_prefix: Option<Spanned<u8>>,
    pub(super) timezone: Option<Text>,
    pub(super) wifi_country: Option<Text>,
    /// Replaces a base's list.
    pub(super) ntp: Option<Spanned<Vec<Text>>>,
    /// Merged with the bases' name by name.
    pub(super) variables: BTreeMap<String, Text>,
}

/// `profiles/features.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFeatures {
    pub(super) feature: BTreeMap<Text, RawFeature>,
}

/// A named group of packages and overlays that a profile switches on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFeature {
    /// One line: what the user gets.
    pub(super) title: String,
    #[serde(default)]
    pub(super) packages: Vec<Text>,
    #[serde(default)]
    pub(super) overlays: Vec<Text>,
    #[serde(default)]
    pub(super) disabled_services: Vec<Text>,
    /// RAM that a device needs for it, MiB.
    #[serde(default)]
    pub(super) ram_mib: Option<u32>,
}
