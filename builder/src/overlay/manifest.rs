//! `overlay.toml` of an overlay: the modes and replacements that a folder of files cannot say by itself.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use crate::{Error, Result};

/// What an overlay says about its files.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    /// Permission bits that differ from [`default_mode`].
    pub(super) modes: BTreeMap<Utf8PathBuf, u32>,
    /// Files of overlays below this one that it replaces on purpose.
    pub(super) replaces: BTreeSet<Utf8PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    replaces: Vec<Utf8PathBuf>,
    #[serde(default)]
    modes: BTreeMap<Utf8PathBuf, String>,
}

impl Manifest {
    /// Reads `overlay.toml` in `overlay`; a folder without one has the defaults.
    pub(super) fn read(overlay: &Utf8Path) -> Result<Self> {
        let file = overlay.join("overlay.toml");
        match std::fs::read_to_string(&file) {
            Ok(text) => Self::parse(&file, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::io("read", &file, error)),
        }
    }

    fn parse(file: &Utf8Path, text: &str) -> Result<Self> {
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            Error::user(format!("{file}:{line}: {}", error.message()))
                .hint("an overlay.toml has `replaces = [\"etc/…\"]` and a table [modes] with `\"etc/…\" = \"0600\"`")
        })?;
        let modes = raw
            .modes
            .into_iter()
            .map(|(path, text)| match u32::from_str_radix(&text, 8) {
                Ok(mode) if mode <= 0o7777 && text.len() >= 3 => Ok((path, mode)),
                _ => Err(Error::user(format!("{file}: the mode of {path} is `{text}`"))
                    .hint("write permission bits as three or four octal digits: \"0644\", \"0755\"")),
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            modes,
            replaces: raw.replaces.into_iter().collect(),
        })
    }

    /// Every path named here must be a file of the overlay: a leftover would silently stop working.
    pub(super) fn check_names(&self, overlay: &Utf8Path, files: &BTreeSet<Utf8PathBuf>) -> Result<()> {
        match self
            .modes
            .keys()
            .chain(&self.replaces)
            .find(|path| !files.contains(*path))
        {
            None => Ok(()),
            Some(path) => Err(Error::user(format!(
                "{}: {path} is not a file of this overlay",
                overlay.join("overlay.toml")
            ))
            .hint("paths are relative to files/, without a leading slash and without .j2")),
        }
    }
}

/// The mode of a file that no overlay.toml mentions: programs and init scripts can be executed, the rest is only read.
pub(super) fn default_mode(path: &Utf8Path) -> u32 {
    const PROGRAMS: [&str; 8] = [
        "etc/init.d",
        "etc/rc.button",
        "bin",
        "sbin",
        "usr/bin",
        "usr/sbin",
        "usr/libexec",
        "www/cgi-bin",
    ];
    match PROGRAMS.iter().any(|folder| path.starts_with(folder)) {
        true => 0o755,
        false => 0o644,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest> {
        Manifest::parse(Utf8Path::new("overlays/x/overlay.toml"), text)
    }

    #[test]
    fn modes_are_octal() {
        let manifest = parse("replaces = ['etc/banner']\n[modes]\n'etc/shadow' = '0600'\n").expect("valid");
        assert_eq!(manifest.modes[Utf8Path::new("etc/shadow")], 0o600);
        assert!(manifest.replaces.contains(Utf8Path::new("etc/banner")));
        for wrong in ["'0699'", "'77777'", "''", "'rw'"] {
            assert!(
                parse(&format!("[modes]\n'etc/shadow' = {wrong}")).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn unknown_keys_are_named_with_their_line() {
        let error = parse("replaces = []\nreplace = []\n").expect_err("unknown key");
        assert!(
            error
                .to_string()
                .starts_with("overlays/x/overlay.toml:2: unknown field `replace`"),
            "{error}"
        );
    }

    #[test]
    fn programs_are_executable_and_sourced_scripts_are_not() {
        assert_eq!(default_mode(Utf8Path::new("etc/init.d/x")), 0o755);
        assert_eq!(default_mode(Utf8Path::new("etc/uci-defaults/20-x")), 0o644);
        assert_eq!(default_mode(Utf8Path::new("etc/hotplug.d/net/05-x")), 0o644);
    }
}
