//! Fills a lock: verified pins of a target, then each device's packages, as the ImageBuilder itself resolves them.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use openwrt_formats::package::IndexEntry;

use super::closure::Available;
use super::feeds::{self, Feed};
use super::packages::{self, KnownFiles};
use super::{DeviceLock, Lock, PackagePin, TargetLock, published, request_hash, target_key};
use crate::digest::Sha256;
use crate::fetch::Fetcher;
use crate::imagebuilder::{self, Bundled, Bytes, FeedFile, ImageBuilder, Network, Pristine};
use crate::nearest;
use crate::profile::Profile;
use crate::project::Project;
use crate::report::Report;
use crate::source::Source;
use crate::{Error, Result};

/// Whether pins of a target that are there already may be used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pins {
    /// Ask the source again, and verify its signatures.
    Renew,
    /// They were verified when they were made.
    Keep,
}

/// Takes what the source has now: pins every target of `devices` anew and resolves their packages.
/// Returns the lock as it should be written; other targets and devices stay as they are.
pub async fn update(
    project: &Project,
    source: &Source,
    fetcher: &Fetcher,
    devices: &[Profile],
    report: &Report,
) -> Result<Lock> {
    fill(project, source, fetcher, devices, report, Pins::Renew).await
}

/// Resolves the packages of `devices`, with the ImageBuilders that are pinned already where there are such.
pub async fn resolve(
    project: &Project,
    source: &Source,
    fetcher: &Fetcher,
    devices: &[Profile],
    report: &Report,
) -> Result<Lock> {
    fill(project, source, fetcher, devices, report, Pins::Keep).await
}

/// Where unpacked ImageBuilders lie, by the hash of their archive: a build and a lock share them.
pub fn trees(project: &Project) -> Utf8PathBuf {
    project.work().join("imagebuilders")
}

async fn fill(
    project: &Project,
    source: &Source,
    fetcher: &Fetcher,
    devices: &[Profile],
    report: &Report,
    pins: Pins,
) -> Result<Lock> {
    source.check_there()?;
    let mut lock = Lock::read(&source.lock_path(project))?;
    let mut by_target: BTreeMap<String, Vec<&Profile>> = BTreeMap::new();
    for device in devices {
        by_target.entry(target_key(device)).or_default().push(device);
    }
    if pins == Pins::Renew {
        let releases: BTreeSet<_> = devices
            .iter()
            .map(|device| device.openwrt.release.as_str())
            .collect();
        for release in releases {
            if let Some(newer) = published::newer_release(source, fetcher, release).await? {
                report.warn(format!(
                    "`{}` has {newer}; the profiles ask for {release}",
                    source.name
                ));
            }
        }
    }
    for (key, devices) in by_target {
        let before = lock.targets.get(&key);
        let mut target = match before {
            Some(before) if pins == Pins::Keep => before.clone(),
            _ => {
                let fresh = published::pins(source, fetcher, &key, before, report).await?;
                let before = before.cloned();
                let (indexes, packages, devices) = before
                    .map(|before| (before.indexes, before.packages, before.devices))
                    .unwrap_or_default();
                TargetLock {
                    indexes,
                    packages,
                    devices,
                    ..fresh
                }
            }
        };
        Target {
            project,
            source,
            fetcher,
            report,
            key: &key,
        }
        .resolve(&mut target, &devices)
        .await?;
        lock.targets.insert(key, target);
    }
    Ok(lock)
}

/// One target whose devices are being resolved.
struct Target<'a> {
    project: &'a Project,
    source: &'a Source,
    fetcher: &'a Fetcher,
    report: &'a Report,
    key: &'a str,
}

