//! apk v3: packages of OpenWrt 25.12 and later, without fakeroot and on any host.
//!
//! An ADB file (see [`crate::adb`]) of schema `pckg`. Its root object: info, paths, scripts. `paths` lists folders, the
//! root first, each with its access (mode, user, group) and its files; a file has name, access, size, time, SHA-256,
//! and for a link its target (two bytes of file type, then the path). Every file that is not empty has a data block:
//! 32 bits of folder number, 32 of file number (both from 1), the content. Folders come in the order of their paths,
//! files in that of their names, data blocks in that of both.
//!
//! What is written is byte for byte what `apk mkpkg` makes of the same tree as root with `SOURCE_DATE_EPOCH`
//! (uncompressed; deflate has no one right answer).

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

pub use crate::adb::Compression;
use crate::{
    Malformed,
    adb::{self, Blocks, FileBuilder, Object, Reader, Value, Writer, info},
    hex,
    package::{File, Kind, Package, Scripts, check_conffile, check_link, check_path},
};

const INFO: usize = 1;
const PATHS: usize = 2;
const SCRIPTS: usize = 3;

/// Bytes of the package's own id, a hash of the ADB block with zeros in its place.
const UNIQUE_ID: u8 = 20;
/// File types in front of a link's target.
const TYPE_LINK: u16 = 0o120_000;
const TYPE_REGULAR: u16 = 0o100_000;
/// Most folders and files of one package.
const MOST_ENTRIES: usize = 200_000;
/// Most bytes that hard links may multiply content to.
const MOST_CONTENT: u64 = 1 << 30;

/// Where OpenWrt's packages carry what apk has no field for.
const REGISTRY: &str = "lib/apk/packages";

/// Writes a package; `epoch` (seconds since 1970) is the time of every file. The package is
/// [normalised](Package::normalised) first, and gets the lists that OpenWrt's tools on the router read:
/// `lib/apk/packages/NAME.list`, `.conffiles` and `.conffiles_static` (path and SHA-256, for sysupgrade).
///
/// # Errors
/// What [`Package::normalised`] refuses, and names, versions or dependencies that are none in apk.
pub fn write(package: &Package, epoch: u64, compression: Compression) -> Result<Vec<u8>, Malformed> {
    let package = with_registry(package)?;
    info::check(&package.meta)?;
    let mut writer = Writer::new();
    let mut info = info::Slots::of(&package.meta, &mut writer)?;
    let tree = Tree::of(&package);
    let paths = tree.write(epoch, &mut writer);
    info.installed_size(package.meta.installed_size, &mut writer);
    let unique_id = writer.reserve(UNIQUE_ID);
    info.0[info::HASHES - 1] = unique_id;
    let info = writer.object(&info.0);
    let paths = writer.object(&paths);
    let scripts: Vec<u32> = script_slots(&package.scripts)
        .map(|script| writer.blob(script.as_deref().unwrap_or_default()))
        .into();
    let scripts = writer.object(&scripts);
    let root = writer.object(&[info, paths, scripts]);
    let mut payload = writer.finish(root)?;
    let digest = Sha256::digest(&payload);
    adb::fill(&mut payload, unique_id, &digest[..UNIQUE_ID.into()]);
    let mut file = FileBuilder::new(adb::PACKAGE, &payload)?;
    for (folder, number, content) in tree.contents() {
        file.data(&[&folder.to_le_bytes(), &number.to_le_bytes(), content])?;
    }
    file.finish(compression)
}

