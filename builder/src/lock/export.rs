//! The locked files of devices in one flat folder, each called by its SHA-256: what a source's archive is.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Lock, Pin, Resolution, resolved};
use crate::digest::Sha256;
use crate::fetch::{Fetcher, Wanted};
use crate::profile::Profile;
use crate::source::Source;
use crate::{Error, Result, atomic};

/// Puts every file that `lock` pins for `devices` into `folder`, from the cache or the source; says how many there are.
/// Package indexes are added where the cache has them: they move on, and no build needs them.
pub async fn export(
    source: &Source,
    fetcher: &Fetcher,
    lock: &Lock,
    devices: &[Profile],
    folder: &Utf8Path,
) -> Result<usize> {
    let mut wanted: BTreeMap<Sha256, Wanted> = BTreeMap::new();
    let mut indexes: BTreeMap<Sha256, Utf8PathBuf> = BTreeMap::new();
    for profile in devices {
        let Resolution::Resolved(target, device) = resolved(lock, profile) else {
            return Err(
                Error::user(format!("the packages of {} are not locked", profile.name))
                    .hint(format!("builder lock --update {}", profile.name)),
            );
        };
        let pins = [&target.imagebuilder, &target.profiles, &target.sha256sums].map(Pin::wanted);
        let (packages, _) = target.packages_of(device);
        let packages = packages.into_iter().filter_map(|(_, pin)| {
            let path = pin.path.as_ref()?;
            Some(Wanted::new(path, pin.sha256, Some(pin.size)))
        });
        wanted.extend(pins.into_iter().chain(packages).map(|file| (file.sha256, file)));
        for index in target.indexes.values() {
            if let Some(path) = fetcher.cached(index.sha256, index.size).await? {
                indexes.insert(index.sha256, path);
            }
        }
    }
    let wanted: Vec<Wanted> = wanted.into_values().collect();
    let paths = fetcher.pinned(source, &wanted).await?;
    indexes.extend(wanted.iter().map(|file| file.sha256).zip(paths));
    let (files, folder) = (indexes.len(), folder.to_owned());
    let copy = move || {
        indexes
            .iter()
            .try_for_each(|(sha256, from)| put(&folder, *sha256, from))
    };
    tokio::task::spawn_blocking(copy)
        .await
        .map_err(|error| Error::bug("copying broke off").because(error))??;
    Ok(files)
}

fn put(folder: &Utf8Path, sha256: Sha256, from: &Utf8Path) -> Result<()> {
    let to = folder.join(sha256.to_string());
    if to.is_file() && Sha256::of_file(&to)? == sha256 {
        return Ok(());
    }
    let bytes = std::fs::read(from).map_err(|error| Error::io("read", from, error))?;
    if Sha256::of(&bytes) != sha256 {
        return Err(Error::environment(format!("{from} changed while it was copied")));
    }
    atomic::write(&to, &bytes, 0o644)
}
