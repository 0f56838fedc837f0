//! Sources: where images come from. Name, base, trusted keys, lock file, label.

use camino::Utf8PathBuf;

/// Where a source's files lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// `https://…/`, with the final slash.
    Url(String),
    /// A folder laid out like OpenWrt's site.
    Folder(Utf8PathBuf),
}

/// A source of ImageBuilders and packages.
#[derive(Clone, Debug)]
pub struct Source {
    /// `openwrt`, `miniature`, …
    pub name: String,
    /// Where it serves from.
    pub base: Base,
    /// Put into file names and the login banner of images; empty for `openwrt`.
    pub label: String,
    /// Places with the bytes of locked files that the base no longer has, tried in order.
    pub archives: Vec<Base>,
    /// Trusted signers of `sha256sums` and of package indexes.
    pub keys: Keys,
    /// The command that makes this source, shown when it is not there.
    pub made_by: Option<String>,
}

/// Keys trusted for one source and for nothing else.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// OpenPGP primary fingerprints, 40 hex digits upper case.
    pub openpgp: Vec<String>,
    /// usign public keys, base64.
    pub usign: Vec<String>,
    /// EC P-256 public keys of apk indexes, PEM.
    pub apk: Vec<String>,
}
