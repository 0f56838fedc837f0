//! Trees of files in memory, and the archives made of them: the same bytes for the same tree.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use crate::{Failure, Result};
use camino::{Utf8Path, Utf8PathBuf};
use openwrt_formats::package::{File, Kind};
use sha2::Digest as _;

/// Files, folders and links by relative path.
#[derive(Default)]
pub(crate) struct Tree(pub(crate) BTreeMap<String, Node>);

/// One entry of a [`Tree`].
pub(crate) enum Node {
    File { content: Vec<u8>, executable: bool },
    Folder,
    Link(String),
}

impl Tree {
    /// Reads a folder. Only the executable bit is taken over, so that the user's umask changes nothing.
    pub(crate) fn read(folder: &Utf8Path) -> Result<Self> {
        let mut tree = Self::default();
        for entry in walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name() {
            let entry =
                entry.map_err(|error| Failure::environment(format!("failed to read {folder}: {error}")))?;
            let path = Utf8Path::from_path(entry.path())
                .ok_or_else(|| Failure::environment(format!("{} is not UTF-8", entry.path().display())))?;
            let name = path.strip_prefix(folder).unwrap_or(path).to_string();
            let kind = entry.file_type();
            let node = if kind.is_symlink() {
                let target = path
                    .read_link_utf8()
                    .map_err(|error| Failure::io("read", path, error))?;
                Node::Link(target.into())
            } else if kind.is_dir() {
                Node::Folder
            } else {
                let mode = entry
                    .metadata()
                    .map_err(|error| Failure::environment(error.to_string()))?
                    .permissions()
                    .mode();
                Node::File {
                    content: read_file(path)?,
                    executable: mode & 0o100 != 0,
                }
            };
            tree.0.insert(name, node);
        }
        Ok(tree)
    }

    /// Adds a file that is not executable.
    pub(crate) fn file(&mut self, path: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.0.insert(
            path.into(),
            Node::File {
                content: content.into(),
                executable: false,
            },
        );
    }

    /// Adds a program.
    pub(crate) fn program(&mut self, path: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.0.insert(
            path.into(),
            Node::File {
                content: content.into(),
                executable: true,
            },
        );
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: impl Into<String>, target: impl Into<String>) {
        self.0.insert(path.into(), Node::Link(target.into()));
    }

    /// The tree as a package's files.
    pub(crate) fn into_files(self) -> Vec<File> {
        let file = |(path, node)| match node {
            Node::File { content, executable } => File {
                path,
                mode: if executable { 0o755 } else { 0o644 },
                kind: Kind::Regular(content),
            },
            Node::Folder => File {
                path,
                mode: 0o755,
                kind: Kind::Folder,
            },
            Node::Link(target) => File {
                path,
                mode: 0o777,
                kind: Kind::Link(target),
            },
        };
        self.0.into_iter().map(file).collect()
    }

    /// Hash of all paths, kinds and contents.
    pub(crate) fn digest(&self) -> String {
        let mut text = String::new();
        for (path, node) in &self.0 {
            match node {
                Node::File { content, executable } => {
                    text += &format!("file {path} {executable} {}\n", sha256(content));
                }
                Node::Folder => text += &format!("folder {path}\n"),
                Node::Link(target) => text += &format!("link {path} {target}\n"),
            }
        }
        sha256(text.as_bytes())
    }

