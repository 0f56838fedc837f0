//! What a source publishes of a target: `sha256sums`, checked against the source's keys, and what it lists.

use openwrt_formats::{openpgp, usign};
use serde::Deserialize;

use super::{Pin, TargetLock};
use crate::fetch::Fetcher;
use crate::report::Report;
use crate::source::{Source, is_url};
use crate::{Error, Result};

const MAX_SUMS: u64 = 8 << 20;
const MAX_SIGNATURE: u64 = 1 << 20;
const MAX_KEY: u64 = 4 << 20;
const MAX_VERSIONS: u64 = 1 << 20;

/// Pins of a target's own files, by its verified `sha256sums`; `before` is what was pinned until now.
pub(super) async fn pins(
    source: &Source,
    fetcher: &Fetcher,
    key: &str,
    before: Option<&TargetLock>,
    report: &Report,
) -> Result<TargetLock> {
    let sums = Sums::fetch(source, fetcher, key, report).await?;
    if before.is_some_and(|before| before.sha256sums.sha256 != sums.pin.sha256) {
        report.warn(format!(
            "{} changed since it was locked, although releases are frozen; it is signed",
            sums.pin.path
        ));
    }
    let mut imagebuilder = sums.pin_of("ImageBuilder for Linux on x86-64", is_imagebuilder)?;
    let mut profiles = sums.pin_of("profiles.json", is_profiles)?;
    let files = fetcher
        .pinned(source, &[imagebuilder.wanted(), profiles.wanted()])
        .await?;
    for (pin, file) in [&mut imagebuilder, &mut profiles].into_iter().zip(&files) {
        let metadata = std::fs::metadata(file).map_err(|error| Error::io("read", file, error))?;
        pin.size = Some(metadata.len());
    }
    let arch = package_arch(&files[1])?;
    Ok(TargetLock {
        imagebuilder,
        sha256sums: sums.pin,
        profiles,
        arch,
        indexes: Default::default(),
        packages: Default::default(),
        devices: Default::default(),
    })
}

/// `profiles.json` of a release's target as the source has it now, by its verified `sha256sums`; for targets that no lock
/// pins. The ImageBuilder is not downloaded.
pub async fn verified_profiles(
    source: &Source,
    fetcher: &Fetcher,
    release: &str,
    target: &str,
    report: &Report,
) -> Result<Vec<u8>> {
    let sums = Sums::fetch(source, fetcher, &format!("{release}/{target}"), report).await?;
    let profiles = sums.pin_of("profiles.json", is_profiles)?;
    let file = fetcher.pinned(source, &[profiles.wanted()]).await?.remove(0);
    std::fs::read(&file).map_err(|error| Error::io("read", &file, error))
}

/// A target's `sha256sums`, verified.
struct Sums {
    /// `releases/24.10.8/targets/x86/64`
    folder: String,
    pin: Pin,
    text: String,
}

impl Sums {
    async fn fetch(source: &Source, fetcher: &Fetcher, key: &str, report: &Report) -> Result<Self> {
        let folder = folder(key)?;
        let path = format!("{folder}/sha256sums");
        let bytes = fetcher.bytes(source, &path, MAX_SUMS).await?;
        let signer = verify(source, fetcher, &path, &bytes).await?;
        report.done(format!("Verified {path}: signed by {signer}"));
        let text = text_of(&path, bytes.clone())?;
        let size = Some(bytes.len() as u64);
        let (sha256, _) = fetcher.store(bytes).await?;
        Ok(Self {
            folder,
            pin: Pin { path, sha256, size },
            text,
        })
    }

    fn pin_of(&self, what: &str, is_it: fn(&str) -> bool) -> Result<Pin> {
        let path = &self.pin.path;
        let (name, digest) = lines(&self.text)
            .find(|(name, _)| is_it(name))
            .ok_or_else(|| Error::environment(format!("{path} lists no {what}")))?;
        let sha256 = digest
            .parse()
            .map_err(|error| Error::environment(format!("{path}: {error}")))?;
        Ok(Pin {
            path: format!("{}/{name}", self.folder),
            sha256,
            size: None,
        })
    }
}

