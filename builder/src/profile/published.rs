//! `profiles.json`: what a target publishes about its boards. Parses; whoever fetched it has verified it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Error, Result};

/// A target's `profiles.json`; keys that we have no use for are ignored, for OpenWrt adds some with every release.
#[derive(Clone, Debug, Deserialize)]
pub struct Target {
    /// Package architecture.
    pub arch_packages: String,
    /// Installed on every board.
    #[serde(default)]
    pub default_packages: Vec<String>,
    /// `bcm27xx/bcm2711`
    #[serde(default)]
    pub target: String,
    /// `25.12.5`
    #[serde(default)]
    pub version_number: String,
    /// By ImageBuilder's `PROFILE`.
    pub profiles: BTreeMap<String, Board>,
}

/// One board.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Board {
    /// Names of the board and its variants.
    pub titles: Vec<Title>,
    /// Installed on this board.
    pub device_packages: Vec<String>,
    /// Board names that its images accept: `glinet,gl-mt6000`.
    pub supported_devices: Vec<String>,
    /// Start of its images' file names.
    pub image_prefix: String,
    /// Images that are made for it.
    pub images: Vec<PublishedImage>,
}

/// A board's name: either in one piece, or vendor, model and variant.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Title {
    /// In one piece.
    pub title: String,
    /// Maker.
    pub vendor: String,
    /// Model.
    pub model: String,
    /// Variant of the model.
    pub variant: String,
}

/// One image of a board.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PublishedImage {
    /// File name.
    pub name: String,
    /// `factory`, `sysupgrade`, `combined`, `kernel`, …
    pub r#type: String,
    /// `squashfs`, `ext4`; empty for images without a root file system.
    pub filesystem: String,
}

impl std::fmt::Display for Title {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.title.is_empty() {
            return f.write_str(&self.title);
        }
        let parts = [&self.vendor, &self.model, &self.variant];
        let words: Vec<&str> = parts
            .into_iter()
            .map(String::as_str)
            .filter(|part| !part.is_empty())
            .collect();
        f.write_str(&words.join(" "))
    }
}

impl Target {
    /// Parses a file; `name` is for the message.
    pub fn parse(name: &str, json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).map_err(|error| {
            Error::environment(format!("{name} is no profiles.json of OpenWrt")).because(error)
        })
    }
}

impl Board {
    /// What people call it; the id where it has no title.
    pub fn title(&self, id: &str) -> String {
        let titles: Vec<String> = self
            .titles
            .iter()
            .map(Title::to_string)
            .filter(|title| !title.is_empty())
            .collect();
        if titles.is_empty() {
            id.to_owned()
        } else {
            titles.join(" / ")
        }
    }

    /// True if every word is in the board's id, one of its titles, or a board name that it supports, whatever the
    /// case and the separators.
    pub fn matches(&self, id: &str, words: &[String]) -> bool {
        let plain = |text: &str| {
            text.chars()
                .filter(|c| c.is_alphanumeric())
                .flat_map(char::to_lowercase)
                .collect::<String>()
        };
        let mut names: Vec<String> = self
            .titles
            .iter()
            .map(|title| plain(&title.to_string()))
            .collect();
        names.push(plain(id));
        names.extend(self.supported_devices.iter().map(|name| plain(name)));
        let whole = names.join(" ");
        words.iter().all(|word| whole.contains(&plain(word)))
    }

