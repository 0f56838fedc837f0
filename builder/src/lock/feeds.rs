//! The package feeds of an ImageBuilder: which there are, and their indexes, whose signatures are checked.

use std::io::Read;

use camino::Utf8Path;
use openwrt_formats::package::IndexEntry;
use openwrt_formats::{adb_index, opkg};

use super::published::{text_of, verify_usign};
use super::{Pin, TargetLock};
use crate::fetch::Fetcher;
use crate::profile::PackageFormat;
use crate::source::Source;
use crate::{Error, Result};

/// Larger indexes are refused, compressed or not.
const MAX_INDEX: u64 = 128 << 20;
const MAX_SIGNATURE: u64 = 64 << 10;

/// A feed with its verified index.
pub(super) struct Feed {
    /// `base`, `luci`, `core`, `kmods`, …
    pub(super) name: String,
    /// Its folder, relative to the source's base.
    pub(super) folder: String,
    /// The index, by its uncompressed bytes.
    pub(super) pin: Pin,
    pub(super) entries: Vec<IndexEntry>,
}

/// The verified indexes that a target was resolved against, by feed name; from the cache, or from the source while it
/// still has the same ones.
pub async fn indexes(
    source: &Source,
    fetcher: &Fetcher,
    target: &TargetLock,
) -> Result<Vec<(String, Vec<IndexEntry>)>> {
    let wanted: Vec<_> = target.indexes.values().map(Pin::wanted).collect();
    let files = fetcher.pinned(source, &wanted).await?;
    let mut indexes = Vec::new();
    for ((name, pin), file) in target.indexes.iter().zip(files) {
        let bytes = std::fs::read(&file).map_err(|error| Error::io("read", &file, error))?;
        indexes.push((name.clone(), parse(&pin.path, bytes)?));
    }
    Ok(indexes)
}

/// Folders of the feeds that an unpacked ImageBuilder names, relative to the source's base.
pub(super) fn listed(tree: &Utf8Path, format: PackageFormat) -> Result<Vec<String>> {
    let path = tree.join(match format {
        PackageFormat::Ipk => "repositories.conf",
        PackageFormat::Apk => "repositories",
    });
    let text = std::fs::read_to_string(&path).map_err(|error| Error::io("read", &path, error))?;
    let mut folders = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let url = match format {
            PackageFormat::Ipk => match line.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["src/gz" | "src", _, url] => *url,
                _ => continue,
            },
            PackageFormat::Apk if line.is_empty() || line.starts_with('#') => continue,
            PackageFormat::Apk => line.strip_suffix("/packages.adb").unwrap_or(line),
        };
        // The tree's own folder.
        if url.starts_with("file:") || !url.contains("://") {
            continue;
        }
        // The mirror that made it is not the one that we use: only what comes after its base counts.
        match url.find("/releases/") {
            Some(start) => folders.push(url[start + 1..].trim_end_matches('/').to_owned()),
            None => {
                return Err(Error::environment(format!(
                    "{path}:{}: the feed {url} is not below releases/",
                    number + 1
                ))
                .hint("feeds of an ImageBuilder lie at its source: see docs/sources.md"));
            }
        }
    }
    if folders.is_empty() {
        return Err(Error::environment(format!("{path} names no feed")));
    }
    Ok(folders)
}

/// Fetches and verifies the index of a feed.
pub(super) async fn open(
    source: &Source,
    fetcher: &Fetcher,
    folder: &str,
    format: PackageFormat,
) -> Result<Feed> {
    let (path, bytes) = match format {
        PackageFormat::Ipk => opkg_index(source, fetcher, folder).await?,
        PackageFormat::Apk => apk_index(source, fetcher, folder).await?,
    };
    let size = Some(bytes.len() as u64);
    let (sha256, _) = fetcher.store(bytes.clone()).await?;
    let entries = parse(&path, bytes)?;
    Ok(Feed {
        name: name(folder),
        folder: folder.to_owned(),
        pin: Pin { path, sha256, size },
        entries,
    })
}

/// `Packages`, checked against `Packages.sig`.
async fn opkg_index(source: &Source, fetcher: &Fetcher, folder: &str) -> Result<(String, Vec<u8>)> {
    let path = format!("{folder}/Packages");
    let mut again = true;
    loop {
        let bytes = match fetcher.optional(source, &format!("{path}.gz"), MAX_INDEX).await? {
            Some(compressed) => unzip(&path, &compressed, MAX_INDEX)?,
            None => fetcher.bytes(source, &path, MAX_INDEX).await?,
        };
        let signature = fetcher
            .bytes(source, &format!("{path}.sig"), MAX_SIGNATURE)
            .await?;
        let signature = text_of(&format!("{path}.sig"), signature)?;
        match verify_usign(source, &path, &bytes, &signature) {
            Ok(_) => return Ok((path, bytes)),
            // A feed that was renewed between the two requests.
            Err(_) if again => again = false,
            Err(error) => return Err(error),
        }
    }
}

