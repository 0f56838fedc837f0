//! Puts a [`Tree`] on the builder's disk for the ImageBuilder's `FILES`, with exactly the modes that it says.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};

use camino::{Utf8Component, Utf8Path};

use super::{Content, Tree, link_stays_inside};
use crate::{Error, Result};

/// Writes a tree into `dir`, which must be empty or not there yet; folders get 0755 whatever the umask says.
///
/// Nothing is ever written through a link, so that no tree can reach out of `dir`.
pub fn write(tree: &Tree, dir: &Utf8Path) -> Result<()> {
    make_folder(dir)?;
    if dir
        .read_dir_utf8()
        .map_err(|error| Error::io("read", dir, error))?
        .next()
        .is_some()
    {
        return Err(Error::bug(format!(
            "overlays would be written into {dir}, which is not empty"
        )));
    }
    for (path, entry) in tree {
        let is_plain = path
            .components()
            .all(|part| matches!(part, Utf8Component::Normal(_)));
        if !is_plain || path.as_str().is_empty() {
            return Err(Error::bug(format!(
                "overlay {} has a path outside the image: {path}",
                entry.overlay
            )));
        }
        let mut folder = dir.to_owned();
        for part in path.parent().into_iter().flat_map(Utf8Path::components) {
            folder.push(part.as_str());
            make_folder(&folder)?;
        }
        let file = dir.join(path);
        match &entry.content {
            Content::File(bytes) => write_file(&file, bytes, entry.mode)?,
            Content::Link(target) if link_stays_inside(path, target) => {
                std::os::unix::fs::symlink(target, &file).map_err(|error| Error::io("link", &file, error))?;
            }
            Content::Link(target) => {
                return Err(Error::bug(format!(
                    "overlay {}: {path} links out of the image: {target}",
                    entry.overlay
                )));
            }
        }
    }
    Ok(())
}

fn make_folder(folder: &Utf8Path) -> Result<()> {
    match folder.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => return Err(Error::bug(format!("{folder} is a link or a file, not a folder"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("open", folder, error)),
    }
    let made = DirBuilder::new().mode(0o755).create(folder);
    made.and_then(|()| std::fs::set_permissions(folder, Permissions::from_mode(0o755)))
        .map_err(|error| Error::io("make", folder, error))
}

fn write_file(file: &Utf8Path, bytes: &[u8], mode: u32) -> Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut handle| {
            handle.write_all(bytes)?;
            // Not by open(): the umask would take bits away.
            handle.set_permissions(Permissions::from_mode(mode))
        });
    written.map_err(|error| Error::io("write", file, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::Entry;

    fn entry(mode: u32, content: Content) -> Entry {
        Entry {
            mode,
            content,
            overlay: "test".into(),
        }
    }

    fn scratch() -> (tempfile::TempDir, camino::Utf8PathBuf) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = camino::Utf8PathBuf::from_path_buf(dir.path().join("files")).expect("UTF-8");
        (dir, path)
    }

    #[test]
    fn modes_are_exact_whatever_the_umask() {
        let (_guard, dir) = scratch();
        let mut tree = Tree::new();
        tree.insert("etc/open".into(), entry(0o666, Content::File(b"a".to_vec())));
        tree.insert("etc/secret".into(), entry(0o600, Content::File(b"b".to_vec())));
        tree.insert("etc/link".into(), entry(0o777, Content::Link("/tmp/x".into())));
        write(&tree, &dir).expect("written");
        let mode = |path: &str| {
            dir.join(path)
                .symlink_metadata()
                .expect("there")
                .permissions()
                .mode()
                & 0o7777
        };
        assert_eq!(
            (mode("etc"), mode("etc/open"), mode("etc/secret")),
            (0o755, 0o666, 0o600)
        );
        assert_eq!(dir.join("etc/link").read_link_utf8().expect("link"), "/tmp/x");
    }

    #[test]
    fn nothing_is_written_through_a_link_or_outside() {
        let outside = tempfile::tempdir().expect("temporary folder");
        let target = outside.path().to_str().expect("UTF-8").to_owned();
        for paths in [["etc", "etc/file"], ["a", "../b"], ["a", "/b"]] {
            let (_guard, dir) = scratch();
            let mut tree = Tree::new();
            tree.insert(paths[0].into(), entry(0o777, Content::Link(target.clone())));
            tree.insert(paths[1].into(), entry(0o644, Content::File(Vec::new())));
            assert!(write(&tree, &dir).is_err(), "{paths:?}");
        }
        assert_eq!(outside.path().read_dir().expect("there").count(), 0);
    }

    #[test]
    fn a_folder_with_old_files_is_refused() {
        let (_guard, dir) = scratch();
        std::fs::create_dir(&dir).expect("made");
        std::fs::write(dir.join("old"), "").expect("written");
        assert!(write(&Tree::new(), &dir).is_err());
    }
}
