//! The one folder that an ImageBuilder installs from: exactly the packages that were asked for, and their index.
//!
//! Nothing is resolved here: which packages there are was decided by the lock.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};

use crate::digest::Sha256;
use crate::profile::PackageFormat;
use crate::{Error, Result};

/// What the local feed holds.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Which of the packages that came inside the ImageBuilder stay.
    pub bundled: Bundled,
    /// Packages to put beside them.
    pub files: Vec<FeedFile>,
}

/// Packages inside the ImageBuilder itself.
#[derive(Clone, Debug)]
pub enum Bundled {
    /// All of them, unchecked: the user's own ImageBuilder.
    All,
    /// Exactly these, by file name and hash; one that is missing or has other bytes is an error.
    Exactly(Vec<(String, Sha256)>),
}

/// One package file to put into the feed.
#[derive(Clone, Debug)]
pub struct FeedFile {
    /// Its name there: `sennit_0.1.0-r1_x86_64.ipk`.
    pub name: String,
    /// Where its bytes are.
    pub bytes: Bytes,
    /// Their hash.
    pub sha256: Sha256,
}

/// Bytes on disk or in memory.
#[derive(Clone, Debug)]
pub enum Bytes {
    /// A file, of the cache for example, whose name does not matter.
    File(Utf8PathBuf),
    /// Made by this run.
    Memory(Vec<u8>),
}

/// What index files are called; all of them are replaced.
const INDEXES: [&str; 5] = [
    "Packages",
    "Packages.gz",
    "Packages.sig",
    "Packages.manifest",
    "packages.adb",
];

/// Makes `packages` (a tree's folder of that name) hold exactly `feed`, with an index.
pub(super) fn replace(packages: &Utf8Path, format: PackageFormat, feed: &Feed) -> Result<()> {
    std::fs::create_dir_all(packages).map_err(|error| Error::io("create", packages, error))?;
    remove_unwanted(packages, feed)?;
    for file in &feed.files {
        place(packages, file)?;
    }
    match format {
        PackageFormat::Ipk => write_opkg_index(packages),
        // apk-tools inside the tree writes the index itself when there is none.
        PackageFormat::Apk => Ok(()),
    }
}

fn remove_unwanted(packages: &Utf8Path, feed: &Feed) -> Result<()> {
    for name in file_names(packages)? {
        let path = packages.join(&name);
        let wanted = match &feed.bundled {
            Bundled::All => true,
            Bundled::Exactly(files) => files.iter().any(|(file, _)| *file == name),
        };
        // A file of ours replaces one of the same name.
        let replaced = feed.files.iter().any(|file| file.name == name);
        if (is_package(&name) && (!wanted || replaced)) || INDEXES.contains(&name.as_str()) {
            std::fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
        }
    }
    if let Bundled::Exactly(files) = &feed.bundled {
        for (name, sha256) in files {
            let path = packages.join(name);
            if !path.is_file() {
                return Err(Error::environment(format!(
                    "the ImageBuilder has no {name}, although the lock says so"
                ))
                .hint("builder lock --update DEVICE"));
            }
            let found = Sha256::of_file(&path)?;
            if found != *sha256 {
                return Err(Error::environment(format!(
                    "{name} inside the ImageBuilder has SHA-256 {found}, the lock says {sha256}"
                )));
            }
        }
    }
    Ok(())
}

fn place(packages: &Utf8Path, file: &FeedFile) -> Result<()> {
    if !is_package(&file.name) || file.name.contains('/') || file.name.starts_with('.') {
        return Err(Error::environment(format!(
            "`{}` is no file name of a package",
            file.name
        )));
    }
    let read;
    let bytes = match &file.bytes {
        Bytes::Memory(bytes) => bytes,
        Bytes::File(path) => {
            read = std::fs::read(path).map_err(|error| Error::io("read", path, error))?;
            &read
        }
    };
    // The bytes were checked when they came; this catches a disk or a hand that changed them since.
    let found = Sha256::of(bytes);
    if found != file.sha256 {
        return Err(Error::environment(format!(
            "{} has SHA-256 {found}, the lock says {}",
            file.name, file.sha256
        ))
        .hint("its bytes changed after it was downloaded; remove it from the cache and build again"));
    }
    let path = packages.join(&file.name);
    std::fs::write(&path, bytes)
        .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)))
        .map_err(|error| Error::io("write", &path, error))
}

/// Writes `Packages` and `Packages.gz` as OpenWrt's own ipkg-make-index does: each package's whole control file with
/// file name, size and hash before the description. Fields that only opkg knows (Alternatives, Essential) must stay.
fn write_opkg_index(packages: &Utf8Path) -> Result<()> {
    let mut index = String::new();
    for name in file_names(packages)?.into_iter().filter(|name| is_package(name)) {
        let path = packages.join(&name);
        let bytes = std::fs::read(&path).map_err(|error| Error::io("read", &path, error))?;
        let control = openwrt_formats::ipk::control(&bytes)
            .map_err(|error| Error::environment(format!("{path} is no package for opkg")).because(error))?;
        let added = format!(
            "Filename: {name}\nSize: {}\nSHA256sum: {}\n",
            bytes.len(),
            Sha256::of(&bytes)
        );
        let mut placed = false;
        for line in control.lines().filter(|line| !line.trim().is_empty()) {
            if line.starts_with("Description:") && !placed {
                index.push_str(&added);
                placed = true;
            }
            index.push_str(line);
            index.push('\n');
        }
        if !placed {
            index.push_str(&added);
        }
        index.push('\n');
    }
    let path = packages.join("Packages");
    std::fs::write(&path, &index).map_err(|error| Error::io("write", &path, error))?;
    // Last: a tree regenerates its index if anything in the folder is newer than this.
    let path = packages.join("Packages.gz");
    let write = || {
        let mut encoder =
            flate2::GzBuilder::new().write(std::fs::File::create(&path)?, flate2::Compression::best());
        encoder.write_all(index.as_bytes())?;
        encoder.finish().map(drop)
    };
    write().map_err(|error| Error::io("write", &path, error))
}