/// Reads a package; every file's hash is checked. Signatures are not looked at: a package is trusted by its
/// [identity], which the signed index names. Owners are not kept: OpenWrt's packages belong to root.
///
/// # Errors
/// Damage, a path or link that leaves the root, a device, a data block too few or too many, contents beyond the bounds.
pub fn read(apk: &[u8]) -> Result<Package, Malformed> {
    let file = adb::unpack(apk)?;
    let blocks = Blocks::parse(&file, adb::PACKAGE)?;
    let reader = Reader::new(blocks.adb)?;
    let root = reader.root()?;
    let meta = info::read(&reader, reader.object(root.slot(INFO))?)?;
    let slots = reader.object(root.slot(SCRIPTS))?;
    let script = |number| -> Result<Option<Vec<u8>>, Malformed> {
        let script = reader.blob(slots.slot(number))?;
        Ok((!script.is_empty()).then(|| script.to_vec()))
    };
    let scripts = Scripts {
        pre_install: script(2)?,
        post_install: script(3)?,
        pre_deinstall: script(4)?,
        post_deinstall: script(5)?,
        post_upgrade: script(7)?,
    };
    let mut files = Extraction::new(&reader, &blocks.data).run(reader.object(root.slot(PATHS))?)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let list = format!("{REGISTRY}/{}.conffiles", meta.name);
    let conffiles = match files.iter().find(|file| file.path == list).map(|file| &file.kind) {
        Some(Kind::Regular(content)) => conffiles(content)?,
        _ => Vec::new(),
    };
    Ok(Package {
        meta,
        scripts,
        conffiles,
        files,
    })
}

/// SHA-256 of the package's ADB block: how a signed index names it.
pub fn identity(apk: &[u8]) -> Result<[u8; 32], Malformed> {
    let file = adb::unpack(apk)?;
    Ok(Blocks::parse(&file, adb::PACKAGE)?.identity())
}

/// The file name by which an index without a scheme of its own finds a package.
pub fn file_name(name: &str, version: &str) -> String {
    format!("{name}-{version}.apk")
}

/// The scripts in the order of their slots: trigger, pre-install, post-install, pre-deinstall, post-deinstall,
/// pre-upgrade, post-upgrade.
fn script_slots(scripts: &Scripts) -> [&Option<Vec<u8>>; 7] {
    let Scripts {
        pre_install,
        post_install,
        post_upgrade,
        pre_deinstall,
        post_deinstall,
    } = scripts;
    [
        &None,
        pre_install,
        post_install,
        pre_deinstall,
        post_deinstall,
        &None,
        post_upgrade,
    ]
}

/// The normalised package with OpenWrt's lists in it, made anew, and the installed size that apk calculates.
fn with_registry(package: &Package) -> Result<Package, Malformed> {
    let mut package = package.clone();
    let name = package.meta.name.clone();
    let registry = |ending: &str| format!("{REGISTRY}/{name}.{ending}");
    let own = [
        registry("list"),
        registry("conffiles"),
        registry("conffiles_static"),
    ];
    package.files.retain(|file| !own.contains(&file.path));
    let mut package = package.normalised()?;
    let listed = package.files.iter().filter(|file| file.kind != Kind::Folder);
    let list: String = listed.map(|file| format!("/{}\n", file.path)).collect();
    let conffiles: String = package.conffiles.iter().map(|path| format!("{path}\n")).collect();
    let contents: BTreeMap<&str, &Vec<u8>> = package
        .files
        .iter()
        .filter_map(|file| match &file.kind {
            Kind::Regular(content) => Some((file.path.as_str(), content)),
            Kind::Folder | Kind::Link(_) => None,
        })
        .collect();
    let known = package
        .conffiles
        .iter()
        .filter_map(|path| Some((path, contents.get(path.strip_prefix('/')?)?)));
    let conffiles_static: String = known
        .map(|(path, content)| format!("{path} {}\n", hex(&Sha256::digest(content))))
        .collect();
    // The list is there even when it is empty: the router's scripts read it.
    for (path, text) in own.into_iter().zip([list, conffiles, conffiles_static]) {
        if !text.is_empty() || path.ends_with(".list") {
            package.files.push(File {
                path,
                mode: 0o644,
                kind: Kind::Regular(text.into()),
            });
        }
    }
    let content: u64 = package.files.iter().map(File::size).sum();
    package.meta.installed_size = content.max(1);
    package.normalised()
}

fn conffiles(content: &[u8]) -> Result<Vec<String>, Malformed> {
    let text =
        std::str::from_utf8(content).map_err(|_| Malformed("the list of conffiles is no UTF-8".into()))?;
    let mut conffiles = Vec::new();
    for path in text.lines().filter(|line| !line.is_empty()) {
        check_conffile(path)?;
        conffiles.push(path.to_owned());
    }
    Ok(conffiles)
}