    /// A tar of the tree below `prefix`, compressed with zstd.
    pub(crate) fn tar_zst(&self, prefix: &str, epoch: u64) -> std::io::Result<Vec<u8>> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 6)?;
        encoder.include_checksum(true)?;
        let mut archive = tar::Builder::new(encoder);
        for (path, node) in &self.0 {
            let path = format!("{prefix}/{path}");
            let mut header = tar::Header::new_gnu();
            header.set_mtime(epoch);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(0);
            match node {
                Node::File { content, executable } => {
                    header.set_mode(if *executable { 0o755 } else { 0o644 });
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, path, content.as_slice())?;
                }
                Node::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(0o755);
                    archive.append_data(&mut header, format!("{path}/"), std::io::empty())?;
                }
                Node::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    archive.append_link(&mut header, path, target)?;
                }
            }
        }
        archive.into_inner()?.finish()
    }

    /// A cpio archive ("newc"), as the kernel takes it for an initial root file system.
    pub(crate) fn cpio(&self, epoch: u64) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, (path, node)) in self.0.iter().enumerate() {
            match node {
                Node::File { content, executable } => {
                    let mode = if *executable { 0o100_755 } else { 0o100_644 };
                    cpio_entry(&mut out, index + 1, path, mode, epoch, content);
                }
                Node::Folder => cpio_entry(&mut out, index + 1, path, 0o040_755, epoch, &[]),
                Node::Link(target) => {
                    cpio_entry(&mut out, index + 1, path, 0o120_777, epoch, target.as_bytes())
                }
            }
        }
        cpio_entry(&mut out, 0, "TRAILER!!!", 0, 0, &[]);
        out
    }
}

fn cpio_entry(out: &mut Vec<u8>, inode: usize, path: &str, mode: u32, epoch: u64, content: &[u8]) {
    let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
    let (size, name) = (content.len(), path.len() + 1);
    let header = format!(
        "070701{inode:08x}{mode:08x}{uid:08x}{gid:08x}{links:08x}{epoch:08x}{size:08x}{zero:032x}{name:08x}{zero:08x}",
        uid = 0,
        gid = 0,
        zero = 0,
    );
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// SHA-256 as 64 lowercase hex digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// SHA-256 of a file, as 64 lowercase hex digits.
pub(crate) fn sha256_of_file(path: &Utf8Path) -> Result<String> {
    Ok(sha256(&read_file(path)?))
}

/// Reads a whole file.
pub(crate) fn read_file(path: &Utf8Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Failure::io("read", path, error))
}

/// Writes a file with exactly that mode; it gets its name when it is whole.
pub(crate) fn write_file(path: &Utf8Path, content: &[u8], mode: u32) -> Result<()> {
    let parent = path.parent().unwrap_or(Utf8Path::new("."));
    create_folder(parent)?;
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(parent)?;
        std::io::Write::write_all(&mut file, content)?;
        file.as_file()
            .set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error| Failure::io("write", path, error))
}

/// Makes a folder and those above it.
pub(crate) fn create_folder(path: &Utf8Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| Failure::io("create", path, error))
}

/// Removes a folder with all that is in it; none there is fine.
pub(crate) fn remove(path: &Utf8Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// Paths of a folder's files, recursively, sorted.
pub(crate) fn files_below(folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry =
            entry.map_err(|error| Failure::environment(format!("failed to read {folder}: {error}")))?;
        if entry.file_type().is_file()
            && let Ok(path) = Utf8PathBuf::try_from(entry.into_path())
        {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_depend_on_the_tree_alone() {
        let tree = || {
            let mut tree = Tree::default();
            tree.program("init", "#!/bin/sh\n");
            tree.link("bin/sh", "busybox");
            tree
        };
        assert_eq!(tree().cpio(5), tree().cpio(5));
        assert_eq!(tree().tar_zst("a", 5).unwrap(), tree().tar_zst("a", 5).unwrap());
        assert_eq!(tree().digest(), tree().digest());
        let mut other = tree();
        other.file("init", "#!/bin/sh\n");
        assert_ne!(other.digest(), tree().digest(), "the executable bit counts");
    }

    #[test]
    fn cpio_ends_each_part_on_four_bytes() {
        let mut tree = Tree::default();
        tree.file("abc", "12345");
        let cpio = tree.cpio(0);
        assert_eq!(cpio.len() % 4, 0);
        assert_eq!(&cpio[..6], b"070701");
        assert_eq!(&cpio[110..114], b"abc\0");
        assert_eq!(
            &cpio[116..121],
            b"12345",
            "the name is padded to a multiple of four from the header on"
        );
    }
}
