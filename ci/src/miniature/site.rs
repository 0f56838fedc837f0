//! Lays the site out as downloads.openwrt.org does: feeds with signed indexes, targets with signed checksums.

use std::collections::BTreeMap;

use crate::{Failure, Result};
use camino::{Utf8Path, Utf8PathBuf};
use openwrt_formats::{Malformed, adb_index, opkg};
use serde_json::json;

use super::archive;
use super::kernel::Kernel;
use super::keys::Keys;
use super::packages::Built;
use super::tables::{Feed, Format, Release, Series, Tables, Target};

/// What one target is made from.
pub(super) struct Context<'a> {
    pub(super) tables: &'a Tables,
    pub(super) release: &'a Release,
    pub(super) target: &'a Target,
    pub(super) kernel: &'a Kernel,
    pub(super) keys: &'a Keys,
}

impl Context<'_> {
    /// `releases/V/targets/T/S`
    pub(super) fn target_folder(&self) -> String {
        format!("releases/{}/targets/{}", self.release.version, self.target.name)
    }

    /// The feeds with their names and folders, in the order of `repositories.conf`.
    pub(super) fn feeds(&self) -> Vec<(Feed, String, String)> {
        let target = self.target_folder();
        let kmods = format!(
            "{target}/kmods/{}-1-{}",
            self.kernel.version, self.kernel.vermagic
        );
        let mut feeds = vec![
            (
                Feed::Target,
                "openwrt_core".to_owned(),
                format!("{target}/packages"),
            ),
            (Feed::Kmods, "openwrt_kmods".to_owned(), kmods),
        ];
        for (feed, name) in Feed::BY_ARCH {
            let folder = format!(
                "releases/{}/packages/{}/{name}",
                self.release.version, self.target.arch
            );
            feeds.push((feed, format!("openwrt_{name}"), folder));
        }
        feeds
    }

    /// `linux_kernel` of `profiles.json`.
    pub(super) fn linux_kernel(&self) -> serde_json::Value {
        json!({ "version": self.kernel.version, "release": "1", "vermagic": self.kernel.vermagic })
    }
}

/// Writes the packages of all feeds with their signed indexes. A feed by architecture is the same for all its targets.
pub(super) fn write_feeds(context: &Context, built: &[Built], site: &Utf8Path) -> Result<()> {
    for (feed, _, folder) in context.feeds() {
        let folder = site.join(folder);
        if folder.exists() {
            continue;
        }
        archive::create_folder(&folder)?;
        for package in built.iter().filter(|package| package.feed == feed) {
            archive::write_file(&folder.join(&package.file), &package.bytes, 0o644)?;
        }
        let listed: Vec<&Built> = built.iter().filter(|package| package.feed == feed).collect();
        let index = match context.release.format {
            Format::Ipk => opkg_index(&listed, context.keys),
            Format::Apk => apk_index(&listed, context.keys),
        };
        let index = index.map_err(|error| Failure::environment(format!("cannot index {folder}: {error}")))?;
        for (name, content) in index {
            archive::write_file(&folder.join(name), &content, 0o644)?;
        }
    }
    Ok(())
}

