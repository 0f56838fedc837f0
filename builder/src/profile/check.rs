//! Compares a profile with what its target publishes: board, architecture, images, packages.
//!
//! Knows no network and no lock: it gets lists, or the reason why there are none, and then says "unchecked".

use std::collections::{BTreeMap, BTreeSet};

use openwrt_formats::package::IndexEntry;
use serde::Serialize;

use super::{Origin, Resolved, published};
use crate::nearest;

/// How one thing was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Compared with the published list, and there.
    Ok,
    /// There was no list to compare with.
    Unchecked,
    /// Compared, and not there.
    Wrong,
}

/// One judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was compared: `board`, `architecture`, `image`, `package`.
    pub subject: &'static str,
    /// The profile's value.
    pub value: String,
    /// The judgement.
    pub state: State,
    /// Why, and what would be right; empty where all is well.
    pub reason: String,
    /// Where the profile says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// A published list, or why there is none.
pub type Published<T> = Result<T, String>;

/// Every name that can be asked for, with the package that it stands for.
#[derive(Debug, Default)]
pub struct PackageNames {
    names: BTreeSet<String>,
    provided: BTreeMap<String, String>,
}

impl PackageNames {
    /// Takes the packages of verified indexes.
    pub fn of<'e>(entries: impl IntoIterator<Item = &'e IndexEntry>) -> Self {
        let mut all = Self::default();
        for entry in entries {
            all.insert(&entry.meta.name, &entry.meta.provides);
        }
        all
    }

    /// Adds one package that answers to `provides` too; versions after the names there do not matter.
    pub fn insert(&mut self, name: &str, provides: &[String]) {
        self.names.insert(name.to_owned());
        for provided in provides {
            let end = provided
                .find(|c: char| " (<>=~".contains(c))
                .unwrap_or(provided.len());
            self.provided.insert(provided[..end].to_owned(), name.to_owned());
        }
        // OpenWrt appends a library's ABI version to its package's name (libubox20240329, libubus20231128) and
        // does not list the bare name for each of them.
        let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
        if name.starts_with("lib") && bare != name && !bare.is_empty() {
            self.provided
                .entry(bare.to_owned())
                .or_insert_with(|| name.to_owned());
        }
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains(name) || self.provided.contains_key(name)
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        self.names.iter().chain(self.provided.keys()).map(String::as_str)
    }
}

/// Judges everything that can be compared; the order is that of the profile.
pub fn check(
    resolved: &Resolved,
    target: &Published<published::Target>,
    packages: &Published<PackageNames>,
) -> Vec<Finding> {
    let Resolved { profile, origins, .. } = resolved;
    let finding = |subject, key: &str, value: &str, state, reason: String| Finding {
        subject,
        value: value.to_owned(),
        state,
        reason,
        origin: origins.get(key).cloned(),
    };
    let mut findings = Vec::new();
    let (board, arch) = (&profile.openwrt.profile, &profile.openwrt.arch);
    match target {
        Err(reason) => {
            let images = profile
                .images
                .iter()
                .map(|image| ("image", "images", &image.file));
            let all = [
                ("board", "openwrt.profile", board),
                ("architecture", "openwrt.arch", arch),
            ];
            for (subject, key, value) in all.into_iter().chain(images) {
                findings.push(finding(subject, key, value, State::Unchecked, reason.clone()));
            }
        }
        Ok(target) => {
            let known = target.profiles.get(board);
            let (state, reason) = match known {
                Some(_) => (State::Ok, String::new()),
                None => {
                    let ids = target.profiles.keys().map(String::as_str);
                    let reason = format!("no such board in {}", profile.openwrt.target);
                    (
                        State::Wrong,
                        with_hint(reason, nearest::hint(board, "boards", ids)),
                    )
                }
            };
            findings.push(finding("board", "openwrt.profile", board, state, reason));
            let (state, reason) = match *arch == target.arch_packages {
                true => (State::Ok, String::new()),
                false => (State::Wrong, format!("the target's is {}", target.arch_packages)),
            };
            findings.push(finding("architecture", "openwrt.arch", arch, state, reason));
            let ends: Option<Vec<&str>> = known.map(|board| board.image_ends().map(|(end, _)| end).collect());
            for image in &profile.images {
                let (state, reason) = match &ends {
                    None => (State::Unchecked, "the board is not known".to_owned()),
                    Some(ends) if ends.is_empty() => {
                        (State::Unchecked, "the target lists no images".to_owned())
                    }
                    Some(ends) if ends.contains(&image.file.as_str()) => (State::Ok, String::new()),
                    Some(ends) => {
                        let hint = nearest::hint(&image.file, "images", ends.iter().copied());
                        (
                            State::Wrong,
                            with_hint("no such image of this board".to_owned(), hint),
                        )
                    }
                };
                findings.push(finding("image", "images", &image.file, state, reason));
            }
        }
    }
    let added = profile.packages.add.iter().map(|name| ("packages.add", name));
    let removed = profile
        .packages
        .remove
        .iter()
        .map(|name| ("packages.remove", name));
    for (key, name) in added.chain(removed) {
        let (state, reason) = match packages {
            Err(reason) => (State::Unchecked, reason.clone()),
            Ok(packages) if packages.has(name) => (State::Ok, String::new()),
            Ok(packages) => {
                let hint =
                    nearest::nearest(name, packages.all()).map(|name| format!("did you mean `{name}`?"));
                (
                    State::Wrong,
                    with_hint("no package of this name in the indexes".to_owned(), hint),
                )
            }
        };
        findings.push(finding("package", &format!("{key}.{name}"), name, state, reason));
    }
    findings
}

