//! sbom.spdx.json: what is in an image, as an SPDX 2.3 document that scanners read.
//!
//! It lists what the image's own manifest lists: each package with version and, where the lock pins its file, the
//! file's hash. Nothing in it depends on the time or the folder of the build.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::key::Inputs;
use super::provenance::Output;
use crate::daemon_package;
use crate::digest::Sha256;
use crate::{Error, Result};

/// The file's name in a device's folder.
pub(super) const FILE: &str = "sbom.spdx.json";

/// What an SBOM is written from.
pub(super) struct Contents<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) key: Sha256,
    /// Name and version of each installed package.
    pub(super) packages: &'a [(String, String)],
    pub(super) images: &'a BTreeMap<String, Output>,
    /// Seconds since 1970: the image's own time stamp.
    pub(super) epoch: u64,
    pub(super) daemon_sha256: Sha256,
}

/// The document's text.
pub(super) fn text(contents: &Contents<'_>) -> Result<String> {
    let inputs = contents.inputs;
    let name = format!("sennit-{}-{}", inputs.daemon.version, inputs.device);
    let packages: Vec<Value> = contents
        .packages
        .iter()
        .map(|package| described(contents, package))
        .collect();
    let contained = contents.packages.iter().map(|(package, _)| {
        json!({
            "spdxElementId": "SPDXRef-Image",
            "relationshipType": "CONTAINS",
            "relatedSpdxElement": reference(package),
        })
    });
    let describes = json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": "SPDXRef-Image",
    });
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        // Unique to the content, as the standard asks, and the same for the same content.
        "documentNamespace": format!("https://spdx.org/spdxdocs/{name}-{}", contents.key),
        "creationInfo": {
            "created": timestamp(contents.epoch),
            "creators": [format!("Tool: sennit-builder-{}", inputs.builder)],
        },
        "packages": std::iter::once(image(contents, &name)).chain(packages).collect::<Vec<_>>(),
        "relationships": std::iter::once(describes).chain(contained).collect::<Vec<_>>(),
    });
    serde_json::to_string_pretty(&document)
        .map(|text| text + "\n")
        .map_err(|error| Error::bug("the SBOM cannot be written as JSON").because(error))
}

fn image(contents: &Contents<'_>, name: &str) -> Value {
    let openwrt = &contents.inputs.openwrt;
    let part = |key: &str| openwrt.get(key).map_or("", String::as_str);
    let files: Vec<String> = contents
        .images
        .iter()
        .map(|(file, output)| format!("{file} SHA256: {}", output.sha256))
        .collect();
    json!({
        "SPDXID": "SPDXRef-Image",
        "name": name,
        "versionInfo": contents.inputs.daemon.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
        "summary": format!("OpenWrt {} {}, board {}", part("release"), part("target"), part("profile")),
        "comment": files.join("\n"),
    })
}

fn described(contents: &Contents<'_>, (name, version): &(String, String)) -> Value {
    let mut package = json!({
        "SPDXID": reference(name),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    });
    let Value::Object(fields) = &mut package else {
        return package;
    };
    if name == daemon_package::NAME {
        fields.insert("licenseDeclared".into(), "MIT OR Apache-2.0".into());
        fields.insert(
            "comment".into(),
            format!("SHA256 of the binary: {}", contents.daemon_sha256).into(),
        );
    } else if let Some((file, sha256)) = pinned(contents.inputs, name, version) {
        fields.insert("packageFileName".into(), file.as_str().into());
        let checksum = json!({ "algorithm": "SHA256", "checksumValue": sha256.to_string() });
        fields.insert("checksums".into(), vec![checksum].into());
    }
    package
}

/// The pinned file of a package: `NAME_VERSION_ARCH.ipk` or `NAME-VERSION.apk`.
fn pinned<'i>(inputs: &'i Inputs, name: &str, version: &str) -> Option<(&'i String, &'i Sha256)> {
    let (opkg, apk) = (format!("{name}_{version}_"), format!("{name}-{version}.apk"));
    inputs
        .packages
        .iter()
        .find(|(file, _)| file.starts_with(&opkg) || **file == apk)
}

/// SPDX identifiers have letters, digits, `.` and `-` only; `_` and `+` are in package names too.
fn reference(name: &str) -> String {
    let mut reference = String::from("SPDXRef-Package-");
    for character in name.chars() {
        match character {
            '_' => reference.push_str(".u."),
            '+' => reference.push_str(".p."),
            plain => reference.push(plain),
        }
    }
    reference
}

/// `2026-06-21T00:00:00Z`, in the proleptic Gregorian calendar.
fn timestamp(epoch: u64) -> String {
    let (days, seconds) = (epoch / 86_400, epoch % 86_400);
    // Days are counted from 0000-03-01, so that a leap day ends its year (Howard Hinnant's algorithm).
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::key::tests::inputs;

    #[test]
    fn every_installed_package_is_listed_with_its_pinned_hash() {
        let mut inputs = inputs();
        inputs.packages = BTreeMap::from([
            ("busybox_1.36-r1_x86_64.ipk".into(), Sha256::of("busybox")),
            ("libfoo++_2-r1_x86_64.ipk".into(), Sha256::of("foo")),
        ]);
        let version = |version: &str| version.to_owned();
        let packages = [
            ("busybox".to_owned(), version("1.36-r1")),
            ("libfoo++".to_owned(), version("2-r1")),
            ("sennit".to_owned(), version("0.1.0-r1")),
        ];
        let contents = Contents {
            inputs: &inputs,
            key: Sha256::of("key"),
            packages: &packages,
            images: &BTreeMap::new(),
            epoch: 1_782_000_000,
            daemon_sha256: Sha256::of("daemon"),
        };
        let document: Value = serde_json::from_str(&text(&contents).expect("writes")).expect("is JSON");
        assert_eq!(document["spdxVersion"], "SPDX-2.3");
        assert_eq!(
            document["packages"][1]["checksums"][0]["checksumValue"],
            Sha256::of("busybox").to_string()
        );
        assert_eq!(document["packages"][2]["SPDXID"], "SPDXRef-Package-libfoo.p..p.");
        assert_eq!(document["packages"][3]["licenseDeclared"], "MIT OR Apache-2.0");
        assert_eq!(document["relationships"].as_array().map(Vec::len), Some(4));
        let valid = |id: &Value| {
            let id = id.as_str().unwrap_or_default();
            id.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
        };
        assert!(
            document["packages"]
                .as_array()
                .expect("list")
                .iter()
                .all(|package| valid(&package["SPDXID"]))
        );
    }

    #[test]
    fn timestamps_are_right_around_leap_days() {
        for (epoch, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(epoch), text);
        }
    }
}