/// Says if the source has a newer release of the same series than `release`. Not signed: for a hint only.
pub(super) async fn newer_release(
    source: &Source,
    fetcher: &Fetcher,
    release: &str,
) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Versions {
        stable_version: Option<String>,
        oldstable_version: Option<String>,
    }
    let Some(bytes) = fetcher.optional(source, ".versions.json", MAX_VERSIONS).await? else {
        return Ok(None);
    };
    let versions: Versions = serde_json::from_slice(&bytes).map_err(|error| {
        Error::environment(format!("{} is malformed", source.base.locate(".versions.json"))).because(error)
    })?;
    let newer = |version: &String| series(version) == series(release) && point(version) > point(release);
    Ok([versions.stable_version, versions.oldstable_version]
        .into_iter()
        .flatten()
        .find(newer))
}

/// `24.10` of `24.10.8`.
fn series(release: &str) -> &str {
    release.rsplit_once('.').map_or(release, |(series, _)| series)
}

fn point(release: &str) -> Option<u32> {
    release.rsplit('.').next()?.parse().ok()
}

/// `releases/24.10.8/targets/x86/64` of the key `24.10.8/x86/64`.
fn folder(key: &str) -> Result<String> {
    let (release, target) = key
        .split_once('/')
        .ok_or_else(|| Error::bug(format!("`{key}` is no RELEASE/TARGET")))?;
    Ok(format!("releases/{release}/targets/{target}"))
}

fn is_profiles(name: &str) -> bool {
    name == "profiles.json"
}

fn is_imagebuilder(name: &str) -> bool {
    let end = |archive: &str| name.ends_with(&format!(".Linux-x86_64.tar.{archive}"));
    !name.contains('/') && name.contains("imagebuilder") && (end("zst") || end("xz"))
}

/// The (name, digest) pairs of `<hex> *<file>` lines.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let (digest, name) = line.split_once(' ')?;
        Some((name.trim_start_matches([' ', '*']), digest))
    })
}

fn package_arch(profiles: &camino::Utf8Path) -> Result<String> {
    #[derive(Deserialize)]
    struct Profiles {
        arch_packages: String,
    }
    let text = std::fs::read(profiles).map_err(|error| Error::io("read", profiles, error))?;
    let parsed: Profiles = serde_json::from_slice(&text).map_err(|error| {
        Error::environment(format!("{profiles} (profiles.json) is malformed")).because(error)
    })?;
    Ok(parsed.arch_packages)
}

/// Checks the signatures of `sha256sums` and says who signed. OpenPGP is a must where the source has such keys; usign
/// is one where it has not, and else counts where the signature says that it is by a key of the source.
async fn verify(source: &Source, fetcher: &Fetcher, path: &str, sums: &[u8]) -> Result<String> {
    let mut signers = Vec::new();
    if !source.keys.openpgp.is_empty() {
        signers.push(verify_openpgp(source, fetcher, path, sums).await?);
    }
    match fetcher
        .optional(source, &format!("{path}.sig"), MAX_SIGNATURE)
        .await?
    {
        Some(signature) => {
            let signature = text_of(&format!("{path}.sig"), signature)?;
            let known = knows(source, &signature)?;
            if known || signers.is_empty() {
                signers.push(verify_usign(source, path, sums, &signature)?);
            }
        }
        None if signers.is_empty() => {
            return Err(
                Error::environment(format!("{path} has no signature ({path}.sig)"))
                    .hint("it would tell whether the files are the source's own; nothing is used without it"),
            );
        }
        None => {}
    }
    Ok(signers.join(" and "))
}

