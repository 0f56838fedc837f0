//! The lock: every download of a build by URL, size and SHA-256, one file a source (`images/NAME.lock`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;

/// The lock of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Format version; this program writes 1.
    pub version: u32,
    /// By `RELEASE/TARGET`: `25.12.5/bcm27xx/bcm2711`.
    #[serde(default)]
    pub targets: BTreeMap<String, TargetLock>,
}

/// One release of one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetLock {
    /// The ImageBuilder's archive.
    pub imagebuilder: Pin,
    /// `sha256sums` of the target's folder, whose signature was verified.
    pub sha256sums: Pin,
    /// `profiles.json` of the target's folder.
    pub profiles: Pin,
    /// Package architecture.
    pub arch: String,
    /// Every package that some device of this target needs, by file name. Empty: not resolved yet.
    #[serde(default)]
    pub packages: BTreeMap<String, PackagePin>,
    /// By device: the request that was resolved, and which of `packages` it takes.
    #[serde(default)]
    pub devices: BTreeMap<String, DeviceLock>,
}

/// One file by its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Relative to the source's base, so that mirrors and folders serve the same lock:
    /// `releases/25.12.5/targets/x86/64/profiles.json`.
    pub path: String,
    /// Hash of the file.
    pub sha256: Sha256,
    /// Bytes; absent where only the hash was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// One package file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackagePin {
    /// Package name.
    pub name: String,
    /// Package version.
    pub version: String,
    /// Relative to the source's base; absent for packages inside the ImageBuilder itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Hash of the file.
    pub sha256: Sha256,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the ADB block that the signed index lists (apk).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Sha256>,
}

/// What one device takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceLock {
    /// Hash over board and requested packages; a different one means that the profile changed since.
    pub request: Sha256,
    /// File names, keys of [`TargetLock::packages`], sorted.
    pub packages: Vec<String>,
}
