//! The daemon as a package that a router's package manager lists, upgrades and removes.
//!
//! The files beside the binary come from `daemon/package/files`, laid out as on the router. This module decides
//! everything else: modes, names, versions, scripts. It writes no archive: that is `openwrt_formats`'s.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use openwrt_formats::adb_index;
use openwrt_formats::package::{File, Kind, Meta, Package, Scripts};
use openwrt_formats::usign::PublicKey;
use serde::Deserialize;
use walkdir::WalkDir;

use crate::profile::{Feed, OpenWrt, PackageFormat, Profile};
use crate::project::Project;
use crate::{Error, Result};

/// The package's name, and the name of everything that it calls its own on the router.
pub const NAME: &str = "sennit";

const BINARY: &str = "usr/sbin/sennit";
const DESCRIPTION: &str = "Bonding daemon: several internet links become one";
const LICENSE: &str = "MIT OR Apache-2.0";

/// What the daemon needs on the router. The binary is static, so that no library is among it.
const DEPENDS: &[&str] = &["kmod-tun"];

/// Packs `binary` with its init script, configuration and maintainer scripts for the profile's release.
/// `version` is SemVer: see [`version`].
pub fn package(project: &Project, binary: Vec<u8>, version: &str, profile: &Profile) -> Result<Package> {
    let format = profile.openwrt.format();
    let version = package_version(version, format)?;
    let mut contents = package_files(project)?;
    let mut conffiles = vec!["etc/config/sennit".to_owned()];
    for (path, content, conffile) in feed_files(&profile.feed, &profile.openwrt)? {
        if conffile {
            conffiles.push(path.clone());
        }
        contents.insert(path, content);
    }
    contents.insert(BINARY.to_owned(), binary);
    let installed_size = contents.values().map(|content| content.len() as u64).sum();
    Ok(Package {
        meta: Meta {
            name: NAME.to_owned(),
            version,
            arch: profile.openwrt.arch.clone(),
            description: DESCRIPTION.to_owned(),
            license: LICENSE.to_owned(),
            origin: NAME.to_owned(),
            depends: DEPENDS.iter().map(|&name| name.to_owned()).collect(),
            installed_size,
            ..Meta::default()
        },
        scripts: scripts(format),
        conffiles: conffiles.into_iter().map(|path| format!("/{path}")).collect(),
        files: with_folders(contents),
    })
}