async fn verify_openpgp(source: &Source, fetcher: &Fetcher, path: &str, sums: &[u8]) -> Result<String> {
    let signature = fetcher
        .bytes(source, &format!("{path}.asc"), MAX_SIGNATURE)
        .await?;
    let trusted: Vec<_> = source
        .keys
        .openpgp
        .iter()
        .map(|key| openpgp::Fingerprint::parse(key))
        .collect::<Result<_, _>>()
        .map_err(|error| Error::bug("a checked fingerprint").because(error))?;
    let mut refusals = Vec::new();
    let mut unreachable = None;
    for place in &source.keys.openpgp_key {
        let key = match is_url(place) {
            true => fetcher.address(place, MAX_KEY).await,
            false => fetcher.bytes(source, place, MAX_KEY).await,
        };
        match key.map(|key| openpgp::verify(&key, &trusted, sums, &signature)) {
            Ok(Ok(signer)) => return Ok(format!("OpenPGP {}", signer.primary)),
            // One copy of the key may be older than another and lack a renewed subkey.
            Ok(Err(refusal)) => refusals.push(format!("with the key from {place}: {refusal}")),
            Err(error) => unreachable = Some(error),
        }
    }
    match (refusals.is_empty(), unreachable) {
        (true, Some(error)) => Err(error.context(format!("the key that signs {path} is needed"))),
        _ => Err(Error::environment(format!("{path} is not signed by {}: {}", source.keys.openpgp.join(", "), refusals.join("; ")))
            .hint("somebody between here and the source changes files, or the source signs with a new key: nothing of it was kept")),
    }
}

fn keys(source: &Source) -> Result<Vec<usign::PublicKey>> {
    let parse = |key: &String| {
        usign::PublicKey::parse(key).map_err(|error| {
            Error::user(format!(
                "the source `{}` has a malformed usign key {key}",
                source.name
            ))
            .because(error)
        })
    };
    source.keys.usign.iter().map(parse).collect()
}

/// True where the signature names a key of the source.
fn knows(source: &Source, signature: &str) -> Result<bool> {
    let claimed = usign::claimed_signer(signature).ok();
    Ok(keys(source)?.iter().any(|key| Some(key.id()) == claimed))
}

/// Checks a usign signature by any key of the source, and says which one made it.
pub(super) fn verify_usign(source: &Source, path: &str, data: &[u8], signature: &str) -> Result<String> {
    let mut refusal = None;
    for key in keys(source)? {
        match key.verify(data, signature) {
            Ok(()) => return Ok(format!("usign {}", key.id())),
            // The key that the signature names says most about what is wrong.
            Err(error) if refusal.is_none() || usign::claimed_signer(signature).ok() == Some(key.id()) => {
                refusal = Some(error);
            }
            Err(_) => {}
        }
    }
    let error = Error::environment(format!("{path} is not signed by a key of the source `{}`", source.name))
        .hint("somebody between here and the source changes files, or the source signs with a new key: nothing of it was kept");
    Err(match refusal {
        Some(refusal) => error.because(refusal),
        None => error.hint("the source has no usign key: [keys] usign in its source.toml"),
    })
}

pub(super) fn text_of(path: &str, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Error::environment(format!("{path} is not text")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_within_their_series() {
        assert_eq!((series("24.10.8"), point("24.10.8")), ("24.10", Some(8)));
        assert!(point("24.10.10") > point("24.10.9"));
        assert!(point("24.10.0-rc1") < point("24.10.0"));
    }

    #[test]
    fn sums_are_read_with_and_without_the_star() {
        let read: Vec<_> = lines("ab *profiles.json\ncd  kmods/x.ipk\n\n").collect();
        assert_eq!(read, [("profiles.json", "ab"), ("kmods/x.ipk", "cd")]);
    }

    #[test]
    fn the_imagebuilder_is_told_from_its_neighbours() {
        assert!(is_imagebuilder(
            "openwrt-imagebuilder-24.10.8-x86-64.Linux-x86_64.tar.zst"
        ));
        assert!(is_imagebuilder(
            "openwrt-imagebuilder-22.03.5-x86-64.Linux-x86_64.tar.xz"
        ));
        assert!(!is_imagebuilder(
            "openwrt-sdk-24.10.8-x86-64_gcc-13.3.0_musl.Linux-x86_64.tar.zst"
        ));
        assert!(!is_imagebuilder("packages/imagebuilder_1.Linux-x86_64.tar.zst"));
    }
}
