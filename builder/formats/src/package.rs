//! A package as both formats see it: who it is, what it needs, its scripts and its files.

use std::collections::BTreeMap;

use crate::Malformed;

/// A package, independent of the format it is written in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// Name, version, dependencies.
    pub meta: Meta,
    /// Maintainer scripts.
    pub scripts: Scripts,
    /// Absolute paths of the files that an upgrade must not overwrite.
    pub conffiles: Vec<String>,
    /// Files, folders and links, sorted by path.
    pub files: Vec<File>,
}

/// What an index lists of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// `sennit`
    pub name: String,
    /// As the format writes it: `0.1.0-r1`.
    pub version: String,
    /// OpenWrt's package architecture (`aarch64_cortex-a72`, `x86_64`), or `all` (`noarch` in apk).
    pub arch: String,
    /// One line.
    pub description: String,
    /// SPDX expression.
    pub license: String,
    /// Home page; empty if there is none.
    pub url: String,
    /// Who answers for it; empty if nobody.
    pub maintainer: String,
    /// Source package (`origin` in apk, `Source` in opkg).
    pub origin: String,
    /// Each as the format writes it: `libc`, `foo (>= 2)` in opkg, `foo>=2` in apk.
    pub depends: Vec<String>,
    /// Names that this package also answers to.
    pub provides: Vec<String>,
    /// Names that must not be installed beside it.
    pub conflicts: Vec<String>,
    /// Bytes on the router's disk.
    pub installed_size: u64,
}

/// Shell scripts that the package manager runs; `None` where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scripts {
    /// Before unpacking (`preinst`, `pre-install`).
    pub pre_install: Option<Vec<u8>>,
    /// After unpacking (`postinst`, `post-install`).
    pub post_install: Option<Vec<u8>>,
    /// After unpacking a newer version (apk only; opkg runs `postinst`).
    pub post_upgrade: Option<Vec<u8>>,
    /// Before removal (`prerm`, `pre-deinstall`).
    pub pre_deinstall: Option<Vec<u8>>,
    /// After removal (`postrm`, `post-deinstall`).
    pub post_deinstall: Option<Vec<u8>>,
}

/// One entry of the package's tree; owner is root always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Relative, without leading `/` or `./`, without `..`.
    pub path: String,
    /// Permission bits, for example `0o755`.
    pub mode: u32,
    /// What it is.
    pub kind: Kind,
}

/// What a tree entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file with its content.
    Regular(Vec<u8>),
    /// A symbolic link with its target.
    Link(String),
}

/// One row of a package index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexEntry {
    /// The package.
    pub meta: Meta,
    /// File name relative to the index (`sennit_0.1.0-r1_x86_64.ipk`, `sennit-0.1.0-r1.apk`).
    pub file: String,
    /// Size of the package file, bytes.
    pub size: u64,
    /// SHA-256 of the package file, where the format lists it (opkg).
    pub sha256: Option<[u8; 32]>,
    /// SHA-256 of the package's ADB block, where the format lists it (apk).
    pub identity: Option<[u8; 32]>,
}