/// The daemon's version: that of the project's workspace.
pub fn version(project: &Project) -> Result<String> {
    #[derive(Deserialize)]
    struct Manifest {
        workspace: Workspace,
    }
    #[derive(Deserialize)]
    struct Workspace {
        package: WorkspacePackage,
    }
    #[derive(Deserialize)]
    struct WorkspacePackage {
        version: String,
    }
    let path = project.root.join("Cargo.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| Error::io("read", &path, error))?;
    let manifest: Manifest = toml::from_str(&text).map_err(|error| {
        Error::user(format!(
            "{path}: no version in [workspace.package]: {}",
            error.message()
        ))
        .hint("this is the manifest of the Sennit repository; restore it: git checkout Cargo.toml")
    })?;
    Ok(manifest.workspace.package.version)
}

/// A package's version from a SemVer one, such that the router's package manager sorts both alike:
/// `1.0.0-rc.1` is `1.0.0~rc.1-r1` for opkg and `1.0.0_rc1-r1` for apk.
fn package_version(version: &str, format: PackageFormat) -> Result<String> {
    let refused = || {
        Error::user(format!("{version:?} cannot be a package's version"))
            .hint("use NUMBER.NUMBER.NUMBER, or that with -alpha.N, -beta.N or -rc.N")
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (core, stage) = version
        .split_once('-')
        .map_or((version, None), |(core, stage)| (core, Some(stage)));
    if core.split('.').count() != 3 || !core.split('.').all(is_number) {
        return Err(refused());
    }
    let Some(stage) = stage else {
        return Ok(format!("{core}-r1"));
    };
    // Only these have an order that SemVer, opkg and apk agree on.
    let (name, number) = stage.split_once('.').ok_or_else(refused)?;
    if !matches!(name, "alpha" | "beta" | "rc") || !is_number(number) {
        return Err(refused());
    }
    match format {
        PackageFormat::Ipk => Ok(format!("{core}~{name}.{number}-r1")),
        PackageFormat::Apk => Ok(format!("{core}_{name}{number}-r1")),
    }
}

/// OpenWrt's own boilerplate: its functions enable and start the service on a router, and do nothing but enable it
/// while an image is made.
fn scripts(format: PackageFormat) -> Scripts {
    const POSTINST: &str = r#"#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_postinst $0 $@
"#;
    const PRERM: &str = r#"#!/bin/sh
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_prerm $0 $@
"#;
    // apk hands its scripts neither the root nor the package's name; OpenWrt's functions read both from here.
    const APK_POST_INSTALL: &str = r#"[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
export root="${IPKG_INSTROOT}"
export pkgname="sennit"
add_group_and_user
default_postinst
"#;
    // opkg stops a service before an upgrade; apk does not, and procd keeps a program whose command line is the same.
    const APK_RESTART: &str = r#"[ -n "${IPKG_INSTROOT}" ] || /etc/init.d/sennit restart
"#;
    const APK_PRE_DEINSTALL: &str = r#"#!/bin/sh
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
export root="${IPKG_INSTROOT}"
export pkgname="sennit"
default_prerm
"#;
    match format {
        PackageFormat::Ipk => Scripts {
            post_install: Some(POSTINST.into()),
            pre_deinstall: Some(PRERM.into()),
            ..Scripts::default()
        },
        PackageFormat::Apk => Scripts {
            post_install: Some(format!("#!/bin/sh\n{APK_POST_INSTALL}").into()),
            post_upgrade: Some(
                format!("#!/bin/sh\nexport PKG_UPGRADE=1\n{APK_POST_INSTALL}{APK_RESTART}").into(),
            ),
            pre_deinstall: Some(APK_PRE_DEINSTALL.into()),
            ..Scripts::default()
        },
    }
}

/// The package's own feed: (path, content, is it a conffile); nothing while the project has no public address.
fn feed_files(feed: &Feed, openwrt: &OpenWrt) -> Result<Vec<(String, Vec<u8>, bool)>> {
    if feed.url.is_empty() {
        return Ok(Vec::new());
    }
    let folder = format!(
        "{}/{}/{}",
        feed.url.trim_end_matches('/'),
        series(&openwrt.release),
        openwrt.arch
    );
    match openwrt.format() {
        PackageFormat::Ipk => Ok(vec![
            // opkg reads every .conf in this folder; one of our own can be upgraded and removed with the package.
            (
                format!("etc/opkg/{NAME}.conf"),
                format!("src/gz {NAME} {folder}\n").into(),
                true,
            ),
            (
                format!("etc/opkg/keys/{}", usign_key_id(&feed.key)?),
                feed.key.clone().into(),
                false,
            ),
        ]),
        PackageFormat::Apk => Ok(vec![
            (
                format!("etc/apk/repositories.d/{NAME}.list"),
                format!("{folder}/packages.adb\n").into(),
                true,
            ),
            (
                format!("etc/apk/keys/{NAME}.pem"),
                apk_public_key(&feed.key)?.into(),
                false,
            ),
        ]),
    }
}

/// A public key in PEM. A secret key is no public one, and never gets into a package.
fn apk_public_key(key: &str) -> Result<String> {
    adb_index::PublicKey::parse(key)
        .and_then(|key| key.to_pem())
        .map_err(|malformed| {
            Error::user("the feed's key is not an EC P-256 public key")
                .because(malformed)
                .hint("feed.key in the profile holds PEM: -----BEGIN PUBLIC KEY----- …")
        })
}

/// `24.10` of `24.10.8`: packages of one series fit all its releases.
fn series(release: &str) -> &str {
    match release.match_indices('.').nth(1) {
        Some((second_dot, _)) => &release[..second_dot],
        None => release,
    }
}

/// The name that opkg looks for. A secret key is no public one, and never gets into a package.
fn usign_key_id(key: &str) -> Result<String> {
    let key = PublicKey::parse(key).map_err(|malformed| {
        Error::user("the feed's key is not a usign public key")
            .because(malformed)
            .hint("feed.key in the profile holds two lines: untrusted comment: …, and the key in base64")
    })?;
    Ok(key.id().to_string())
}

/// `daemon/package/files`: path on the router (without leading slash) to content.
fn package_files(project: &Project) -> Result<BTreeMap<String, Vec<u8>>> {
    let root = project.root.join("daemon/package/files");
    let mut contents = BTreeMap::new();
    for entry in WalkDir::new(&root) {
        let entry = entry.map_err(|error| Error::io("read", &root, error.into()))?;
        if !entry.file_type().is_file() {
            continue;
        }
        let path = Utf8PathBuf::from_path_buf(entry.into_path())
            .map_err(|path| Error::user(format!("{} is not a UTF-8 path", path.display())))?;
        let content = std::fs::read(&path).map_err(|error| Error::io("read", &path, error))?;
        contents.insert(path.strip_prefix(&root).unwrap_or(&path).to_string(), content);
    }
    if contents.is_empty() {
        return Err(
            Error::user(format!("{root} has no files")).hint("restore it: git checkout daemon/package")
        );
    }
    Ok(contents)
}

/// Files and the folders above them, sorted by path; modes as OpenWrt's own packages have them.
fn with_folders(contents: BTreeMap<String, Vec<u8>>) -> Vec<File> {
    let mut files = BTreeMap::new();
    for (path, content) in contents {
        for folder in Utf8Path::new(&path)
            .ancestors()
            .skip(1)
            .filter(|folder| !folder.as_str().is_empty())
        {
            files.insert(folder.to_string(), (0o755, Kind::Folder));
        }
        let mode = mode_of(&path);
        files.insert(path, (mode, Kind::Regular(content)));
    }
    files
        .into_iter()
        .map(|(path, (mode, kind))| File { path, mode, kind })
        .collect()
}

/// The mode in the checkout is not asked: it depends on the umask and the file system.
fn mode_of(path: &str) -> u32 {
    match path {
        BINARY => 0o755,
        path if path.starts_with("etc/init.d/") || path.starts_with("usr/libexec/") => 0o755,
        path if path.starts_with("etc/config/") => 0o600,
        _ => 0o644,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openwrt_formats::usign::SecretKey;

    // The public release key of OpenWrt 24.10.
    const USIGN_KEY: &str =
        "untrusted comment: feed\nRWTTEMbygz6X95lKDAulctZy3aj15823THXfyrfXgwGbxZlXBd2brNcw\n";

    fn project() -> Project {
        let here = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
        Project {
            root: here.parent().expect("the crate lies in the workspace").to_owned(),
        }
    }

    fn profile(release: &str, feed: Feed) -> Profile {
        let mut profile = crate::testing::profile();
        profile.openwrt.release = release.into();
        profile.feed = feed;
        profile
    }

    fn content<'a>(package: &'a Package, path: &str) -> Option<&'a [u8]> {
        package
            .files
            .iter()
            .find(|file| file.path == path)
            .and_then(|file| match &file.kind {
                Kind::Regular(content) => Some(content.as_slice()),
                Kind::Folder | Kind::Link(_) => None,
            })
    }

    #[test]
    fn a_package_has_all_that_a_service_needs() {
        let package = package(
            &project(),
            b"ELF".to_vec(),
            "0.1.0",
            &profile("24.10.8", Feed::default()),
        )
        .unwrap();
        let listed: Vec<_> = package
            .files
            .iter()
            .map(|file| (file.path.as_str(), format!("{:o}", file.mode)))
            .collect();
        let expected = [
            ("etc", "755"),
            ("etc/config", "755"),
            ("etc/config/sennit", "600"),
            ("etc/init.d", "755"),
            ("etc/init.d/sennit", "755"),
            ("lib", "755"),
            ("lib/upgrade", "755"),
            ("lib/upgrade/keep.d", "755"),
            ("lib/upgrade/keep.d/sennit", "644"),
            ("usr", "755"),
            ("usr/libexec", "755"),
            ("usr/libexec/sennit", "755"),
            ("usr/libexec/sennit/public-address", "755"),
            ("usr/sbin", "755"),
            ("usr/sbin/sennit", "755"),
        ];
        assert_eq!(listed, expected.map(|(path, mode)| (path, mode.to_owned())));
        assert_eq!(content(&package, BINARY), Some(b"ELF".as_slice()));
        assert_eq!(package.conffiles, ["/etc/config/sennit"]);
        assert_eq!(package.meta.version, "0.1.0-r1");
        assert_eq!(package.meta.arch, "x86_64");
        assert_eq!(package.meta.depends, ["kmod-tun"]);
        assert!(package.meta.installed_size > 3);
        assert!(package.scripts.post_install.is_some() && package.scripts.pre_deinstall.is_some());
        assert!(package.scripts.post_upgrade.is_none(), "opkg has no such script");
    }

    #[test]
    fn the_feed_and_its_public_key_are_in_the_package() {
        let feed = Feed {
            url: "https://feed.example/sennit/".into(),
            key: USIGN_KEY.into(),
        };
        let package = package(&project(), Vec::new(), "0.1.0", &profile("24.10.8", feed)).unwrap();
        assert_eq!(
            content(&package, "etc/opkg/sennit.conf"),
            Some(b"src/gz sennit https://feed.example/sennit/24.10/x86_64\n".as_slice())
        );
        assert_eq!(
            content(&package, "etc/opkg/keys/d310c6f2833e97f7"),
            Some(USIGN_KEY.as_bytes())
        );
        assert_eq!(package.conffiles, ["/etc/config/sennit", "/etc/opkg/sennit.conf"]);
    }

    #[test]
    fn anything_but_a_public_key_is_refused() {
        let secret = SecretKey::from_seed(&[7; 32]).to_text();
        for key in [
            "",
            "RWTT",
            "comment\nnot base64!",
            "comment\nRWTT",
            secret.as_str(),
        ] {
            let feed = Feed {
                url: "https://feed.example".into(),
                key: key.to_owned(),
            };
            let outcome = package(&project(), Vec::new(), "0.1.0", &profile("24.10.8", feed));
            assert!(outcome.unwrap_err().to_string().contains("usign"), "{key:?}");
        }
    }

    #[test]
    fn versions_sort_as_semver_says() {
        let opkg = |version| package_version(version, PackageFormat::Ipk).map_err(|error| error.to_string());
        assert_eq!(opkg("1.0.0").as_deref(), Ok("1.0.0-r1"));
        assert_eq!(opkg("1.0.0-rc.1").as_deref(), Ok("1.0.0~rc.1-r1"));
        for version in [
            "",
            "1.0",
            "1.0.x",
            "1.0.0-rc",
            "1.0.0-nightly.1",
            "1.0.0-rc.1.2",
            "1.0.0+abc",
            "v1.0.0",
        ] {
            assert!(opkg(version).is_err(), "{version:?}");
        }
    }

    #[test]
    fn apk_versions_sort_as_semver_says() {
        let apk = |version| package_version(version, PackageFormat::Apk).unwrap();
        let sorted = [
            "1.0.0-alpha.2",
            "1.0.0-beta.1",
            "1.0.0-rc.1",
            "1.0.0-rc.10",
            "1.0.0",
            "1.0.1",
        ];
        for pair in sorted.windows(2) {
            let order = openwrt_formats::apk_version::compare(&apk(pair[0]), &apk(pair[1]));
            assert_eq!(order, Some(std::cmp::Ordering::Less), "{pair:?}");
        }
    }

    #[test]
    fn apk_has_scripts_of_its_own_and_the_feed_in_its_own_folders() {
        let key = adb_index::SecretKey::from_seed(&[7; 32]).unwrap();
        let feed = Feed {
            url: "https://feed.example/sennit/".into(),
            key: key.public().to_pem().unwrap(),
        };
        let package = package(&project(), b"ELF".to_vec(), "0.1.0", &profile("25.12.5", feed)).unwrap();
        let upgrade = String::from_utf8(package.scripts.post_upgrade.clone().unwrap()).unwrap();
        assert!(
            upgrade.starts_with("#!/bin/sh\nexport PKG_UPGRADE=1\n"),
            "{upgrade}"
        );
        // Without it the old program would run until the next boot.
        assert!(upgrade.ends_with("/etc/init.d/sennit restart\n"), "{upgrade}");
        assert_eq!(
            content(&package, "etc/apk/repositories.d/sennit.list"),
            Some("https://feed.example/sennit/25.12/x86_64/packages.adb\n".as_bytes())
        );
        assert!(content(&package, "etc/apk/keys/sennit.pem").is_some());

        let secret = Feed {
            url: "https://feed.example/".into(),
            key: key.to_pem().unwrap(),
        };
        assert!(super::package(&project(), Vec::new(), "0.1.0", &profile("25.12.5", secret)).is_err());
    }

    #[test]
    fn the_series_is_the_release_without_its_last_number() {
        assert_eq!(series("24.10.8"), "24.10");
        assert_eq!(series("19.07.4"), "19.07");
        assert_eq!(series("snapshot"), "snapshot");
    }

    #[test]
    fn the_version_is_the_workspaces() {
        assert_eq!(version(&project()).unwrap(), env!("CARGO_PKG_VERSION"));
    }
}
