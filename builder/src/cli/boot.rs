//! `builder boot DEVICE`: which image, and how what was found is shown.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use serde_json::json;

use super::Context;
use super::signals::interrupted;
use crate::boot::{self, Bonded, Booted, Machine, Request};
use crate::cross::{Network, Toolchain};
use crate::error::Exit;
use crate::profile::{self, Profile};
use crate::project::Project;
use crate::report::Report;
use crate::{Error, Result, source};

/// Boot a device's image in QEMU and see whether `sennit` runs in it
///
/// The image starts from its own disk by its own boot loader (BIOS or EFI) in a virtual machine with two network cards
/// that reach nothing. On its serial console the router is asked for its kernel, its init system, the `sennit` service
/// and the interface sennit0. The image file is not changed. Exit code 5: it did not come up.
///
/// With --bond the machine has a LAN card and two WANs, which lead to a `sennit` server outside, all in a network
/// namespace of its own. The router is told the server as a user would, and while a TCP connection runs through the bond
/// the WAN that carries most of it is unplugged. Exit code 5: the connection did not survive.
///
/// Images for PCs and for EFI on ARM boot as they are. Images that only a board's own boot loader can start (Raspberry
/// Pi, NanoPi, anything on raw NAND flash) are refused; those of the miniature have an EFI boot loader instead.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Device, by name or alias
    device: String,
    /// Boot this file [default: the device's first disk image that was built]
    #[arg(long, value_name = "FILE")]
    image: Option<Utf8PathBuf>,
    /// Boot the image that was built from this source [default: openwrt]
    #[arg(long, value_name = "NAME|DIR|URL", conflicts_with = "image")]
    source: Option<String>,
    /// Seconds that the router may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// Try the bond too, with two WANs and a server outside (as root)
    #[arg(long)]
    bond: bool,
    /// Afterwards connect this terminal to the router's console; Ctrl-] ends it
    #[arg(long, conflicts_with = "json")]
    keep: bool,
    /// Use the processor's virtualisation instead of emulation (x86_64, where /dev/kvm works)
    #[arg(long)]
    kvm: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<Exit> {
    if arguments.bond {
        boot::may_bond()?;
    }
    let project = context.project()?;
    let profile = profile::load(&project, &arguments.device)?.profile;
    let image = match arguments.image {
        Some(image) => image,
        None => {
            let source = source::open(&project, arguments.source.as_deref())?;
            let folder = source.images_dir(&project, &profile.name);
            built_image(&profile, &folder, arguments.source.as_deref())?
        }
    };
    let bond = if arguments.bond {
        Some(own_sennit(&project, &context.report)?)
    } else {
        None
    };
    let request = Request {
        machine: Machine::of_rust_target(&profile.rust_target)?,
        timeout: Duration::from_secs(arguments.timeout),
        kvm: arguments.kvm,
        keep: arguments.keep,
        bond,
        work: project.work().join("boot").join(&profile.name),
        image,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::environment("failed to start the async runtime").because(error))?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = boot::run(&request, &context.report) => ended,
            error = interrupted() => Err(error),
        }
    });
    runtime.shutdown_background();
    show(context, &profile, &request.image, &ended?);
    Ok(Exit::Ok)
}

/// The daemon for this machine itself, compiled if need be.
fn own_sennit(project: &Project, report: &Report) -> Result<Utf8PathBuf> {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    Toolchain::detect(project, &target)?.build(project, Network::Allowed, report)
}

/// The first disk image in the profile's order that lies in `folder`.
fn built_image(profile: &Profile, folder: &Utf8Path, source: Option<&str>) -> Result<Utf8PathBuf> {
    let mut disks = profile.images.iter().filter(|image| image.disk).peekable();
    if disks.peek().is_none() {
        return Err(Error::user(format!(
            "{} has no disk image: its images are for NAND flash, which only the board itself can start",
            profile.title
        ))
        .hint("its configuration can be tried in an image for qemu-arm64"));
    }
    let files = match folder.read_dir_utf8() {
        Ok(entries) => entries
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(|error| Error::io("list", folder, error))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::io("list", folder, error)),
    };
    let mut names: Vec<&str> = files.iter().map(|file| file.file_name()).collect();
    names.sort_unstable();
    let built = disks.find_map(|image| {
        names
            .iter()
            .find(|name| name.ends_with(&format!("-{}", image.file)))
    });
    built.map(|name| folder.join(name)).ok_or_else(|| {
        let from = source
            .map(|source| format!(" --source {source}"))
            .unwrap_or_default();
        Error::user(format!("no disk image of {} in {folder}", profile.name)).hint(format!(
            "build it first: builder build --device {}{from}",
            profile.name
        ))
    })
}

fn show(context: &Context, profile: &Profile, image: &Utf8Path, booted: &Booted) {
    let found = &booted.findings;
    let pid = found
        .service_pid
        .map(|pid| format!(" (process {pid})"))
        .unwrap_or_default();
    let there = |there: bool| if there { "present" } else { "missing" };
    let mut rows = vec![
        ("device", profile.title.clone()),
        ("image", image.to_string()),
        ("started by", booted.loader.to_string()),
        ("system", found.system.clone()),
        ("kernel", format!("{} ({})", found.kernel, found.machine)),
        ("init", found.init.clone()),
        ("service", format!("sennit running{pid}")),
        ("interface", format!("sennit0 {}", there(found.interface))),
        (
            "came up in",
            format!("{} s (its own clock: {} s)", booted.took.as_secs(), found.uptime),
        ),
        ("console", booted.console_log.to_string()),
    ];
    if let Some(bonded) = &booted.bonded {
        rows.extend(bond_rows(bonded));
    }
    let lines: Vec<String> = rows
        .iter()
        .map(|(key, value)| format!("{key:<11} {value}"))
        .collect();
    context.report.data(lines.join("\n"));
    context.report.event(
        "booted",
        json!({
            "device": profile.name,
            "image": image,
            "loader": booted.loader.to_string(),
            "findings": found,
            "bonded": booted.bonded,
            "seconds": booted.took.as_secs_f64(),
            "console_log": booted.console_log,
        }),
    );
}

fn bond_rows(bonded: &Bonded) -> [(&'static str, String); 5] {
    let shares: Vec<String> = bonded
        .wans
        .iter()
        .zip(&bonded.shares)
        .map(|(wan, share)| format!("{wan} {:.0} %", share * 100.0))
        .collect();
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    [
        ("WANs", format!("both active; carried {}", shares.join(", "))),
        (
            "transfer",
            format!(
                "{:.1} MiB, then {:.1} MiB over one WAN, each byte as it was sent",
                mebibytes(bonded.bytes_before),
                mebibytes(bonded.bytes_after)
            ),
        ),
        (
            "unplugged",
            format!(
                "{}: nothing arrived for {:.2} s at most",
                bonded.cut, bonded.stall
            ),
        ),
        (
            "plugged in",
            format!("it carries the transfer too after {:.1} s", bonded.back),
        ),
        ("verdict", "the same TCP connection goes on".to_owned()),
    ]
}
