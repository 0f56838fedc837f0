//! Debian's packages for one architecture, through a private apt root: the user's system is not touched, and the archive's
//! address and keys are those of the system's own configuration. What was downloaded once is kept and used again.

use std::process::Command;

use crate::{Failure, Result};
use camino::{Utf8Path, Utf8PathBuf};

use super::archive::{self, Tree};
use crate::host::say;

/// The architecture of the tools that the ImageBuilder carries. OpenWrt's ImageBuilder is for Linux x86-64, so ours is.
pub(super) const HOST: &str = "amd64";

/// Packages that run on the build machine, with all that they need.
const TOOLS: [&str; 3] = ["e2fsprogs", "squashfs-tools", "grub-common"];

/// Unpacked packages of one architecture.
pub(super) struct Archive {
    /// The packages' files, laid over each other.
    pub(super) root: Utf8PathBuf,
    /// Version of the kernel package, without Debian's revision.
    pub(super) kernel_version: String,
}

impl Archive {
    /// Downloads and unpacks, where that was not done before. `architecture` is Debian's name.
    pub(super) fn prepare(base: &Utf8Path, architecture: &str) -> Result<Self> {
        let folder = base.join(architecture);
        let root = folder.join("root");
        if !root.is_dir() {
            say(&format!("==> downloading Debian's packages for {architecture}"));
            let packages = download(&folder, architecture)?;
            let unpacked = folder.join("root.new");
            archive::remove(&unpacked)?;
            for package in &packages {
                let mut unpack = Command::new("dpkg-deb");
                unpack.arg("-x").arg(package).arg(&unpacked);
                run(&mut unpack)?;
            }
            std::fs::rename(&unpacked, &root).map_err(|error| Failure::io("rename", &unpacked, error))?;
            say(&format!("    {} packages for {architecture}", packages.len()));
        }
        let kernel_version = kernel_version(&folder)?;
        Ok(Self { root, kernel_version })
    }

    /// Content of a file of the packages.
    pub(super) fn read(&self, path: &str) -> Result<Vec<u8>> {
        archive::read_file(&self.root.join(path))
    }

    /// The one folder or file in `folder` whose name begins so.
    pub(super) fn find(&self, folder: &str, prefix: &str) -> Result<Utf8PathBuf> {
        let place = self.root.join(folder);
        let mut names: Vec<_> = place
            .read_dir_utf8()
            .map_err(|error| Failure::io("list", &place, error))?
            .filter_map(|entry| entry.ok().map(|entry| entry.file_name().to_owned()))
            .filter(|name| name.starts_with(prefix))
            .collect();
        names.sort();
        names
            .pop()
            .map(|name| place.join(name))
            .ok_or_else(|| Failure::environment(format!("Debian's packages have no {folder}/{prefix}…")))
    }

    /// A dynamic program of the build machine's architecture as files of an ImageBuilder: the program, its libraries and
    /// the loader in `staging_dir/host`, and a script that starts it by them, so that the host's own do not matter.
    pub(super) fn bundle(&self, tree: &mut Tree, program: &str) -> Result<()> {
        let name = program.rsplit('/').next().unwrap_or(program);
        tree.program(format!("staging_dir/host/libexec/{name}"), self.read(program)?);
        tree.program(
            format!("staging_dir/host/bin/{name}"),
            format!(
                "#!/bin/sh\nhere=\"$(dirname \"$0\")/..\"\n\
                 exec \"$here/lib/ld-linux-x86-64.so.2\" --library-path \"$here/lib\" \"$here/libexec/{name}\" \"$@\"\n"
            ),
        );
        Ok(())
    }

    /// All shared libraries, for programs that [`Archive::bundle`] adds. `wanted` are the beginnings of their names.
    pub(super) fn bundle_libraries(&self, tree: &mut Tree, wanted: &[&str]) -> Result<()> {
        let mut found = vec![false; wanted.len()];
        for path in archive::files_below(&self.root)? {
            let Some(name) = path.file_name() else { continue };
            let Some(index) = wanted.iter().position(|prefix| name.starts_with(prefix)) else {
                continue;
            };
            if !path
                .parent()
                .is_some_and(|folder| folder.ends_with("x86_64-linux-gnu"))
            {
                continue;
            }
            found[index] = true;
            // Programs ask for the name with one number: `libext2fs.so.2` of `libext2fs.so.2.4`.
            let plain = match name.split_once(".so.") {
                Some((stem, version)) => {
                    format!("{stem}.so.{}", version.split('.').next().unwrap_or(version))
                }
                None => name.to_owned(),
            };
            for name in [name.to_owned(), plain] {
                tree.program(format!("staging_dir/host/lib/{name}"), archive::read_file(&path)?);
            }
        }
        match found.iter().position(|found| !found) {
            Some(index) => Err(Failure::environment(format!(
                "Debian's packages have no library {}",
                wanted[index]
            ))),
            None => Ok(()),
        }
    }