impl Target<'_> {
    async fn resolve(&self, target: &mut TargetLock, devices: &[&Profile]) -> Result<()> {
        if let Some(device) = devices.iter().find(|device| device.openwrt.arch != target.arch) {
            return Err(Error::user(format!(
                "the profile {} says openwrt.arch = \"{}\", the source says {}",
                device.name, device.openwrt.arch, target.arch
            ))
            .hint(format!(
                "set arch = \"{}\" in profiles/{}.toml or its base",
                target.arch, device.name
            )));
        }
        let (pristine, tree) = self.unpack(target).await?;
        let format = tree.format();
        let folders = feeds::listed(pristine.root(), format)?;
        let mut feeds = Vec::new();
        for folder in &folders {
            feeds.push(feeds::open(self.source, self.fetcher, folder, format).await?);
        }
        self.report.done(format!(
            "Verified {} package indexes of {}",
            feeds.len(),
            self.key
        ));
        let bundled = packages::bundled(&pristine.root().join("packages"), format)?;
        let info = tree.info().await?;
        let examined = |pin: &PackagePin| Some((pin.identity?, pin.sha256));
        let mut known: KnownFiles = target.packages.values().filter_map(examined).collect();
        for device in devices {
            let board = info
                .profiles
                .get(&device.openwrt.profile)
                .ok_or_else(|| unknown_board(device, &info))?;
            let defaults = info.default_packages.iter().chain(&board.packages);
            let defaults: Vec<&str> = defaults.map(String::as_str).collect();
            let resolved = self
                .resolve_device(&tree, &feeds, &bundled, device, &defaults, &mut known)
                .await?;
            let packages = resolved.keys().cloned().collect();
            self.report
                .done(format!("Resolved {}: {} packages", device.name, resolved.len()));
            target.packages.extend(resolved);
            target.devices.insert(
                device.name.clone(),
                DeviceLock {
                    request: request_hash(device),
                    packages,
                },
            );
        }
        target.indexes = feeds.into_iter().map(|feed| (feed.name, feed.pin)).collect();
        let needed: BTreeSet<&String> = target
            .devices
            .values()
            .flat_map(|device| &device.packages)
            .collect();
        target.packages.retain(|file, _| needed.contains(file));
        Ok(())
    }

    async fn unpack(&self, target: &TargetLock) -> Result<(Pristine, Tree)> {
        let archive = self
            .fetcher
            .pinned(self.source, &[target.imagebuilder.wanted()])
            .await?
            .remove(0);
        let (store, sha256) = (trees(self.project), target.imagebuilder.sha256);
        let unpacked = tokio::task::spawn_blocking(move || Pristine::unpack(&archive, sha256, &store));
        let pristine = unpacked
            .await
            .map_err(|error| Error::bug("unpacking broke off").because(error))??;
        let work = self.project.work();
        std::fs::create_dir_all(&work).map_err(|error| Error::io("create", &work, error))?;
        let folder = tempfile::Builder::new()
            .prefix("lock-")
            .tempdir_in(&work)
            .map_err(|error| Error::io("create a folder in", &work, error))?;
        let path = Utf8Path::from_path(folder.path())
            .ok_or_else(|| Error::bug("a folder below UTF-8 is not UTF-8"))?;
        let log = work
            .join("logs")
            .join(format!("lock-{}.log", self.key.replace('/', "-")));
        let tree = ImageBuilder::prepare(&pristine, &path.join("tree"), Network::None, &log).await?;
        Ok((
            pristine,
            Tree {
                imagebuilder: tree,
                _folder: folder,
            },
        ))
    }

    /// Pins of everything that `make manifest` lists for a device, by file name.
    async fn resolve_device(
        &self,
        tree: &ImageBuilder,
        feeds: &[Feed],
        bundled: &[(IndexEntry, Sha256)],
        device: &Profile,
        defaults: &[&str],
        known: &mut KnownFiles,
    ) -> Result<BTreeMap<String, PackagePin>> {
        // What is inside the ImageBuilder is not downloaded too.
        let inside = |entry: &IndexEntry| {
            let same = |own: &IndexEntry| {
                (&own.meta.name, &own.meta.version) == (&entry.meta.name, &entry.meta.version)
            };
            bundled.iter().any(|(own, _)| same(own))
        };
        let offered: Vec<(&Feed, &IndexEntry)> = feeds
            .iter()
            .flat_map(|feed| feed.entries.iter().map(move |entry| (feed, entry)))
            .filter(|(_, entry)| !inside(entry))
            .collect();
        let entries = offered
            .iter()
            .map(|(_, entry)| *entry)
            .chain(bundled.iter().map(|(entry, _)| entry))
            .collect();
        let available = Available::new(entries);
        if let Some(name) = device.packages.add.iter().find(|name| !available.has(name)) {
            return Err(unknown_package(device, name, &available));
        }
        let left_out =
            |name: &str| name.starts_with('-') || device.packages.remove.iter().any(|other| other == name);
        let mut wanted = defaults.to_vec();
        wanted.extend(device.packages.add.iter().map(String::as_str));
        wanted.retain(|name| !left_out(name));
        // What is inside stays in the folder that is installed from, so that its dependencies must be there too.
        wanted.extend(bundled.iter().map(|(entry, _)| entry.meta.name.as_str()));
        let needed = available.reachable(wanted);
        let candidates: Vec<_> = needed
            .into_iter()
            .filter_map(|index| offered.get(index))
            .collect();
        let kept = packages::download(self.source, self.fetcher, &candidates, known).await?;
        let files = kept.iter().map(|kept| FeedFile {
            name: kept.file.clone(),
            bytes: Bytes::File(kept.path.clone()),
            sha256: kept.pin.sha256,
        });
        let inside = bundled
            .iter()
            .map(|(entry, sha256)| (entry.file.clone(), *sha256));
        // Exactly: what another device of this target was offered must be gone.
        let feed = imagebuilder::Feed {
            bundled: Bundled::Exactly(inside.collect()),
            files: files.collect(),
        };
        tree.replace_feed(feed).await?;
        let manifest = tree.manifest(&device.openwrt.profile, &arguments(device)).await?;
        let mut resolved = BTreeMap::new();
        for (name, version) in manifest {
            let is_it =
                |own: &str, own_version: &str| (own, own_version) == (name.as_str(), version.as_str());
            let own = bundled
                .iter()
                .find(|(entry, _)| is_it(&entry.meta.name, &entry.meta.version));
            let downloaded = || kept.iter().find(|kept| is_it(&kept.pin.name, &kept.pin.version));
            let (file, pin) = match own {
                Some((entry, sha256)) => (entry.file.clone(), inside_pin(entry, *sha256)),
                None => match downloaded() {
                    Some(kept) => (kept.file.clone(), kept.pin.clone()),
                    None => {
                        return Err(Error::bug(format!(
                            "`make manifest` lists {name} {version}, which no feed has"
                        )));
                    }
                },
            };
            resolved.insert(file, pin);
        }
        Ok(resolved)
    }
}

