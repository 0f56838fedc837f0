//! What the codec beside this file must hold to; golden files are in tests/fixtures/apk.

use super::*;
use crate::package::{Meta, tests::sample};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/fixtures/apk/", $name)).as_slice()
    };
}

const EPOCH: u64 = 1_700_000_000;

/// The package that the fixture `other.apk` is.
fn other() -> Package {
    let script = || Some(b"#!/bin/sh\nexit 0\n".to_vec());
    let words = |words: &str| words.split(' ').map(str::to_owned).collect();
    Package {
        meta: Meta {
            name: "other".into(),
            version: "2.0_rc1-r0".into(),
            arch: "all".into(),
            description: "d".repeat(300),
            license: "MIT".into(),
            depends: words("z y=1 x<2 w<=3 v>4 u>=5 t~6 two>=1.10 two<2 two>=1.9 !s<1 !r so:lib.so.1 z"),
            ..Meta::default()
        },
        scripts: Scripts {
            pre_install: script(),
            post_install: script(),
            post_upgrade: Some(vec![b'#'; 70_000]),
            pre_deinstall: None,
            post_deinstall: script(),
        },
        conffiles: Vec::new(),
        files: vec![File {
            path: "lib/apk/packages".into(),
            mode: 0o755,
            kind: Kind::Folder,
        }],
    }
}

/// A file of the schema `pckg` whose payload is written by `build`, followed by data blocks.
fn forged(build: impl FnOnce(&mut Writer) -> u32, data: &[&[u8]]) -> Vec<u8> {
    let mut writer = Writer::new();
    let root = build(&mut writer);
    let mut file = FileBuilder::new(adb::PACKAGE, &writer.finish(root).unwrap()).unwrap();
    for block in data {
        file.data(&[block]).unwrap();
    }
    file.finish(Compression::None).unwrap()
}

/// A package with one folder and in it one file of these slots.
fn with_file(folder: &str, name: &str, size: u64, hash: &[u8], target: &[u8], data: &[&[u8]]) -> Vec<u8> {
    let build = |writer: &mut Writer| {
        let (name, folder) = (writer.blob(name.as_bytes()), writer.blob(folder.as_bytes()));
        let access = write_access(0o644, writer);
        let (size, hash, target) = (writer.int(size), writer.blob(hash), writer.blob(target));
        let file = writer.object(&[name, access, size, 0, hash, target]);
        let files = writer.object(&[file]);
        let folder = writer.object(&[folder, access, files]);
        let paths = writer.object(&[folder]);
        let info = info::Slots::of(&sample().meta, writer).unwrap();
        let info = writer.object(&info.0);
        writer.object(&[info, paths])
    };
    forged(build, data)
}

#[track_caller]
fn refused(apk: &[u8], why: &str) {
    let error = read(apk).unwrap_err();
    assert!(error.0.contains(why), "{error}");
}

#[test]
fn what_is_written_is_what_apk_tools_write() {
    assert!(write(&sample(), EPOCH, Compression::None).unwrap() == fixture!("sample-none.apk"));
    let theirs = adb::unpack(fixture!("other.apk")).unwrap();
    assert!(write(&other(), EPOCH, Compression::None).unwrap() == theirs);
    let theirs = adb::unpack(fixture!("sample-deflate.apk")).unwrap();
    assert!(adb::unpack(&write(&sample(), EPOCH, Compression::Deflate).unwrap()).unwrap() == theirs);
}

#[test]
fn all_that_apk_tools_write_is_read() {
    let package = read(fixture!("sample-none.apk")).unwrap();
    assert_eq!(package, with_registry(&sample()).unwrap());
    assert_eq!(read(fixture!("sample-deflate.apk")).unwrap(), package);
    assert_eq!(read(fixture!("sample-deflate-9.apk")).unwrap(), package);
    refused(fixture!("sample-zstd.apk"), "zstd");
    assert_eq!(
        identity(fixture!("sample-none.apk")),
        identity(fixture!("sample-deflate.apk"))
    );
    let linked = read(fixture!("linked.apk")).unwrap();
    assert_eq!(linked.files[1].kind, Kind::Regular(b"content".to_vec()));
    assert_eq!(linked.files[2].kind, linked.files[1].kind);
}

#[test]
fn dependencies_are_ordered_as_apk_orders_them() {
    let theirs = read(fixture!("other.apk")).unwrap();
    let expected = "so:lib.so.1 t~6 two<2 two>=1.9 two>=1.10 u>=5 v>4 w<=3 x<2 y=1 z";
    let mut sorted: Vec<&str> = expected.split(' ').collect();
    sorted.sort();
    let mut found = theirs.meta.depends.clone();
    found.sort();
    assert_eq!(found, sorted);
    assert_eq!(theirs.meta.conflicts, ["r", "s<1"]);
    assert_eq!(
        (theirs.meta.arch.as_str(), theirs.meta.description.len()),
        ("all", 300)
    );
    assert_eq!(theirs.scripts, other().scripts);
}

#[test]
fn a_package_is_read_back_as_written() {
    for compression in [Compression::None, Compression::Deflate] {
        let apk = write(&sample(), EPOCH, compression).unwrap();
        let package = read(&apk).unwrap();
        assert_eq!(package, with_registry(&sample()).unwrap());
        assert_eq!(write(&package, EPOCH, compression).unwrap(), apk);
    }
    let mut shuffled = sample();
    shuffled.files.reverse();
    let (a, b) = (
        write(&shuffled, 5, Compression::None),
        write(&sample(), 5, Compression::None),
    );
    assert_eq!(a, b);
    assert_ne!(write(&sample(), 6, Compression::None), b);
}

