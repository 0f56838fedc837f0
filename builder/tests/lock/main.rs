//! `lock --update` from a signed source to a written lock, and what it refuses on the way.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail by panics and say what they skip"
)]

mod site;

use builder::digest::Sha256;
use builder::fetch::{Fetcher, Options, Wanted};
use builder::lock::{self, Lock, Resolution};
use builder::profile::{self, Profile};
use builder::project::Project;
use builder::report::Report;
use builder::source::{self, Base, Source};
use builder::{Error, error::Exit};
use camino::Utf8PathBuf;
use site::{Era, Site, package};

const PROFILE: &str = r#"
title = "A PC"
rust_target = "x86_64-unknown-linux-musl"
packages = ["ubus"]
[openwrt]
release = "24.10.8"
target = "x86/64"
profile = "generic"
arch = "x86_64"
[ports]
lan = [{ name = "eth0" }]
wan = [{ name = "eth1" }]
[[images]]
file = "ext4-combined.img.gz"
purpose = "all"
disk = true
[flash]
steps = ["write it"]
recovery = "again"
"#;

struct Test {
    era: Era,
    _folder: tempfile::TempDir,
    project: Project,
    site: Site,
}

impl Test {
    fn new(era: Era) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        for name in ["profiles", "overlays", "sources/lab"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        let site = Site::make(&root.join("sources/lab/site"), era);
        let text = format!("name = 'lab'\nbase = 'site'\nlabel = 'lab'\n{}", site.keys());
        std::fs::write(root.join("sources/lab/source.toml"), text).unwrap();
        std::fs::write(root.join("profiles/base.toml"), base_profile()).unwrap();
        std::fs::write(root.join("profiles/features.toml"), "").unwrap();
        let test = Self {
            era,
            _folder: folder,
            project: Project { root },
            site,
        };
        test.write_profile(PROFILE);
        test
    }

    fn write_profile(&self, text: &str) {
        let text = text.replace("24.10.8", self.era.release());
        std::fs::write(
            self.project.profiles().join("lab-pc.toml"),
            format!("extends = ['base']\n{text}"),
        )
        .unwrap();
    }

    fn source(&self) -> Source {
        source::open(&self.project, Some("lab")).unwrap()
    }

    fn profile(&self) -> Profile {
        profile::load(&self.project, "lab-pc").unwrap().profile
    }

    fn fetcher(&self) -> Fetcher {
        Fetcher::new(
            self.project.root.join("cache"),
            Options::default(),
            Report::silent(),
        )
    }

    fn update(&self) -> Result<Lock, Error> {
        let (source, report) = (self.source(), Report::silent());
        block_on(lock::update(
            &self.project,
            &source,
            &self.fetcher(),
            &[self.profile()],
            &report,
        ))
    }
}

