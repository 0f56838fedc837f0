//! Package files: downloaded and checked against a verified index, or found inside an ImageBuilder.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use openwrt_formats::package::IndexEntry;
use openwrt_formats::{adb_index, opkg};

use super::PackagePin;
use super::feeds::Feed;
use crate::digest::Sha256;
use crate::fetch::{Fetcher, Unhashed, Wanted};
use crate::profile::PackageFormat;
use crate::source::Source;
use crate::{Error, Result};

/// A package file in the cache.
pub(super) struct Kept {
    /// Its name in a feed's folder.
    pub(super) file: String,
    pub(super) pin: PackagePin,
    pub(super) path: Utf8PathBuf,
}

/// Hashes of files that were checked before, by the identity that an apk index lists.
pub(super) type KnownFiles = BTreeMap<Sha256, Sha256>;

/// Downloads packages, in the order of `candidates`. An opkg index has the hash of each file; an apk index has that of a
/// part of it (the ADB block, which in turn has the hashes of all content): there the whole package is examined once.
pub(super) async fn download(
    source: &Source,
    fetcher: &Fetcher,
    candidates: &[&(&Feed, &IndexEntry)],
    known: &mut KnownFiles,
) -> Result<Vec<Kept>> {
    examine(source, fetcher, candidates, known).await?;
    let mut wanted = Vec::new();
    let mut pins = Vec::new();
    for (feed, entry) in candidates {
        let identity = entry.identity.map(Sha256);
        let hash = entry
            .sha256
            .map(Sha256)
            .or_else(|| identity.and_then(|identity| known.get(&identity).copied()));
        let sha256 = hash.ok_or_else(|| {
            Error::environment(format!("{} lists {} without a hash", feed.pin.path, entry.file))
        })?;
        let path = path(feed, entry);
        wanted.push(Wanted::new(&path, sha256, Some(entry.size)));
        let (name, version) = (entry.meta.name.clone(), entry.meta.version.clone());
        pins.push(PackagePin {
            name,
            version,
            path: Some(path),
            sha256,
            size: entry.size,
            identity,
        });
    }
    let paths = fetcher.pinned(source, &wanted).await?;
    let kept = candidates
        .iter()
        .zip(pins)
        .zip(paths)
        .map(|(((_, entry), pin), path)| {
            let file = entry.file.rsplit('/').next().unwrap_or(&entry.file).to_owned();
            Kept { file, pin, path }
        });
    Ok(kept.collect())
}

/// Makes `known` have every apk package of `candidates`: those whose file is not in the cache are downloaded.
async fn examine(
    source: &Source,
    fetcher: &Fetcher,
    candidates: &[&(&Feed, &IndexEntry)],
    known: &mut KnownFiles,
) -> Result<()> {
    let mut files = Vec::new();
    let mut identities = Vec::new();
    for (feed, entry) in candidates.iter().filter(|(_, entry)| entry.sha256.is_none()) {
        let Some(identity) = entry.identity.map(Sha256) else {
            continue;
        };
        let before = known.get(&identity).copied();
        let there = match before {
            Some(sha256) => fetcher.cached(sha256, Some(entry.size)).await?.is_some(),
            None => false,
        };
        if !there {
            let vet = move |bytes: &[u8]| is_package(bytes, identity);
            files.push(Unhashed {
                path: path(feed, entry),
                size: entry.size,
                vet: Box::new(vet),
            });
            identities.push(identity);
        }
    }
    let stored = fetcher.vetted(source, files).await?;
    known.extend(
        identities
            .into_iter()
            .zip(stored)
            .map(|(identity, (sha256, _))| (identity, sha256)),
    );
    Ok(())
}

fn path(feed: &Feed, entry: &IndexEntry) -> String {
    format!("{}/{}", feed.folder, entry.file)
}

/// Says what is wrong with an apk package that should have an identity. All of its content is checked.
fn is_package(bytes: &[u8], identity: Sha256) -> Result<(), String> {
    let found = adb_index::entry(bytes).map_err(|error| error.to_string())?;
    match found.identity.map(Sha256) == Some(identity) {
        true => Ok(()),
        false => Err(format!(
            "it is another package than the signed index lists ({identity})"
        )),
    }
}

/// The packages inside an ImageBuilder's folder `packages`, with the hashes of their files, in the order of their names.
pub(super) fn bundled(folder: &Utf8Path, format: PackageFormat) -> Result<Vec<(IndexEntry, Sha256)>> {
    let end = match format {
        PackageFormat::Ipk => ".ipk",
        PackageFormat::Apk => ".apk",
    };
    let entries = match folder.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", folder, error)),
    };
    let mut packages = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("read", folder, error))?;
        if !entry.file_name().ends_with(end) {
            continue;
        }
        let bytes = std::fs::read(entry.path()).map_err(|error| Error::io("read", entry.path(), error))?;
        let read = match format {
            PackageFormat::Ipk => opkg::entry(entry.file_name(), &bytes),
            PackageFormat::Apk => adb_index::entry(&bytes),
        };
        let package = read
            .map_err(|error| Error::environment(format!("{} is malformed", entry.path())).because(error))?;
        let package = IndexEntry {
            file: entry.file_name().to_owned(),
            ..package
        };
        packages.push((package, Sha256::of(&bytes)));
    }
    packages.sort_by(|(a, _), (b, _)| a.file.cmp(&b.file));
    Ok(packages)
}