/// Folders in order, each with its mode and its files in order.
struct Tree<'a>(BTreeMap<&'a str, (u32, BTreeMap<&'a str, &'a File>)>);

impl<'a> Tree<'a> {
    fn of(package: &'a Package) -> Self {
        let mut folders = BTreeMap::from([("", (0o755, BTreeMap::new()))]);
        for file in &package.files {
            if file.kind == Kind::Folder {
                folders.insert(file.path.as_str(), (file.mode, BTreeMap::new()));
            }
        }
        for file in package.files.iter().filter(|file| file.kind != Kind::Folder) {
            let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
            folders
                .entry(folder)
                .or_insert((0o755, BTreeMap::new()))
                .1
                .insert(name, file);
        }
        Self(folders)
    }

    /// The folders' values.
    fn write(&self, epoch: u64, writer: &mut Writer) -> Vec<u32> {
        let folder = |(path, (mode, files)): (&&str, &(u32, BTreeMap<&str, &File>))| {
            let files: Vec<u32> = files
                .iter()
                .map(|(name, file)| write_file(name, file, epoch, writer))
                .collect();
            let path = writer.blob(path.as_bytes());
            let access = write_access(*mode, writer);
            let files = writer.object(&files);
            writer.object(&[path, access, files])
        };
        self.0.iter().map(folder).collect()
    }

    /// Folder number, file number and content of every data block.
    fn contents(&self) -> impl Iterator<Item = (u32, u32, &'a [u8])> {
        (1..).zip(self.0.values()).flat_map(|(folder, (_, files))| {
            (1..)
                .zip(files.values())
                .filter_map(move |(number, file)| match &file.kind {
                    Kind::Regular(content) if !content.is_empty() => {
                        Some((folder, number, content.as_slice()))
                    }
                    _ => None,
                })
        })
    }
}

fn write_file(name: &str, file: &File, epoch: u64, writer: &mut Writer) -> u32 {
    let name = writer.blob(name.as_bytes());
    // A link's mode and size are what a file system says of it.
    let (hash, target, size, mode) = match &file.kind {
        Kind::Link(target) => {
            let content = [&TYPE_LINK.to_le_bytes(), target.as_bytes()].concat();
            (0, writer.blob(&content), target.len() as u64, 0o777)
        }
        Kind::Regular(_) | Kind::Folder => {
            let content = if let Kind::Regular(content) = &file.kind {
                content.as_slice()
            } else {
                &[]
            };
            (
                writer.blob(&Sha256::digest(content)),
                0,
                content.len() as u64,
                file.mode,
            )
        }
    };
    let (time, size) = (writer.int(epoch), writer.int(size));
    let access = write_access(mode, writer);
    writer.object(&[name, access, size, time, hash, target])
}

fn write_access(mode: u32, writer: &mut Writer) -> u32 {
    let mode = writer.int((mode & 0o7777).into());
    let root = writer.blob(b"root");
    writer.object(&[mode, root, root])
}

/// Walks the folders while data blocks last.
struct Extraction<'r, 'a> {
    reader: &'r Reader<'a>,
    data: std::slice::Iter<'r, &'a [u8]>,
    files: BTreeMap<String, File>,
    content: u64,
}

