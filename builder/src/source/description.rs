//! `source.toml`: the written form of a source (docs/sources.md), read and checked.
//!
//! serde's shapes end here; everything else takes [`Source`].

use camino::Utf8Path;
use serde::Deserialize;

use super::{Base, Keys, Source, is_url};
use crate::digest::Sha256;
use crate::{Error, Result, toml_file};

/// No `source.toml` is larger.
pub(super) const MAX_BYTES: u64 = 256 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    name: String,
    base: String,
    label: String,
    #[serde(default)]
    archives: Vec<String>,
    made_by: Option<String>,
    unreachable: Option<String>,
    keys: WrittenKeys,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenKeys {
    #[serde(default)]
    openpgp: Vec<String>,
    #[serde(default)]
    openpgp_key: Vec<String>,
    #[serde(default)]
    usign: Vec<String>,
    #[serde(default)]
    apk: Vec<String>,
}

/// The source `openwrt`.
pub(super) fn built_in() -> Result<Source> {
    let text = include_str!("openwrt.toml");
    check(
        "(built in) openwrt.toml",
        toml_file::parse("(built in) openwrt.toml", text)?,
        Utf8Path::new("/"),
    )
}

/// Reads a `source.toml` of this machine; its base, archives and key files are relative to its folder.
pub(super) fn read(file: &Utf8Path) -> Result<Source> {
    let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::user(format!("{file} is not there"))
            .hint("a source's folder has a source.toml: see docs/sources.md"),
        _ => Error::io("read", file, error),
    })?;
    let folder = file.parent().unwrap_or(Utf8Path::new("."));
    let folder = folder
        .canonicalize_utf8()
        .map_err(|error| Error::io("open", folder, error))?;
    let written: Written = toml_file::parse(file, &text)?;
    let source = check(file.as_str(), written, &folder)?;
    if source.name == super::DEFAULT {
        return Err(Error::user(format!(
            "{file}: the name `{}` is taken by the built-in source",
            super::DEFAULT
        ))
        .hint("give this source another name: its lock and its images are kept apart by it"));
    }
    Ok(source)
}

/// Takes the `source.toml` that a server carries. Its keys stand in it, because the fingerprint that the user trusts
/// covers nothing else, and it cannot point into the user's own folders.
pub(super) fn parse_served(place: &str, text: &str, at: &Base) -> Result<Source> {
    let written: Written = toml_file::parse(place, text)?;
    let elsewhere = written.archives.iter().find(|archive| !is_url(archive));
    if let Some(archive) = elsewhere {
        return Err(Error::user(format!("{place}: archive `{archive}` is not a URL")));
    }
    let files = written
        .keys
        .usign
        .iter()
        .chain(&written.keys.apk)
        .filter(|key| is_file(key));
    let fingerprints = written
        .keys
        .openpgp
        .iter()
        .filter(|key| key.ends_with(".fingerprint"));
    if let Some(file) = files.chain(fingerprints).next() {
        return Err(Error::user(format!("{place}: key `{file}` is a file's name"))
            .hint("a source on a server has its keys in source.toml itself"));
    }
    let relative = written.base.clone();
    let mut source = check(place, written, Utf8Path::new("/"))?;
    if !is_url(&relative) {
        let path = relative.trim_start_matches("./").trim_matches('/');
        check_relative(place, "base", path)?;
        let joined = if path.is_empty() || path == "." {
            at.to_string()
        } else {
            at.locate(path)
        };
        source.base = Base::parse(&joined, Utf8Path::new("/"));
    }
    if source.name == super::DEFAULT {
        return Err(Error::user(format!("{place} calls itself `{}`", super::DEFAULT))
            .hint("another place with OpenWrt's own bytes is given as --mirror URL"));
    }
    Ok(source)
}

