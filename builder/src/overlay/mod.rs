//! Overlays: folders of files and templates laid over the image's root file system.
//!
//! [`render`] reads and renders them, [`lint`] judges the result, [`write()`] puts it on the disk of the builder.
//! Nothing here reads the host's modes, owners, clock or locale: the same folders give the same [`Tree`] anywhere.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

mod lint;
mod manifest;
mod render;
mod secrets;
mod timezone;
mod uci;
mod write;

pub use lint::{Finding, findings, lint};
pub use render::{RenderContext, render};
pub use write::write;

/// A rendered root file system part: path (relative, no leading slash) to entry, in path order.
pub type Tree = BTreeMap<Utf8PathBuf, Entry>;

/// One file or link of a [`Tree`]; folders exist where a path needs them.
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

/// Whether a link at `path` (relative to the root) stays below the root: `..` must not climb out of it.
/// An absolute target is taken from the router's root, so it always stays.
fn link_stays_inside(path: &Utf8Path, target: &str) -> bool {
    let mut depth: usize = match target.starts_with('/') {
        true => 0,
        false => path.components().count().saturating_sub(1),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return false,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_may_point_anywhere_below_the_routers_root() {
        let inside = |path: &str, target: &str| link_stays_inside(Utf8Path::new(path), target);
        assert!(inside("etc/localtime", "/tmp/localtime"));
        assert!(inside("etc/resolv.conf", "../tmp/resolv.conf"));
        assert!(!inside("etc/passwd", "../../etc/passwd"));
        assert!(!inside("etc/passwd", "/../etc/passwd"));
    }
}
