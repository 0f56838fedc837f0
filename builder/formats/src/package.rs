//! A package as both formats see it: who it is, what it needs, its scripts and its files.

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