    /// Runs `grub-mkimage` of these packages for a platform of `modules_of`'s packages.
    pub(super) fn grub_image(
        &self,
        modules_of: &Self,
        platform: &str,
        arguments: &[&str],
    ) -> Result<Vec<u8>> {
        let output = tempfile::NamedTempFile::new()
            .map_err(|error| Failure::io("create", "a temporary file", error))?;
        let library = self.root.join("lib/x86_64-linux-gnu");
        let user_library = self.root.join("usr/lib/x86_64-linux-gnu");
        let mut make = Command::new(library.join("ld-linux-x86-64.so.2"));
        make.arg("--library-path")
            .arg(format!("{library}:{user_library}"));
        make.arg(self.root.join("usr/bin/grub-mkimage"));
        make.arg("-d")
            .arg(modules_of.root.join("usr/lib/grub").join(platform));
        make.arg("-O")
            .arg(platform)
            .arg("-o")
            .arg(output.path())
            .args(arguments);
        run(&mut make)?;
        std::fs::read(output.path()).map_err(|error| Failure::io("read", output.path(), error))
    }
}

/// Packages of the system that the images are made of.
fn guest_packages(architecture: &str) -> Vec<&'static str> {
    let mut packages = vec!["busybox-static"];
    match architecture {
        "amd64" => packages.extend(["linux-image-cloud-amd64", "grub-pc-bin", "grub-efi-amd64-bin"]),
        _ => packages.extend(["linux-image-cloud-arm64", "grub-efi-arm64-bin"]),
    }
    packages
}

/// Paths of the downloaded packages, in the order in which they are laid over each other.
fn download(folder: &Utf8Path, architecture: &str) -> Result<Vec<Utf8PathBuf>> {
    let store = folder.join("packages");
    for part in ["state/lists/partial", "cache/archives/partial", "packages"] {
        archive::create_folder(&folder.join(part))?;
    }
    archive::write_file(&folder.join("status"), b"", 0o644)?;
    let apt = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(&store);
        for (option, value) in [
            ("Dir::State", folder.join("state").as_str()),
            ("Dir::State::status", folder.join("status").as_str()),
            ("Dir::Cache", folder.join("cache").as_str()),
            ("Dir::Log", folder.as_str()),
            ("APT::Architecture", architecture),
            ("APT::Architectures", architecture),
            ("APT::Sandbox::User", "root"),
            ("Acquire::Languages", "none"),
            ("Debug::NoLocking", "1"),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command
    };
    // A third party's broken repository is not our business: what is missing shows in the next steps.
    let updated = run(apt("apt-get").args(["-qq", "update"]));
    let explained = |error: Failure| match &updated {
        Ok(_) => error,
        Err(update) => Failure::environment(format!("{error}; before that, {update}")),
    };
    let mut wanted: Vec<String> = Vec::new();
    for name in guest_packages(architecture) {
        wanted.push(name.to_owned());
        if name.starts_with("linux-image-cloud-") {
            // The package without a version only points to the one that has the kernel.
            let depends = run(apt("apt-cache").args(["depends", name])).map_err(explained)?;
            let real = depends
                .lines()
                .filter_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
                .next();
            wanted.extend(real.map(|rest| format!("linux-image-{rest}")));
        }
    }
    run(apt("apt-get").args(["-qq", "download"]).args(&wanted)).map_err(explained)?;
    if architecture == HOST {
        let mut install = apt("apt-get");
        install
            .args([
                "-qq",
                "-y",
                "--download-only",
                "--no-install-recommends",
                "install",
            ])
            .args(TOOLS);
        run(&mut install).map_err(explained)?;
    }
    let mut packages = Vec::new();
    for place in [store.clone(), folder.join("cache/archives")] {
        packages.extend(
            archive::files_below(&place)?
                .into_iter()
                .filter(|path| path.extension() == Some("deb")),
        );
    }
    Ok(packages)
}

fn kernel_version(folder: &Utf8Path) -> Result<String> {
    let store = folder.join("packages");
    archive::files_below(&store)?
        .iter()
        .filter_map(|path| path.file_name())
        .filter(|name| name.starts_with("linux-image-"))
        .filter_map(|name| name.split('_').nth(1))
        .filter_map(|version| version.split('-').next().map(str::to_owned))
        .next_back()
        .ok_or_else(|| Failure::environment(format!("{store} has no kernel package: remove that folder")))
}

/// Runs a program to its end; its standard output, or an error with what it complained of.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| Failure::environment(format!("failed to start {name}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint
        .trim()
        .lines()
        .last()
        .unwrap_or("it said nothing")
        .to_owned();
    Err(Failure::environment(format!("{name} failed: {complaint}")))
}
