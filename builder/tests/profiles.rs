//! `check` and `new-profile` as a user runs them, against a small signed source in a folder.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panics")]

use std::collections::BTreeMap;
use std::process::Command;

use builder::digest::Sha256;
use builder::lock::{Lock, Pin, TargetLock};
use camino::Utf8PathBuf;
use openwrt_formats::usign::SecretKey;

const RELEASE: &str = "24.10.8";
const FOLDER: &str = "releases/24.10.8/targets/mediatek/filogic";
const FEED: &str = "releases/24.10.8/packages/aarch64_cortex-a53/base";

const PROFILES: &str = r#"{"arch_packages": "aarch64_cortex-a53", "default_packages": ["libc"], "target": "mediatek/filogic",
  "profiles": {
    "bananapi_bpi-r3": {"image_prefix": "openwrt-x-bananapi_bpi-r3", "titles": [{"vendor": "Bananapi", "model": "BPi-R3"}],
      "images": [{"name": "openwrt-x-bananapi_bpi-r3-sdcard.img.gz", "type": "sdcard"},
                 {"name": "openwrt-x-bananapi_bpi-r3-snand-preloader.bin", "type": "snand-preloader"},
                 {"name": "openwrt-x-bananapi_bpi-r3-squashfs-sysupgrade.itb", "type": "sysupgrade"}]},
    "bananapi_bpi-r3-mini": {"image_prefix": "openwrt-x-bananapi_bpi-r3-mini",
      "titles": [{"vendor": "Bananapi", "model": "BPi-R3 Mini"}],
      "images": [{"name": "openwrt-x-bananapi_bpi-r3-mini-squashfs-sysupgrade.itb", "type": "sysupgrade"}]}
  }}"#;

const INDEX: &str = "Package: kmod-tun\nVersion: 6.6-r1\nArchitecture: aarch64_cortex-a53\nFilename: kmod-tun.ipk\n\
                     Size: 1\nSHA256sum: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";

const BASE: &str = r#"base = true
packages = ["kmod-tun"]
[settings]
hostname = "sennit"
lan_address = "192.168.73.1"
lan_prefix = 24
"#;

struct Fixture {
    _folder: tempfile::TempDir,
    root: Utf8PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let fixture = Self {
            _folder: folder,
            root,
        };
        let key = SecretKey::from_seed(&[7; 32]);
        let public = key.public().to_text().lines().nth(1).unwrap().to_owned();
        std::fs::create_dir_all(fixture.root.join("overlays")).unwrap();
        fixture.file("profiles/base.toml", BASE);
        fixture.file("profiles/features.toml", "");
        let source = format!("name = 'lab'\nbase = 'site'\nlabel = 'lab'\n[keys]\nusign = ['{public}']\n");
        fixture.file("sources/lab/source.toml", &source);
        let sums = format!("{} *profiles.json\n", Sha256::of(PROFILES));
        fixture.served(
            &format!("releases/{RELEASE}/.targets.json"),
            r#"{"mediatek/filogic": "aarch64_cortex-a53"}"#,
        );
        fixture.served(&format!("{FOLDER}/profiles.json"), PROFILES);
        fixture.served(&format!("{FOLDER}/sha256sums"), &sums);
        fixture.served(&format!("{FOLDER}/sha256sums.sig"), &key.sign(sums.as_bytes()));
        fixture.served(&format!("{FEED}/Packages"), INDEX);
        fixture
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn served(&self, path: &str, text: &str) {
        self.file(&format!("sources/lab/site/{path}"), text);
    }

    fn lock(&self) {
        let pin = |path: String, text: &str| Pin {
            path,
            sha256: Sha256::of(text),
            size: Some(text.len() as u64),
        };
        let target = TargetLock {
            imagebuilder: pin(format!("{FOLDER}/imagebuilder.tar.zst"), ""),
            sha256sums: pin(format!("{FOLDER}/sha256sums"), ""),
            profiles: pin(format!("{FOLDER}/profiles.json"), PROFILES),
            arch: "aarch64_cortex-a53".into(),
            indexes: BTreeMap::from([("base".into(), pin(format!("{FEED}/Packages"), INDEX))]),
            packages: BTreeMap::new(),
            devices: BTreeMap::new(),
        };
        let lock = Lock {
            targets: BTreeMap::from([(format!("{RELEASE}/mediatek/filogic"), target)]),
            ..Lock::default()
        };
        std::fs::create_dir_all(self.root.join("images")).unwrap();
        lock.write(&self.root.join("images/lab.lock")).unwrap();
    }

