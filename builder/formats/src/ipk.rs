//! ipk: gzip of a tar of `debian-binary`, `data.tar.gz`, `control.tar.gz` (opkg, OpenWrt up to 24.10).
//!
//! Written deterministically (sorted, root by number, one mtime, no gzip header fields) and read with bounds: what
//! comes out of a hostile file is an error, never a path outside the root, a file below a link, or a full memory.

use std::{collections::BTreeMap, io::Read};

use flate2::{Compression, GzBuilder, read::GzDecoder};
use tar::{Archive, Builder, EntryType, Header};

use crate::{
    Malformed, control,
    package::{File, Kind, Meta, Package, Scripts, check_conffile, check_link, check_path},
};

/// Most bytes that the files of one package may unpack to; OpenWrt's largest (firmware) stay below a tenth.
const MOST_DATA: u64 = 1 << 30;
/// Most bytes of control file, scripts and conffiles together.
const MOST_CONTROL: u64 = 8 << 20;
/// Most entries of one package.
const MOST_ENTRIES: usize = 200_000;

/// Writes a package; `epoch` (seconds since 1970) is the time of every entry. The package is
/// [normalised](Package::normalised) first.
///
/// # Errors
/// What [`Package::normalised`] refuses. `post_upgrade` is not written: opkg has no such script.
pub fn write(package: &Package, epoch: u64) -> Result<Vec<u8>, Malformed> {
    let package = package.normalised()?;
    let mut data = TarGz::new(epoch);
    data.folder("", 0o755)?;
    for file in &package.files {
        match &file.kind {
            Kind::Folder => data.folder(&file.path, file.mode)?,
            Kind::Regular(content) => data.file(&file.path, file.mode, content)?,
            Kind::Link(target) => data.link(&file.path, target)?,
        }
    }
    let mut inner = TarGz::new(epoch);
    inner.folder("", 0o755)?;
    let conffiles: String = package.conffiles.iter().map(|path| format!("{path}\n")).collect();
    if !conffiles.is_empty() {
        inner.file("conffiles", 0o644, conffiles.as_bytes())?;
    }
    inner.file("control", 0o644, control::write(&package.meta, &[]).as_bytes())?;
    for (name, script) in script_files(&package.scripts) {
        if let Some(script) = script {
            inner.file(name, 0o755, script)?;
        }
    }
    let mut outer = TarGz::new(epoch);
    outer.file("debian-binary", 0o644, b"2.0\n")?;
    outer.file("data.tar.gz", 0o644, &data.finish()?)?;
    outer.file("control.tar.gz", 0o644, &inner.finish()?)?;
    outer.finish()
}

/// Reads a package. Owners are not kept: OpenWrt's packages belong to root.
///
/// # Errors
/// Damage, a missing member, a path or link that leaves the root, a file below a link, a device, or contents beyond
/// the bounds.
pub fn read(ipk: &[u8]) -> Result<Package, Malformed> {
    let outer = outer_members(ipk)?;
    let (meta, scripts, conffiles) = read_control(&outer)?;
    let data = gunzip(member(&outer, "data.tar.gz")?, MOST_DATA, "data.tar.gz")?;
    let mut files = read_tree(&data)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Package {
        meta,
        scripts,
        conffiles,
        files,
    })
}

/// Reads only what an index lists, without unpacking the files.
pub fn read_meta(ipk: &[u8]) -> Result<Meta, Malformed> {
    read_control(&outer_members(ipk)?).map(|(meta, _, _)| meta)
}

/// The control file as it is. An index repeats it whole, with the fields that only opkg knows (Alternatives, Essential).
pub fn control(ipk: &[u8]) -> Result<String, Malformed> {
    let outer = outer_members(ipk)?;
    let tar = gunzip(member(&outer, "control.tar.gz")?, MOST_CONTROL, "control.tar.gz")?;
    let members = members(&tar, "control.tar.gz")?;
    match std::str::from_utf8(member(&members, "control")?) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(Malformed("control is no UTF-8".into())),
    }
}

