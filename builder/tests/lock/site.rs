//! A source of one target in a folder, with a handmade ImageBuilder that "resolves" by taking all that it is offered.

use std::io::Write;

use builder::digest::Sha256;
use camino::{Utf8Path, Utf8PathBuf};
use openwrt_formats::package::{File, Kind, Meta, Package};
use openwrt_formats::usign::SecretKey;
use openwrt_formats::{ipk, opkg};

pub(crate) const TARGET: &str = "releases/24.10.8/targets/x86/64";
pub(crate) const FEED: &str = "releases/24.10.8/packages/x86_64/base";

const MAKEFILE: &str = r#"
info:
	@printf 'Current Target: "x86/64"\nCurrent Architecture: "x86_64"\nCurrent Revision: "r1-1"\n'
	@printf 'Default Packages: libc busybox\nAvailable Profiles:\n\ngeneric:\n    A PC\n    Packages: kmod-e1000\n'
manifest:
	@awk '/^Package:/ { name = $$2 } /^Version:/ { print name " - " $$2 }' packages/Packages
"#;

const REPOSITORIES: &str = "src/gz openwrt_base https://downloads.openwrt.org/releases/24.10.8/packages/x86_64/base\n\
                            src imagebuilder file:packages\noption check_signature\n";

pub(crate) struct Site {
    pub(crate) root: Utf8PathBuf,
    key: SecretKey,
}

impl Site {
    pub(crate) fn make(root: &Utf8Path) -> Self {
        let site = Self {
            root: root.to_owned(),
            key: SecretKey::from_seed(&[9; 32]),
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

    /// The usign key that a `source.toml` names.
    pub(crate) fn public_key(&self) -> String {
        self.key.public().to_text().lines().nth(1).unwrap().to_owned()
    }

    /// Publishes a feed with exactly these packages.
    pub(crate) fn feed(&self, packages: &[Package]) {
        let folder = self.root.join(FEED);
        std::fs::create_dir_all(&folder).unwrap();
        let entries: Vec<_> = packages
            .iter()
            .map(|package| {
                let bytes = ipk::write(package, 0).unwrap();
                let file = format!("{}_{}_x86_64.ipk", package.meta.name, package.meta.version);
                std::fs::write(folder.join(&file), &bytes).unwrap();
                opkg::entry(&file, &bytes).unwrap()
            })
            .collect();
        let index = opkg::write(&entries).unwrap();
        self.signed(&format!("{FEED}/Packages"), index.as_bytes());
    }

    /// Publishes ImageBuilder, profiles.json and their signed sums.
    fn target(&self) {
        let libc = package("libc", "1.2.5-r4", &[]);
        let files: [(&str, Vec<u8>); 5] = [
            ("Makefile", MAKEFILE.into()),
            ("repositories.conf", REPOSITORIES.into()),
            (".config", b"CONFIG_SIGNATURE_CHECK=y\n".to_vec()),
            ("include/version.mk", b"SOURCE_DATE_EPOCH:=1700000000\n".to_vec()),
            ("packages/libc_1.2.5-r4_x86_64.ipk", ipk::write(&libc, 0).unwrap()),
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
        let name = "openwrt-imagebuilder-24.10.8-x86-64.Linux-x86_64.tar.zst";
        let sums = format!(
            "{} *{name}\n{} *profiles.json\n",
            Sha256::of(&archive),
            Sha256::of(profiles)
        );
        std::fs::create_dir_all(self.root.join(TARGET)).unwrap();
        std::fs::write(self.root.join(TARGET).join(name), archive).unwrap();
        std::fs::write(self.root.join(TARGET).join("profiles.json"), profiles).unwrap();
        self.signed(&format!("{TARGET}/sha256sums"), sums.as_bytes());
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
