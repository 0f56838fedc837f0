//! `builder build`: from profiles to folders of images, each part done once for all devices that share it.
//!
//! The order: resolve, compute every device's build key, leave out what is up to date; then downloads, unpacking and
//! the compiler run beside one another; then the images, several at once.
//!
//! **Invariant:** what is in `images/` is whole and of one build; everything unfinished lies in `target/builder/`.

mod device;
pub mod flash_note;
mod fresh;
pub mod key;
mod origin;
mod outputs;
pub mod provenance;
mod publish;
mod sbom;
mod workspace;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use camino::Utf8PathBuf;
use openwrt_formats::package::Package;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use outputs::image_name;

use crate::cross::{self, Toolchain};
use crate::digest::Sha256;
use crate::fetch::Fetcher;
use crate::imagebuilder::Network;
use crate::overlay::{self, RenderContext};
use crate::profile::{self, Profile};
use crate::project::Project;
use crate::report::Report;
use crate::source::Source;
use crate::{Error, Result, daemon_package};
use device::{Plan, Surroundings};
use fresh::Freshness;
use key::{BinaryInput, DaemonInput, Inputs};
use origin::{Gathered, Origin};
use provenance::Git;
use workspace::{DeviceLock, RunFolder};

/// What to build, and how.
pub struct Options {
    /// Names or aliases of devices.
    pub devices: Vec<String>,
    /// Where ImageBuilder and packages come from.
    pub inputs: InputsFrom,
    /// Where the daemon's binary comes from.
    pub daemon: Daemon,
    /// Open no connection.
    pub offline: bool,
    /// Images made at once; `None`: as the machine allows.
    pub jobs: Option<NonZeroUsize>,
    /// What `make` may reach.
    pub network: Network,
}

/// Where ImageBuilder and packages come from.
pub enum InputsFrom {
    /// A source, through its lock.
    Source {
        /// The source.
        source: Box<Source>,
        /// Gets its files.
        fetcher: Fetcher,
    },
    /// The user's own ImageBuilder, unpacked or as archive, with the packages inside it.
    ImageBuilder(Utf8PathBuf),
}

/// Where the daemon's binary comes from.
#[derive(Clone, Debug)]
pub enum Daemon {
    /// From the project's sources.
    Compile,
    /// Built once, elsewhere.
    Given {
        /// The static binary.
        file: Utf8PathBuf,
        /// What it must hash to.
        sha256: Sha256,
    },
}

/// One device's folder, as it is after the run.
#[derive(Clone, Debug)]
pub struct Built {
    /// Name of the profile.
    pub device: String,
    /// Absolute path.
    pub folder: Utf8PathBuf,
    /// True if there was nothing to do.
    pub up_to_date: bool,
}

/// Builds the images of all devices named; in the order of their names.
pub async fn run(project: &Project, options: Options, report: &Report) -> Result<Vec<Built>> {
    let profiles = profiles(project, &options.devices)?;
    let origin = origin(project, options.inputs, &profiles, report).await?;
    let _locks = device_locks(project, &origin, &profiles, report).await?;
    let daemon = PlannedDaemon::new(project, &options.daemon, &profiles)?;
    let plans = profiles
        .iter()
        .map(|profile| plan(project, &origin, &daemon, profile))
        .collect::<Result<Vec<_>>>()?;

    let mut built = Vec::new();
    let mut stale = Vec::new();
    for plan in plans {
        let device = plan.profile.name.clone();
        match fresh::check(project, origin.name(), &device, &plan.folder, plan.key)? {
            Freshness::Fresh => {
                report.done(format!(
                    "{device} is up to date: {}",
                    relative(project, &plan.folder)
                ));
                report.event(
                    "up_to_date",
                    json!({ "device": device, "folder": plan.folder, "key": plan.key }),
                );
                built.push(Built {
                    device,
                    folder: plan.folder,
                    up_to_date: true,
                });
            }
            Freshness::Stale(why) => {
                report.event(
                    "stale",
                    json!({ "device": device, "reason": why, "key": plan.key }),
                );
                stale.push(plan);
            }
        }
    }
    if !stale.is_empty() {
        let how = How {
            offline: options.offline,
            jobs: options.jobs,
            network: options.network,
        };
        built.extend(build(project, how, &origin, daemon, stale, report).await?);
    }
    built.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(built)
}

/// How stale devices are built.
struct How {
    offline: bool,
    jobs: Option<NonZeroUsize>,
    network: Network,
}