#[test]
fn openwrts_lists_are_carried() {
    let package = read(&write(&sample(), 0, Compression::Deflate).unwrap()).unwrap();
    assert_eq!(package.conffiles, sample().conffiles);
    let text = |ending: &str| {
        let path = format!("lib/apk/packages/sample.{ending}");
        let file = package.files.iter().find(|file| file.path == path).unwrap();
        let Kind::Regular(content) = &file.kind else {
            panic!("a file")
        };
        String::from_utf8(content.clone()).unwrap()
    };
    assert_eq!(
        text("list"),
        "/etc/config/sample\n/etc/empty\n/usr/sbin/sample\n/usr/sbin/sample-link\n"
    );
    assert_eq!(text("conffiles"), "/etc/config/sample\n");
    let hash = hex(&Sha256::digest(b"config sample\n"));
    assert_eq!(text("conffiles_static"), format!("/etc/config/sample {hash}\n"));
}

#[test]
fn what_apk_would_refuse_is_not_written() {
    let refused = |change: fn(&mut Package), why: &str| {
        let mut package = sample();
        change(&mut package);
        let error = write(&package, 0, Compression::None).unwrap_err();
        assert!(error.0.contains(why), "{error}");
    };
    refused(|package| package.meta.version = "1.0.0-rc.1".into(), "no version");
    refused(|package| package.meta.name = "-sample".into(), "no package name");
    refused(
        |package| package.meta.depends = vec!["foo (>= 2)".into()],
        "no dependency",
    );
    refused(
        |package| package.meta.depends = vec!["foo>=".into()],
        "no dependency",
    );
}

#[test]
fn hostile_packages_are_refused() {
    let hash = Sha256::digest(b"x");
    let block = [1u32.to_le_bytes(), 1u32.to_le_bytes()].concat();
    let x = [&block[..], b"x"].concat();
    assert!(read(&with_file("a", "b", 1, &hash, b"", &[&x])).is_ok());
    refused(&with_file("..", "b", 1, &hash, b"", &[&x]), "..");
    refused(&with_file("/etc", "b", 1, &hash, b"", &[&x]), "/etc");
    refused(&with_file("a", "../b", 1, &hash, b"", &[&x]), "../b");
    refused(&with_file("a", "..", 1, &hash, b"", &[&x]), "a/..");
    refused(&with_file("a", "b", 1, b"short", b"", &[&x]), "SHA-256");
    refused(&with_file("a", "b", 2, &hash, b"", &[&x]), "another file's");
    refused(&with_file("a", "b", 1 << 60, &hash, b"", &[&x]), "another file's");
    refused(&with_file("a", "b", 1, &hash, b"", &[]), "missing");
    refused(
        &with_file("a", "b", 1, &hash, b"", &[&x, &x]),
        "belongs to no file",
    );
    refused(
        &with_file("a", "b", 0, b"", b"\x00\xa0../../etc", &[]),
        "leaves the root",
    );
    refused(
        &with_file("a", "b", 0, b"", b"\x00\x20\0\0\0\0\0\0\0\0", &[]),
        "of a kind",
    );
    refused(
        &with_file("a", "b", 0, b"", b"\x00\x80etc/shadow", &[]),
        "no file",
    );
    refused(&with_file("a", "b", 0, b"", b"\x00", &[]), "cut short");
}

#[test]
fn sharing_without_end_stops_at_the_bound() {
    // Ten thousand folders, each with the same ten thousand files.
    let bomb = forged(
        |writer| {
            let name = writer.blob(b"f");
            let file = writer.object(&[name]);
            let files = writer.object(&vec![file; 10_000]);
            let folder = writer.object(&[name, 0, files]);
            let paths = writer.object(&vec![folder; 10_000]);
            let info = info::Slots::of(&sample().meta, writer).unwrap();
            let info = writer.object(&info.0);
            writer.object(&[info, paths])
        },
        &[],
    );
    assert!(bomb.len() < 100_000);
    assert!(read(&bomb).is_err());
    let zeros = vec![0; 4 << 20];
    let mut deflated = flate2::write::DeflateEncoder::new(b"ADBd".to_vec(), flate2::Compression::best());
    std::io::Write::write_all(&mut deflated, &zeros).unwrap();
    assert!(read(&deflated.finish().unwrap()).is_err());
}

#[test]
fn damage_is_an_error_or_shows() {
    let small = Package {
        meta: Meta {
            name: "a".into(),
            version: "1".into(),
            arch: "all".into(),
            ..Meta::default()
        },
        files: vec![File {
            path: "f".into(),
            mode: 0o644,
            kind: Kind::Regular(b"x".to_vec()),
        }],
        ..Package::default()
    };
    for compression in [Compression::None, Compression::Deflate] {
        let good = write(&small, EPOCH, compression).unwrap();
        let (package, id) = (read(&good).unwrap(), identity(&good).unwrap());
        crate::hostile::mutations(&good, 1, |bad| {
            if let Ok(changed) = read(bad) {
                // Contents are covered by their hashes, the rest by the identity.
                assert!(changed == package || identity(bad) != Ok(id));
            }
        });
    }
    crate::hostile::splices(fixture!("sample-none.apk"), 1000, |bad| drop(read(bad)));
    crate::hostile::splices(fixture!("other.apk"), 300, |bad| drop(read(bad)));
}