/// The scripts' file names in name order, which is the order they are written in.
fn script_files(scripts: &Scripts) -> [(&'static str, &Option<Vec<u8>>); 4] {
    [
        ("postinst", &scripts.post_install),
        ("postrm", &scripts.post_deinstall),
        ("preinst", &scripts.pre_install),
        ("prerm", &scripts.pre_deinstall),
    ]
}

/// A tar in the making, whose headers depend on nothing but the arguments.
struct TarGz {
    tar: Builder<Vec<u8>>,
    epoch: u64,
}

impl TarGz {
    fn new(epoch: u64) -> Self {
        Self {
            tar: Builder::new(Vec::new()),
            epoch,
        }
    }

    fn header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.epoch);
        header.set_size(size);
        header
    }

    fn folder(&mut self, path: &str, mode: u32) -> Result<(), Malformed> {
        let header = self.header(EntryType::Directory, mode, 0);
        let path = if path.is_empty() {
            "./".to_owned()
        } else {
            format!("./{path}/")
        };
        self.append(header, &path, "", &[])
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<(), Malformed> {
        let header = self.header(EntryType::Regular, mode, content.len() as u64);
        self.append(header, &format!("./{path}"), "", content)
    }

    fn link(&mut self, path: &str, target: &str) -> Result<(), Malformed> {
        let header = self.header(EntryType::Symlink, 0o777, 0);
        self.append(header, &format!("./{path}"), target, &[])
    }

    /// Appends an entry under exactly this name: opkg looks for `./control`, and the tar crate would drop the `./`.
    fn append(
        &mut self,
        mut header: Header,
        path: &str,
        target: &str,
        content: &[u8],
    ) -> Result<(), Malformed> {
        self.long_name(EntryType::GNULongLink, target)?;
        self.long_name(EntryType::GNULongName, path)?;
        let fields = header.as_old_mut();
        for (field, text) in [(&mut fields.name, path), (&mut fields.linkname, target)] {
            let length = text.len().min(field.len());
            field[..length].copy_from_slice(&text.as_bytes()[..length]);
        }
        header.set_cksum();
        self.tar.append(&header, content).map_err(unwritable)
    }

    /// GNU tar's way with a name of more than 100 bytes: an entry before the entry, whose content is the name.
    fn long_name(&mut self, kind: EntryType, name: &str) -> Result<(), Malformed> {
        if name.len() <= 100 {
            return Ok(());
        }
        let content = [name.as_bytes(), b"\0"].concat();
        let mut header = self.header(kind, 0, content.len() as u64);
        let marker = b"././@LongLink";
        header.as_old_mut().name[..marker.len()].copy_from_slice(marker);
        header.set_cksum();
        self.tar.append(&header, &content[..]).map_err(unwritable)
    }

    fn finish(self) -> Result<Vec<u8>, Malformed> {
        let tar = self.tar.into_inner().map_err(unwritable)?;
        // 255 is "unknown": the header must not say which system packed it.
        let mut gzip = GzBuilder::new()
            .mtime(0)
            .operating_system(255)
            .write(Vec::new(), Compression::best());
        std::io::Write::write_all(&mut gzip, &tar).map_err(unwritable)?;
        gzip.finish().map_err(unwritable)
    }
}

fn unwritable(error: std::io::Error) -> Malformed {
    Malformed(format!("cannot be packed as ipk: {error}"))
}

fn outer_members(ipk: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, Malformed> {
    let tar = gunzip(ipk, MOST_DATA, "the package")?;
    members(&tar, "the package")
}

fn member<'a>(members: &'a BTreeMap<String, Vec<u8>>, name: &str) -> Result<&'a [u8], Malformed> {
    members
        .get(name)
        .map(Vec::as_slice)
        .ok_or_else(|| Malformed(format!("the package has no {name}")))
}