impl Package {
    /// The same package as it is written: files sorted, parent folders added (0755), conffiles sorted, the installed
    /// size filled in where it is 0.
    ///
    /// # Errors
    /// A name, a field or a path that no format can carry: a line break in a field, `..` in a path, a path given
    /// twice or below something that is not a folder, a conffile that is no absolute path.
    pub fn normalised(&self) -> Result<Self, Malformed> {
        self.meta.check()?;
        let mut tree: BTreeMap<&str, &File> = BTreeMap::new();
        for file in &self.files {
            check_path(&file.path)?;
            if let Kind::Link(target) = &file.kind {
                check_link(&file.path, target)?;
            }
            if tree.insert(&file.path, file).is_some() {
                return Err(Malformed(format!("{:?} is in the package twice", file.path)));
            }
        }
        let mut folders = BTreeMap::new();
        for file in &self.files {
            for parent in parents(&file.path) {
                match tree.get(parent) {
                    None => drop(folders.insert(parent, ())),
                    Some(File {
                        kind: Kind::Folder, ..
                    }) => {}
                    Some(_) => {
                        return Err(Malformed(format!(
                            "{:?} lies below {parent:?}, which is no folder",
                            file.path
                        )));
                    }
                }
            }
        }
        let mut conffiles = self.conffiles.clone();
        conffiles.sort();
        conffiles.dedup();
        for conffile in &conffiles {
            check_conffile(conffile)?;
        }
        let added = folders.into_keys().map(|path| File {
            path: path.into(),
            mode: 0o755,
            kind: Kind::Folder,
        });
        let mut files: Vec<File> = self.files.iter().cloned().chain(added).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut meta = self.meta.clone();
        if meta.installed_size == 0 {
            meta.installed_size = files.iter().map(File::size).sum();
        }
        Ok(Self {
            meta,
            scripts: self.scripts.clone(),
            conffiles,
            files,
        })
    }
}

impl File {
    /// Bytes of content; 0 for what is no regular file.
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::Regular(content) => content.len() as u64,
            Kind::Folder | Kind::Link(_) => 0,
        }
    }
}

impl Meta {
    /// Whether the fields can be written at all: nothing empty that must be there, no line breaks.
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        for (field, word) in [
            ("name", &self.name),
            ("version", &self.version),
            ("arch", &self.arch),
        ] {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._~:".contains(&byte);
            if word.is_empty() || !word.bytes().all(plain) {
                return Err(Malformed(format!("{word:?} cannot be a package's {field}")));
            }
        }
        let lines = [
            &self.description,
            &self.license,
            &self.url,
            &self.maintainer,
            &self.origin,
        ];
        let words = [&self.depends, &self.provides, &self.conflicts];
        let all = lines.into_iter().chain(words.into_iter().flatten());
        match all.into_iter().find(|text| text.chars().any(char::is_control)) {
            Some(text) => Err(Malformed(format!(
                "{text:?} has a line break or control character in it"
            ))),
            None => Ok(()),
        }
    }
}

/// A path as packages hold it: relative, no empty, `.` or `..` part, nothing that breaks a line.
pub(crate) fn check_path(path: &str) -> Result<(), Malformed> {
    let bad_part = |part: &str| matches!(part, "" | "." | "..");
    if path.chars().any(char::is_control) || path.split('/').any(bad_part) || path.len() > 4096 {
        return Err(Malformed(format!(
            "{path:?} cannot be the path of a package's file"
        )));
    }
    Ok(())
}

/// An absolute path, of a folder with all below it if it ends in `/`. It need not be among the package's files: some
/// are made by the program itself.
pub(crate) fn check_conffile(path: &str) -> Result<(), Malformed> {
    let relative = path.strip_prefix('/').unwrap_or_default();
    check_path(relative.strip_suffix('/').unwrap_or(relative))
}

/// A link's target: absolute (seen from the router's root), or relative without leaving the root.
pub(crate) fn check_link(path: &str, target: &str) -> Result<(), Malformed> {
    let mut depth = parents(path).count();
    let relative = !target.starts_with('/');
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 && relative => {
                return Err(Malformed(format!(
                    "the link {path:?} to {target:?} leaves the root"
                )));
            }
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    if target.is_empty() || target.len() > 4096 || target.chars().any(char::is_control) {
        return Err(Malformed(format!(
            "the link {path:?} has the impossible target {target:?}"
        )));
    }
    Ok(())
}