    /// The ends of its images' names as profiles give them: `ext4-factory.img.gz`.
    pub fn image_ends(&self) -> impl Iterator<Item = (&str, &PublishedImage)> {
        self.images.iter().map(|image| {
            let end = image
                .name
                .strip_prefix(&self.image_prefix)
                .map(|end| end.trim_start_matches('-'));
            (end.unwrap_or(&image.name), image)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const FILOGIC: &str = r#"{
      "arch_packages": "aarch64_cortex-a53", "default_packages": ["base-files", "dnsmasq", "wpad-basic-mbedtls"],
      "metadata_version": 1, "target": "mediatek/filogic", "version_code": "r33051", "version_number": "25.12.5",
      "profiles": {
        "glinet_gl-mt6000": {
          "device_packages": ["kmod-usb3"], "image_prefix": "openwrt-25.12.5-mediatek-filogic-glinet_gl-mt6000",
          "images": [
            {"filesystem": "squashfs", "name": "openwrt-25.12.5-mediatek-filogic-glinet_gl-mt6000-squashfs-factory.bin",
             "sha256": "00", "type": "factory"},
            {"filesystem": "squashfs", "name": "openwrt-25.12.5-mediatek-filogic-glinet_gl-mt6000-squashfs-sysupgrade.bin",
             "sha256": "00", "type": "sysupgrade"}],
          "supported_devices": ["glinet,gl-mt6000"], "titles": [{"model": "GL-MT6000", "vendor": "GL.iNet"}]},
        "bananapi_bpi-r3": {
          "device_packages": [], "image_prefix": "openwrt-25.12.5-mediatek-filogic-bananapi_bpi-r3",
          "images": [
            {"name": "openwrt-25.12.5-mediatek-filogic-bananapi_bpi-r3-sdcard.img.gz", "type": "sdcard"},
            {"name": "openwrt-25.12.5-mediatek-filogic-bananapi_bpi-r3-emmc-gpt.bin", "type": "emmc-gpt"},
            {"filesystem": "squashfs", "type": "sysupgrade",
             "name": "openwrt-25.12.5-mediatek-filogic-bananapi_bpi-r3-squashfs-sysupgrade.itb"}],
          "supported_devices": ["bananapi,bpi-r3"], "titles": [{"model": "BPi-R3", "vendor": "Bananapi"}]},
        "bananapi_bpi-r3-mini": {
          "device_packages": [], "image_prefix": "openwrt-25.12.5-mediatek-filogic-bananapi_bpi-r3-mini", "images": [],
          "supported_devices": ["bananapi,bpi-r3-mini"], "titles": [{"model": "BPi-R3 Mini", "vendor": "Bananapi"}]}
      }}"#;

    #[test]
    fn boards_are_found_by_what_people_call_them() {
        let target = Target::parse("profiles.json", FILOGIC.as_bytes()).unwrap();
        let found = |words: &[&str]| -> Vec<&str> {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let matching = target
                .profiles
                .iter()
                .filter(|(id, board)| board.matches(id, &words));
            matching.map(|(id, _)| id.as_str()).collect()
        };
        assert_eq!(found(&["GL.iNet", "mt6000"]), ["glinet_gl-mt6000"]);
        assert_eq!(found(&["glinet,gl-mt6000"]), ["glinet_gl-mt6000"]);
        assert_eq!(
            found(&["banana", "R3"]),
            ["bananapi_bpi-r3", "bananapi_bpi-r3-mini"]
        );
        assert_eq!(found(&["toaster"]), Vec::<&str>::new());
    }

    #[test]
    fn images_are_named_by_the_end_of_their_file_names() {
        let target = Target::parse("profiles.json", FILOGIC.as_bytes()).unwrap();
        let ends: Vec<&str> = target.profiles["bananapi_bpi-r3"]
            .image_ends()
            .map(|(end, _)| end)
            .collect();
        assert_eq!(ends, ["sdcard.img.gz", "emmc-gpt.bin", "squashfs-sysupgrade.itb"]);
        assert_eq!(
            target.profiles["glinet_gl-mt6000"].title("x"),
            "GL.iNet GL-MT6000"
        );
    }

    #[test]
    fn another_file_is_refused_with_its_name() {
        let error = Target::parse("releases/x/profiles.json", b"{}").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("releases/x/profiles.json is no profiles.json"),
            "{error}"
        );
    }
}
