//! The driver against a tree as small as its contract allows, and against a real one where the environment names it.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// A Makefile that takes the same variables as OpenWrt's and does with them what each test asks.
const MAKEFILE: &str = r#"
info:
	@echo 'Current Target: "x86/64"'; echo 'Current Revision: "r1-test"'; echo 'Default Packages: base busybox'
	@echo 'Available Profiles:'; echo; echo 'generic:'; echo '    Generic PC'; echo '    Packages: kmod-x'
manifest:
	@for package in base $(PACKAGES); do echo "$$package - 1.0-r1"; done
image:
	@mkdir -p $(BIN_DIR)
	@sh ./behaviour '$(PROFILE)' '$(PACKAGES)' '$(FILES)' '$(BIN_DIR)' '$(EXTRA_IMAGE_NAME)' '$(DISABLED_SERVICES)' '$(ROOTFS_PARTSIZE)'
"#;

struct Trial {
    _keep: tempfile::TempDir,
    dir: Utf8PathBuf,
}

impl Trial {
    fn new(behaviour: &str) -> Self {
        let keep = tempfile::tempdir().expect("tempdir");
        let dir = Utf8PathBuf::from_path_buf(keep.path().to_owned()).expect("UTF-8");
        let tree = dir.join("tree");
        std::fs::create_dir_all(tree.join("include")).expect("mkdir");
        std::fs::write(tree.join("Makefile"), MAKEFILE).expect("write");
        std::fs::write(tree.join("behaviour"), behaviour).expect("write");
        std::fs::write(
            tree.join("repositories.conf"),
            "src/gz core https://example.org\noption check_signature\n",
        )
        .expect("write");
        std::fs::write(tree.join(".config"), "CONFIG_A=y\nCONFIG_SIGNATURE_CHECK=y\n").expect("write");
        std::fs::write(tree.join("include/version.mk"), "SOURCE_DATE_EPOCH:=1700000000\n").expect("write");
        Self { _keep: keep, dir }
    }

    async fn prepare(&self) -> ImageBuilder {
        let pristine = Pristine::folder(&self.dir.join("tree")).expect("a tree");
        ImageBuilder::prepare(
            &pristine,
            &self.dir.join("copy"),
            Network::None,
            &self.dir.join("log"),
        )
        .await
        .expect("prepares")
    }

    fn request(&self) -> Request {
        Request {
            profile: "generic".into(),
            packages: vec!["sennit".into(), "-ppp".into()],
            files: self.dir.join("files"),
            bin_dir: self.dir.join("bin"),
            extra_image_name: String::new(),
            disabled_services: vec!["uhttpd".into(), "telnet".into()],
            rootfs_partsize: Some(256),
            expected: vec!["ext4-combined.img.gz".into()],
        }
    }

    async fn image(&self) -> Result<Outputs> {
        self.prepare()
            .await
            .image(&self.request(), &Report::silent())
            .await
    }
}

const GOOD: &str = r#"
printf '%s|' "$@" > "$4/openwrt-1-generic-ext4-combined.img.gz"
touch "$4/openwrt-1-generic.manifest" "$4/openwrt-1-other-ext4-combined.img.gz"
"#;

#[tokio::test]
async fn info_and_manifest_are_read() {
    let trial = Trial::new("");
    let imagebuilder = trial.prepare().await;
    let info = imagebuilder.info().await.expect("info");
    assert_eq!(
        (info.target.as_str(), info.revision.as_str()),
        ("x86/64", "r1-test")
    );
    assert_eq!(info.profiles["generic"].packages, ["kmod-x"]);
    let manifest = imagebuilder
        .manifest("generic", &["sennit".into()])
        .await
        .expect("manifest");
    let version = || "1.0-r1".to_owned();
    assert_eq!(
        manifest,
        [("base".to_owned(), version()), ("sennit".to_owned(), version())]
    );
    assert_eq!(
        imagebuilder.source_date_epoch().expect("reads"),
        Some(1_700_000_000)
    );
}

#[tokio::test]
async fn all_variables_arrive_and_the_board_s_own_image_is_taken() {
    let trial = Trial::new(GOOD);
    let outputs = trial.image().await.expect("makes an image");
    let image = &outputs.images["ext4-combined.img.gz"];
    assert_eq!(image.file_name(), Some("openwrt-1-generic-ext4-combined.img.gz"));
    let arguments = std::fs::read_to_string(image).expect("image");
    let (files, bin) = (trial.dir.join("files"), trial.dir.join("bin"));
    assert_eq!(
        arguments,
        format!("generic|sennit -ppp|{files}|{bin}||uhttpd telnet|256|")
    );
}