/// The folders above a path, from the top.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small package with everything in it that a package can have.
    pub(crate) fn sample() -> Package {
        let file = |path: &str, mode, kind| File {
            path: path.into(),
            mode,
            kind,
        };
        Package {
            meta: Meta {
                name: "sample".into(),
                version: "1.2.0-r1".into(),
                arch: "x86_64".into(),
                description: "A sample, small but whole".into(),
                license: "MIT".into(),
                url: "https://example.org/".into(),
                maintainer: "Nobody <nobody@example.org>".into(),
                origin: "sample-source".into(),
                depends: vec!["kmod-tun".into(), "libc".into()],
                provides: vec!["sample-any".into()],
                conflicts: vec!["sample-old".into()],
                installed_size: 0,
            },
            scripts: Scripts {
                post_install: Some(b"#!/bin/sh\nexit 0\n".to_vec()),
                pre_deinstall: Some(b"#!/bin/sh\nexit 0\n".to_vec()),
                ..Scripts::default()
            },
            conffiles: vec!["/etc/config/sample".into()],
            files: vec![
                file("usr/sbin/sample", 0o755, Kind::Regular(b"\x7fELF".to_vec())),
                file(
                    "etc/config/sample",
                    0o600,
                    Kind::Regular(b"config sample\n".to_vec()),
                ),
                file("usr/sbin/sample-link", 0o777, Kind::Link("sample".into())),
                file("etc/sample.d", 0o700, Kind::Folder),
                file("etc/empty", 0o644, Kind::Regular(Vec::new())),
            ],
        }
    }

    fn with_file(path: &str, kind: Kind) -> Package {
        let mut package = sample();
        package.files.push(File {
            path: path.into(),
            mode: 0o644,
            kind,
        });
        package
    }

    #[test]
    fn parent_folders_are_added_and_everything_is_sorted() {
        let package = sample().normalised().unwrap();
        let paths: Vec<_> = package.files.iter().map(|file| file.path.as_str()).collect();
        let expected = [
            "etc",
            "etc/config",
            "etc/config/sample",
            "etc/empty",
            "etc/sample.d",
            "usr",
            "usr/sbin",
            "usr/sbin/sample",
            "usr/sbin/sample-link",
        ];
        assert_eq!(paths, expected);
        assert_eq!(package.meta.installed_size, 18);
        assert_eq!(package.normalised().unwrap(), package);
    }

    #[test]
    fn paths_that_leave_the_root_are_refused() {
        for path in ["/etc/passwd", "../x", "a/../b", "a//b", "./a", "", "a\nb", "a/"] {
            assert!(with_file(path, Kind::Folder).normalised().is_err(), "{path:?}");
        }
        for target in ["../../x", "", "../../../etc/passwd"] {
            assert!(
                with_file("etc/link", Kind::Link(target.into()))
                    .normalised()
                    .is_err(),
                "{target:?}"
            );
        }
        for target in ["/tmp", "../x", "a/../../x", "../../etc/x"] {
            let link = with_file("usr/lib/link", Kind::Link(target.into()));
            assert!(link.normalised().is_ok(), "{target:?}");
        }
    }

    #[test]
    fn a_file_below_a_link_or_given_twice_is_refused() {
        let below = with_file("usr/sbin/sample-link/passwd", Kind::Regular(Vec::new()))
            .normalised()
            .unwrap_err();
        assert!(below.0.contains("which is no folder"), "{below}");
        assert!(
            with_file("etc/empty", Kind::Folder)
                .normalised()
                .unwrap_err()
                .0
                .contains("twice")
        );
    }

    #[test]
    fn fields_that_would_forge_other_fields_are_refused() {
        let mut package = sample();
        package.meta.description = "one\nDepends: evil".into();
        assert!(package.normalised().is_err());
        let mut package = sample();
        package.meta.version = "1 0".into();
        assert!(package.normalised().is_err());
        let mut package = sample();
        package.conffiles.push("etc/relative".into());
        assert!(package.normalised().is_err());
        for conffile in ["/etc/made-later", "/etc/folder/"] {
            let package = Package {
                conffiles: vec![conffile.into()],
                ..sample()
            };
            assert!(package.normalised().is_ok(), "{conffile}");
        }
    }
}