/// A copy of an ImageBuilder that vanishes with its folder.
struct Tree {
    imagebuilder: ImageBuilder,
    _folder: tempfile::TempDir,
}

impl std::ops::Deref for Tree {
    type Target = ImageBuilder;

    fn deref(&self) -> &ImageBuilder {
        &self.imagebuilder
    }
}

/// `PACKAGES` of a device: names to add, and `-name` to leave out.
fn arguments(device: &Profile) -> Vec<String> {
    let removed = device.packages.remove.iter().map(|name| format!("-{name}"));
    device.packages.add.iter().cloned().chain(removed).collect()
}

fn inside_pin(entry: &IndexEntry, sha256: Sha256) -> PackagePin {
    let (name, version) = (entry.meta.name.clone(), entry.meta.version.clone());
    PackagePin {
        name,
        version,
        path: None,
        sha256,
        size: entry.size,
        identity: entry.identity.map(Sha256),
    }
}

fn unknown_board(device: &Profile, info: &imagebuilder::Info) -> Error {
    let board = &device.openwrt.profile;
    let error = Error::user(format!(
        "the profile {} asks for the board `{board}`, which {} has not",
        device.name, info.target
    ));
    match nearest::hint(board, "it has", info.profiles.keys().map(String::as_str)) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn unknown_package(device: &Profile, name: &str, available: &Available<'_>) -> Error {
    let error = Error::user(format!(
        "the profile {} adds the package `{name}`, which no feed has",
        device.name
    ));
    match nearest::hint(name, "there are", available.names()) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