/// What the user compares on first use: SHA-256 over all trusted keys of a source. Base, label and archives may
/// change without asking again; who is trusted may not.
pub fn key_fingerprint(keys: &Keys) -> Sha256 {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(keys.openpgp.iter().map(|key| format!("openpgp {key}\n")));
    lines.extend(keys.usign.iter().map(|key| format!("usign {key}\n")));
    lines.extend(
        keys.apk
            .iter()
            .map(|key| format!("apk {}\n", key.split_whitespace().collect::<String>())),
    );
    lines.sort();
    Sha256::of(lines.concat())
}

fn check(place: &str, written: Written, folder: &Utf8Path) -> Result<Source> {
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if written.name.is_empty() || !plain(&written.name) {
        return Err(Error::user(format!(
            "{place}: name `{}` is not made of a-z, 0-9 and -",
            written.name
        ))
        .hint("it becomes the name of the lock and of a folder"));
    }
    if !plain(&written.label) {
        return Err(Error::user(format!(
            "{place}: label `{}` is not made of a-z, 0-9 and -",
            written.label
        ))
        .hint("it becomes part of the images' file names"));
    }
    if written.label.is_empty() && written.name != super::DEFAULT {
        return Err(Error::user(format!("{place}: label is empty"))
            .hint("images of any source but `openwrt` say where they are from: label = \"NAME\""));
    }
    // Key files of a source that is made on this machine come with it.
    let unmade = |error: Error| match &written.made_by {
        Some(command) if error.exit() == crate::error::Exit::Environment => {
            error.hint(format!("make it: {command}"))
        }
        _ => error,
    };
    let keys = WrittenKeys {
        openpgp: written
            .keys
            .openpgp
            .iter()
            .map(|key| fingerprint(place, key, folder).map_err(unmade))
            .collect::<Result<_>>()?,
        openpgp_key: written.keys.openpgp_key,
        usign: written
            .keys
            .usign
            .iter()
            .map(|key| usign(place, key, folder).map_err(unmade))
            .collect::<Result<_>>()?,
        apk: written
            .keys
            .apk
            .iter()
            .map(|key| apk(place, key, folder).map_err(unmade))
            .collect::<Result<_>>()?,
    };
    if keys.openpgp.is_empty() && keys.usign.is_empty() {
        return Err(Error::user(format!("{place}: no key that signs sha256sums"))
            .hint("[keys] needs openpgp = [\"FINGERPRINT\"] or usign = [\"KEY\"]"));
    }
    if keys.openpgp.is_empty() != keys.openpgp_key.is_empty() {
        return Err(
            Error::user(format!("{place}: openpgp and openpgp-key go together"))
                .hint("openpgp is the fingerprint that is trusted, openpgp-key the file that has the key"),
        );
    }
    for key in keys.openpgp_key.iter().filter(|key| !is_url(key)) {
        check_relative(place, "openpgp-key", key)?;
    }
    Ok(Source {
        name: written.name,
        base: Base::parse(&written.base, folder),
        label: written.label,
        archives: written
            .archives
            .iter()
            .map(|archive| Base::parse(archive, folder))
            .collect(),
        keys: Keys {
            openpgp: keys.openpgp,
            openpgp_key: keys.openpgp_key,
            usign: keys.usign,
            apk: keys.apk,
        },
        made_by: written.made_by,
        unreachable: written.unreachable,
    })
}

fn check_relative(place: &str, key: &str, path: &str) -> Result<()> {
    let outside = path.starts_with('/') || path.split('/').any(|part| part == "..");
    match outside {
        true => Err(Error::user(format!(
            "{place}: {key} `{path}` leads outside of the source"
        ))),
        false => Ok(()),
    }
}

/// 40 hex digits, or a file that has them.
fn fingerprint(place: &str, key: &str, folder: &Utf8Path) -> Result<String> {
    let text = if key.ends_with(".fingerprint") {
        read_key(place, key, folder)?
    } else {
        key.to_owned()
    };
    let digits = text.split_whitespace().collect::<String>().to_ascii_uppercase();
    if digits.len() == 40 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(digits);
    }
    Err(Error::user(format!(
        "{place}: `{key}` is not an OpenPGP fingerprint (40 hex digits)"
    ))
    .hint("give the primary key's whole fingerprint: gpg --show-keys FILE prints it"))
}

