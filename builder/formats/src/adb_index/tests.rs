//! What the codec beside this file must hold to; golden files are in tests/fixtures/apk.

use super::*;
use crate::package::tests::sample;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/fixtures/apk/", $name)).as_slice()
    };
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32]).unwrap()
}

fn entries() -> Vec<IndexEntry> {
    let entry = |version: &str| {
        let mut package = sample();
        package.meta.version = version.into();
        super::entry(&apk::write(&package, 0, Compression::Deflate).unwrap()).unwrap()
    };
    vec![entry("1.9-r1"), entry("1.10-r1")]
}

#[test]
fn an_index_of_apk_tools_is_verified_and_read() {
    let theirs = PublicKey::parse(include_str!("../../tests/fixtures/apk/index-key.pem")).unwrap();
    let index = fixture!("packages.adb");
    assert_eq!(
        verify(index, &[key(1).public(), theirs.clone()]).unwrap(),
        theirs.id()
    );
    let found = parse(index).unwrap();
    let names: Vec<&str> = found.iter().map(|entry| entry.file.as_str()).collect();
    assert_eq!(names, ["other-2.0_rc1-r0.apk", "sample-1.2.0-r1.apk"]);
    // What apk-tools say of a package is what we say of it.
    assert_eq!(found[0], entry(fixture!("other.apk")).unwrap());
    assert_eq!(found[1], entry(fixture!("sample-deflate.apk")).unwrap());
}

#[test]
fn a_scheme_of_file_names_is_followed() {
    let found = parse(fixture!("scheme.adb")).unwrap();
    let names: Vec<&str> = found.iter().map(|entry| entry.file.as_str()).collect();
    assert_eq!(
        names,
        ["noarch/other_2.0_rc1-r0.apk", "x86_64/sample_1.2.0-r1.apk"]
    );
    assert!(substitute("${name}/../../x", "a", "1", "all").is_err());
    assert!(substitute("${what}", "a", "1", "all").is_err());
    assert_eq!(
        verify(fixture!("scheme.adb"), &[key(1).public()]).unwrap_err().0,
        "not signed"
    );
}

#[test]
fn an_index_is_read_back_as_written() {
    let index = write(&entries()).unwrap();
    assert_eq!(parse(&index).unwrap(), entries());
    let mut reversed = entries();
    reversed.reverse();
    assert_eq!(write(&reversed).unwrap(), index);
    assert_eq!(parse(&write(&[]).unwrap()).unwrap(), []);
    let mut unnamed = entries();
    unnamed[0].identity = None;
    assert!(write(&unnamed).is_err());
    let mut elsewhere = entries();
    elsewhere[0].file = "../sample.apk".into();
    assert!(write(&elsewhere).is_err());
}

#[test]
fn only_a_trusted_signature_over_these_bytes_counts() {
    let index = write(&entries()).unwrap();
    let signed = sign(&index, &key(1)).unwrap();
    assert_eq!(sign(&index, &key(1)).unwrap(), signed);
    assert_eq!(verify(&signed, &[key(1).public()]).unwrap(), key(1).public().id());
    assert_eq!(parse(&signed).unwrap(), entries());
    let error = verify(&signed, &[key(2).public()]).unwrap_err();
    assert!(error.0.contains(&key(1).public().id().to_string()), "{error}");
    assert_eq!(verify(&index, &[key(1).public()]).unwrap_err().0, "not signed");
    let twice = sign(&signed, &key(2)).unwrap();
    assert_eq!(verify(&twice, &[key(2).public()]).unwrap(), key(2).public().id());
    // A package's schema is part of what is signed.
    assert!(
        verify(
            &apk::write(&sample(), 0, Compression::None).unwrap(),
            &[key(1).public()]
        )
        .is_err()
    );
}

#[test]
fn no_changed_index_passes() {
    let signed = sign(&write(&entries()).unwrap(), &key(1)).unwrap();
    let trusted = [key(1).public()];
    crate::hostile::mutations(&signed, 13, |bad| {
        if verify(bad, &trusted).is_ok() {
            assert_eq!(parse(bad).as_ref(), Ok(&entries()));
        }
        drop(parse(bad));
    });
    crate::hostile::splices(&signed, 1000, |bad| drop(parse(bad)));
    crate::hostile::splices(fixture!("packages.adb"), 300, |bad| drop(parse(bad)));
}