    /// Exit code, standard output and standard error of `builder ARGUMENTS --source lab`.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_builder"))
            .args(arguments)
            .args(["--source", "lab"])
            .current_dir(&self.root)
            .env("SENNIT_CACHE", self.root.join("cache"))
            .env("SENNIT_CONFIG", self.root.join("config"))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    fn new_profile(&self) {
        let arguments = [
            "new-profile",
            "r3",
            "--release",
            RELEASE,
            "--board",
            "banana",
            "bpi-r3",
        ];
        // Both boards have these words; the id alone is exact.
        let (code, _, said) = self.run(&arguments);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("2 boards fit `banana bpi-r3`"), "{said}");
        assert!(
            said.contains("--target mediatek/filogic --board bananapi_bpi-r3-mini"),
            "{said}"
        );
        let (code, out, said) = self.run(&[
            "new-profile",
            "r3",
            "--release",
            RELEASE,
            "--board",
            "bananapi_bpi-r3",
        ]);
        assert_eq!(code, 0, "{said}");
        assert!(out.starts_with("Wrote profiles/r3.toml."), "{out}");
    }
}

#[test]
fn a_new_profile_is_accepted_by_check_and_never_overwritten() {
    let fixture = Fixture::new();
    fixture.new_profile();
    fixture.lock();
    let (code, out, said) = fixture.run(&["check", "r3"]);
    assert_eq!(
        (code, out.as_str()),
        (0, "r3: ok: board, architecture, 2 images, 1 package\n"),
        "{said}"
    );
    let before = std::fs::read(fixture.root.join("profiles/r3.toml")).unwrap();
    let (code, _, said) = fixture.run(&[
        "new-profile",
        "r3",
        "--release",
        RELEASE,
        "--board",
        "bananapi_bpi-r3-mini",
    ]);
    assert_eq!(code, 1);
    assert!(
        said.contains("`r3` is taken: profiles/r3.toml is there already"),
        "{said}"
    );
    assert_eq!(
        std::fs::read(fixture.root.join("profiles/r3.toml")).unwrap(),
        before
    );
}

#[test]
fn without_a_lock_everything_is_unchecked_and_says_what_helps() {
    let fixture = Fixture::new();
    fixture.new_profile();
    let (code, out, said) = fixture.run(&["check"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(
        out,
        "r3: unchecked: board, architecture, 2 images, 1 package \
         (images/lab.lock has no 24.10.8/mediatek/filogic: builder lock --update r3)\n"
    );
}

#[test]
fn a_package_that_no_index_has_is_an_error_with_its_line_and_the_nearest_name() {
    let fixture = Fixture::new();
    fixture.new_profile();
    fixture.lock();
    let path = fixture.root.join("profiles/r3.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replacen("\n[openwrt]", "packages = [\"kmod-tnu\"]\n\n[openwrt]", 1),
    )
    .unwrap();
    let (code, out, said) = fixture.run(&["check", "r3"]);
    assert_eq!(code, 1, "{said}");
    let line = out.lines().last().unwrap();
    assert!(
        line.starts_with("r3: wrong: package `kmod-tnu` at profiles/r3.toml:"),
        "{out}"
    );
    assert!(
        line.ends_with("no package of this name in the indexes; did you mean `kmod-tun`?"),
        "{out}"
    );
}

#[test]
fn a_list_of_boards_that_was_tampered_with_makes_no_profile() {
    let fixture = Fixture::new();
    fixture.served(
        &format!("{FOLDER}/profiles.json"),
        &PROFILES.replace("cortex-a53", "cortex-a72"),
    );
    let (code, _, said) = fixture.run(&[
        "new-profile",
        "r3",
        "--release",
        RELEASE,
        "--board",
        "bananapi_bpi-r3",
    ]);
    assert_eq!(code, 2, "{said}");
    assert!(!fixture.root.join("profiles/r3.toml").exists());
}
