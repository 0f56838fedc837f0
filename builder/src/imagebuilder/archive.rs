//! Unpacks ImageBuilder archives: nothing lands outside the folder, whatever the archive says.
//!
//! It must not trust an archive because its hash is right: a source signs what it likes.
//! Links are made last and nothing is ever written through one.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use camino::Utf8Path;

use crate::{Error, Result};

/// What an archive may hold at most. A real ImageBuilder unpacks to about 0.5 GB in 10,000 files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of all files together, and of the tar stream.
    pub(crate) bytes: u64,
    /// Files, folders and links.
    pub(crate) entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 8 << 30,
            entries: 500_000,
        }
    }
}

/// Where absolute links may point: ImageBuilders link some of the host's own tools into their `bin`.
const HOST_TOOL_FOLDERS: [&str; 6] = [
    "/bin",
    "/sbin",
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
];

/// Unpacks `archive` (tar in zstd, xz or gzip, told by its first bytes) into the existing, empty folder `into`.
/// The one folder at the top that such archives have is left out.
pub(crate) fn unpack(archive: &Utf8Path, into: &Utf8Path, limits: Limits) -> Result<()> {
    let file = File::open(archive).map_err(|error| Error::io("open", archive, error))?;
    let stream = decompressed(BufReader::with_capacity(1 << 20, file))
        .map_err(|error| Error::io("read", archive, error))?
        .ok_or_else(|| {
            Error::user(format!(
                "{archive} is not a tar archive compressed by zstd, xz or gzip"
            ))
            .hint("give an ImageBuilder as OpenWrt publishes it, or the folder of an unpacked one")
        })?;
    Unpacking {
        into,
        limits,
        seen: HashMap::new(),
        links: Vec::new(),
        top: None,
        bytes: 0,
    }
    .run(tar::Archive::new(stream.take(limits.bytes)))
    .map_err(|refusal| match refusal {
        Refusal::Io(what, error) => Error::io("unpack", archive, error).context(what),
        Refusal::Hostile(what) => {
            Error::environment(format!("{archive} is not a well-behaved archive: {what}"))
                .hint("it was not unpacked; get it again from a source that you trust")
        }
    })
}

fn decompressed<'a>(mut file: impl Read + 'a) -> std::io::Result<Option<Box<dyn Read + 'a>>> {
    let mut magic = Vec::new();
    file.by_ref().take(6).read_to_end(&mut magic)?;
    let whole = std::io::Cursor::new(magic.clone()).chain(file);
    Ok(Some(match magic.as_slice() {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::new(whole)?),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(xz2::read::XzDecoder::new(whole)),
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        _ => return Ok(None),
    }))
}

enum Refusal {
    Io(String, std::io::Error),
    Hostile(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Folder,
    File,
    Link,
}

struct Unpacking<'a> {
    into: &'a Utf8Path,
    limits: Limits,
    seen: HashMap<PathBuf, Seen>,
    links: Vec<(PathBuf, PathBuf)>,
    top: Option<PathBuf>,
    bytes: u64,
}