async fn build(
    project: &Project,
    how: How,
    origin: &Origin,
    daemon: PlannedDaemon,
    plans: Vec<Plan>,
    report: &Report,
) -> Result<Vec<Built>> {
    let run = RunFolder::create(project)?;
    let stale: Vec<Profile> = plans.iter().map(|plan| plan.profile.clone()).collect();
    let (gathered, binaries) = tokio::try_join!(
        origin.gather(project, &stale),
        daemon.binaries(project, &stale, how.offline, report)
    )?;
    let surroundings = Arc::new(Surroundings {
        run: run.path().to_owned(),
        logs: project.work().join("logs"),
        network: how.network,
        unknown_imagebuilder: matches!(origin, Origin::Local { .. }),
        git: Git::of(project),
        report: report.clone(),
    });

    let slots = Arc::new(Semaphore::new(jobs(how.jobs)));
    let mut making = JoinSet::new();
    for (plan, gathered) in plans.into_iter().zip(gathered) {
        let binary = &binaries[&plan.profile.rust_target];
        let sha256 = Sha256::of(binary.as_slice());
        let package = daemon.package(project, binary.clone(), &plan.profile)?;
        let work = DeviceWork {
            plan,
            gathered,
            package,
            sha256,
        };
        let (project, source) = (project.clone(), origin.name().to_owned());
        let (slots, surroundings, report) = (slots.clone(), surroundings.clone(), report.clone());
        making.spawn(async move {
            let device = work.plan.profile.name.clone();
            let made = async {
                let _slot = slots
                    .acquire()
                    .await
                    .map_err(|_| Error::bug("the build's slots are closed"))?;
                work.run(&project, &source, surroundings, &report).await
            };
            made.await.map_err(|error| (device, error))
        });
    }
    let mut built = Vec::new();
    let mut failed = Vec::new();
    while let Some(ended) = making.join_next().await {
        match ended.map_err(|error| Error::bug("a device's build broke off").because(error))? {
            Ok(device) => built.push(device),
            Err(failure) => failed.push(failure),
        }
    }
    failures(failed, report).map_or(Ok(built), Err)
}

/// One device's part of a run, from the slot it waits for to its folder.
struct DeviceWork {
    plan: Plan,
    gathered: Gathered,
    package: Package,
    /// Of the daemon's binary.
    sha256: Sha256,
}

impl DeviceWork {
    async fn run(
        self,
        project: &Project,
        source: &str,
        surroundings: Arc<Surroundings>,
        report: &Report,
    ) -> Result<Built> {
        let begun = Instant::now();
        let Plan {
            folder, key, profile, ..
        } = self.plan.clone();
        let device = profile.name;
        let outputs = device::make(self.plan, self.gathered, self.package, self.sha256, surroundings).await?;
        fresh::remember(project, source, &device, &folder, key)?;
        report.done(format!(
            "Built {device} in {:.0} s: {}",
            begun.elapsed().as_secs_f64(),
            relative(project, &folder)
        ));
        report.event(
            "built",
            json!({ "device": device, "folder": folder, "key": key, "outputs": outputs }),
        );
        Ok(Built {
            device,
            folder,
            up_to_date: false,
        })
    }
}

/// One failure is the run's; of several each is shown, and the run's names the devices.
fn failures(mut failed: Vec<(String, Error)>, report: &Report) -> Option<Error> {
    failed.sort_by(|a, b| a.0.cmp(&b.0));
    if failed.len() < 2 {
        return failed.pop().map(|(device, error)| error.context(device));
    }
    let names: Vec<String> = failed.iter().map(|(device, _)| device.clone()).collect();
    let exit = failed[0].1.exit();
    for (device, error) in failed {
        report.error(&error.context(device));
    }
    Some(Error::new(
        exit,
        format!("{} devices failed: {}", names.len(), names.join(", ")),
    ))
}

fn profiles(project: &Project, devices: &[String]) -> Result<Vec<Profile>> {
    let mut profiles = BTreeMap::new();
    for device in devices {
        let profile = profile::load(project, device)?.profile;
        profiles.insert(profile.name.clone(), profile);
    }
    Ok(profiles.into_values().collect())
}

async fn origin(
    project: &Project,
    inputs: InputsFrom,
    profiles: &[Profile],
    report: &Report,
) -> Result<Origin> {
    match inputs {
        InputsFrom::Source { source, fetcher } => {
            Origin::locked(project, *source, fetcher, profiles, report).await
        }
        InputsFrom::ImageBuilder(path) => {
            let project = project.clone();
            tokio::task::spawn_blocking(move || Origin::local(&project, &path))
                .await
                .map_err(|error| Error::bug("hashing the ImageBuilder panicked").because(error))?
        }
    }
}

/// Takes the locks of all devices, in the order of their names: two runs then never wait for one another.
async fn device_locks(
    project: &Project,
    origin: &Origin,
    profiles: &[Profile],
    report: &Report,
) -> Result<Vec<DeviceLock>> {
    let names: Vec<String> = profiles.iter().map(|profile| profile.name.clone()).collect();
    let (project, source, report) = (project.clone(), origin.name().to_owned(), report.clone());
    tokio::task::spawn_blocking(move || {
        names
            .iter()
            .map(|device| DeviceLock::take(&project, &source, device, &report))
            .collect()
    })
    .await
    .map_err(|error| Error::bug("taking the devices' locks panicked").because(error))?
}