/// Control fields, scripts and conffiles.
fn read_control(outer: &BTreeMap<String, Vec<u8>>) -> Result<(Meta, Scripts, Vec<String>), Malformed> {
    let tar = gunzip(member(outer, "control.tar.gz")?, MOST_CONTROL, "control.tar.gz")?;
    let mut members = members(&tar, "control.tar.gz")?;
    let text = |bytes: &[u8], name: &str| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(Malformed(format!("{name} is no UTF-8"))),
    };
    let control = text(member(&members, "control")?, "control")?;
    let paragraphs = control::paragraphs(&control).map_err(|error| Malformed(format!("control: {error}")))?;
    let [paragraph] = &paragraphs[..] else {
        return Err(Malformed("the control file is not one paragraph".into()));
    };
    let meta = paragraph
        .meta()
        .map_err(|error| Malformed(format!("control: {error}")))?;
    let conffiles = text(members.get("conffiles").map_or(&[], Vec::as_slice), "conffiles")?;
    let conffiles: Vec<String> = conffiles
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    for path in &conffiles {
        check_conffile(path)?;
    }
    let scripts = Scripts {
        pre_install: members.remove("preinst"),
        post_install: members.remove("postinst"),
        post_upgrade: None,
        pre_deinstall: members.remove("prerm"),
        post_deinstall: members.remove("postrm"),
    };
    Ok((meta, scripts, conffiles))
}

/// Decompresses the whole of one gzip member, checksum included, up to a bound.
fn gunzip(bytes: &[u8], most: u64, what: &str) -> Result<Vec<u8>, Malformed> {
    let mut content = Vec::new();
    GzDecoder::new(bytes)
        .take(most + 1)
        .read_to_end(&mut content)
        .map_err(|error| Malformed(format!("{what} is no whole gzip file: {error}")))?;
    if content.len() as u64 > most {
        return Err(Malformed(format!(
            "{what} unpacks to more than {} MiB",
            most >> 20
        )));
    }
    Ok(content)
}

/// The regular files of a flat tar, by name.
fn members(tar: &[u8], what: &str) -> Result<BTreeMap<String, Vec<u8>>, Malformed> {
    let files = read_tree(tar).map_err(|error| Malformed(format!("{what}: {error}")))?;
    let regular = files.into_iter().filter_map(|file| match file.kind {
        Kind::Regular(content) => Some((file.path, content)),
        Kind::Folder | Kind::Link(_) => None,
    });
    Ok(regular.collect())
}

/// The entries of a tar, checked; `files` hold no more bytes together than the tar allows twice over.
fn read_tree(tar: &[u8]) -> Result<Vec<File>, Malformed> {
    let damaged = |error: std::io::Error| Malformed(format!("damaged tar: {error}"));
    let mut files: BTreeMap<String, File> = BTreeMap::new();
    let mut budget = MOST_DATA;
    let mut archive = Archive::new(tar);
    for (count, entry) in archive.entries().map_err(damaged)?.enumerate() {
        let mut entry = entry.map_err(damaged)?;
        if count >= MOST_ENTRIES {
            return Err(Malformed(format!("more than {MOST_ENTRIES} entries")));
        }
        let kind = entry.header().entry_type();
        let Some(path) = entry_path(&entry.path_bytes(), kind)? else {
            continue;
        };
        let mode = entry.header().mode().map_err(damaged)? & 0o7777;
        let target = match entry.link_name_bytes() {
            Some(bytes) => utf8(&bytes)?.to_owned(),
            None => String::new(),
        };
        let kind = match kind {
            EntryType::Directory => Kind::Folder,
            EntryType::Regular | EntryType::Continuous => {
                let mut content = Vec::new();
                entry
                    .by_ref()
                    .take(budget + 1)
                    .read_to_end(&mut content)
                    .map_err(damaged)?;
                if content.len() as u64 != entry.header().entry_size().map_err(damaged)? {
                    return Err(Malformed(format!("{path:?} is cut short")));
                }
                Kind::Regular(content)
            }
            EntryType::Symlink => {
                check_link(&path, &target)?;
                Kind::Link(target)
            }
            EntryType::Link => {
                let original = entry_path(target.as_bytes(), EntryType::Regular)?.unwrap_or_default();
                match files.get(&original).map(|file| &file.kind) {
                    Some(Kind::Regular(content)) if content.len() as u64 <= budget => {
                        Kind::Regular(content.clone())
                    }
                    _ => {
                        return Err(Malformed(format!(
                            "{path:?} is a hard link to {target:?}, which is no file"
                        )));
                    }
                }
            }
            other => {
                return Err(Malformed(format!(
                    "{path:?} is of a kind that no package has ({other:?})"
                )));
            }
        };
        let file = File {
            path: path.clone(),
            mode,
            kind,
        };
        budget = budget
            .checked_sub(file.size())
            .ok_or_else(|| Malformed("too much content".into()))?;
        if files
            .get(&path)
            .is_some_and(|old| old.kind != Kind::Folder || file.kind != Kind::Folder)
        {
            return Err(Malformed(format!("{path:?} is there twice")));
        }
        for (at, _) in path.match_indices('/') {
            if files
                .get(&path[..at])
                .is_some_and(|parent| parent.kind != Kind::Folder)
            {
                return Err(Malformed(format!(
                    "{path:?} lies below something that is no folder"
                )));
            }
        }
        files.insert(path, file);
    }
    // A link or file may also come after what was put below its path.
    for (path, file) in &files {
        let below = format!("{path}/");
        let child = files
            .range(below.clone()..)
            .next()
            .is_some_and(|(next, _)| next.starts_with(&below));
        if child && file.kind != Kind::Folder {
            return Err(Malformed(format!(
                "{path:?} is no folder, yet has files below it"
            )));
        }
    }
    Ok(files.into_values().collect())
}