impl Unpacking<'_> {
    fn run(mut self, mut archive: tar::Archive<impl Read>) -> Result<(), Refusal> {
        let broken = |error| Refusal::Io("the archive is broken or cut short".into(), error);
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let named = entry.path().map_err(broken)?.into_owned();
            if self.seen.len() >= self.limits.entries {
                return Err(Refusal::Hostile(format!(
                    "it has over {} entries",
                    self.limits.entries
                )));
            }
            let Some(path) = self.below_top(&named)? else {
                continue;
            };
            match entry.header().entry_type() {
                tar::EntryType::Directory => self.folder(&path)?,
                tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                    self.file(&path, &mut entry)?;
                }
                kind @ (tar::EntryType::Symlink | tar::EntryType::Link) => {
                    let target = entry.link_name().map_err(broken)?.ok_or_else(|| {
                        Refusal::Hostile(format!("the link {} has no target", path.display()))
                    })?;
                    if kind == tar::EntryType::Symlink {
                        self.claim(&path, Seen::Link)?;
                        self.links.push((path, target.into_owned()));
                    } else {
                        self.hard_link(&path, &target)?;
                    }
                }
                tar::EntryType::XGlobalHeader => {}
                _ => {
                    return Err(Refusal::Hostile(format!(
                        "{} is a device or a pipe",
                        path.display()
                    )));
                }
            }
        }
        if self.seen.is_empty() {
            return Err(Refusal::Hostile("it is empty".into()));
        }
        self.make_links()
    }

    /// The path without the top folder; `None` for that folder itself.
    fn below_top(&mut self, named: &Path) -> Result<Option<PathBuf>, Refusal> {
        let mut parts = Vec::new();
        for component in named.components() {
            match component {
                Component::Normal(part) => parts.push(part),
                Component::CurDir => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(Refusal::Hostile(format!("{} leads out of it", named.display())));
                }
            }
        }
        let Some((first, rest)) = parts.split_first() else {
            return Ok(None);
        };
        let top = self.top.get_or_insert_with(|| PathBuf::from(first));
        if top.as_os_str() != *first {
            return Err(Refusal::Hostile(format!(
                "{} is not in its folder {}",
                named.display(),
                top.display()
            )));
        }
        Ok((!rest.is_empty()).then(|| rest.iter().collect()))
    }

    /// Notes `path`, makes its folders, and refuses what is there already.
    fn claim(&mut self, path: &Path, kind: Seen) -> Result<PathBuf, Refusal> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.folder(parent)?;
        }
        if self.seen.insert(path.to_owned(), kind).is_some() {
            return Err(Refusal::Hostile(format!("{} is in it twice", path.display())));
        }
        Ok(self.into.as_std_path().join(path))
    }

    fn folder(&mut self, path: &Path) -> Result<(), Refusal> {
        match self.seen.get(path) {
            Some(Seen::Folder) => return Ok(()),
            Some(Seen::File | Seen::Link) => {
                return Err(Refusal::Hostile(format!(
                    "{} is a folder and a file at once",
                    path.display()
                )));
            }
            None => {}
        }
        let on_disk = self.claim(path, Seen::Folder)?;
        std::fs::create_dir(&on_disk)
            .and_then(|()| std::fs::set_permissions(&on_disk, std::fs::Permissions::from_mode(0o755)))
            .map_err(|error| Refusal::Io(format!("folder {}", path.display()), error))
    }

    fn file(&mut self, path: &Path, entry: &mut tar::Entry<impl Read>) -> Result<(), Refusal> {
        let on_disk = self.claim(path, Seen::File)?;
        let io = |error| Refusal::Io(format!("file {}", path.display()), error);
        let header = entry.header();
        // Only the owner's x bit counts: the rest would carry somebody's umask.
        let mode = if header.mode().map_err(io)? & 0o100 == 0 {
            0o644
        } else {
            0o755
        };
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(header.mtime().map_err(io)?);
        let left = self.limits.bytes - self.bytes;
        if entry.size() > left {
            return Err(Refusal::Hostile(format!(
                "it unpacks to over {} bytes",
                self.limits.bytes
            )));
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&on_disk)
            .map_err(io)?;
        let written = std::io::copy(&mut entry.take(left), &mut file).map_err(io)?;
        self.bytes += written;
        file.set_permissions(std::fs::Permissions::from_mode(mode))
            .and_then(|()| file.set_modified(modified))
            .map_err(io)
    }

    /// A hard link becomes a copy, so that a change to one name never changes another.
    fn hard_link(&mut self, path: &Path, target: &Path) -> Result<(), Refusal> {
        let Some(target) = self
            .below_top(target)?
            .filter(|path| self.seen.get(path) == Some(&Seen::File))
        else {
            return Err(Refusal::Hostile(format!(
                "{} is a link to nothing before it",
                path.display()
            )));
        };
        let from = self.into.as_std_path().join(&target);
        let io = |error| Refusal::Io(format!("file {}", path.display()), error);
        let size = std::fs::metadata(&from).map_err(io)?.len();
        self.bytes += size;
        if self.bytes > self.limits.bytes {
            return Err(Refusal::Hostile(format!(
                "it unpacks to over {} bytes",
                self.limits.bytes
            )));
        }
        let on_disk = self.claim(path, Seen::File)?;
        std::fs::copy(&from, &on_disk).map_err(io)?;
        Ok(())
    }

    fn make_links(self) -> Result<(), Refusal> {
        let links: HashMap<&Path, &Path> = self
            .links
            .iter()
            .map(|(path, target)| (path.as_path(), target.as_path()))
            .collect();
        for (path, target) in &self.links {
            if !stays_inside(&links, path) {
                return Err(Refusal::Hostile(format!(
                    "the link {} points outside, to {}",
                    path.display(),
                    target.display()
                )));
            }
        }
        for (path, target) in &self.links {
            std::os::unix::fs::symlink(target, self.into.as_std_path().join(path))
                .map_err(|error| Refusal::Io(format!("link {}", path.display()), error))?;
        }
        Ok(())
    }
}

