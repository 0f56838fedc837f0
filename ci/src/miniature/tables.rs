//! The tables in `ci/miniature`: which releases, targets, devices and packages there are. The only place that reads them.

use std::collections::BTreeMap;

use crate::{Failure, Result};
use camino::Utf8Path;
use serde::{Deserialize, Serialize};

/// All tables.
pub(crate) struct Tables {
    pub(crate) releases: Vec<Release>,
    pub(crate) packages: Vec<Package>,
}

/// A release and its targets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Release {
    pub(crate) version: String,
    pub(crate) revision: String,
    pub(crate) series: Series,
    pub(crate) format: Format,
    /// SOURCE_DATE_EPOCH, seconds.
    pub(crate) epoch: u64,
    #[serde(rename = "target")]
    pub(crate) targets: Vec<Target>,
}

impl Release {
    /// The end of the revision: `f5dae5ece4` of `r33051-f5dae5ece4`.
    pub(crate) fn commit(&self) -> &str {
        self.revision.rsplit('-').next().unwrap_or(&self.revision)
    }
}

/// The release's place in `.versions.json`.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Series {
    Oldstable,
    Stable,
}

/// The package format of a release.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Ipk,
    Apk,
}

/// One `targets/T/S`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Target {
    pub(crate) name: String,
    /// As `make info` calls the architecture.
    pub(crate) machine: String,
    /// Of packages.
    pub(crate) arch: String,
    /// Debian's name of the architecture.
    pub(crate) debian: String,
    pub(crate) consoles: Vec<String>,
    pub(crate) rootfs_megabytes: u32,
    pub(crate) default_packages: Vec<String>,
    #[serde(rename = "device")]
    pub(crate) devices: Vec<Device>,
}

/// A device of a target.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all(deserialize = "kebab-case"))]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) board: String,
    pub(crate) title: String,
    pub(crate) supported_devices: Vec<String>,
    pub(crate) packages: Vec<String>,
    pub(crate) images: Vec<Image>,
}

/// An image of a device: what it is called, and which recipe of the ImageBuilder makes it.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    pub(crate) filesystem: String,
    pub(crate) r#type: String,
    pub(crate) extension: String,
    pub(crate) recipe: String,
    /// Largest size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u64>,
}

/// A package of the feeds.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) feed: Feed,
    #[serde(default)]
    pub(crate) depends: Vec<String>,
    #[serde(default)]
    pub(crate) provides: Vec<String>,
    #[serde(default)]
    pub(crate) conflicts: Vec<String>,
    #[serde(default)]
    pub(crate) conffiles: Vec<String>,
    /// Kernel modules; `?` after a name: may be missing.
    #[serde(default)]
    pub(crate) modules: Vec<String>,
}

/// Where a package is served.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Feed {
    /// `targets/T/S/packages`
    Target,
    /// `targets/T/S/kmods/…`
    Kmods,
    /// `packages/ARCH/base`, and so on.
    Base,
    Luci,
    Packages,
    Routing,
    Telephony,
}

impl Feed {
    /// The feeds by package architecture, with their folder's name.
    pub(crate) const BY_ARCH: [(Self, &'static str); 5] = [
        (Self::Base, "base"),
        (Self::Luci, "luci"),
        (Self::Packages, "packages"),
        (Self::Routing, "routing"),
        (Self::Telephony, "telephony"),
    ];
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetsFile {
    release: Vec<Release>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackagesFile {
    package: Vec<Package>,
    placeholders: BTreeMap<Feed, Vec<String>>,
}

impl Tables {
    /// Reads `targets.toml` and `packages.toml`, and checks that every package that a target names is there.
    pub(crate) fn read(folder: &Utf8Path) -> Result<Self> {
        let targets: TargetsFile = parse(&folder.join("targets.toml"))?;
        let file: PackagesFile = parse(&folder.join("packages.toml"))?;
        let mut packages = file.package;
        for (feed, names) in file.placeholders {
            packages.extend(names.into_iter().map(|name| Package {
                name,
                feed,
                depends: vec!["libc".into()],
                provides: Vec::new(),
                conflicts: Vec::new(),
                conffiles: Vec::new(),
                modules: Vec::new(),
            }));
        }
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        let tables = Self {
            releases: targets.release,
            packages,
        };
        tables.check()?;
        Ok(tables)
    }

    fn check(&self) -> Result<()> {
        for pair in self.packages.windows(2) {
            if pair[0].name == pair[1].name {
                return Err(Failure::environment(format!(
                    "packages.toml has {} twice",
                    pair[0].name
                )));
            }
        }
        let known = |name: &str| {
            self.packages
                .iter()
                .any(|p| p.name == name || p.provides.iter().any(|provided| provided == name))
        };
        for release in &self.releases {
            for target in &release.targets {
                let of_devices = target.devices.iter().flat_map(|device| &device.packages);
                let unknown = target
                    .default_packages
                    .iter()
                    .chain(of_devices)
                    .find(|name| !known(name));
                if let Some(name) = unknown {
                    return Err(Failure::environment(format!(
                        "packages.toml has no {name}, which {} wants",
                        target.name
                    )));
                }
            }
        }
        let unknown = self
            .packages
            .iter()
            .flat_map(|package| &package.depends)
            .find(|name| !known(name));
        unknown.map_or(Ok(()), |name| {
            Err(Failure::environment(format!(
                "packages.toml has no {name}, which a package needs"
            )))
        })
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Utf8Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, error))?;
    toml::from_str(&text).map_err(|error| Failure::user(format!("{path}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_tables_are_whole() {
        let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("miniature");
        let tables = Tables::read(&folder).expect("tables");
        assert!(
            tables
                .packages
                .iter()
                .any(|package| package.name == "kmod-tun" && package.modules == ["tun"])
        );
    }
}
