//! The build key: one hash over everything that can change an image. Equal keys, equal bytes.
//!
//! What it is made of is kept beside it: the same structure is the heart of provenance.json.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::digest::Sha256;
use crate::overlay::{Content, Tree};
use crate::profile::Profile;
use crate::{Error, Result};

/// All inputs of one device's image. Nothing in it depends on where things lie or on when they are built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// Version of this program.
    pub builder: String,
    /// Name of the device's profile.
    pub device: String,
    /// Hash of the resolved profile.
    pub profile: Sha256,
    /// Hash of the rendered overlays.
    pub overlays: Sha256,
    /// Name of the source, `local` for the user's own ImageBuilder.
    pub source: String,
    /// Label of the source in file names and banner; empty for `openwrt`.
    pub label: String,
    /// OpenWrt's release, target, board and architecture.
    pub openwrt: BTreeMap<String, String>,
    /// The ImageBuilder.
    pub imagebuilder: ImageBuilderInput,
    /// Packages by file name; empty for the user's own ImageBuilder, whose tree hash covers them.
    pub packages: BTreeMap<String, Sha256>,
    /// The daemon.
    pub daemon: DaemonInput,
}

/// Which ImageBuilder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ImageBuilderInput {
    /// An archive that the lock pins.
    Locked {
        /// Relative to the source's base.
        path: String,
        /// Hash of the archive.
        sha256: Sha256,
    },
    /// The user's own, packages and all.
    Local {
        /// Hash of the tree or the archive.
        sha256: Sha256,
    },
}

/// Which daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DaemonInput {
    /// SemVer.
    pub version: String,
    /// Hash of the package without its binary: files, scripts, fields.
    pub package: Sha256,
    /// Where the binary comes from.
    pub binary: BinaryInput,
}

/// Where the daemon's binary comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum BinaryInput {
    /// Compiled from the project's sources. The same bytes are promised for the same toolchain.
    Compiled {
        /// Hash of the sources.
        sources: Sha256,
        /// Everything of the toolchain that may change the bytes.
        toolchain: BTreeMap<String, String>,
    },
    /// Built once, elsewhere, and given by its hash.
    Given {
        /// Hash of the binary.
        sha256: Sha256,
    },
}

impl Inputs {
    /// The build key.
    pub fn key(&self) -> Result<Sha256> {
        canonical_hash(self)
    }

    /// What differs from `other`, for "why is this built again": names of top-level inputs.
    pub fn changed_since(&self, other: &Self) -> Vec<String> {
        let fields = |inputs: &Self| match serde_json::to_value(inputs) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let old = fields(other);
        fields(self)
            .into_iter()
            .filter(|(name, value)| old.get(name) != Some(value))
            .map(|(name, _)| name)
            .collect()
    }
}

/// Hash of a resolved profile.
pub fn profile_hash(profile: &Profile) -> Result<Sha256> {
    canonical_hash(profile)
}

/// Hash of a rendered tree: paths, modes, kinds and content.
pub fn tree_hash(tree: &Tree) -> Sha256 {
    let mut hasher = sha2::Sha256::new();
    for (path, entry) in tree {
        let (tag, content) = match &entry.content {
            Content::File(bytes) => (b'f', Sha256::of(bytes)),
            Content::Link(target) => (b'l', Sha256::of(target)),
        };
        hasher.update([tag]);
        hasher.update(entry.mode.to_le_bytes());
        hasher.update((path.as_str().len() as u64).to_le_bytes());
        hasher.update(path.as_str());
        hasher.update(content.0);
    }
    Sha256(hasher.finalize().into())
}

/// Hash of a value as JSON: fields in the order of their declaration, maps sorted, no white space.
fn canonical_hash(value: &impl Serialize) -> Result<Sha256> {
    serde_json::to_vec(value)
        .map(Sha256::of)
        .map_err(|error| Error::bug("an input of the build cannot be written as JSON").because(error))
}

#[cfg(test)]
pub(in crate::build) mod tests {
    use super::*;
    use crate::overlay::Entry;

    pub(in crate::build) fn inputs() -> Inputs {
        Inputs {
            builder: "0.1.0".into(),
            device: "pc".into(),
            profile: Sha256::of("profile"),
            overlays: Sha256::of("overlays"),
            source: "openwrt".into(),
            label: String::new(),
            openwrt: BTreeMap::from([("release".into(), "24.10.8".into())]),
            imagebuilder: ImageBuilderInput::Locked {
                path: "a.tar.zst".into(),
                sha256: Sha256::of("ib"),
            },
            packages: BTreeMap::from([("busybox.ipk".into(), Sha256::of("busybox"))]),
            daemon: DaemonInput {
                version: "0.1.0".into(),
                package: Sha256::of("package"),
                binary: BinaryInput::Compiled {
                    sources: Sha256::of("main.rs"),
                    toolchain: BTreeMap::new(),
                },
            },
        }
    }

    #[test]
    fn every_input_changes_the_key() {
        let base = inputs();
        let changed: Vec<(&str, Inputs)> = vec![
            (
                "builder",
                Inputs {
                    builder: "0.2.0".into(),
                    ..base.clone()
                },
            ),
            (
                "profile",
                Inputs {
                    profile: Sha256::of("x"),
                    ..base.clone()
                },
            ),
            (
                "overlays",
                Inputs {
                    overlays: Sha256::of("x"),
                    ..base.clone()
                },
            ),
            (
                "label",
                Inputs {
                    label: "local".into(),
                    ..base.clone()
                },
            ),
            (
                "packages",
                Inputs {
                    packages: BTreeMap::from([("busybox.ipk".into(), Sha256::of("x"))]),
                    ..base.clone()
                },
            ),
            (
                "imagebuilder",
                Inputs {
                    imagebuilder: ImageBuilderInput::Local {
                        sha256: Sha256::of("ib"),
                    },
                    ..base.clone()
                },
            ),
            (
                "daemon",
                Inputs {
                    daemon: DaemonInput {
                        binary: BinaryInput::Given {
                            sha256: Sha256::of("x"),
                        },
                        ..base.daemon.clone()
                    },
                    ..base.clone()
                },
            ),
        ];
        for (field, other) in changed {
            assert_ne!(other.key().expect("key"), base.key().expect("key"), "{field}");
            assert_eq!(other.changed_since(&base), [field]);
        }
        assert_eq!(base.clone().key().expect("key"), base.key().expect("key"));
    }

    #[test]
    fn inputs_survive_json() {
        let text = serde_json::to_string(&inputs()).expect("writes");
        assert_eq!(serde_json::from_str::<Inputs>(&text).expect("reads"), inputs());
    }

    #[test]
    fn mode_kind_and_content_of_an_overlay_count() {
        let tree = |mode, content| {
            Tree::from([(
                "etc/x".into(),
                Entry {
                    mode,
                    content,
                    overlay: "base".into(),
                },
            )])
        };
        let base = tree_hash(&tree(0o644, Content::File(b"a".to_vec())));
        assert_ne!(tree_hash(&tree(0o755, Content::File(b"a".to_vec()))), base);
        assert_ne!(tree_hash(&tree(0o644, Content::File(b"b".to_vec()))), base);
        assert_ne!(tree_hash(&tree(0o644, Content::Link("a".into()))), base);
    }
}
