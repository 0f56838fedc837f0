//! Trust on first use for sources on servers: which keys the user accepted, by URL.
//!
//! `CONFIG/trusted/<hash of the URL>/source.toml` is the last `source.toml` that was accepted; it also serves
//! while the server is away. A change of the keys needs the user again.

use camino::{Utf8Path, Utf8PathBuf};

use super::description::{key_fingerprint, parse_served};
use super::{Base, Source};
use crate::digest::Sha256;
use crate::{Error, Result};

pub(super) struct Remembered {
    file: Utf8PathBuf,
    base: Base,
}

impl Remembered {
    pub(super) fn new(config: &Utf8Path, base: &Base) -> Self {
        let name = Sha256::of(base.to_string()).to_string();
        Self {
            file: config.join("trusted").join(&name[..16]).join("source.toml"),
            base: base.clone(),
        }
    }

    /// The `source.toml` that was accepted last.
    pub(super) fn read(&self) -> Result<Option<String>> {
        match std::fs::read_to_string(&self.file) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &self.file, error)),
        }
    }

    /// Remembers `source` if its keys are the ones accepted before, or have the fingerprint that the user gives.
    pub(super) fn accept(&self, source: &Source, text: &str, given: Option<&str>) -> Result<()> {
        let found = key_fingerprint(&source.keys);
        let before = self.read()?;
        let known = match &before {
            Some(before) => {
                let place = self.file.as_str();
                Some(key_fingerprint(&parse_served(place, before, &self.base)?.keys))
            }
            None => None,
        };
        let given = given.map(|text| {
            text.parse::<Sha256>()
                .map_err(|error| Error::user(format!("--source-key: {error}")))
        });
        match (given.transpose()?, known) {
            (Some(given), _) if given != found => Err(Error::user(format!(
                "the keys of {} have the fingerprint {found}, not the one given",
                self.base
            ))
            .hint("do not use this source until its owner explains the difference")),
            (None, Some(known)) if known != found => Err(Error::user(format!(
                "the keys of {} changed: they had the fingerprint {known}, now {found}",
                self.base
            ))
            .hint(format!("if its owner confirms the new one: --source-key {found}"))),
            (None, None) => Err(Error::user(format!("{} is used for the first time", self.base))
                .hint(format!("its keys have the fingerprint {found}"))
                .hint(format!(
                    "if that is what its owner published, run again with --source-key {found}"
                ))),
            (Some(_), _) | (None, Some(_)) => match before.as_deref() == Some(text) {
                true => Ok(()),
                false => crate::atomic::write(&self.file, text.as_bytes(), 0o644),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "name = 'lab'\nbase = '.'\nlabel = 'lab'\n[keys]\nusign = ['RWQAAAA=']\n";

    #[test]
    fn the_first_use_needs_the_fingerprint_and_a_change_needs_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let base = Base::Url("https://lab.test/".into());
        let remembered = Remembered::new(Utf8Path::from_path(dir.path()).unwrap(), &base);
        let source = parse_served("source.toml", TEXT, &base).unwrap();
        let fingerprint = key_fingerprint(&source.keys).to_string();

        let first = remembered.accept(&source, TEXT, None).unwrap_err();
        assert!(
            first.hints()[1].ends_with(&format!("--source-key {fingerprint}")),
            "{:?}",
            first.hints()
        );
        assert!(remembered.accept(&source, TEXT, Some(&"0".repeat(64))).is_err());
        remembered.accept(&source, TEXT, Some(&fingerprint)).unwrap();
        remembered.accept(&source, TEXT, None).unwrap();
        assert_eq!(remembered.read().unwrap().as_deref(), Some(TEXT));

        let other = TEXT.replace("RWQAAAA=", "RWQAAAB=");
        let changed = parse_served("source.toml", &other, &base).unwrap();
        let error = remembered.accept(&changed, &other, None).unwrap_err();
        assert!(error.to_string().contains("changed"), "{error}");
    }
}