impl<'r, 'a> Extraction<'r, 'a> {
    fn new(reader: &'r Reader<'a>, data: &'r [&'a [u8]]) -> Self {
        Self {
            reader,
            data: data.iter(),
            files: BTreeMap::new(),
            content: 0,
        }
    }

    fn run(mut self, folders: Object<'_>) -> Result<Vec<File>, Malformed> {
        for (number, folder) in (1..).zip(folders.slots()) {
            let folder = self.reader.object(folder)?;
            let path = self.reader.text(folder.slot(1))?.to_owned();
            if !path.is_empty() {
                check_path(&path)?;
                let mode = self.mode(folder.slot(2))?;
                self.add(File {
                    path: path.clone(),
                    mode,
                    kind: Kind::Folder,
                })?;
            }
            for (at, file) in (1..).zip(self.reader.object(folder.slot(3))?.slots()) {
                let file = self.reader.object(file)?;
                let file = self.file(&path, file, (number, at))?;
                self.add(file)?;
            }
        }
        if self.data.next().is_some() {
            return Err(Malformed("a data block that belongs to no file".into()));
        }
        for path in self.files.keys() {
            for (at, _) in path.match_indices('/') {
                if self
                    .files
                    .get(&path[..at])
                    .is_some_and(|parent| parent.kind != Kind::Folder)
                {
                    return Err(Malformed(format!(
                        "{path:?} lies below something that is no folder"
                    )));
                }
            }
        }
        Ok(self.files.into_values().collect())
    }

    fn file(&mut self, folder: &str, slots: Object<'_>, number: (u32, u32)) -> Result<File, Malformed> {
        let name = self.reader.text(slots.slot(1))?;
        if name.contains('/') {
            return Err(Malformed(format!("{name:?} cannot be a file's name")));
        }
        let path = if folder.is_empty() {
            name.to_owned()
        } else {
            format!("{folder}/{name}")
        };
        check_path(&path)?;
        let mode = self.mode(slots.slot(2))?;
        let size = self.reader.int(slots.slot(3))?;
        let target = self.reader.blob(slots.slot(6))?;
        let kind = match target.split_first_chunk::<2>() {
            None if target.is_empty() => Kind::Regular(self.content(&path, size, slots.slot(5), number)?),
            None => return Err(Malformed(format!("{path:?} has a target that is cut short"))),
            Some((kind, target)) => {
                let target = std::str::from_utf8(target)
                    .map_err(|_| Malformed(format!("{path:?} is a link to what is no UTF-8")))?;
                match u16::from_le_bytes(*kind) {
                    TYPE_LINK => {
                        check_link(&path, target)?;
                        Kind::Link(target.to_owned())
                    }
                    // A hard link to a file before it.
                    TYPE_REGULAR => match self.files.get(target).map(|file| &file.kind) {
                        Some(Kind::Regular(content))
                            if content.len() as u64 <= MOST_CONTENT - self.content =>
                        {
                            Kind::Regular(content.clone())
                        }
                        _ => {
                            return Err(Malformed(format!(
                                "{path:?} is a hard link to {target:?}, which is no file"
                            )));
                        }
                    },
                    other => {
                        return Err(Malformed(format!(
                            "{path:?} is of a kind that no package has ({other:#o})"
                        )));
                    }
                }
            }
        };
        Ok(File { path, mode, kind })
    }

    /// The next data block, which must be this file's and fit its hash.
    fn content(
        &mut self,
        path: &str,
        size: u64,
        hash: Value,
        number: (u32, u32),
    ) -> Result<Vec<u8>, Malformed> {
        let content = if size == 0 {
            &[]
        } else {
            let block = self
                .data
                .next()
                .ok_or_else(|| Malformed(format!("the content of {path:?} is missing")))?;
            let head = [number.0.to_le_bytes(), number.1.to_le_bytes()].concat();
            match block.strip_prefix(head.as_slice()) {
                Some(content) if content.len() as u64 == size => content,
                _ => return Err(Malformed(format!("the data block of {path:?} is another file's"))),
            }
        };
        if self.reader.blob(hash)? != Sha256::digest(content).as_slice() {
            return Err(Malformed(format!(
                "the content of {path:?} does not have the SHA-256 that the package says"
            )));
        }
        Ok(content.to_vec())
    }

    fn mode(&self, access: Value) -> Result<u32, Malformed> {
        let mode = self.reader.int(self.reader.object(access)?.slot(1))?;
        u32::try_from(mode)
            .ok()
            .filter(|mode| *mode <= 0o7777)
            .ok_or_else(|| Malformed(format!("the impossible mode {mode:#o}")))
    }

    fn add(&mut self, file: File) -> Result<(), Malformed> {
        self.content += file.size();
        if self.files.len() >= MOST_ENTRIES || self.content > MOST_CONTENT {
            return Err(Malformed("too many or too large files".into()));
        }
        let path = file.path.clone();
        if self.files.insert(path.clone(), file).is_some() {
            return Err(Malformed(format!("{path:?} is there twice")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