/// The files of an index, by name.
type Index = Result<Vec<(&'static str, Vec<u8>)>, Malformed>;

fn opkg_index(packages: &[&Built], keys: &Keys) -> Index {
    let entries: Vec<_> = packages
        .iter()
        .map(|package| opkg::entry(&package.file, &package.bytes))
        .collect::<Result<_, _>>()?;
    let index = opkg::write(&entries)?;
    let signature = keys.usign.sign(index.as_bytes());
    Ok(vec![
        ("Packages.gz", gzip(index.as_bytes())),
        ("Packages.sig", signature.into_bytes()),
        ("Packages", index.into_bytes()),
    ])
}

/// `packages.adb`, and the list of names and versions that OpenWrt publishes beside it.
fn apk_index(packages: &[&Built], keys: &Keys) -> Index {
    let entries: Vec<_> = packages
        .iter()
        .map(|package| adb_index::entry(&package.bytes))
        .collect::<Result<_, _>>()?;
    let index = adb_index::sign(&adb_index::write(&entries)?, &keys.apk)?;
    let names: BTreeMap<&str, &str> = entries
        .iter()
        .map(|entry| (entry.meta.name.as_str(), entry.meta.version.as_str()))
        .collect();
    let arch = entries.first().map_or("", |entry| entry.meta.arch.as_str());
    let list = json!({ "version": 2, "architecture": arch, "packages": names });
    Ok(vec![
        ("packages.adb", index),
        ("index.json", format!("{list}\n").into_bytes()),
    ])
}

/// Writes `profiles.json`, and `sha256sums` of all files beside it with both signatures.
pub(super) fn sign_target(context: &Context, site: &Utf8Path) -> Result<()> {
    let folder = site.join(context.target_folder());
    let profiles: BTreeMap<&str, _> = context
        .target
        .devices
        .iter()
        .map(|device| {
            let prefix = format!(
                "openwrt-{}-{}-{}",
                context.release.version,
                context.target.name.replace('/', "-"),
                device.name
            );
            // Named as the ImageBuilder will name them; the site itself serves no finished image.
            let images: Vec<_> = device
                .images
                .iter()
                .map(|image| {
                    let words = [prefix.as_str(), &image.filesystem, &image.r#type];
                    let name: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
                    let name = format!("{}.{}", name.join("-"), image.extension);
                    let mut row = json!({ "name": name, "type": image.r#type });
                    if !image.filesystem.is_empty() {
                        row["filesystem"] = json!(image.filesystem);
                    }
                    row
                })
                .collect();
            let value = json!({
                "device_packages": device.packages,
                "image_prefix": prefix,
                "images": images,
                "supported_devices": device.supported_devices,
                "titles": [{ "title": device.title }],
            });
            (device.name.as_str(), value)
        })
        .collect();
    let overview = json!({
        "arch_packages": context.target.arch,
        "default_packages": context.target.default_packages,
        "linux_kernel": context.linux_kernel(),
        "metadata_version": 1,
        "profiles": profiles,
        "source_date_epoch": context.release.epoch,
        "target": context.target.name,
        "version_code": context.release.revision,
        "version_number": context.release.version,
    });
    archive::write_file(
        &folder.join("profiles.json"),
        format!("{overview}\n").as_bytes(),
        0o644,
    )?;

    let mut sums = String::new();
    for path in archive::files_below(&folder)? {
        let name = path.strip_prefix(&folder).unwrap_or(&path).to_owned();
        sums += &format!("{} *{name}\n", archive::sha256_of_file(&path)?);
    }
    let path: Utf8PathBuf = folder.join("sha256sums");
    archive::write_file(&path, sums.as_bytes(), 0o644)?;
    archive::write_file(
        &folder.join("sha256sums.sig"),
        context.keys.usign.sign(sums.as_bytes()).as_bytes(),
        0o644,
    )?;
    context.keys.sign_openpgp(&path, &folder.join("sha256sums.asc"))
}

/// Writes `.versions.json`, each release's `.targets.json`, and the OpenPGP key.
pub(super) fn write_versions(tables: &Tables, keys: &Keys, site: &Utf8Path) -> Result<()> {
    let mut versions = serde_json::Map::new();
    let list: Vec<&str> = tables
        .releases
        .iter()
        .map(|release| release.version.as_str())
        .collect();
    versions.insert("versions_list".into(), json!(list));
    for release in &tables.releases {
        let key = match release.series {
            Series::Oldstable => "oldstable_version",
            Series::Stable => "stable_version",
        };
        versions.insert(key.into(), json!(release.version));
        let targets: BTreeMap<&str, &str> = release
            .targets
            .iter()
            .map(|target| (target.name.as_str(), target.arch.as_str()))
            .collect();
        let path = site.join(format!("releases/{}/.targets.json", release.version));
        archive::write_file(&path, format!("{}\n", json!(targets)).as_bytes(), 0o644)?;
    }
    let text = format!("{}\n", serde_json::Value::Object(versions));
    archive::write_file(&site.join(".versions.json"), text.as_bytes(), 0o644)?;
    archive::write_file(&site.join("keys/openpgp.asc"), &keys.openpgp, 0o644)
}

/// gzip without a name and a time.
pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = flate2::GzBuilder::new()
        .mtime(0)
        .read(data, flate2::Compression::best());
    // Reading from memory into memory cannot fail.
    let _ = std::io::Read::read_to_end(&mut encoder, &mut out);
    out
}
