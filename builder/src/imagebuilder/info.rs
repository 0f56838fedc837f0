//! Reads what `make info` and `make manifest` print.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// What an ImageBuilder says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// `x86/64`
    pub target: String,
    /// Processor architecture; empty where the release does not say (before 21.02).
    pub architecture: String,
    /// `r33051-f5dae5ece4`
    pub revision: String,
    /// Packages that every image of the target has.
    pub default_packages: Vec<String>,
    /// By the name that `PROFILE=` takes.
    pub profiles: BTreeMap<String, BoardInfo>,
}

/// One board of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoardInfo {
    /// What people call it.
    pub title: String,
    /// Packages beyond the target's defaults; `-name` takes one out.
    pub packages: Vec<String>,
    /// Names by which sysupgrade knows it.
    pub supported_devices: Vec<String>,
}

impl Info {
    /// Parses the output of `make info`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut info = Self::default();
        let mut board = None;
        for line in text.lines() {
            let words = |value: &str| value.split_whitespace().map(str::to_owned).collect();
            if let Some(indented) = line.strip_prefix("    ") {
                let Some(board) = board
                    .as_ref()
                    .and_then(|name: &String| info.profiles.get_mut(name))
                else {
                    continue;
                };
                if let Some(packages) = indented.strip_prefix("Packages:") {
                    board.packages = words(packages);
                } else if let Some(devices) = indented.strip_prefix("SupportedDevices:") {
                    board.supported_devices = words(devices);
                } else if !indented.starts_with("hasImageMetadata:") && board.title.is_empty() {
                    board.title = indented.trim().to_owned();
                }
                continue;
            }
            let unquoted = |value: &str| value.trim().trim_matches('"').to_owned();
            match line.split_once(':') {
                Some(("Current Target", value)) => info.target = unquoted(value),
                Some(("Current Architecture", value)) => info.architecture = unquoted(value),
                Some(("Current Revision", value)) => info.revision = unquoted(value),
                Some(("Default Packages", value)) => info.default_packages = words(value),
                Some(("Available Profiles", _)) => board = Some(String::new()),
                Some((name, "")) if board.is_some() => {
                    info.profiles.insert(name.to_owned(), BoardInfo::default());
                    board = Some(name.to_owned());
                }
                _ => {}
            }
        }
        if info.target.is_empty() || info.profiles.is_empty() {
            return Err(Error::environment("`make info` named no target or no profiles")
                .hint("is this folder or archive an ImageBuilder of OpenWrt?"));
        }
        Ok(info)
    }
}

/// Parses `make manifest`: `name - version` (opkg) or `name version` (apk) a line, other lines left out.
pub(super) fn parse_manifest(text: &str) -> Vec<(String, String)> {
    let mut packages: Vec<(String, String)> = text
        .lines()
        .filter_map(
            |line| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
                [name, "-", version] | [name, version] if is_version(version) && is_name(name) => {
                    Some(((*name).to_owned(), (*version).to_owned()))
                }
                _ => None,
            },
        )
        .collect();
    packages.sort();
    packages
}

fn is_name(name: &str) -> bool {
    name.chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_version(version: &str) -> bool {
    version
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.+~:".contains(c))
        && version.contains(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_of_a_release() {
        let info = Info::parse(
            "Current Target: \"mediatek/filogic\"\nCurrent Architecture: \"aarch64\"\nCurrent Revision: \"r33051-f5dae5ece4\"\n\
             Default Packages: base-files busybox -ppp\nAvailable Profiles:\n\nglinet_gl-mt6000:\n    GL.iNet GL-MT6000\n    \
             Packages: kmod-usb3 e2fsprogs\n    hasImageMetadata: 1\n    SupportedDevices: glinet,gl-mt6000 glinet,flint2\nother:\n    Other\n    Packages: \n",
        )
        .expect("parses");
        assert_eq!(info.target, "mediatek/filogic");
        assert_eq!(info.default_packages, ["base-files", "busybox", "-ppp"]);
        let board = &info.profiles["glinet_gl-mt6000"];
        assert_eq!(board.title, "GL.iNet GL-MT6000");
        assert_eq!(board.packages, ["kmod-usb3", "e2fsprogs"]);
        assert_eq!(board.supported_devices, ["glinet,gl-mt6000", "glinet,flint2"]);
        assert_eq!(info.profiles["other"].packages, Vec::<String>::new());
    }

    #[test]
    fn what_is_no_info_is_an_error() {
        assert!(Info::parse("make: *** No rule to make target 'info'.\n").is_err());
    }

    #[test]
    fn manifests_of_both_formats() {
        let opkg = "Building package index...\nbusybox - 1.36.1-r2\nbase-files - 1637-r28959-29397011cc\n";
        assert_eq!(
            parse_manifest(opkg),
            [
                ("base-files".into(), "1637-r28959-29397011cc".into()),
                ("busybox".to_owned(), "1.36.1-r2".to_owned())
            ]
        );
        assert_eq!(
            parse_manifest("busybox 1.37.0-r4\n"),
            [("busybox".to_owned(), "1.37.0-r4".to_owned())]
        );
    }
}