/// usign's public keys begin with "Ed" and are base64 of 42 bytes, so that a key never looks like a file name.
fn is_file(key: &str) -> bool {
    !key.starts_with("RW") && !key.contains("-----BEGIN") && !key.starts_with("untrusted comment:")
}

fn usign(place: &str, key: &str, folder: &Utf8Path) -> Result<String> {
    let text = if is_file(key) {
        read_key(place, key, folder)?
    } else {
        key.to_owned()
    };
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match lines.find(|line| !line.starts_with("untrusted comment:")) {
        Some(line) if line.starts_with("RW") => Ok(line.to_owned()),
        _ => Err(Error::user(format!("{place}: `{key}` is not a usign public key"))
            .hint("it is one line of base64 that begins with RW")),
    }
}

fn apk(place: &str, key: &str, folder: &Utf8Path) -> Result<String> {
    let text = if is_file(key) {
        read_key(place, key, folder)?
    } else {
        key.to_owned()
    };
    if text.trim_start().starts_with("-----BEGIN PUBLIC KEY-----") {
        return Ok(format!("{}\n", text.trim()));
    }
    Err(
        Error::user(format!("{place}: `{key}` is not a public key in PEM"))
            .hint("openssl ec -in KEY -pubout makes one"),
    )
}

fn read_key(place: &str, name: &str, folder: &Utf8Path) -> Result<String> {
    let path = folder.join(name);
    std::fs::read_to_string(&path).map_err(|error| Error::io("read", &path, error).context(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVED: &str = "name = 'lab'\nbase = '.'\nlabel = 'lab'\n[keys]\nusign = ['RWQAAAA=']\n";

    fn served(text: &str) -> Result<Source> {
        parse_served(
            "https://lab.test/source.toml",
            text,
            &Base::Url("https://lab.test/".into()),
        )
    }

    #[test]
    fn a_served_source_is_relative_to_its_server() {
        assert_eq!(
            served(SERVED).unwrap().base,
            Base::Url("https://lab.test/".into())
        );
        let below = served(&SERVED.replace("'.'", "'openwrt/site'")).unwrap();
        assert_eq!(below.base, Base::Url("https://lab.test/openwrt/site/".into()));
    }

    #[test]
    fn a_served_source_reaches_neither_our_files_nor_our_names() {
        for (from, to) in [
            ("'.'", "'../other'"),
            ("'RWQAAAA='", "'/etc/passwd'"),
            (
                "usign",
                "openpgp = ['a.fingerprint']\nopenpgp-key = ['a.asc']\nusign",
            ),
            ("[keys]", "archives = ['/home']\n[keys]"),
            ("'lab'", "'openwrt'"),
            ("name = 'lab'", "name = '../lab'"),
        ] {
            let text = SERVED.replacen(from, to, 1);
            assert!(served(&text).is_err(), "accepted: {text}");
        }
    }

    #[test]
    fn every_source_but_openwrt_labels_its_images() {
        let error = served(&SERVED.replace("label = 'lab'", "label = ''")).unwrap_err();
        assert!(error.to_string().contains("label is empty"), "{error}");
    }

    #[test]
    fn a_source_that_trusts_nobody_is_refused() {
        let error = served(&SERVED.replace("usign = ['RWQAAAA=']", "")).unwrap_err();
        assert!(error.to_string().contains("no key that signs"), "{error}");
    }

    #[test]
    fn the_fingerprint_covers_the_keys_and_nothing_else() {
        let print = |text: &str| key_fingerprint(&served(text).unwrap().keys);
        assert_eq!(print(SERVED), print(&SERVED.replace("'.'", "'elsewhere'")));
        assert_ne!(print(SERVED), print(&SERVED.replace("RWQAAAA=", "RWQAAAB=")));
    }
}
