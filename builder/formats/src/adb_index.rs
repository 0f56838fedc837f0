//! `packages.adb`: the signed index of a folder of apk packages.
//!
//! An ADB file (see [`crate::adb`]) of schema `indx`. Its root object: description, packages, and a scheme of file
//! names (`NAME-VERSION.apk` without one). A package has the info fields of the package file, with its identity
//! (SHA-256 of its ADB block) and file size added; the SHA-256 of the file is not in it.
//!
//! The chain of trust: a trusted key signed the index, which names the identity of each package, which covers the
//! hash of each file in it.

pub use crate::ecdsa::{KeyId, PublicKey, SecretKey};
use crate::{
    Malformed,
    adb::{self, Blocks, Compression, FileBuilder, Reader, Writer, info},
    apk, apk_version,
    package::{IndexEntry, check_path},
};

const PACKAGES: usize = 2;
const NAME_SCHEME: usize = 3;
/// Most packages of one index; OpenWrt's largest has some ten thousand.
const MOST_PACKAGES: usize = 500_000;

/// Writes an index, unsigned and uncompressed; packages come in the order of their names, then versions.
///
/// # Errors
/// An entry without identity, with a field that is none in apk, or with another file name than `NAME-VERSION.apk`.
pub fn write(entries: &[IndexEntry]) -> Result<Vec<u8>, Malformed> {
    let mut sorted: Vec<&IndexEntry> = entries.iter().collect();
    sorted.sort_by(|a, b| {
        let versions = apk_version::compare(&a.meta.version, &b.meta.version);
        let versions = versions.unwrap_or_else(|| a.meta.version.cmp(&b.meta.version));
        a.meta.name.cmp(&b.meta.name).then(versions)
    });
    let mut writer = Writer::new();
    let mut packages = Vec::new();
    for entry in sorted {
        entry.meta.check()?;
        info::check(&entry.meta)?;
        let Some(identity) = entry.identity else {
            return Err(Malformed(format!(
                "{} has no identity to index it by",
                entry.file
            )));
        };
        if entry.file != apk::file_name(&entry.meta.name, &entry.meta.version) {
            return Err(Malformed(format!(
                "{} is not named after its name and version",
                entry.file
            )));
        }
        let mut slots = info::Slots::of(&entry.meta, &mut writer)?;
        slots.installed_size(entry.meta.installed_size, &mut writer);
        slots.0[info::FILE_SIZE - 1] = writer.int(entry.size);
        slots.0[info::HASHES - 1] = writer.blob(&identity);
        packages.push(writer.object(&slots.0));
    }
    let packages = writer.object(&packages);
    let root = writer.object(&[0, packages]);
    FileBuilder::new(adb::INDEX, &writer.finish(root)?)?.finish(Compression::None)
}

/// Adds a signature to an index; the same bytes each time.
///
/// # Errors
/// `index` is none.
pub fn sign(index: &[u8], key: &SecretKey) -> Result<Vec<u8>, Malformed> {
    let mut file = FileBuilder::reopen(&adb::unpack(index)?);
    file.sign(adb::INDEX, key)?;
    file.finish(Compression::None)
}

/// Reads an index, in its own order, without looking at signatures: [`verify`] it first.
///
/// # Errors
/// Damage, an entry without name or with a name that no package has, a scheme of file names that is not known.
pub fn parse(index: &[u8]) -> Result<Vec<IndexEntry>, Malformed> {
    let file = adb::unpack(index)?;
    let blocks = Blocks::parse(&file, adb::INDEX)?;
    if !blocks.data.is_empty() {
        return Err(Malformed("an index with data blocks".into()));
    }
    let reader = Reader::new(blocks.adb)?;
    let root = reader.root()?;
    let scheme = reader.text(root.slot(NAME_SCHEME))?;
    let mut entries = Vec::new();
    for package in reader.object(root.slot(PACKAGES))?.slots() {
        if entries.len() >= MOST_PACKAGES {
            return Err(Malformed(format!("more than {MOST_PACKAGES} packages")));
        }
        let slots = reader.object(package)?;
        let meta = info::read(&reader, slots)?;
        // Shorter ones are ids of another kind.
        let identity = reader.blob(slots.slot(info::HASHES))?.try_into().ok();
        let size = reader.int(slots.slot(info::FILE_SIZE))?;
        let file = match scheme {
            "" => apk::file_name(&meta.name, &meta.version),
            scheme => substitute(
                scheme,
                &meta.name,
                &meta.version,
                reader.text(slots.slot(info::ARCH))?,
            )?,
        };
        entries.push(IndexEntry {
            meta,
            file,
            size,
            sha256: None,
            identity,
        });
    }
    Ok(entries)
}

/// Checks that one of `trusted` signed the index, and says which.
///
/// # Errors
/// Not signed, signed by others (their ids are named), or changed since.
pub fn verify(index: &[u8], trusted: &[PublicKey]) -> Result<KeyId, Malformed> {
    let file = adb::unpack(index)?;
    Blocks::parse(&file, adb::INDEX)?.verify(trusted)
}

/// The index entry of a package file. Reads and checks the whole package.
pub fn entry(package: &[u8]) -> Result<IndexEntry, Malformed> {
    let meta = apk::read(package)?.meta;
    Ok(IndexEntry {
        file: apk::file_name(&meta.name, &meta.version),
        size: package.len() as u64,
        sha256: None,
        identity: Some(apk::identity(package)?),
        meta,
    })
}

/// Fills in a scheme like `${arch}/${name}-${version}.apk`.
fn substitute(scheme: &str, name: &str, version: &str, arch: &str) -> Result<String, Malformed> {
    let file = scheme
        .replace("${name}", name)
        .replace("${version}", version)
        .replace("${arch}", arch);
    if file.contains("${") {
        return Err(Malformed(format!("the unknown scheme of file names {scheme:?}")));
    }
    check_path(&file)?;
    Ok(file)
}

#[cfg(test)]
mod tests;
