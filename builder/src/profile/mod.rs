//! A device's profile, resolved and checked: everything that makes its image.
//!
//! **Invariant:** a [`Profile`] in hand is valid: every value was checked where it was written.

pub mod check;
mod checks;
mod diagnostic;
mod layers;
pub mod published;
mod raw;
mod resolve;
pub mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use camino::Utf8PathBuf;
use serde::Serialize;

use crate::project::Project;
use crate::{Error, Result, nearest};

/// A profile, and where each of its values was written.
#[derive(Clone, Debug, Serialize)]
pub struct Resolved {
    /// The profile.
    pub profile: Profile,
    /// By key: `title`, `openwrt.release`; for members of lists `packages.add.kmod-tun`. Defaults have none.
    pub origins: BTreeMap<String, Origin>,
    /// Titles of the features that are on: what the user gets.
    pub features: BTreeMap<String, String>,
}

/// A place in a file of `profiles/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Relative to the project.
    pub file: Utf8PathBuf,
    /// From 1.
    pub line: u32,
    /// The feature that brought it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
}

/// One device in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// What people type.
    pub name: String,
    /// One line.
    pub title: String,
    /// OpenWrt's release.
    pub release: String,
    /// OpenWrt's target.
    pub target: String,
    /// Other names.
    pub aliases: Vec<String>,
}

/// Loads the profile of a device by its name or an alias, whatever the case.
pub fn load(project: &Project, name_or_alias: &str) -> Result<Resolved> {
    let wanted = name_or_alias.to_lowercase();
    let mut candidates = Vec::new();
    for name in layers::names(project)? {
        let is_it = name == wanted;
        // A broken file must not stand in the way of other devices, only of itself and of `list`.
        let layer = match layers::Layer::read(project, &name) {
            Ok(layer) => layer,
            Err(error) if is_it => return Err(error),
            Err(_) => continue,
        };
        if layer.raw.base {
            if is_it {
                return Err(
                    Error::user(format!("`{name}` is a base for other profiles, not a device"))
                        .hint("`builder list` shows the devices"),
                );
            }
            continue;
        }
        let aliases = layer.raw.aliases.iter().map(|alias| alias.get_ref().clone());
        if is_it || aliases.clone().any(|alias| alias == wanted) {
            return resolve::resolve(project, &name);
        }
        candidates.extend(aliases);
        candidates.push(name);
    }
    let error = Error::user(format!("unknown device `{name_or_alias}`"));
    Err(
        match nearest::nearest(&wanted, candidates.iter().map(String::as_str)) {
            Some(name) => error.hint(format!("did you mean `{name}`?")),
            None => error,
        }
        .hint("`builder list` shows the devices; `builder new-profile` makes a new one"),
    )
}

/// Fails if no new profile can be called `name`: malformed, or taken as a name or an alias.
pub fn check_new_name(project: &Project, name: &str) -> Result<()> {
    checks::plain_name(name)
        .map_err(|reason| Error::user(format!("`{name}` is no name for a profile: {reason}")))?;
    let taken = |what: &str, path: &str| {
        Err(Error::user(format!("`{name}` is taken: {path} {what}")).hint("give another name"))
    };
    if name == layers::FEATURES || layers::names(project)?.iter().any(|other| other == name) {
        return taken("is there already", &format!("profiles/{name}.toml"));
    }
    match load_all(project)?
        .iter()
        .find(|other| other.profile.aliases.iter().any(|alias| alias == name))
    {
        Some(other) => taken(
            "has it as an alias",
            &format!("profiles/{}.toml", other.profile.name),
        ),
        None => Ok(()),
    }
}

/// All devices of the project in the order of their names. Fails if one of them is wrong.
pub fn list(project: &Project) -> Result<Vec<Summary>> {
    let resolved = load_all(project)?;
    let summary = |Resolved { profile, .. }: Resolved| Summary {
        name: profile.name,
        title: profile.title,
        release: profile.openwrt.release,
        target: profile.openwrt.target,
        aliases: profile.aliases,
    };
    Ok(resolved.into_iter().map(summary).collect())
}

/// All profiles of the project in the order of their names; no two of them answer to one name.
pub fn load_all(project: &Project) -> Result<Vec<Resolved>> {
    let mut layers = Vec::new();
    for name in layers::names(project)? {
        let layer = layers::Layer::read(project, &name)?;
        if !layer.raw.base {
            layers.push(layer);
        }
    }
    let mut taken: BTreeMap<&str, &str> = layers
        .iter()
        .map(|layer| (layer.file.stem(), layer.file.path.as_str()))
        .collect();
    for layer in &layers {
        for alias in &layer.raw.aliases {
            if let Some(other) = taken.insert(alias.get_ref(), layer.file.path.as_str()) {
                let message = format!("alias `{}` is used twice", alias.get_ref());
                let label = format!("{other} answers to it already");
                return Err(layer
                    .file
                    .error(alias.span(), message, &label)
                    .hint(format!("remove it in one of {other} and {}", layer.file.path)));
            }
        }
    }
    layers
        .iter()
        .map(|layer| resolve::resolve(project, layer.file.stem()))
        .collect()
}

