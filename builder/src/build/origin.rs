//! Where ImageBuilder and packages of a build come from: a source through its lock, or the user's own ImageBuilder.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::key::ImageBuilderInput;
use crate::atomic;
use crate::digest::Sha256;
use crate::fetch::{Fetcher, Wanted};
use crate::imagebuilder::{Bundled, Bytes, Feed, FeedFile, Pristine};
use crate::lock::{self, Lock, PackagePin, Pin, Resolution};
use crate::profile::Profile;
use crate::project::Project;
use crate::report::Report;
use crate::source::Source;
use crate::{Error, Result};

/// Name and label of images from the user's own ImageBuilder.
const LOCAL: &str = "local";

/// Where a build's inputs come from.
#[allow(clippy::large_enum_variant, reason = "there is one a run")]
pub(super) enum Origin {
    /// A source, through its lock.
    Locked {
        source: Source,
        lock: Lock,
        fetcher: Fetcher,
    },
    /// `--imagebuilder`: tree and packages as they are.
    Local { path: Utf8PathBuf, sha256: Sha256 },
}

/// What a device's image is made with, on this machine's disk.
pub(super) struct Gathered {
    pub(super) pristine: Pristine,
    pub(super) feed: Feed,
}

impl Origin {
    /// A source, with every one of `profiles` resolved: those that the lock lacks are resolved now.
    pub(super) async fn locked(
        project: &Project,
        source: Source,
        fetcher: Fetcher,
        profiles: &[Profile],
        report: &Report,
    ) -> Result<Self> {
        let path = source.lock_path(project);
        let mut lock = Lock::read(&path)?;
        let is_resolved =
            |profile: &&Profile| matches!(lock::resolved(&lock, profile), Resolution::Resolved(..));
        let unresolved: Vec<Profile> = profiles
            .iter()
            .filter(|profile| !is_resolved(profile))
            .cloned()
            .collect();
        if !unresolved.is_empty() {
            let names: Vec<&str> = unresolved.iter().map(|profile| profile.name.as_str()).collect();
            report.warn(format!(
                "{} does not pin the packages of {} yet; resolving them now",
                path.strip_prefix(&project.root).unwrap_or(&path),
                names.join(", ")
            ));
            lock = lock::resolve(project, &source, &fetcher, &unresolved, report).await?;
            lock.write(&path)?;
        }
        Ok(Self::Locked {
            source,
            lock,
            fetcher,
        })
    }

    /// The user's own ImageBuilder: an unpacked folder or an archive.
    pub(super) fn local(project: &Project, path: &Utf8Path) -> Result<Self> {
        let path = path
            .canonicalize_utf8()
            .map_err(|error| Error::io("open", path, error))?;
        let memory = project.work().join("local.json");
        let mut remembered: BTreeMap<Utf8PathBuf, Remembered> = std::fs::read(&memory)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let fingerprint = if path.is_dir() {
            Pristine::folder(&path)?.fingerprint()?
        } else {
            file_stamp(&path)?
        };
        if let Some(known) = remembered
            .get(&path)
            .filter(|known| known.fingerprint == fingerprint)
        {
            return Ok(Self::Local {
                sha256: known.sha256,
                path,
            });
        }
        let sha256 = if path.is_dir() {
            Pristine::folder(&path)?.hash()?
        } else {
            Sha256::of_file(&path)?
        };
        remembered.insert(path.clone(), Remembered { fingerprint, sha256 });
        let text = serde_json::to_vec_pretty(&remembered).map_err(|error| {
            Error::bug("hashes of ImageBuilders cannot be written as JSON").because(error)
        })?;
        atomic::write(&memory, &text, 0o644)?;
        Ok(Self::Local { path, sha256 })
    }