/// The settings and defaults of this repository's own base, without its features, packages and overlays.
fn base_profile() -> String {
    let base =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles/base.toml")).unwrap();
    let start = base.find("[feed]").expect("the base profile has a feed");
    format!("base = true\n{}", &base[start..])
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// `make` runs without network in a user namespace, which some machines forbid: then there is nothing to test here.
fn make_may_run() -> bool {
    let may = std::process::Command::new("unshare")
        .args(["--user", "--map-current-user", "--net", "make", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !may {
        println!("skipped: no user namespaces, or no make");
    }
    may
}

#[test]
fn an_update_pins_exactly_what_the_imagebuilder_takes() {
    if !make_may_run() {
        return;
    }
    for era in [Era::Ipk, Era::Apk] {
        let test = Test::new(era);
        let lock = test.update().unwrap();
        let profile = test.profile();
        let Resolution::Resolved(target, device) = lock::resolved(&lock, &profile) else {
            panic!("{lock:?}")
        };
        let (downloaded, bundled) = target.packages_of(device);
        let names =
            |pins: &[lock::NamedPin<'_>]| pins.iter().map(|(_, pin)| pin.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            names(&downloaded),
            ["busybox", "kmod-e1000", "libubus2024", "ubus"],
            "{era:?}"
        );
        assert_eq!(names(&bundled), ["libc"], "{era:?}");
        for (file, pin) in downloaded {
            let bytes = std::fs::read(test.site.root.join(era.feed()).join(file)).unwrap();
            assert_eq!((pin.sha256, pin.size), (Sha256::of(&bytes), bytes.len() as u64));
            assert_eq!(pin.path, Some(format!("{}/{file}", era.feed())));
            assert_eq!(pin.identity.is_some(), era == Era::Apk, "{file}");
        }
        assert_eq!(target.arch, "x86_64");

        let path = test.source().lock_path(&test.project);
        lock.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock);
        assert_eq!(test.update().unwrap(), lock);
        let indexes = block_on(lock::indexes(&test.source(), &test.fetcher(), target)).unwrap();
        assert_eq!((indexes[0].0.as_str(), indexes[0].1.len()), ("base", 5));
    }
}

#[test]
fn a_profile_that_changed_makes_the_lock_stale_and_settings_do_not() {
    if !make_may_run() {
        return;
    }
    let test = Test::new(Era::Ipk);
    let lock = test.update().unwrap();
    test.write_profile(&PROFILE.replace("A PC", "Another title"));
    assert!(matches!(
        lock::resolved(&lock, &test.profile()),
        Resolution::Resolved(..)
    ));
    test.write_profile(&PROFILE.replace("\"ubus\"", "\"ubus\", \"unrelated\""));
    assert!(matches!(
        lock::resolved(&lock, &test.profile()),
        Resolution::Stale(_)
    ));
    test.write_profile(&PROFILE.replace("24.10.8", "24.10.9"));
    assert_eq!(lock::resolved(&lock, &test.profile()), Resolution::Unknown);
}

#[test]
fn one_changed_byte_anywhere_is_refused() {
    if !make_may_run() {
        return;
    }
    for era in [Era::Ipk, Era::Apk] {
        let (busybox, _) = era.pack(&package("busybox", "1.36.1-r1", &["libc"]));
        let mut files = vec![
            format!("{}/sha256sums", era.target()),
            format!("{}/profiles.json", era.target()),
            era.imagebuilder(),
            era.index(),
            format!("{}/{busybox}", era.feed()),
        ];
        files.extend((era == Era::Ipk).then(|| format!("{}.sig", era.index())));
        for path in files {
            let test = Test::new(era);
            test.site.damage(&path);
            let error = test.update().expect_err(&path);
            assert_eq!(error.exit(), Exit::Environment, "{path}: {error}");
            let name = path.rsplit('/').next().unwrap().trim_end_matches(".sig");
            assert!(error.to_string().contains(name), "{path}: {error}");
        }
    }
}

#[test]
fn a_feed_that_moved_on_leaves_the_locked_file_to_cache_and_archives() {
    if !make_may_run() {
        return;
    }
    let test = Test::new(Era::Ipk);
    let before = test.update().unwrap();
    let (file, pin) = before.targets["24.10.8/x86/64"]
        .packages
        .iter()
        .find(|(_, pin)| pin.name == "ubus")
        .unwrap();
    let archive = test.project.root.join("archive");
    std::fs::create_dir(&archive).unwrap();
    std::fs::rename(
        test.site.root.join(Era::Ipk.feed()).join(file),
        archive.join(pin.sha256.to_string()),
    )
    .unwrap();
    test.site.feed(&[
        package("busybox", "1.36.1-r2", &["libc"]),
        package("kmod-e1000", "6.6-r1", &[]),
        package("ubus", "2024-r2", &[]),
    ]);
    let after = test.update().unwrap();
    let versions: Vec<_> = after.targets["24.10.8/x86/64"]
        .packages
        .values()
        .map(|pin| pin.version.as_str())
        .collect();
    assert_eq!(versions, ["1.36.1-r2", "6.6-r1", "1.2.5-r4", "2024-r2"]);

    let wanted = [Wanted::new(pin.path.clone().unwrap(), pin.sha256, Some(pin.size))];
    block_on(test.fetcher().pinned(&test.source(), &wanted)).expect("the cache has it");
    std::fs::remove_dir_all(test.project.root.join("cache")).unwrap();
    let error = block_on(test.fetcher().pinned(&test.source(), &wanted)).unwrap_err();
    assert!(error.to_string().contains(file.as_str()), "{error}");
    let source = Source {
        archives: vec![Base::Folder(archive)],
        ..test.source()
    };
    block_on(test.fetcher().pinned(&source, &wanted)).expect("the archive has it");
}

#[test]
fn a_package_that_no_feed_has_is_named_with_the_nearest_one() {
    if !make_may_run() {
        return;
    }
    let test = Test::new(Era::Ipk);
    test.write_profile(&PROFILE.replace("\"ubus\"", "\"ubuss\""));
    let error = test.update().unwrap_err();
    assert_eq!(error.exit(), Exit::User);
    assert!(error.to_string().contains("`ubuss`"), "{error}");
    assert_eq!(error.hints(), ["did you mean `ubus`?"]);
}

#[test]
fn profiles_of_a_target_come_verified_without_its_imagebuilder() {
    let test = Test::new(Era::Ipk);
    let (source, fetcher, report) = (test.source(), test.fetcher(), Report::silent());
    std::fs::remove_file(test.site.root.join(Era::Ipk.imagebuilder())).unwrap();
    let profiles = block_on(lock::verified_profiles(
        &source, &fetcher, "24.10.8", "x86/64", &report,
    ))
    .unwrap();
    assert!(profiles.starts_with(b"{ \"arch_packages\""));
}

#[test]
fn what_is_exported_is_an_archive_that_serves_without_the_source() {
    if !make_may_run() {
        return;
    }
    for era in [Era::Ipk, Era::Apk] {
        let test = Test::new(era);
        let lock = test.update().unwrap();
        let archive = test.project.root.join("archive");
        let files = block_on(lock::export(
            &test.source(),
            &test.fetcher(),
            &lock,
            &[test.profile()],
            &archive,
        ))
        .unwrap();
        // ImageBuilder, profiles.json, sha256sums, four packages, one index.
        assert_eq!(files, 8, "{era:?}");
        std::fs::remove_dir_all(test.project.root.join("cache")).unwrap();
        std::fs::remove_dir_all(test.site.root.join("releases")).unwrap();
        let source = Source {
            archives: vec![Base::Folder(archive)],
            ..test.source()
        };
        let again = test.project.root.join("again");
        let files = block_on(lock::export(
            &source,
            &test.fetcher(),
            &lock,
            &[test.profile()],
            &again,
        ))
        .unwrap();
        assert_eq!(files, 7, "{era:?}");
    }
}
