//! `ci demo`: from nothing to a booted image that bonds. Sets the machine up, makes the miniature, builds the Raspberry Pi
//! image of it, boots it in QEMU, and unplugs one of its two WANs while a transfer runs through the bond.

use std::time::Instant;

use crate::host::{say, step};
use crate::{Result, builder, miniature, setup};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The device to build and boot
    #[arg(long, default_value = "rpi4")]
    device: String,
}

/// Stops at the first step that fails; another run goes on from there.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    let device = arguments.device.as_str();
    setup::ensure()?;
    builder::compile()?;
    say("==> making the miniature of OpenWrt's site from Debian's packages");
    miniature::run(&miniature::Arguments::default())?;
    step(
        &format!("builder build --device {device} --source miniature"),
        &mut builder::command(&["build", "--device", device, "--source", "miniature"]),
    )?;
    let mut boot = vec!["boot", device, "--source", "miniature"];
    let root = rustix::process::geteuid().is_root();
    if root {
        boot.push("--bond");
    }
    step(
        &format!("builder {}", boot.join(" ")),
        &mut builder::command(&boot),
    )?;
    say("");
    if !root {
        say("Only root can make the WANs that the image's bond is tried with:");
        say("");
        say(&format!(
            "    sudo env \"PATH=$PATH\" target/release/builder boot {device} --source miniature --bond"
        ));
        say("");
    }
    say(&format!(
        "Done in {:.0} s. The image and its notes lie in images/miniature/{device}/",
        start.elapsed().as_secs_f64()
    ));
    say("It is made of Debian's packages, to show that everything works: do not flash it.");
    say("The real one, from OpenWrt's site:");
    say("");
    say(&format!("    target/release/builder build --device {device}"));
    Ok(())
}