#[tokio::test]
async fn the_tree_that_was_given_stays_as_it_was() {
    let trial = Trial::new("rm -rf include; echo changed > Makefile; exit 1");
    trial.image().await.expect_err("fails");
    assert_eq!(
        std::fs::read_to_string(trial.dir.join("tree/Makefile")).expect("there"),
        MAKEFILE
    );
    assert!(trial.dir.join("tree/include").is_dir());
}

#[tokio::test]
async fn feeds_and_signature_checks_are_gone_from_the_copy() {
    let trial = Trial::new("");
    let imagebuilder = trial.prepare().await;
    imagebuilder
        .replace_feed(Feed {
            bundled: Bundled::All,
            files: vec![],
        })
        .await
        .expect("replaces");
    let read = |name: &str| std::fs::read_to_string(trial.dir.join("copy").join(name)).expect("there");
    assert_eq!(read("repositories.conf"), "src imagebuilder file:packages\n");
    assert_eq!(
        read(".config"),
        "CONFIG_A=y\n# CONFIG_SIGNATURE_CHECK is not set\n"
    );
}

#[tokio::test]
async fn a_failure_names_the_package_and_the_log() {
    let trial = Trial::new("echo \"Unknown package 'sennit'.\" >&2; exit 255");
    let error = trial.image().await.expect_err("fails");
    assert_eq!(
        error.to_string(),
        "`make image` failed: package sennit: not in the feed"
    );
    assert_eq!(
        error.hints(),
        [format!("the whole log: {}", trial.dir.join("log"))]
    );
    assert!(
        std::fs::read_to_string(trial.dir.join("log"))
            .expect("log")
            .contains("Unknown package")
    );
}

#[tokio::test]
async fn an_image_too_big_is_over_budget_although_make_ends_well() {
    let trial = Trial::new(
        "echo 'WARNING: Image file /x/openwrt-1-generic-ext4-combined.img.gz is too big: 1100 > 1000'; touch \"$4/a.manifest\"",
    );
    std::fs::create_dir_all(trial.dir.join("tree/packages")).expect("mkdir");
    std::fs::write(trial.dir.join("tree/packages/huge_1_x86_64.ipk"), vec![0; 4096]).expect("write");
    let error = trial.image().await.expect_err("too big");
    assert_eq!(error.exit(), crate::error::Exit::OverBudget);
    assert!(error.to_string().contains("100 bytes too big"), "{error}");
    assert!(
        error.hints()[0].contains("huge_1_x86_64.ipk (4 KiB)"),
        "{:?}",
        error.hints()
    );
}

#[tokio::test]
async fn a_missing_image_lists_what_was_made() {
    let trial = Trial::new("touch \"$4/a.manifest\" \"$4/openwrt-1-generic-squashfs-combined.img.gz\"");
    let error = trial.image().await.expect_err("missing");
    assert!(
        error.to_string().contains("made no ext4-combined.img.gz"),
        "{error}"
    );
    assert!(
        error.hints()[0].contains("openwrt-1-generic-squashfs-combined.img.gz"),
        "{:?}",
        error.hints()
    );
}

#[tokio::test]
async fn what_make_or_the_shell_would_expand_never_gets_there() {
    let trial = Trial::new(GOOD);
    let imagebuilder = trial.prepare().await;
    for bad in ["$(shell touch /tmp/x)", "a;b", "a b", "`id`", ""] {
        let request = Request {
            packages: vec![bad.into()],
            ..trial.request()
        };
        let error = imagebuilder
            .image(&request, &Report::silent())
            .await
            .expect_err("refused");
        assert_eq!(error.exit(), crate::error::Exit::User, "{bad}");
    }
}

#[tokio::test]
async fn the_umask_of_the_caller_does_not_matter() {
    let trial = Trial::new(GOOD);
    std::fs::set_permissions(
        trial.dir.join("tree/behaviour"),
        std::fs::Permissions::from_mode(0o600),
    )
    .expect("chmod");
    let outputs = trial.image().await.expect("makes an image");
    let mode = |path: &Utf8Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&outputs.images["ext4-combined.img.gz"]), 0o644);
    assert_eq!(mode(&trial.dir.join("copy/behaviour")), 0o644);
}
