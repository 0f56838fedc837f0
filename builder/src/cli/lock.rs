//! `builder lock`: which downloads are pinned, and pinning them anew.

use camino::Utf8PathBuf;
use clap::Args;
use serde_json::json;

use super::source_options::SourceOptions;
use super::{Context, list};
use crate::error::Exit;
use crate::lock::{self, Lock, Resolution};
use crate::profile::{self, Profile};
use crate::project::Project;
use crate::{Error, Result};

/// Shows which downloads are pinned, or pins what the source has now.
///
/// The lock is images/NAME.lock, one for each source: every file of a build by SHA-256, so that the same build is
/// possible later, although feeds drift while the release number stays.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  builder lock                   what is pinned\n  builder lock --update          all devices, as the source has them now\n  builder lock --update rpi4     one device; the others stay as they are\n  builder lock --export DIR rpi4 every locked file, for an archive"
)]
pub(super) struct Arguments {
    /// Verify what the source has now, resolve the packages of the devices and pin everything
    #[arg(long)]
    update: bool,
    /// Copy every locked file of the devices into a folder, each called by its SHA-256, as an archive has them
    #[arg(long, value_name = "DIR", conflicts_with = "update")]
    export: Option<Utf8PathBuf>,
    /// Devices, by name or alias [default: all]
    #[arg(value_name = "DEVICE")]
    devices: Vec<String>,
    #[command(flatten)]
    source: SourceOptions,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Exit> {
    let project = context.project()?;
    let devices = devices(&project, &arguments.devices)?;
    super::block_on(async {
        let (source, fetcher) = arguments.source.open(&project, &context.report).await?;
        let path = source.lock_path(&project);
        let before = Lock::read(&path)?;
        if let Some(folder) = &arguments.export {
            let files = lock::export(&source, &fetcher, &before, &devices, folder).await?;
            context
                .report
                .done(format!("Copied {files} locked files to {folder}"));
            return Ok(Exit::Ok);
        }
        if !arguments.update {
            context.report.data(table(context, &before, &devices));
            return Ok(Exit::Ok);
        }
        let after = lock::update(&project, &source, &fetcher, &devices, &context.report).await?;
        if after == before {
            context.report.done(format!("{path} is up to date"));
        } else {
            after.write(&path)?;
            context.report.done(format!("Wrote {path}"));
        }
        Ok(Exit::Ok)
    })
}

fn devices(project: &Project, names: &[String]) -> Result<Vec<Profile>> {
    if names.is_empty() {
        let all = profile::load_all(project)?
            .into_iter()
            .map(|resolved| resolved.profile)
            .collect::<Vec<_>>();
        return match all.is_empty() {
            true => Err(Error::user(format!(
                "{} has no profile of a device",
                project.profiles()
            ))),
            false => Ok(all),
        };
    }
    names
        .iter()
        .map(|name| profile::load(project, name).map(|resolved| resolved.profile))
        .collect()
}

fn table(context: &Context, lock: &Lock, devices: &[Profile]) -> String {
    let mut rows = vec![["DEVICE", "RELEASE", "TARGET", "STATE", "PACKAGES"].map(str::to_owned)];
    for device in devices {
        let (state, packages) = match lock::resolved(lock, device) {
            Resolution::Resolved(_, device) => ("resolved", device.packages.len()),
            Resolution::Unresolved(_) => ("packages not resolved yet", 0),
            Resolution::Stale(_) => ("the profile changed since", 0),
            Resolution::Unknown => ("not pinned", 0),
        };
        let (release, target) = (device.openwrt.release.clone(), device.openwrt.target.clone());
        context.report.event(
            "lock",
            json!({ "device": device.name, "release": release, "target": target, "state": state, "packages": packages }),
        );
        let count = if packages == 0 {
            String::new()
        } else {
            packages.to_string()
        };
        rows.push([device.name.clone(), release, target, state.to_owned(), count]);
    }
    list::columns(&rows)
}
