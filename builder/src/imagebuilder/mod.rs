//! Drives an unpacked ImageBuilder: `make info`, `make manifest`, `make image`, without network and as a normal user.
//!
//! **Invariant:** `make` runs only in a copy of the tree that is this run's own.
//! **Invariant:** success is judged by the files that were asked for, never by an exit code alone: `make image` deletes an
//! image that is too big and ends well.

mod archive;
mod failure;
mod feed;
mod info;
mod sandbox;
mod tree;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use camino::{Utf8Path, Utf8PathBuf};

pub use feed::{Bundled, Bytes, Feed, FeedFile};
pub use info::{BoardInfo, Info};
pub use sandbox::Network;
pub use tree::Pristine;

use crate::profile::PackageFormat;
use crate::report::Report;
use crate::{Error, Result};
use sandbox::{Finished, Sandbox};

/// A tree of this run's own to run `make` in.
#[derive(Clone, Debug)]
pub struct ImageBuilder {
    root: Utf8PathBuf,
    sandbox: Sandbox,
    log: Utf8PathBuf,
}

/// One image to make.
#[derive(Clone, Debug)]
pub struct Request {
    /// `PROFILE`: the board's name at OpenWrt.
    pub profile: String,
    /// `PACKAGES`: names to add, and `-name` to leave out.
    pub packages: Vec<String>,
    /// `FILES`: the folder laid over the root file system.
    pub files: Utf8PathBuf,
    /// `BIN_DIR`: where the outputs go.
    pub bin_dir: Utf8PathBuf,
    /// `EXTRA_IMAGE_NAME`; empty: none.
    pub extra_image_name: String,
    /// `DISABLED_SERVICES`: names in `/etc/init.d`.
    pub disabled_services: Vec<String>,
    /// `ROOTFS_PARTSIZE` in MiB.
    pub rootfs_partsize: Option<u32>,
    /// Ends of the names of the images that must come out: `ext4-combined.img.gz`.
    pub expected: Vec<String>,
}

/// What `make image` made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// By what was expected: the file.
    pub images: BTreeMap<String, Utf8PathBuf>,
    /// The installed packages with their versions, as OpenWrt writes them.
    pub manifest: Utf8PathBuf,
}

impl Outputs {
    /// Names and versions of the installed packages, sorted, as the manifest has them.
    pub fn packages(&self) -> Result<Vec<(String, String)>> {
        let text = std::fs::read_to_string(&self.manifest)
            .map_err(|error| Error::io("read", &self.manifest, error))?;
        Ok(info::parse_manifest(&text))
    }
}

impl ImageBuilder {
    /// Takes a copy of `pristine` at `dir` to run `make` in; everything it says goes to the end of `log`.
    pub async fn prepare(
        pristine: &Pristine,
        dir: &Utf8Path,
        network: Network,
        log: &Utf8Path,
    ) -> Result<Self> {
        check_word("the folder of the build", dir.as_str()).map_err(|error| {
            error.hint("OpenWrt's makefiles cannot work in such a folder; move the project to another one")
        })?;
        let sandbox = Sandbox::new(network).await?;
        let (pristine, root, copied_log) = (pristine.clone(), dir.to_owned(), log.to_owned());
        tokio::task::spawn_blocking(move || {
            let logs = copied_log.parent().unwrap_or(&copied_log);
            std::fs::create_dir_all(logs).map_err(|error| Error::io("create", logs, error))?;
            std::fs::write(&copied_log, "").map_err(|error| Error::io("write", &copied_log, error))?;
            pristine.copy(&root)?;
            disable_signature_check(&root)?;
            Ok(Self {
                root,
                sandbox,
                log: copied_log,
            })
        })
        .await
        .map_err(|error| Error::bug("the copy of the ImageBuilder panicked").because(error))?
    }

    /// Package format, by the file that names the feeds.
    pub fn format(&self) -> PackageFormat {
        if self.root.join("repositories.conf").exists() {
            PackageFormat::Ipk
        } else {
            PackageFormat::Apk
        }
    }

    /// `SOURCE_DATE_EPOCH` as it is baked into the tree, in seconds; `None` where the tree has none (before 21.02).
    pub fn source_date_epoch(&self) -> Result<Option<u64>> {
        let path = self.root.join("include/version.mk");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        Ok(text.lines().find_map(|line| {
            line.strip_prefix("SOURCE_DATE_EPOCH:=")
                .and_then(|epoch| epoch.trim().parse().ok())
        }))
    }