/// The checked path of a tar entry; `None` for the root itself.
fn entry_path(bytes: &[u8], kind: EntryType) -> Result<Option<String>, Malformed> {
    let text = utf8(bytes)?;
    let mut path = text.strip_prefix("./").unwrap_or(text);
    if kind == EntryType::Directory {
        path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() || path == "." {
            return Ok(None);
        }
    }
    check_path(path)?;
    Ok(Some(path.to_owned()))
}

fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| {
        Malformed(format!(
            "the name {:?} is no UTF-8",
            String::from_utf8_lossy(bytes)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::tests::sample;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
        std::io::Write::write_all(&mut gzip, bytes).unwrap();
        gzip.finish().unwrap()
    }

    /// An ipk whose data archive is `data`.
    fn with_data(data: &[u8]) -> Vec<u8> {
        let members = outer_members(&write(&sample(), 0).unwrap()).unwrap();
        let mut outer = TarGz::new(0);
        outer.file("debian-binary", 0o644, b"2.0\n").unwrap();
        outer.file("data.tar.gz", 0o644, &gzip(data)).unwrap();
        outer
            .file("control.tar.gz", 0o644, &members["control.tar.gz"])
            .unwrap();
        outer.finish().unwrap()
    }

    /// One tar entry with a raw path, which the tar crate's own checks would refuse.
    fn raw_entry(path: &str, kind: EntryType, target: &str, content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn refusal(entries: &[Vec<u8>]) -> String {
        let mut tar = entries.concat();
        tar.extend_from_slice(&[0; 1024]);
        read(&with_data(&tar)).unwrap_err().0
    }

    #[test]
    fn a_package_is_read_back_as_written() {
        let ipk = write(&sample(), 1_700_000_000).unwrap();
        assert_eq!(read(&ipk).unwrap(), sample().normalised().unwrap());
        assert_eq!(read_meta(&ipk).unwrap(), sample().normalised().unwrap().meta);
        assert_eq!(write(&read(&ipk).unwrap(), 1_700_000_000).unwrap(), ipk);
    }

    #[test]
    fn the_bytes_depend_on_nothing_but_the_arguments() {
        let mut shuffled = sample();
        shuffled.files.reverse();
        assert_eq!(write(&shuffled, 5).unwrap(), write(&sample(), 5).unwrap());
        assert_ne!(write(&sample(), 6).unwrap(), write(&sample(), 5).unwrap());
        let ipk = write(&sample(), 5).unwrap();
        assert_eq!(ipk[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255]);
    }

    #[test]
    fn members_are_laid_out_as_opkg_expects() {
        let tar = gunzip(&write(&sample(), 42).unwrap(), MOST_DATA, "test").unwrap();
        let mut archive = Archive::new(&tar[..]);
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| String::from_utf8(entry.unwrap().path_bytes().to_vec()).unwrap())
            .collect();
        assert_eq!(names, ["./debian-binary", "./data.tar.gz", "./control.tar.gz"]);
        let control = gunzip(
            &outer_members(&write(&sample(), 42).unwrap()).unwrap()["control.tar.gz"],
            1 << 20,
            "test",
        )
        .unwrap();
        let mut archive = Archive::new(&control[..]);
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(
                (
                    header.uid().unwrap(),
                    header.gid().unwrap(),
                    header.mtime().unwrap()
                ),
                (0, 0, 42)
            );
            let script = entry.path_bytes().starts_with(b"./p");
            let mode = header.mode().unwrap();
            assert_eq!(
                mode,
                if script || header.entry_type().is_dir() {
                    0o755
                } else {
                    0o644
                }
            );
        }
    }

    #[test]
    fn long_paths_survive() {
        let mut package = sample();
        let path = format!("usr/{}/{}", "a".repeat(150), "b".repeat(200));
        package.files.push(File {
            path: path.clone(),
            mode: 0o644,
            kind: Kind::Link(format!("/{path}.old")),
        });
        let package = package.normalised().unwrap();
        let mut read = read(&write(&package, 0).unwrap()).unwrap();
        // tar has no mode for links worth keeping.
        for file in read
            .files
            .iter_mut()
            .filter(|file| matches!(file.kind, Kind::Link(_)))
        {
            file.mode = package
                .files
                .iter()
                .find(|other| other.path == file.path)
                .unwrap()
                .mode;
        }
        assert_eq!(read, package);
    }

    #[test]
    fn hostile_archives_are_refused() {
        let entry = raw_entry;
        assert!(refusal(&[entry("../evil", EntryType::Regular, "", b"x")]).contains("../evil"));
        assert!(refusal(&[entry("/etc/passwd", EntryType::Regular, "", b"x")]).contains("/etc/passwd"));
        assert!(refusal(&[entry("./a/../../b", EntryType::Regular, "", b"x")]).contains(".."));
        assert!(
            refusal(&[entry("./link", EntryType::Symlink, "../../etc", b"")]).contains("leaves the root")
        );
        let below = [
            entry("./a", EntryType::Symlink, "/etc", b""),
            entry("./a/passwd", EntryType::Regular, "", b"x"),
        ];
        assert!(refusal(&below).contains("no folder"));
        let reversed: Vec<_> = below.into_iter().rev().collect();
        assert!(refusal(&reversed).contains("no folder"));
        assert!(refusal(&[entry("./null", EntryType::Char, "", b"")]).contains("null"));
        // A sparse file claims gigabytes in one header; whichever way it is refused, nothing is allocated.
        refusal(&[entry("./sparse", EntryType::GNUSparse, "", b"")]);
        assert!(refusal(&[entry("./hard", EntryType::Link, "/etc/shadow", b"")]).contains("/etc/shadow"));
        let twice = entry("./a", EntryType::Regular, "", b"x");
        assert!(refusal(&[twice.clone(), twice]).contains("twice"));
    }

    #[test]
    fn a_hard_link_is_read_as_a_copy() {
        let mut tar = raw_entry("./a", EntryType::Regular, "", b"content");
        tar.extend(raw_entry("./b", EntryType::Link, "./a", b""));
        tar.extend_from_slice(&[0; 1024]);
        let package = read(&with_data(&tar)).unwrap();
        assert_eq!(package.files[1].kind, Kind::Regular(b"content".to_vec()));
    }

    #[test]
    fn a_bomb_stops_at_the_bound() {
        let bomb = gzip(&vec![0; 9 << 20]);
        assert!(bomb.len() < 20_000);
        let error = gunzip(&bomb, MOST_CONTROL, "control.tar.gz").unwrap_err();
        assert_eq!(error.0, "control.tar.gz unpacks to more than 8 MiB");
        assert!(read(&bomb).is_err());
    }

    #[test]
    fn damage_is_an_error_or_shows() {
        let good = write(&sample(), 0).unwrap();
        let expected = read(&good).unwrap();
        crate::hostile::mutations(&good, 3, |bad| {
            // Bits that gzip does not check (header fields) may flip without effect; content never changes silently.
            if let Ok(package) = read(bad) {
                assert_eq!(package, expected);
            }
        });
        crate::hostile::splices(&gunzip(&good, MOST_DATA, "test").unwrap(), 300, |bad| {
            let _may_fail = read(&gzip(bad));
        });
        crate::hostile::splices(b"./x", 100, |bad| {
            let _may_fail = read(&with_data(bad));
        });
    }
}