/// The `count` largest package files, largest first, with their sizes in bytes.
pub(super) fn largest(packages: &Utf8Path, count: usize) -> Result<Vec<(String, u64)>> {
    let mut sizes = Vec::new();
    for name in file_names(packages)?.into_iter().filter(|name| is_package(name)) {
        let path = packages.join(&name);
        let size = std::fs::metadata(&path)
            .map_err(|error| Error::io("read", &path, error))?
            .len();
        sizes.push((name, size));
    }
    sizes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    sizes.truncate(count);
    Ok(sizes)
}

fn is_package(name: &str) -> bool {
    name.ends_with(".ipk") || name.ends_with(".apk")
}

fn file_names(dir: &Utf8Path) -> Result<Vec<String>> {
    let io = |error| Error::io("read", dir, error);
    let mut names = Vec::new();
    for entry in dir.read_dir_utf8().map_err(io)? {
        names.push(entry.map_err(io)?.file_name().to_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipk(name: &str, alternatives: &str) -> Vec<u8> {
        let gzip_tar = |members: &[(&str, &[u8])]| {
            let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
                Vec::new(),
                flate2::Compression::fast(),
            ));
            for (path, bytes) in members {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                tar.append_data(&mut header, path, *bytes).expect("member");
            }
            tar.into_inner().expect("tar").finish().expect("gzip")
        };
        let control = format!(
            "Package: {name}\nVersion: 1-r1\nArchitecture: x86_64\nAlternatives: {alternatives}\nInstalled-Size: 1\n\
             Description: first\n second\n"
        );
        gzip_tar(&[
            ("./debian-binary", b"2.0\n"),
            ("./data.tar.gz", &gzip_tar(&[])),
            (
                "./control.tar.gz",
                &gzip_tar(&[("./control", control.as_bytes())]),
            ),
        ])
    }

    fn in_memory(name: &str, bytes: Vec<u8>) -> FeedFile {
        FeedFile {
            name: name.into(),
            sha256: Sha256::of(&bytes),
            bytes: Bytes::Memory(bytes),
        }
    }

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = Utf8PathBuf::from_path_buf(dir.path().join("packages")).expect("UTF-8");
        std::fs::create_dir(&path).expect("mkdir");
        (dir, path)
    }

    #[test]
    fn the_folder_holds_exactly_what_was_asked_for() {
        let (_keep, dir) = folder();
        let kernel = ipk("kernel", "");
        std::fs::write(dir.join("kernel_1_x86_64.ipk"), &kernel).expect("write");
        std::fs::write(dir.join("stray_1_x86_64.ipk"), b"not asked for").expect("write");
        std::fs::write(dir.join("Packages.sig"), b"stale").expect("write");
        let feed = Feed {
            bundled: Bundled::Exactly(vec![("kernel_1_x86_64.ipk".into(), Sha256::of(&kernel))]),
            files: vec![in_memory(
                "busybox_1-r1_x86_64.ipk",
                ipk("busybox", "200:/bin/x:/bin/busybox"),
            )],
        };
        replace(&dir, PackageFormat::Ipk, &feed).expect("replaces");
        assert_eq!(
            file_names(&dir).expect("lists"),
            [
                "Packages",
                "Packages.gz",
                "busybox_1-r1_x86_64.ipk",
                "kernel_1_x86_64.ipk"
            ]
        );
        let index = std::fs::read_to_string(dir.join("Packages")).expect("index");
        let busybox = index.split("\n\n").next().expect("first");
        let hash = feed.files[0].sha256;
        assert!(
            busybox.contains("Alternatives: 200:/bin/x:/bin/busybox\n"),
            "{busybox}"
        );
        assert!(
            busybox.ends_with(&format!("SHA256sum: {hash}\nDescription: first\n second")),
            "{busybox}"
        );
    }

    #[test]
    fn one_changed_byte_is_refused() {
        let (_keep, dir) = folder();
        let mut changed = ipk("busybox", "");
        let sha256 = Sha256::of(&changed);
        changed[20] ^= 1;
        let cached = dir.parent().expect("parent").join("cached");
        std::fs::write(&cached, &changed).expect("write");
        let file = FeedFile {
            name: "busybox_1_x86_64.ipk".into(),
            bytes: Bytes::File(cached),
            sha256,
        };
        let feed = Feed {
            bundled: Bundled::All,
            files: vec![file],
        };
        let error = replace(&dir, PackageFormat::Ipk, &feed).expect_err("changed");
        assert!(error.to_string().contains("the lock says"), "{error}");
        assert!(!dir.join("busybox_1_x86_64.ipk").exists());

        std::fs::write(dir.join("kernel_1_x86_64.ipk"), &changed).expect("write");
        let bundled = Bundled::Exactly(vec![("kernel_1_x86_64.ipk".into(), sha256)]);
        let error = replace(
            &dir,
            PackageFormat::Ipk,
            &Feed {
                bundled,
                files: vec![],
            },
        )
        .expect_err("changed");
        assert!(error.to_string().contains("inside the ImageBuilder"), "{error}");
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        let (_keep, dir) = folder();
        for name in ["../evil.ipk", ".hidden.ipk", "evil.sh"] {
            let feed = Feed {
                bundled: Bundled::All,
                files: vec![in_memory(name, vec![1])],
            };
            assert!(replace(&dir, PackageFormat::Ipk, &feed).is_err(), "{name}");
        }
    }
}
