//! A device's profile, resolved and checked: everything that makes its image.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Serialize;

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