fn with_hint(reason: String, hint: Option<String>) -> String {
    hint.map_or(reason.clone(), |hint| format!("{reason}; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{
        Feed, Flash, Image, Limits, OpenWrt, Packages, Ports, Profile, Settings, published::tests::FILOGIC,
    };

    fn flint2(packages: &[&str]) -> Resolved {
        let profile = Profile {
            name: "flint2".into(),
            title: "GL.iNet Flint 2".into(),
            aliases: Vec::new(),
            openwrt: OpenWrt {
                release: "25.12.5".into(),
                target: "mediatek/filogic".into(),
                profile: "glinet_gl-mt6000".into(),
                arch: "aarch64_cortex-a53".into(),
            },
            rust_target: "aarch64-unknown-linux-musl".into(),
            packages: Packages {
                add: packages.iter().map(|name| (*name).to_owned()).collect(),
                remove: Vec::new(),
            },
            features: Vec::new(),
            overlays: Vec::new(),
            disabled_services: Vec::new(),
            ports: Ports::default(),
            rootfs_partsize: None,
            images: vec![Image {
                file: "squashfs-sysupgrade.bin".into(),
                purpose: String::new(),
                disk: false,
            }],
            flash: Flash::default(),
            limits: Limits::default(),
            feed: Feed::default(),
            settings: Settings {
                hostname: "sennit".into(),
                lan_address: [192, 168, 73, 1].into(),
                lan_prefix: 24,
                timezone: "UTC".into(),
                wifi_country: String::new(),
                ntp: Vec::new(),
                variables: BTreeMap::new(),
            },
        };
        Resolved {
            profile,
            origins: BTreeMap::new(),
            features: BTreeMap::new(),
        }
    }

    fn names() -> PackageNames {
        let mut names = PackageNames::default();
        names.insert("kmod-tun", &[]);
        names.insert("libubox20240329", &[]);
        names.insert(
            "wpad-mbedtls",
            &["hostapd (= 2)".to_owned(), "wpa-supplicant=2".to_owned()],
        );
        names
    }

    fn target() -> Published<published::Target> {
        Ok(published::Target::parse("profiles.json", FILOGIC.as_bytes()).unwrap())
    }

    fn judged(resolved: &Resolved) -> Vec<(String, State, String)> {
        let findings = check(resolved, &target(), &Ok(names()));
        findings
            .into_iter()
            .map(|finding| (finding.value, finding.state, finding.reason))
            .collect()
    }

    #[test]
    fn what_is_published_is_ok_by_name_by_provides_and_by_abi_version() {
        let judged = judged(&flint2(&["kmod-tun", "hostapd", "wpa-supplicant", "libubox"]));
        assert!(
            judged.iter().all(|(_, state, _)| *state == State::Ok),
            "{judged:?}"
        );
        assert_eq!(judged.len(), 7);
    }

    #[test]
    fn what_is_not_published_is_wrong_and_the_nearest_name_is_told() {
        let mut profile = flint2(&["kmod-tnu"]);
        profile.profile.openwrt.profile = "glinet_gl-mt600".into();
        profile.profile.openwrt.arch = "aarch64_generic".into();
        let wrong: Vec<String> = judged(&profile)
            .into_iter()
            .map(|(value, _, reason)| format!("{value}: {reason}"))
            .collect();
        assert_eq!(
            wrong,
            [
                "glinet_gl-mt600: no such board in mediatek/filogic; did you mean `glinet_gl-mt6000`?",
                "aarch64_generic: the target's is aarch64_cortex-a53",
                "squashfs-sysupgrade.bin: the board is not known",
                "kmod-tnu: no package of this name in the indexes; did you mean `kmod-tun`?",
            ]
        );
        let mut profile = flint2(&[]);
        profile.profile.images[0].file = "squashfs-sysupgrade.itb".into();
        let (_, state, reason) = judged(&profile).remove(2);
        assert_eq!(state, State::Wrong);
        assert_eq!(
            reason,
            "no such image of this board; did you mean `squashfs-sysupgrade.bin`?"
        );
    }

    #[test]
    fn without_a_list_nothing_is_ok() {
        let nothing = Err("not in the lock".to_owned());
        let findings = check(
            &flint2(&["kmod-tun"]),
            &Err("not in the lock".to_owned()),
            &nothing,
        );
        assert!(
            findings.iter().all(|finding| finding.state == State::Unchecked),
            "{findings:?}"
        );
        assert_eq!(findings[0].reason, "not in the lock");
    }
}