    /// `openwrt`, `miniature`, `local`.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Locked { source, .. } => &source.name,
            Self::Local { .. } => LOCAL,
        }
    }

    /// Put into file names and the login banner.
    pub(super) fn label(&self) -> &str {
        match self {
            Self::Locked { source, .. } => &source.label,
            Self::Local { .. } => LOCAL,
        }
    }

    /// Where a device's images go.
    pub(super) fn images_dir(&self, project: &Project, device: &str) -> Utf8PathBuf {
        match self {
            Self::Locked { source, .. } => source.images_dir(project, device),
            Self::Local { .. } => project.images().join(LOCAL).join(device),
        }
    }

    /// ImageBuilder and packages as inputs of the build key.
    pub(super) fn inputs(&self, profile: &Profile) -> Result<(ImageBuilderInput, BTreeMap<String, Sha256>)> {
        match self {
            Self::Local { sha256, .. } => Ok((ImageBuilderInput::Local { sha256: *sha256 }, BTreeMap::new())),
            Self::Locked { lock, .. } => {
                let pinned = pinned(lock, profile)?;
                let all = pinned.packages.iter().chain(&pinned.bundled);
                let packages = all.map(|(name, pin)| ((*name).to_owned(), pin.sha256)).collect();
                let Pin { path, sha256, .. } = pinned.imagebuilder.clone();
                Ok((ImageBuilderInput::Locked { path, sha256 }, packages))
            }
        }
    }

    /// Downloads and unpacks what `profiles` need: each ImageBuilder once, in the order of `profiles`.
    pub(super) async fn gather(&self, project: &Project, profiles: &[Profile]) -> Result<Vec<Gathered>> {
        let store = lock::trees(project);
        match self {
            Self::Local { path, sha256 } => {
                let pristine = if path.is_dir() {
                    Pristine::folder(path)?
                } else {
                    unpack(path.clone(), *sha256, store).await?
                };
                let feed = Feed {
                    bundled: Bundled::All,
                    files: Vec::new(),
                };
                Ok(profiles
                    .iter()
                    .map(|_| Gathered {
                        pristine: pristine.clone(),
                        feed: feed.clone(),
                    })
                    .collect())
            }
            Self::Locked {
                source,
                lock,
                fetcher,
            } => {
                let pinned = profiles
                    .iter()
                    .map(|profile| pinned(lock, profile))
                    .collect::<Result<Vec<_>>>()?;
                let archives: BTreeMap<Sha256, &Pin> = pinned
                    .iter()
                    .map(|pinned| (pinned.imagebuilder.sha256, pinned.imagebuilder))
                    .collect();
                // Packages arrive while the ImageBuilders are unpacked.
                let (trees, packages) = tokio::try_join!(
                    trees(source, fetcher, &archives, &store),
                    packages(source, fetcher, &pinned)
                )?;
                pinned
                    .iter()
                    .map(|pinned| {
                        let pristine = trees
                            .get(&pinned.imagebuilder.sha256)
                            .ok_or_else(|| Error::bug("an ImageBuilder was not unpacked"))?
                            .clone();
                        Ok(Gathered {
                            pristine,
                            feed: feed(pinned, &packages)?,
                        })
                    })
                    .collect()
            }
        }
    }
}

/// What the lock pins for one device.
struct Pinned<'l> {
    imagebuilder: &'l Pin,
    /// To download, by file name.
    packages: Vec<(&'l str, &'l PackagePin)>,
    /// Inside the ImageBuilder, by file name.
    bundled: Vec<(&'l str, &'l PackagePin)>,
}

fn pinned<'l>(lock: &'l Lock, profile: &Profile) -> Result<Pinned<'l>> {
    match lock::resolved(lock, profile) {
        Resolution::Resolved(target, device) => {
            let (packages, bundled) = target.packages_of(device);
            Ok(Pinned {
                imagebuilder: &target.imagebuilder,
                packages,
                bundled,
            })
        }
        Resolution::Unresolved(_) | Resolution::Stale(_) | Resolution::Unknown => Err(Error::bug(format!(
            "{} was resolved, but the lock does not have it",
            profile.name
        ))),
    }
}

async fn trees(
    source: &Source,
    fetcher: &Fetcher,
    archives: &BTreeMap<Sha256, &Pin>,
    store: &Utf8Path,
) -> Result<BTreeMap<Sha256, Pristine>> {
    let wanted: Vec<Wanted> = archives.values().map(|pin| pin.wanted()).collect();
    let paths = fetcher.pinned(source, &wanted).await?;
    let mut unpacking = tokio::task::JoinSet::new();
    for (sha256, path) in archives.keys().copied().zip(paths) {
        let store = store.to_owned();
        unpacking.spawn(async move {
            unpack(path, sha256, store)
                .await
                .map(|pristine| (sha256, pristine))
        });
    }
    let mut trees = BTreeMap::new();
    while let Some(ended) = unpacking.join_next().await {
        let (sha256, pristine) =
            ended.map_err(|error| Error::bug("unpacking broke off").because(error))??;
        trees.insert(sha256, pristine);
    }
    Ok(trees)
}

