//! What the builder relies on in an ImageBuilder: checked on the miniature where it was made, and on a real tree where
//! `SENNIT_REAL_IMAGEBUILDER` names one (a folder or an archive, with the packages for a default image inside).

use std::collections::BTreeSet;

use builder::digest::Sha256;
use builder::imagebuilder::{Bundled, Bytes, Feed, FeedFile, ImageBuilder, Network, Pristine, Request};
use builder::profile::PackageFormat;
use builder::report::Report;
use camino::{Utf8Path, Utf8PathBuf};

struct Trial {
    name: String,
    pristine: Pristine,
    /// Packages that are not inside the tree.
    feeds: Vec<FeedFile>,
    dir: Utf8PathBuf,
    _keep: tempfile::TempDir,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imagebuilder_keeps_its_contract() {
    for trial in trials() {
        eprintln!("checking {}", trial.name);
        let imagebuilder = trial.prepare("first").await;
        let info = imagebuilder.info().await.expect("make info");
        let (board, board_info) = info.profiles.first_key_value().expect("a board");
        imagebuilder.replace_feed(trial.feed()).await.expect("feed");
        let defaults = [info.default_packages.as_slice(), board_info.packages.as_slice()].concat();
        let packages = trial.without_missing(&defaults, imagebuilder.format());

        let manifest = imagebuilder
            .manifest(board, &packages)
            .await
            .expect("make manifest");
        let names: BTreeSet<&str> = manifest.iter().map(|(name, _)| name.as_str()).collect();
        for always in ["base-files", "busybox", "kernel"] {
            assert!(
                names.contains(always),
                "{}: {always} is not in {names:?}",
                trial.name
            );
        }

        let error = imagebuilder
            .manifest(board, &["no-such-package".into()])
            .await
            .expect_err("not there");
        assert!(
            error.to_string().contains("no-such-package"),
            "{}: {error}",
            trial.name
        );
        let error = imagebuilder
            .manifest("no-such-board", &packages)
            .await
            .expect_err("not there");
        assert!(
            error.to_string().contains("no-such-board"),
            "{}: {error}",
            trial.name
        );

        let first = trial.image(&imagebuilder, board, &packages, "first").await;
        assert!(!first.is_empty(), "{}: no image", trial.name);
        if imagebuilder.source_date_epoch().expect("reads").is_some() {
            let again = trial.prepare("second").await;
            again.replace_feed(trial.feed()).await.expect("feed");
            let second = trial.image(&again, board, &packages, "second").await;
            assert_eq!(first, second, "{}: two runs in two folders differ", trial.name);
        }
    }
}

fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    if let Some(path) = std::env::var_os("SENNIT_REAL_IMAGEBUILDER") {
        let path = Utf8PathBuf::from_path_buf(path.into()).expect("UTF-8");
        trials.push(Trial::new(
            "the tree of SENNIT_REAL_IMAGEBUILDER",
            &path,
            Vec::new(),
        ));
    }
    let releases = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../sources/miniature/site/releases");
    for (release, target, arch) in [
        ("24.10.8", "x86/64", "x86_64"),
        ("25.12.5", "bcm27xx/bcm2711", "aarch64_cortex-a72"),
    ] {
        let folder = releases.join(release).join("targets").join(target);
        let Ok(entries) = folder.read_dir_utf8() else {
            continue;
        };
        let mut feeds = packages_below(&folder);
        feeds.extend(packages_below(
            &releases.join(release).join("packages").join(arch),
        ));
        for entry in entries.map(|entry| entry.expect("lists")) {
            if entry.file_name().contains("imagebuilder") {
                trials.push(Trial::new(
                    &format!("the miniature's {target}"),
                    entry.path(),
                    feeds.clone(),
                ));
            }
        }
    }
    trials
}

fn packages_below(folder: &Utf8Path) -> Vec<FeedFile> {
    let mut found = Vec::new();
    for entry in folder
        .read_dir_utf8()
        .expect("lists")
        .map(|entry| entry.expect("lists"))
    {
        let path = entry.path();
        if path.is_dir() {
            found.extend(packages_below(path));
        } else if matches!(path.extension(), Some("ipk" | "apk")) {
            let sha256 = Sha256::of_file(path).expect("hashes");
            let bytes = Bytes::File(path.to_owned());
            found.push(FeedFile {
                name: entry.file_name().to_owned(),
                bytes,
                sha256,
            });
        }
    }
    found
}

impl Trial {
    fn new(name: &str, path: &Utf8Path, feeds: Vec<FeedFile>) -> Self {
        let keep = tempfile::tempdir().expect("tempdir");
        let dir = Utf8PathBuf::from_path_buf(keep.path().to_owned()).expect("UTF-8");
        let pristine = if path.is_dir() {
            Pristine::folder(path).expect("an ImageBuilder")
        } else {
            let sha256 = Sha256::of_file(path).expect("hashes");
            Pristine::unpack(path, sha256, &dir.join("store")).expect("unpacks")
        };
        Self {
            name: name.to_owned(),
            pristine,
            feeds,
            dir,
            _keep: keep,
        }
    }

    async fn prepare(&self, copy: &str) -> ImageBuilder {
        let log = self.dir.join(format!("{copy}.log"));
        ImageBuilder::prepare(&self.pristine, &self.dir.join(copy), Network::None, &log)
            .await
            .expect("prepares")
    }

    fn feed(&self) -> Feed {
        Feed {
            bundled: Bundled::All,
            files: self.feeds.clone(),
        }
    }

    /// Takes out default packages that the tree does not carry: most are in feeds only.
    fn without_missing(&self, defaults: &[String], format: PackageFormat) -> Vec<String> {
        let separator = match format {
            PackageFormat::Ipk => '_',
            PackageFormat::Apk => '-',
        };
        let entries = self.dir.join("first/packages").read_dir_utf8().expect("packages");
        let files: Vec<String> = entries
            .map(|entry| entry.expect("lists").file_name().to_owned())
            .collect();
        let carried = |name: &str| {
            files
                .iter()
                .any(|file| file.starts_with(&format!("{name}{separator}")))
        };
        let plain = defaults.iter().filter(|name| !name.starts_with('-'));
        plain
            .filter(|name| !carried(name))
            .map(|name| format!("-{name}"))
            .collect()
    }

    /// Names and hashes of all that `make image` leaves, with a file of ours in the image.
    async fn image(
        &self,
        imagebuilder: &ImageBuilder,
        board: &str,
        packages: &[String],
        run: &str,
    ) -> Vec<(String, Sha256)> {
        let files = self.dir.join("files");
        std::fs::create_dir_all(files.join("etc")).expect("mkdir");
        std::fs::write(files.join("etc/contract"), "kept\n").expect("write");
        let request = Request {
            profile: board.to_owned(),
            packages: packages.to_vec(),
            files,
            bin_dir: self.dir.join(format!("{run}-bin")),
            extra_image_name: String::new(),
            disabled_services: vec!["dropbear".into()],
            rootfs_partsize: Some(200),
            expected: vec![],
        };
        let outputs = imagebuilder
            .image(&request, &Report::silent())
            .await
            .expect("make image");
        assert!(std::fs::metadata(&outputs.manifest).expect("manifest").len() > 0);
        let mut made = Vec::new();
        for entry in request.bin_dir.read_dir_utf8().expect("bin") {
            let entry = entry.expect("lists");
            if entry.file_name().contains(".img") || entry.file_name().contains("rootfs") {
                made.push((
                    entry.file_name().to_owned(),
                    Sha256::of_file(entry.path()).expect("hashes"),
                ));
            }
        }
        made.sort();
        made
    }
}
