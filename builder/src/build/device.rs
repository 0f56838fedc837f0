//! One device's image, from gathered inputs to its folder in `images/`.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use openwrt_formats::apk::{self, Compression};
use openwrt_formats::ipk;
use openwrt_formats::package::Package;

use super::key::Inputs;
use super::origin::Gathered;
use super::outputs::{self, Made};
use super::provenance::{Git, Output};
use crate::digest::Sha256;
use crate::imagebuilder::{Bytes, FeedFile, ImageBuilder, Info, Network, Request};
use crate::nearest;
use crate::overlay::{self, Tree};
use crate::profile::{PackageFormat, Profile};
use crate::report::Report;
use crate::{Error, Result, daemon_package};

/// Everything that is known of a device's build before it begins.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) profile: Profile,
    pub(super) overlays: Tree,
    pub(super) inputs: Inputs,
    pub(super) key: Sha256,
    /// Where the outputs go.
    pub(super) folder: Utf8PathBuf,
}

/// What all devices of a run share.
pub(super) struct Surroundings {
    /// A folder of this run, with one folder a device below.
    pub(super) run: Utf8PathBuf,
    pub(super) logs: Utf8PathBuf,
    pub(super) network: Network,
    /// True for the user's own ImageBuilder, which nothing has compared with the profile yet.
    pub(super) unknown_imagebuilder: bool,
    pub(super) git: Option<Git>,
    pub(super) report: Report,
}

/// Makes the image and puts its folder in place. `daemon` is the package, `binary` the hash of the daemon in it.
pub(super) async fn make(
    plan: Plan,
    mut gathered: Gathered,
    daemon: Package,
    binary: Sha256,
    surroundings: Arc<Surroundings>,
) -> Result<BTreeMap<String, Output>> {
    let profile = &plan.profile;
    let dir = surroundings.run.join(&profile.name);
    let log = surroundings
        .logs
        .join(format!("{}-{}.log", plan.inputs.source, profile.name));
    let imagebuilder =
        ImageBuilder::prepare(&gathered.pristine, &dir.join("tree"), surroundings.network, &log).await?;
    if surroundings.unknown_imagebuilder {
        check_fits(&imagebuilder.info().await?, imagebuilder.format(), profile)?;
    }
    let epoch = imagebuilder.source_date_epoch()?;
    if epoch.is_none() {
        surroundings.report.warn(format!(
            "{}: this ImageBuilder has no SOURCE_DATE_EPOCH; the same build will give other bytes tomorrow",
            profile.name
        ));
    }
    gathered
        .feed
        .files
        .push(packed(&daemon, profile.openwrt.format(), epoch.unwrap_or(0))?);
    imagebuilder.replace_feed(gathered.feed).await?;
    let files = dir.join("files");
    overlay::write(&plan.overlays, &files)?;
    let outputs = imagebuilder
        .image(
            &Request {
                profile: profile.openwrt.profile.clone(),
                packages: requested_packages(profile),
                files,
                bin_dir: dir.join("bin"),
                extra_image_name: plan.inputs.label.clone(),
                disabled_services: profile.disabled_services.clone(),
                rootfs_partsize: profile.rootfs_partsize,
                expected: profile.images.iter().map(|image| image.file.clone()).collect(),
            },
            &surroundings.report,
        )
        .await?;
    tokio::task::spawn_blocking(move || {
        let made = Made {
            profile: &plan.profile,
            inputs: &plan.inputs,
            outputs: &outputs,
            source_date_epoch: epoch,
            daemon_sha256: binary,
            git: surroundings.git.clone(),
        };
        let collected = outputs::collect(&made, &plan.folder)?;
        remove(&dir)?;
        Ok(collected)
    })
    .await
    .map_err(|error| Error::bug("collecting the outputs panicked").because(error))?
}

/// The trees of finished devices would fill the disk during a build of all of them.
fn remove(dir: &Utf8Path) -> Result<()> {
    std::fs::remove_dir_all(dir).map_err(|error| Error::io("remove", dir, error))
}

/// `PACKAGES`: what the profile adds, the daemon, and what it takes out.
fn requested_packages(profile: &Profile) -> Vec<String> {
    let added = profile
        .packages
        .add
        .iter()
        .filter(|name| *name != daemon_package::NAME)
        .cloned();
    let removed = profile.packages.remove.iter().map(|name| format!("-{name}"));
    added
        .chain([daemon_package::NAME.to_owned()])
        .chain(removed)
        .collect()
}

/// The daemon's package as the feed's file of its format.
fn packed(package: &Package, format: PackageFormat, epoch: u64) -> Result<FeedFile> {
    let meta = &package.meta;
    let name = match format {
        PackageFormat::Ipk => format!("{}_{}_{}.ipk", meta.name, meta.version, meta.arch),
        PackageFormat::Apk => apk::file_name(&meta.name, &meta.version),
    };
    let bytes = package_bytes(package, format, epoch)?;
    Ok(FeedFile {
        name,
        sha256: Sha256::of(&bytes),
        bytes: Bytes::Memory(bytes),
    })
}

/// The package as a file of its format.
pub(super) fn package_bytes(package: &Package, format: PackageFormat, epoch: u64) -> Result<Vec<u8>> {
    match format {
        PackageFormat::Ipk => ipk::write(package, epoch),
        PackageFormat::Apk => apk::write(package, epoch, Compression::Deflate),
    }
    .map_err(|error| Error::bug("the daemon's package cannot be written").because(error))
}

/// Refuses an ImageBuilder of another target, format or without the board.
fn check_fits(info: &Info, format: PackageFormat, profile: &Profile) -> Result<()> {
    let wanted = &profile.openwrt;
    if info.target != wanted.target {
        return Err(Error::user(format!(
            "this ImageBuilder is for {}, the profile {} is for {}",
            info.target, profile.name, wanted.target
        ))
        .hint("give the ImageBuilder of the profile's target, or build another device"));
    }
    if format != wanted.format() {
        return Err(Error::user(format!(
            "this ImageBuilder uses {} packages, OpenWrt {} of the profile {} uses {}",
            format_name(format),
            wanted.release,
            profile.name,
            format_name(wanted.format())
        ))
        .hint("set openwrt.release in a profile of your own to the ImageBuilder's release"));
    }
    if !info.profiles.contains_key(&wanted.profile) {
        let error = Error::user(format!("this ImageBuilder has no board `{}`", wanted.profile));
        return Err(
            match nearest::nearest(&wanted.profile, info.profiles.keys().map(String::as_str)) {
                Some(near) => error.hint(format!(
                    "did you mean `{near}`? it is openwrt.profile in the profile"
                )),
                None => error,
            },
        );
    }
    Ok(())
}

fn format_name(format: PackageFormat) -> &'static str {
    match format {
        PackageFormat::Ipk => "ipk",
        PackageFormat::Apk => "apk",
    }
}