    /// What `make info` says.
    pub async fn info(&self) -> Result<Info> {
        let (finished, text) = self.make_and_read(&["info".into()]).await?;
        if !finished.success {
            return Err(self.failed("make info", &finished));
        }
        Info::parse(&text).map_err(|error| self.with_log(error))
    }

    /// Makes the local feed hold exactly `feed` and removes every other one.
    pub async fn replace_feed(&self, feed: Feed) -> Result<()> {
        let (root, format) = (self.root.clone(), self.format());
        tokio::task::spawn_blocking(move || {
            let (path, text) = match format {
                PackageFormat::Ipk => (root.join("repositories.conf"), "src imagebuilder file:packages\n"),
                // The local folder is always in use; this file lists only others.
                PackageFormat::Apk => (root.join("repositories"), ""),
            };
            std::fs::write(&path, text).map_err(|error| Error::io("write", &path, error))?;
            feed::replace(&root.join("packages"), format, &feed)
        })
        .await
        .map_err(|error| Error::bug("writing the local feed panicked").because(error))?
    }

    /// Names and versions of the packages that an image would have, by `make manifest`, sorted.
    pub async fn manifest(&self, profile: &str, packages: &[String]) -> Result<Vec<(String, String)>> {
        let arguments = [
            "manifest".into(),
            variable("PROFILE", profile)?,
            variable_list("PACKAGES", packages)?,
        ];
        let (finished, text) = self.make_and_read(&arguments).await?;
        if !finished.success {
            return Err(self.failed("make manifest", &finished));
        }
        Ok(info::parse_manifest(&text))
    }

    /// Makes the image with `make image`, and finds what it made.
    pub async fn image(&self, request: &Request, report: &Report) -> Result<Outputs> {
        let mut arguments = vec![
            "image".into(),
            variable("PROFILE", &request.profile)?,
            variable_list("PACKAGES", &request.packages)?,
            variable("FILES", request.files.as_str())?,
            variable("BIN_DIR", request.bin_dir.as_str())?,
        ];
        if !request.extra_image_name.is_empty() {
            arguments.push(variable("EXTRA_IMAGE_NAME", &request.extra_image_name)?);
        }
        if !request.disabled_services.is_empty() {
            arguments.push(variable_list("DISABLED_SERVICES", &request.disabled_services)?);
        }
        if let Some(mebibytes) = request.rootfs_partsize {
            arguments.push(variable("ROOTFS_PARTSIZE", &mebibytes.to_string())?);
            set_rootfs_partsize(&self.root, mebibytes)?;
        }
        let spinner = report.spinner(format!("make image {}", request.profile));
        let finished = self
            .sandbox
            .run(&self.root, &program(&arguments), None, &self.log)
            .await;
        spinner.finish_and_clear();
        let finished = finished?;
        if !finished.success {
            return Err(self.failed("make image", &finished));
        }
        self.outputs(request)
    }

    fn outputs(&self, request: &Request) -> Result<Outputs> {
        let io = |error| Error::io("read", &request.bin_dir, error);
        let mut names = Vec::new();
        for entry in request.bin_dir.read_dir_utf8().map_err(io)? {
            names.push(entry.map_err(io)?.file_name().to_owned());
        }
        names.sort();
        let mut images = BTreeMap::new();
        for expected in &request.expected {
            let name = find_image(&names, &request.profile, expected)
                .ok_or_else(|| self.missing_image(expected, &names))?;
            images.insert(expected.clone(), request.bin_dir.join(name));
        }
        let manifest = names
            .iter()
            .find(|name| name.ends_with(".manifest"))
            .map(|name| request.bin_dir.join(name))
            .ok_or_else(|| self.with_log(Error::environment("`make image` wrote no manifest")))?;
        Ok(Outputs { images, manifest })
    }