/// One device with its bases merged in and its features expanded.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// What people type: `rpi4`. The file is `profiles/rpi4.toml`.
    pub name: String,
    /// `Raspberry Pi 4 / 400 / CM4`
    pub title: String,
    /// Other names people type: `pi4`, `rpi-4`, `pi400`.
    pub aliases: Vec<String>,
    /// Release, target and board of OpenWrt.
    pub openwrt: OpenWrt,
    /// `aarch64-unknown-linux-musl`
    pub rust_target: String,
    /// Packages beyond the target's and the board's defaults, features included; sorted.
    pub packages: Packages,
    /// Names of the features that are on, sorted.
    pub features: Vec<String>,
    /// Folders below `overlays/`, in the order in which they are laid over; features included.
    pub overlays: Vec<String>,
    /// Names in `/etc/init.d` that stay off.
    pub disabled_services: Vec<String>,
    /// Which ports are WAN and LAN.
    pub ports: Ports,
    /// Size of the root partition in MiB; `None`: the target's default.
    pub rootfs_partsize: Option<u32>,
    /// Which images to hand out, in the order of the flashing note.
    pub images: Vec<Image>,
    /// How to flash, for FLASH.md.
    pub flash: Flash,
    /// What an image must not exceed.
    pub limits: Limits,
    /// Our own package feed.
    pub feed: Feed,
    /// Default configuration of the router.
    pub settings: Settings,
}

/// Where the image comes from at OpenWrt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenWrt {
    /// `25.12.5`
    pub release: String,
    /// `bcm27xx/bcm2711`
    pub target: String,
    /// ImageBuilder's `PROFILE`: `rpi-4`.
    pub profile: String,
    /// Package architecture: `aarch64_cortex-a72`.
    pub arch: String,
}

impl OpenWrt {
    /// The package format of this release: apk from 25 on, ipk before.
    pub fn format(&self) -> PackageFormat {
        let series = self
            .release
            .split('.')
            .next()
            .and_then(|number| number.parse::<u32>().ok());
        match series {
            Some(series) if series < 25 => PackageFormat::Ipk,
            Some(_) | None => PackageFormat::Apk,
        }
    }
}

/// The two package formats of OpenWrt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageFormat {
    /// opkg, up to 24.10.
    Ipk,
    /// apk-tools 3, from 25.12 on.
    Apk,
}

/// Changes to the package set.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Packages {
    /// To install.
    pub add: Vec<String>,
    /// To leave out of the defaults.
    pub remove: Vec<String>,
}

/// Port roles.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Ports {
    /// Bridged as LAN.
    pub lan: Vec<Port>,
    /// Each an internet uplink of its own.
    pub wan: Vec<Port>,
}

/// One network port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Interface name that the router gets: `eth0`, `lan1`.
    pub name: String,
    /// Path below `/sys/devices` where numbering follows probe order: the port is found by it and renamed.
    pub device_path: Option<String>,
}

/// One image file to hand out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// End of OpenWrt's file name after `PROFILE-`: `ext4-factory.img.gz`.
    pub file: String,
    /// What it is for, one line: `first installation: write to an SD card`.
    pub purpose: String,
    /// `disk` images have a partition table and may boot in QEMU.
    pub disk: bool,
}

/// How a person flashes this device.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Flash {
    /// Markdown steps, numbered by the writer of FLASH.md. `{image}` is the first image's file name.
    pub steps: Vec<String>,
    /// What to do if it went wrong.
    pub recovery: String,
}

/// Sizes that a device cannot exceed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Limits {
    /// Bytes of flash that kernel and root file system may take; `None` for cards and disks.
    pub image_bytes: Option<u64>,
    /// RAM in MiB, for the check of memory-hungry features.
    pub ram_mib: Option<u32>,
}

/// Our own package feed on the router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Feed {
    /// Base URL; empty: no feed is configured.
    pub url: String,
    /// Public key, PEM for apk, usign for opkg; empty: none.
    pub key: String,
}

/// Default configuration that the overlays render.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// Host name.
    pub hostname: String,
    /// LAN address of the router.
    pub lan_address: Ipv4Addr,
    /// Prefix length of the LAN.
    pub lan_prefix: u8,
    /// IANA zone name: `UTC`.
    pub timezone: String,
    /// Wi-Fi country code; empty until the user sets one, and Wi-Fi stays off.
    pub wifi_country: String,
    /// NTP servers.
    pub ntp: Vec<String>,
    /// Free-form values for users' own overlays.
    pub variables: BTreeMap<String, String>,
}