async fn unpack(archive: Utf8PathBuf, sha256: Sha256, store: Utf8PathBuf) -> Result<Pristine> {
    tokio::task::spawn_blocking(move || Pristine::unpack(&archive, sha256, &store))
        .await
        .map_err(|error| Error::bug("unpacking an ImageBuilder panicked").because(error))?
}

/// Cache paths of all packages that do not come inside an ImageBuilder.
async fn packages(
    source: &Source,
    fetcher: &Fetcher,
    pinned: &[Pinned<'_>],
) -> Result<BTreeMap<Sha256, Utf8PathBuf>> {
    let wanted: BTreeMap<Sha256, Wanted> = pinned
        .iter()
        .flat_map(|pinned| &pinned.packages)
        .filter_map(|(_, pin)| {
            let path = pin.path.as_ref()?;
            Some((pin.sha256, Wanted::new(path, pin.sha256, Some(pin.size))))
        })
        .collect();
    let hashes: Vec<Sha256> = wanted.keys().copied().collect();
    let wanted: Vec<Wanted> = wanted.into_values().collect();
    let paths = fetcher.pinned(source, &wanted).await?;
    Ok(hashes.into_iter().zip(paths).collect())
}

fn feed(pinned: &Pinned<'_>, packages: &BTreeMap<Sha256, Utf8PathBuf>) -> Result<Feed> {
    let file = |(name, pin): &(&str, &PackagePin)| {
        let path = packages
            .get(&pin.sha256)
            .ok_or_else(|| Error::bug(format!("the package {name} was not downloaded")))?;
        Ok(FeedFile {
            name: (*name).to_owned(),
            bytes: Bytes::File(path.clone()),
            sha256: pin.sha256,
        })
    };
    let bundled = pinned
        .bundled
        .iter()
        .map(|(name, pin)| ((*name).to_owned(), pin.sha256))
        .collect();
    let files = pinned.packages.iter().map(file).collect::<Result<_>>()?;
    Ok(Feed {
        bundled: Bundled::Exactly(bundled),
        files,
    })
}

/// The hash of something local, as long as its fingerprint stays the same.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    fingerprint: Sha256,
    sha256: Sha256,
}

fn file_stamp(path: &Utf8Path) -> Result<Sha256> {
    let metadata = std::fs::metadata(path).map_err(|error| Error::io("read", path, error))?;
    let numbers = [
        metadata.size() as i64,
        metadata.ino() as i64,
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ];
    Ok(Sha256::of(numbers.map(i64::to_le_bytes).concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_archive_is_hashed_again_only_when_it_changed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = Utf8PathBuf::from_path_buf(dir.path().to_owned()).expect("UTF-8");
        let project = Project { root: root.clone() };
        let hash = |origin: Origin| match origin {
            Origin::Local { sha256, .. } => sha256,
            Origin::Locked { .. } => panic!("local"),
        };
        let archive = root.join("ib.tar.zst");
        std::fs::write(&archive, "one").expect("write");
        assert_eq!(
            hash(Origin::local(&project, &archive).expect("opens")),
            Sha256::of("one")
        );
        let memory = std::fs::read_to_string(project.work().join("local.json")).expect("remembers");
        // A forged memory shows that the second answer comes from it.
        let forged = memory.replace(&Sha256::of("one").to_string(), &Sha256::of("forged").to_string());
        std::fs::write(project.work().join("local.json"), forged).expect("write");
        assert_eq!(
            hash(Origin::local(&project, &archive).expect("opens")),
            Sha256::of("forged")
        );
        std::fs::write(&archive, "another").expect("write");
        assert_eq!(
            hash(Origin::local(&project, &archive).expect("opens")),
            Sha256::of("another")
        );
    }
}