    fn missing_image(&self, expected: &str, names: &[String]) -> Error {
        let diagnosis = failure::diagnose(&self.log_text());
        if let Some(big) = diagnosis.too_big.iter().find(|big| big.file.ends_with(expected)) {
            let mut largest = String::new();
            for (name, size) in feed::largest(&self.root.join("packages"), 5).unwrap_or_default() {
                let separator = if largest.is_empty() { "" } else { ", " };
                let _ = write!(largest, "{separator}{name} ({} KiB)", size.div_ceil(1024));
            }
            return self.with_log(
                Error::new(
                    crate::error::Exit::OverBudget,
                    format!(
                        "the image {expected} is {} bytes too big: {} of at most {}",
                        big.size.saturating_sub(big.limit),
                        big.size,
                        big.limit
                    ),
                )
                .hint(format!("largest packages, compressed: {largest}"))
                .hint("take features or packages out of the device's profile"),
            );
        }
        let made: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| !matches!(*name, "profiles.json" | "sha256sums") && !name.ends_with(".manifest"))
            .collect();
        self.with_log(
            Error::environment(format!("`make image` ended well but made no {expected}")).hint(format!(
                "it made: {}",
                if made.is_empty() {
                    "nothing".into()
                } else {
                    made.join(", ")
                }
            )),
        )
    }

    async fn make_and_read(&self, arguments: &[String]) -> Result<(Finished, String)> {
        let captured =
            tempfile::tempfile_in(&self.root).map_err(|error| Error::io("write in", &self.root, error))?;
        let mut reader = captured
            .try_clone()
            .map_err(|error| Error::io("read", &self.root, error))?;
        let finished = self
            .sandbox
            .run(&self.root, &program(arguments), Some(captured), &self.log)
            .await?;
        let mut text = Vec::new();
        std::io::Seek::rewind(&mut reader)
            .and_then(|()| std::io::Read::read_to_end(&mut reader, &mut text))
            .map_err(|error| Error::io("read", &self.root, error))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        if !finished.success {
            let appended = std::fs::File::options()
                .append(true)
                .open(&self.log)
                .and_then(|mut log| std::io::Write::write_all(&mut log, text.as_bytes()));
            appended.map_err(|error| Error::io("write", &self.log, error))?;
        }
        Ok((finished, text))
    }

    fn failed(&self, what: &str, finished: &Finished) -> Error {
        let diagnosis = failure::diagnose(&self.log_text());
        let causes = if diagnosis.causes.is_empty() {
            finished.status.clone()
        } else {
            diagnosis.causes.join("; ")
        };
        self.with_log(Error::environment(format!("`{what}` failed: {causes}")))
    }

    fn log_text(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn with_log(&self, error: Error) -> Error {
        error.hint(format!("the whole log: {}", self.log))
    }
}

/// The file for `expected`: the one of this board, else the only one that ends so (old targets leave the board out).
fn find_image<'n>(names: &'n [String], profile: &str, expected: &str) -> Option<&'n String> {
    let of_board = format!("-{profile}-{expected}");
    let any_board = format!("-{expected}");
    let mut others = names.iter().filter(|name| name.ends_with(&any_board));
    names
        .iter()
        .find(|name| name.ends_with(&of_board))
        .or_else(|| others.next().filter(|_| others.next().is_none()))
}

fn program(arguments: &[String]) -> Vec<String> {
    std::iter::once("make".to_owned())
        .chain(arguments.iter().cloned())
        .collect()
}

fn variable(name: &str, value: &str) -> Result<String> {
    check_word(name, value)?;
    Ok(format!("{name}={value}"))
}

fn variable_list(name: &str, values: &[String]) -> Result<String> {
    for value in values {
        check_word(name, value)?;
    }
    Ok(format!("{name}={}", values.join(" ")))
}

/// make expands `$(shell …)` in a variable, and the shell below it the rest: only plain words get there.
fn check_word(name: &str, value: &str) -> Result<()> {
    let plain = |c: char| c.is_alphanumeric() || "-_.,+/=@~:".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return Ok(());
    }
    Err(Error::user(format!(
        "{name} cannot be `{value}`: only letters, digits and - _ . , + / = @ ~ : may be in it"
    )))
}

/// Without this, `make` would want every index signed by a key that it makes up per tree, and would sign sysupgrade images
/// by it, which makes two builds differ. Every package was checked against the lock's hashes before it came here.
fn disable_signature_check(root: &Utf8Path) -> Result<()> {
    edit_config(root, |line| {
        (line == "CONFIG_SIGNATURE_CHECK=y").then(|| "# CONFIG_SIGNATURE_CHECK is not set".to_owned())
    })
}

/// Releases before 21.02 do not know the variable `ROOTFS_PARTSIZE`, and say nothing of it.
fn set_rootfs_partsize(root: &Utf8Path, mebibytes: u32) -> Result<()> {
    let option = "CONFIG_TARGET_ROOTFS_PARTSIZE=";
    edit_config(root, |line| {
        line.starts_with(option).then(|| format!("{option}{mebibytes}"))
    })
}

/// Changes lines of the tree's `.config`: all that is not a variable of `make image` is set there.
fn edit_config(root: &Utf8Path, edit: impl Fn(&str) -> Option<String>) -> Result<()> {
    let path = root.join(".config");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read", &path, error)),
    };
    let changed: String = text
        .lines()
        .map(|line| edit(line).unwrap_or_else(|| line.to_owned()) + "\n")
        .collect();
    std::fs::write(&path, changed).map_err(|error| Error::io("write", &path, error))
}

#[cfg(test)]
mod tests;