/// `packages.adb`, which carries its signatures.
async fn apk_index(source: &Source, fetcher: &Fetcher, folder: &str) -> Result<(String, Vec<u8>)> {
    let path = format!("{folder}/packages.adb");
    let mut trusted = Vec::new();
    for key in &source.keys.apk {
        let malformed = |error| {
            Error::user(format!("the source `{}` has a malformed apk key", source.name)).because(error)
        };
        trusted.push(adb_index::PublicKey::parse(key).map_err(malformed)?);
    }
    if trusted.is_empty() {
        return Err(Error::user(format!(
            "the source `{}` has no key that signs {path}",
            source.name
        ))
        .hint("[keys] apk in its source.toml: the public key in PEM, or the name of a file with it"));
    }
    let bytes = fetcher.bytes(source, &path, MAX_INDEX).await?;
    match adb_index::verify(&bytes, &trusted) {
        Ok(_) => Ok((path, bytes)),
        Err(refusal) => Err(Error::environment(format!(
            "{path} is not signed by a key of the source `{}`",
            source.name
        ))
        .because(refusal)
        .hint("somebody between here and the source changes files, or the source signs with a new key: nothing of it was kept")),
    }
}

fn unzip(path: &str, compressed: &[u8], limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    flate2::read::MultiGzDecoder::new(compressed)
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::environment(format!("{path}.gz is not gzip")).because(error))?;
    match bytes.len() as u64 > limit {
        true => Err(Error::environment(format!(
            "{path}.gz unpacks to more than {limit} bytes"
        ))),
        false => Ok(bytes),
    }
}

fn parse(path: &str, bytes: Vec<u8>) -> Result<Vec<IndexEntry>> {
    let malformed = |error| Error::environment(format!("{path} is malformed")).because(error);
    match path.ends_with(".adb") {
        true => adb_index::parse(&bytes).map_err(malformed),
        false => opkg::parse(&text_of(path, bytes)?).map_err(malformed),
    }
}

/// `base` of `releases/24.10.8/packages/x86_64/base`; `core` and `kmods` of the target's own two.
fn name(folder: &str) -> String {
    let last = folder.rsplit('/').next().unwrap_or(folder);
    match folder.contains("/targets/") {
        true if folder.contains("/kmods/") => "kmods".to_owned(),
        true => "core".to_owned(),
        false => last.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(file: &str, text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(file), text).unwrap();
        dir
    }

    #[test]
    fn feeds_are_taken_relative_to_the_source() {
        let dir = tree(
            "repositories.conf",
            "## comment\nsrc/gz openwrt_core https://downloads.openwrt.org/releases/24.10.8/targets/x86/64/packages\n\
             src/gz openwrt_kmods https://downloads.openwrt.org/releases/24.10.8/targets/x86/64/kmods/6.6.144-1-50da\n\
             src/gz openwrt_base https://downloads.openwrt.org/releases/24.10.8/packages/x86_64/base\n\
             src imagebuilder file:packages\noption check_signature\n",
        );
        let folders = listed(Utf8Path::from_path(dir.path()).unwrap(), PackageFormat::Ipk).unwrap();
        assert_eq!(folders[2], "releases/24.10.8/packages/x86_64/base");
        assert_eq!(
            folders.iter().map(|folder| name(folder)).collect::<Vec<_>>(),
            ["core", "kmods", "base"]
        );
    }

    #[test]
    fn a_feed_from_elsewhere_is_refused_with_its_line() {
        let dir = tree("repositories.conf", "\nsrc/gz mine https://example.org/feed\n");
        let error = listed(Utf8Path::from_path(dir.path()).unwrap(), PackageFormat::Ipk).unwrap_err();
        assert!(error.to_string().contains("repositories.conf:2:"), "{error}");
    }

    #[test]
    fn an_index_that_unpacks_without_end_is_refused() {
        use std::io::Write;
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        bomb.write_all(&[0; 1001]).unwrap();
        let error = unzip("Packages", &bomb.finish().unwrap(), 1000).unwrap_err();
        assert!(error.to_string().contains("unpacks to more"), "{error}");
    }
}
