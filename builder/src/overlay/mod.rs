//! Overlays: folders of files and templates laid over the image's root file system.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

/// A rendered root file system part: path (relative, no leading slash) to entry, in path order.
pub type Tree = BTreeMap<Utf8PathBuf, Entry>;

/// One file, folder or link of a [`Tree`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Permission bits; never taken from the host's umask.
    pub mode: u32,
    /// Content.
    pub content: Content,
    /// The overlay that it came from, for messages about collisions.
    pub overlay: String,
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A file's bytes.
    File(Vec<u8>),
    /// A symbolic link's target.
    Link(String),
}
