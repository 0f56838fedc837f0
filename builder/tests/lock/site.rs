//! A source of one target in a folder, with a handmade ImageBuilder that "resolves" by taking all that it is offered.

use std::io::Write;

use builder::digest::Sha256;
use camino::{Utf8Path, Utf8PathBuf};
use openwrt_formats::package::{File, Kind, Meta, Package};
use openwrt_formats::usign::SecretKey;
use openwrt_formats::{adb_index, apk, ipk, opkg};

/// Both eras of OpenWrt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    Ipk,
    Apk,
}

impl Era {
    pub(crate) fn release(self) -> &'static str {
        match self {
            Self::Ipk => "24.10.8",
            Self::Apk => "25.12.5",
        }
    }

    pub(crate) fn target(self) -> String {
        format!("releases/{}/targets/x86/64", self.release())
    }

    pub(crate) fn feed(self) -> String {
        format!("releases/{}/packages/x86_64/base", self.release())
    }

    /// The index file of a feed.
    pub(crate) fn index(self) -> String {
        match self {
            Self::Ipk => format!("{}/Packages", self.feed()),
            Self::Apk => format!("{}/packages.adb", self.feed()),
        }
    }

    pub(crate) fn imagebuilder(self) -> String {
        format!(
            "{}/openwrt-imagebuilder-{}-x86-64.Linux-x86_64.tar.zst",
            self.target(),
            self.release()
        )
    }

    /// A package's file name and bytes.
    pub(crate) fn pack(self, package: &Package) -> (String, Vec<u8>) {
        let Meta { name, version, .. } = &package.meta;
        match self {
            Self::Ipk => (
                format!("{name}_{version}_x86_64.ipk"),
                ipk::write(package, 0).unwrap(),
            ),
            Self::Apk => (
                apk::file_name(name, version),
                apk::write(package, 0, apk::Compression::Deflate).unwrap(),
            ),
        }
    }
}

const MAKEFILE: &str = r#"
info:
	@printf 'Current Target: "x86/64"\nCurrent Architecture: "x86_64"\nCurrent Revision: "r1-1"\n'
	@printf 'Default Packages: libc busybox\nAvailable Profiles:\n\ngeneric:\n    A PC\n    Packages: kmod-e1000\n'
manifest:
	@ls packages | sed -nE 's/^([a-z][a-z0-9]*(-[a-z][a-z0-9]*)*)[-_]([0-9][^_]*)(_x86_64)?\.[ai]pk$$/\1 \3/p'
"#;

pub(crate) struct Site {
    pub(crate) root: Utf8PathBuf,
    era: Era,
    key: SecretKey,
    index_key: adb_index::SecretKey,
}

impl Site {
    pub(crate) fn make(root: &Utf8Path, era: Era) -> Self {
        let site = Self {
            root: root.to_owned(),
            era,
            key: SecretKey::from_seed(&[9; 32]),
            index_key: adb_index::SecretKey::from_seed(&[9; 32]).unwrap(),
        };
        site.feed(&[
            package("busybox", "1.36.1-r1", &["libc"]),
            package("kmod-e1000", "6.6-r1", &[]),
            package("ubus", "2024-r1", &["libubus2024"]),
            package("libubus2024", "2024-r1", &[]),
            package("unrelated", "1-r1", &[]),
        ]);
        site.target();
        site
    }

    /// `[keys]` of a `source.toml`.
    pub(crate) fn keys(&self) -> String {
        let public = self.key.public().to_text();
        let usign = public.lines().nth(1).unwrap();
        let apk = self.index_key.public().to_pem().unwrap();
        format!("[keys]\nusign = ['{usign}']\napk = [\'\'\'{apk}\'\'\']\n")
    }

    /// Publishes a feed with exactly these packages.
    pub(crate) fn feed(&self, packages: &[Package]) {
        let folder = self.root.join(self.era.feed());
        std::fs::create_dir_all(&folder).unwrap();
        let mut entries = Vec::new();
        for package in packages {
            let (file, bytes) = self.era.pack(package);
            std::fs::write(folder.join(&file), &bytes).unwrap();
            entries.push(match self.era {
                Era::Ipk => opkg::entry(&file, &bytes).unwrap(),
                Era::Apk => adb_index::entry(&bytes).unwrap(),
            });
        }
        match self.era {
            Era::Ipk => self.signed(&self.era.index(), opkg::write(&entries).unwrap().as_bytes()),
            Era::Apk => {
                let index = adb_index::write(&entries).unwrap();
                let signed = adb_index::sign(&index, &self.index_key).unwrap();
                std::fs::write(self.root.join(self.era.index()), signed).unwrap();
            }
        }
    }

    /// Publishes ImageBuilder, profiles.json and their signed sums.
    fn target(&self) {
        let (libc, bytes) = self.era.pack(&package("libc", "1.2.5-r4", &[]));
        let feed = format!("https://downloads.openwrt.org/{}", self.era.feed());
        let repositories = match self.era {
            Era::Ipk => (
                "repositories.conf",
                format!("src/gz openwrt_base {feed}\nsrc imagebuilder file:packages\n"),
            ),
            Era::Apk => ("repositories", format!("{feed}/packages.adb\n")),
        };
        let files: [(&str, Vec<u8>); 5] = [
            ("Makefile", MAKEFILE.into()),
            (repositories.0, repositories.1.into_bytes()),
            (".config", b"CONFIG_SIGNATURE_CHECK=y\n".to_vec()),
            ("include/version.mk", b"SOURCE_DATE_EPOCH:=1700000000\n".to_vec()),
            (&format!("packages/{libc}"), bytes),
        ];
        let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("imagebuilder/{name}"), bytes.as_slice())
                .unwrap();
        }
        let archive = tar.into_inner().unwrap().finish().unwrap();
        let profiles = br#"{ "arch_packages": "x86_64", "profiles": { "generic": {} } }"#;
        let (folder, path) = (self.era.target(), self.era.imagebuilder());
        let name = path.rsplit('/').next().unwrap();
        let sums = format!(
            "{} *{name}\n{} *profiles.json\n",
            Sha256::of(&archive),
            Sha256::of(profiles)
        );
        std::fs::create_dir_all(self.root.join(&folder)).unwrap();
        std::fs::write(self.root.join(&path), archive).unwrap();
        std::fs::write(self.root.join(&folder).join("profiles.json"), profiles).unwrap();
        self.signed(&format!("{folder}/sha256sums"), sums.as_bytes());
        std::fs::write(
            self.root.join(".versions.json"),
            br#"{ "oldstable_version": "24.10.9" }"#,
        )
        .unwrap();
    }

    fn signed(&self, path: &str, bytes: &[u8]) {
        std::fs::write(self.root.join(path), bytes).unwrap();
        std::fs::write(self.root.join(format!("{path}.sig")), self.key.sign(bytes)).unwrap();
    }

    /// Changes one bit in the middle of a published file.
    pub(crate) fn damage(&self, path: &str) {
        let path = self.root.join(path);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
    }
}

pub(crate) fn package(name: &str, version: &str, depends: &[&str]) -> Package {
    let meta = Meta {
        name: name.into(),
        version: version.into(),
        arch: "x86_64".into(),
        description: format!("{name} of the lab"),
        license: "ISC".into(),
        depends: depends.iter().map(|&depend| depend.to_owned()).collect(),
        installed_size: 1,
        ..Meta::default()
    };
    let file = File {
        path: format!("usr/share/{name}"),
        mode: 0o644,
        kind: Kind::Regular(version.into()),
    };
    Package {
        meta,
        files: vec![file],
        ..Package::default()
    }
}