/// Follows the link at `start` through the archive's other links, as the kernel would.
fn stays_inside(links: &HashMap<&Path, &Path>, start: &Path) -> bool {
    // As many as the kernel follows before it gives up (ELOOP).
    let mut hops_left = 40;
    let mut at = PathBuf::new();
    let mut to_walk: Vec<PathBuf> = start
        .components()
        .rev()
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect();
    while let Some(part) = to_walk.pop() {
        match part.components().next() {
            None | Some(Component::CurDir) => {}
            Some(Component::ParentDir) => {
                if !at.pop() {
                    return false;
                }
            }
            Some(Component::RootDir | Component::Prefix(_)) => {
                let rest: PathBuf = std::iter::once(part).chain(to_walk.into_iter().rev()).collect();
                let names_a_tool =
                    rest.file_name().is_some() && !rest.components().any(|part| part == Component::ParentDir);
                return names_a_tool
                    && HOST_TOOL_FOLDERS
                        .iter()
                        .any(|folder| rest.parent() == Some(Path::new(folder)));
            }
            Some(Component::Normal(name)) => {
                at.push(name);
                if let Some(target) = links.get(at.as_path()) {
                    hops_left -= 1;
                    if hops_left == 0 {
                        return false;
                    }
                    at.pop();
                    to_walk.extend(
                        target
                            .components()
                            .rev()
                            .map(|part| PathBuf::from(part.as_os_str())),
                    );
                }
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino::Utf8PathBuf;
    use std::io::Write;

    /// Writes a gzipped tar of hand-made headers: the tar crate itself refuses to write hostile paths.
    fn archive(dir: &Utf8Path, entries: &[(tar::EntryType, &str, &str)]) -> Utf8PathBuf {
        let path = dir.join("archive.tar.gz");
        let file = File::create(&path).expect("create");
        let mut out = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        for (kind, name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o4777);
            header.set_mtime(1_000_000_000);
            let is_file = *kind == tar::EntryType::Regular;
            if !is_file {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            let body = if is_file { content.as_bytes() } else { &[] };
            header.set_size(body.len() as u64);
            header.set_cksum();
            out.write_all(header.as_bytes()).expect("header");
            out.write_all(body).expect("body");
            out.write_all(&vec![0; body.len().next_multiple_of(512) - body.len()])
                .expect("padding");
        }
        out.write_all(&[0; 1024]).expect("end");
        out.finish().expect("finish");
        path
    }

    fn unpacked(entries: &[(tar::EntryType, &str, &str)], limits: Limits) -> Result<tempfile::TempDir> {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = Utf8Path::from_path(dir.path()).expect("UTF-8");
        std::fs::create_dir(root.join("tree")).expect("mkdir");
        unpack(&archive(root, entries), &root.join("tree"), limits)?;
        Ok(dir)
    }

    fn refused(entries: &[(tar::EntryType, &str, &str)]) -> String {
        unpacked(
            entries,
            Limits {
                bytes: 1 << 20,
                entries: 100,
            },
        )
        .expect_err("hostile")
        .to_string()
    }

    use tar::EntryType::{Char, Fifo, Link, Regular, Symlink};

    #[test]
    fn a_good_archive_loses_its_top_folder_and_its_odd_modes() {
        let dir = unpacked(
            &[
                (Regular, "ib/Makefile", "all:\n"),
                (Symlink, "ib/host/bin/awk", "/usr/bin/gawk"),
                (Symlink, "ib/host/bin/sh", "awk"),
                (Link, "ib/copy", "ib/Makefile"),
            ],
            Limits::default(),
        )
        .expect("unpacks");
        let tree = dir.path().join("tree");
        let metadata = std::fs::metadata(tree.join("Makefile")).expect("there");
        assert_eq!(
            metadata.permissions().mode() & 0o7777,
            0o755,
            "setuid and group write are dropped"
        );
        assert_eq!(
            metadata
                .modified()
                .expect("mtime")
                .duration_since(SystemTime::UNIX_EPOCH)
                .expect("past")
                .as_secs(),
            1_000_000_000
        );
        assert_eq!(
            std::fs::read_to_string(tree.join("copy")).expect("there"),
            "all:\n"
        );
        assert_eq!(
            std::fs::read_link(tree.join("host/bin/sh")).expect("link"),
            Path::new("awk")
        );
    }

    #[test]
    fn paths_out_of_the_folder_are_refused() {
        assert!(refused(&[(Regular, "ib/../../evil", "x")]).contains("leads out"));
        assert!(refused(&[(Regular, "/etc/evil", "x")]).contains("leads out"));
        assert!(refused(&[(Regular, "ib/a", "x"), (Regular, "other/b", "x")]).contains("not in its folder"));
    }

    #[test]
    fn links_out_of_the_folder_are_refused() {
        assert!(refused(&[(Symlink, "ib/x", "../../etc")]).contains("points outside"));
        assert!(refused(&[(Symlink, "ib/x", "/etc/passwd")]).contains("points outside"));
        assert!(refused(&[(Symlink, "ib/x", "/usr/bin/../../etc/passwd")]).contains("points outside"));
        // Each link alone looks harmless by its text.
        let chain = [
            (Symlink, "ib/a/b/top", "../.."),
            (Symlink, "ib/a/b/x", "top/../evil"),
        ];
        assert!(refused(&chain).contains("points outside"));
        assert!(refused(&[(Symlink, "ib/a", "b"), (Symlink, "ib/b", "a")]).contains("points outside"));
        assert!(refused(&[(Link, "ib/x", "/etc/passwd")]).contains("leads out"));
        assert!(refused(&[(Link, "ib/x", "ib/absent")]).contains("link to nothing"));
    }

    #[test]
    fn nothing_is_written_through_a_link_or_over_a_file() {
        let through = [(Symlink, "ib/x", "y"), (Regular, "ib/x/file", "evil")];
        assert!(refused(&through).contains("a folder and a file at once"));
        assert!(refused(&[(Regular, "ib/x", "1"), (Regular, "ib/x", "2")]).contains("twice"));
        assert!(refused(&[(Symlink, "ib/x", "y"), (Regular, "ib/x", "2")]).contains("twice"));
    }

    #[test]
    fn devices_and_pipes_are_refused() {
        assert!(refused(&[(Char, "ib/null", "")]).contains("device or a pipe"));
        assert!(refused(&[(Fifo, "ib/pipe", "")]).contains("device or a pipe"));
    }

    #[test]
    fn bombs_are_refused() {
        let big = "x".repeat(5000);
        let entries = [(Regular, "ib/a", big.as_str()), (Regular, "ib/b", big.as_str())];
        let error = unpacked(
            &entries,
            Limits {
                bytes: 8000,
                entries: 100,
            },
        )
        .expect_err("too many bytes");
        assert!(
            error.to_string().contains("archive is broken or cut short")
                || error.to_string().contains("8000")
        );
        let error = unpacked(
            &entries,
            Limits {
                bytes: 1 << 20,
                entries: 1,
            },
        )
        .expect_err("too many entries");
        assert!(error.to_string().contains("over 1 entries"), "{error}");
    }

    #[test]
    fn a_cut_archive_and_a_text_are_errors() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = Utf8Path::from_path(dir.path()).expect("UTF-8");
        let whole = archive(root, &[(Regular, "ib/a", &"x".repeat(3000))]);
        let bytes = std::fs::read(&whole).expect("read");
        std::fs::write(root.join("cut"), &bytes[..bytes.len() / 2]).expect("write");
        std::fs::create_dir(root.join("tree")).expect("mkdir");
        let error = unpack(&root.join("cut"), &root.join("tree"), Limits::default()).expect_err("cut");
        assert!(error.to_string().contains("cut"), "{error}");
        std::fs::write(root.join("text"), "hello").expect("write");
        let error = unpack(&root.join("text"), &root.join("tree"), Limits::default()).expect_err("text");
        assert!(error.to_string().contains("not a tar archive"), "{error}");
    }
}