fn plan(project: &Project, origin: &Origin, daemon: &PlannedDaemon, profile: &Profile) -> Result<Plan> {
    let context = RenderContext {
        source_label: origin.label(),
        version: &daemon.version,
    };
    let overlays = overlay::render(project, profile, &context)?;
    overlay::lint(&overlays)?;
    let (imagebuilder, packages) = origin.inputs(profile)?;
    let openwrt = &profile.openwrt;
    let inputs = Inputs {
        builder: env!("CARGO_PKG_VERSION").into(),
        device: profile.name.clone(),
        profile: key::profile_hash(profile)?,
        overlays: key::tree_hash(&overlays),
        source: origin.name().into(),
        label: origin.label().into(),
        openwrt: [
            ("release", &openwrt.release),
            ("target", &openwrt.target),
            ("profile", &openwrt.profile),
            ("arch", &openwrt.arch),
        ]
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .into(),
        imagebuilder,
        packages,
        daemon: daemon.input(project, profile)?,
    };
    let folder = origin.images_dir(project, &profile.name);
    Ok(Plan {
        profile: profile.clone(),
        overlays,
        key: inputs.key()?,
        inputs,
        folder,
    })
}

/// The daemon of a run, before anything is compiled.
struct PlannedDaemon {
    version: String,
    from: DaemonFrom,
}

enum DaemonFrom {
    Sources {
        digest: Sha256,
        toolchains: BTreeMap<String, Toolchain>,
    },
    File {
        bytes: Vec<u8>,
        sha256: Sha256,
    },
}

impl PlannedDaemon {
    fn new(project: &Project, daemon: &Daemon, profiles: &[Profile]) -> Result<Self> {
        let targets: BTreeSet<&String> = profiles.iter().map(|profile| &profile.rust_target).collect();
        let from = match daemon {
            Daemon::Compile => {
                let detect = |target: &String| Ok((target.clone(), Toolchain::detect(project, target)?));
                DaemonFrom::Sources {
                    digest: cross::source_digest(project)?,
                    toolchains: targets.into_iter().map(detect).collect::<Result<_>>()?,
                }
            }
            Daemon::Given { file, sha256 } => {
                if targets.len() > 1 {
                    return Err(Error::user(
                        "one daemon binary cannot be for devices of several architectures",
                    )
                    .hint("build the devices of each architecture in a run of their own"));
                }
                let bytes = std::fs::read(file).map_err(|error| Error::io("read", file, error))?;
                let found = Sha256::of(&bytes);
                if found != *sha256 {
                    return Err(
                        Error::environment(format!("{file} has SHA-256 {found}, not {sha256}"))
                            .hint("it is not the binary that this hash was given for; nothing was built"),
                    );
                }
                DaemonFrom::File {
                    bytes,
                    sha256: *sha256,
                }
            }
        };
        Ok(Self {
            version: daemon_package::version(project)?,
            from,
        })
    }

    fn input(&self, project: &Project, profile: &Profile) -> Result<DaemonInput> {
        let binary = match &self.from {
            DaemonFrom::File { sha256, .. } => BinaryInput::Given { sha256: *sha256 },
            DaemonFrom::Sources { digest, toolchains } => BinaryInput::Compiled {
                sources: *digest,
                toolchain: toolchains[&profile.rust_target].inputs(),
            },
        };
        // The package around an empty binary stands for its files, scripts and fields.
        let shell = self.package(project, Vec::new(), profile)?;
        let bytes = device::package_bytes(&shell, profile.openwrt.format(), 0)?;
        Ok(DaemonInput {
            version: self.version.clone(),
            package: Sha256::of(bytes),
            binary,
        })
    }

    fn package(&self, project: &Project, binary: Vec<u8>, profile: &Profile) -> Result<Package> {
        daemon_package::package(project, binary, &self.version, profile)
    }

    /// The binaries by Rust target, compiled one after the other: cargo itself uses all processors.
    async fn binaries(
        &self,
        project: &Project,
        profiles: &[Profile],
        offline: bool,
        report: &Report,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        let targets: BTreeSet<&String> = profiles.iter().map(|profile| &profile.rust_target).collect();
        let mut binaries = BTreeMap::new();
        for target in targets {
            let bytes = match &self.from {
                DaemonFrom::File { bytes, .. } => bytes.clone(),
                DaemonFrom::Sources { toolchains, .. } => {
                    let toolchain = toolchains[target].clone();
                    let (project, report) = (project.clone(), report.clone());
                    let network = if offline {
                        cross::Network::Offline
                    } else {
                        cross::Network::Allowed
                    };
                    tokio::task::spawn_blocking(move || {
                        let path = toolchain.build(&project, network, &report)?;
                        std::fs::read(&path).map_err(|error| Error::io("read", &path, error))
                    })
                    .await
                    .map_err(|error| Error::bug("compiling the daemon panicked").because(error))??
                }
            };
            binaries.insert(target.clone(), bytes);
        }
        Ok(binaries)
    }
}

/// Making one image keeps about two processors busy.
fn jobs(asked: Option<NonZeroUsize>) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    asked.map_or_else(|| processors().div_ceil(2), NonZeroUsize::get)
}

fn relative<'p>(project: &Project, path: &'p camino::Utf8Path) -> &'p camino::Utf8Path {
    path.strip_prefix(&project.root).unwrap_or(path)
}
