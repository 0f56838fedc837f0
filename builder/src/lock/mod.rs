//! The lock: every download of a build by path, size and SHA-256, one file a source (`images/NAME.lock`).
//!
//! Types and questions about them are here; `file.rs` reads and writes, [`update()`] fills.

mod closure;
mod export;
mod feeds;
mod file;
mod packages;
mod published;
mod update;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::fetch::Wanted;
use crate::profile::Profile;

pub use export::export;
pub use feeds::indexes;
pub use published::verified_profiles;
pub use update::{resolve, trees, update};

/// The format version that this program writes.
pub const VERSION: u32 = 1;

/// The lock of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Format version; this program writes [`VERSION`].
    pub version: u32,
    /// By `RELEASE/TARGET`: `25.12.5/bcm27xx/bcm2711`.
    #[serde(default)]
    pub targets: BTreeMap<String, TargetLock>,
}

impl Default for Lock {
    fn default() -> Self {
        Self {
            version: VERSION,
            targets: BTreeMap::new(),
        }
    }
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
    /// The verified package indexes of the last resolution, by feed name: `base`, `luci`, `kmods`.
    #[serde(default)]
    pub indexes: BTreeMap<String, Pin>,
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

impl Pin {
    /// What to ask a [`crate::fetch::Fetcher`] for.
    pub fn wanted(&self) -> Wanted {
        Wanted::new(&self.path, self.sha256, self.size)
    }
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
    /// Hash over board and requested packages ([`request_hash`]); a different one means that the profile changed since.
    pub request: Sha256,
    /// File names, keys of [`TargetLock::packages`], sorted.
    pub packages: Vec<String>,
}

/// A package with the name of its file.
pub type NamedPin<'l> = (&'l str, &'l PackagePin);

impl TargetLock {
    /// A device's packages with their file names: (those to download, those inside the ImageBuilder).
    pub fn packages_of<'l>(&'l self, device: &'l DeviceLock) -> (Vec<NamedPin<'l>>, Vec<NamedPin<'l>>) {
        let pins = device.packages.iter().filter_map(|file| {
            let (file, pin) = self.packages.get_key_value(file)?;
            Some((file.as_str(), pin))
        });
        pins.partition(|(_, pin)| pin.path.is_some())
    }
}

/// The key of [`Lock::targets`] for a profile.
pub fn target_key(profile: &Profile) -> String {
    format!("{}/{}", profile.openwrt.release, profile.openwrt.target)
}

/// Hash over what decides a device's package set: release, target, board, and the packages that the profile adds and
/// removes. Overlays and settings do not count.
pub fn request_hash(profile: &Profile) -> Sha256 {
    let mut lines = vec![
        "request 1".to_owned(),
        format!("release {}", profile.openwrt.release),
        format!("target {}", profile.openwrt.target),
        format!("board {}", profile.openwrt.profile),
    ];
    let sorted = |sign: &str, names: &[String]| {
        let mut names: Vec<String> = names.iter().map(|name| format!("{sign}{name}")).collect();
        names.sort();
        names.dedup();
        names
    };
    lines.extend(sorted("+", &profile.packages.add));
    lines.extend(sorted("-", &profile.packages.remove));
    Sha256::of(lines.join("\n"))
}

/// How far a lock is for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution<'l> {
    /// Every file is pinned.
    Resolved(&'l TargetLock, &'l DeviceLock),
    /// The ImageBuilder is pinned, this device's packages are not.
    Unresolved(&'l TargetLock),
    /// Its packages were pinned for another request: the profile changed since.
    Stale(&'l TargetLock),
    /// Nothing of this release and target is pinned.
    Unknown,
}

/// What `lock` pins for `profile`.
pub fn resolved<'l>(lock: &'l Lock, profile: &Profile) -> Resolution<'l> {
    let Some(target) = lock.targets.get(&target_key(profile)) else {
        return Resolution::Unknown;
    };
    match target.devices.get(&profile.name) {
        None => Resolution::Unresolved(target),
        Some(device) if device.request != request_hash(profile) => Resolution::Stale(target),
        Some(device) => Resolution::Resolved(target, device),
    }
}
