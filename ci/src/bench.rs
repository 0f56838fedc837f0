//! `ci bench`: how long the builder takes beside a shell script that does the same steps with the same files.
//!
//! Both start with a filled cache and nothing unpacked, and run in turn; printed are both medians and their ratio. Nothing is
//! judged: a busy machine would make that a lie.

use std::process::{Command, Stdio};
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::host::{project, say, step};
use crate::{Failure, Result, builder, miniature, setup};

const SCRIPT: &str = include_str!("bench.sh");

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The device to build
    #[arg(long, default_value = "pc")]
    device: String,
    /// How often each of the two runs
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Builds from the miniature, so that no network is timed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure()?;
    builder::compile()?;
    miniature::run(&miniature::Arguments::default())?;
    let device = arguments.device.as_str();
    let build = ["build", "--device", device, "--source", "miniature", "--offline"];
    step("filling the cache", &mut builder::command(&build))?;
    let profile = builder::events(&["show", device])?
        .into_iter()
        .find_map(|mut event| Some(event.get_mut("profile")?.take()))
        .ok_or_else(|| Failure::environment(format!("`builder show {device} --json` shows no profile")))?;
    let scratch = tempfile::tempdir_in(project().join("target"))
        .map_err(|error| Failure::environment(format!("failed to make a folder in target/: {error}")))?;
    let scratch = Utf8Path::from_path(scratch.path())
        .ok_or_else(|| Failure::user("the project's path is not UTF-8"))?;
    let script = Script::prepare(&profile, device, scratch)?;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..arguments.rounds.max(1) {
        // What an earlier build left: its outputs, and the unpacked ImageBuilders.
        for left in [
            format!("images/miniature/{device}"),
            "target/builder/imagebuilders".to_owned(),
        ] {
            remove(&project().join(left))?;
        }
        ours.push(seconds(&mut builder::command(&build))?);
        theirs.push(seconds(
            &mut script.command(&scratch.join(format!("work-{round}"))),
        )?);
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    say(&format!(
        "builder build   {ours:6.1} s (median of {})",
        arguments.rounds
    ));
    say(&format!("shell script    {theirs:6.1} s"));
    say(&format!("ratio           {:6.2}", ours / theirs));
    Ok(())
}

/// What the script is told, from the same profile and lock.
struct Script {
    environment: Vec<(&'static str, String)>,
}

impl Script {
    fn prepare(profile: &Value, device: &str, scratch: &Utf8Path) -> Result<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let words =
            |value: &Value| -> Vec<String> { value.as_array().into_iter().flatten().map(text).collect() };
        let openwrt = &profile["openwrt"];
        let target = format!("{}/{}", text(&openwrt["release"]), text(&openwrt["target"]));
        let lock_path = project().join("images/miniature.lock");
        let lock: toml::Table = std::fs::read_to_string(&lock_path)
            .map_err(|error| error.to_string())
            .and_then(|text| text.parse().map_err(|error: toml::de::Error| error.to_string()))
            .map_err(|error| Failure::environment(format!("failed to read {lock_path}: {error}")))?;
        let pins = &lock["targets"][target.as_str()];
        let site = project().join("sources/miniature/site");

        let (mut locked, mut files) = (String::new(), String::new());
        let mut check = |pin: &toml::Value| -> Utf8PathBuf {
            let file = site.join(pin["path"].as_str().unwrap_or_default());
            locked.push_str(&format!(
                "{}  {file}\n",
                pin["sha256"].as_str().unwrap_or_default()
            ));
            file
        };
        let imagebuilder = check(&pins["imagebuilder"]);
        let taken = pins["devices"][device]["packages"].as_array();
        for name in taken.into_iter().flatten().filter_map(toml::Value::as_str) {
            let pin = &pins["packages"][name];
            // Packages without a path are inside the ImageBuilder.
            if pin.get("path").is_some() {
                files.push_str(&format!("{} {name}\n", check(pin)));
            }
        }
        let write = |name: &str, content: &str| -> Result<String> {
            let path = scratch.join(name);
            std::fs::write(&path, content)
                .map_err(|error| Failure::environment(format!("failed to write {path}: {error}")))?;
            Ok(path.into_string())
        };
        let packages: Vec<String> = words(&profile["packages"]["add"])
            .into_iter()
            .chain(
                words(&profile["packages"]["remove"])
                    .into_iter()
                    .map(|name| format!("-{name}")),
            )
            .collect();
        let images = profile["images"].as_array().into_iter().flatten();
        Ok(Self {
            environment: vec![
                ("LOCKED", write("locked", &locked)?),
                ("PACKAGE_FILES", write("packages", &files)?),
                ("IMAGEBUILDER", imagebuilder.into_string()),
                ("PROFILE", text(&openwrt["profile"])),
                ("PACKAGES", packages.join(" ")),
                (
                    "ROOTFS_PARTSIZE",
                    profile["rootfs_partsize"].to_string().replace("null", ""),
                ),
                (
                    "IMAGES",
                    images
                        .map(|image| text(&image["file"]))
                        .collect::<Vec<_>>()
                        .join(" "),
                ),
            ],
        })
    }

    fn command(&self, work: &Utf8Path) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT])
            .env("WORK", work)
            .envs(self.environment.iter().cloned());
        command
    }
}

fn seconds(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::environment(format!("failed to start: {error}")))?;
    if !output.status.success() {
        return Err(Failure::environment(format!(
            "a timed run ended with {}:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    Ok(start.elapsed().as_secs_f64())
}

fn remove(path: &Utf8Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::environment(format!("failed to remove {path}: {error}")))
        }
        _ => Ok(()),
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
