//! The text of a new profile, from what a target publishes about a board. Pure: reads and writes no file.

use std::fmt::Write as _;

use super::published::{Board, PublishedImage, Target};
use crate::{Error, Result, nearest};

/// The profile of `board`, one of `target`'s, ready to be saved and then adapted.
pub fn render(release: &str, target: &Target, board: &str) -> Result<String> {
    let Some(published) = target.profiles.get(board) else {
        let error = Error::user(format!("no board `{board}` in {}", target.target));
        let hint = nearest::hint(board, "boards", target.profiles.keys().map(String::as_str));
        return Err(hint.into_iter().fold(error, Error::hint));
    };
    let images = images(published);
    if images.is_empty() {
        return Err(Error::user(format!(
            "{} publishes no image of `{board}` that can be flashed",
            target.target
        ))
        .hint("write the profile by hand: profiles/pc.toml is an example"));
    }
    let rust_target = rust_target(&target.arch_packages)?;
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    };
    line(format_args!(
        "# Made by `builder new-profile` from OpenWrt's list of boards. Ports and flashing are not in"
    ));
    line(format_args!(
        "# that list: see the notes below, then run `builder check`."
    ));
    line(format_args!("extends = [\"base\"]\n"));
    line(format_args!("title = {}", quoted(&published.title(board))));
    line(format_args!("rust_target = {}\n", quoted(rust_target)));
    line(format_args!("[openwrt]"));
    line(format_args!("release = {}", quoted(release)));
    line(format_args!("target = {}", quoted(&target.target)));
    line(format_args!("profile = {}", quoted(board)));
    line(format_args!("arch = {}\n", quoted(&target.arch_packages)));
    line(format_args!(
        "# Which sockets are LAN (one bridge) and which are WAN (an uplink each). OpenWrt's own choice is in"
    ));
    line(format_args!(
        "# target/linux/{}/…/etc/board.d/02_network of its sources. Where",
        first_part(&target.target)
    ));
    line(format_args!(
        "# numbering follows probe order, add device_path = \"…\", the path below /sys/devices."
    ));
    line(format_args!("# [ports]"));
    line(format_args!(
        "# lan = [{{ name = \"lan1\" }}, {{ name = \"lan2\" }}]"
    ));
    line(format_args!("# wan = [{{ name = \"wan\" }}]"));
    for (file, image) in images {
        line(format_args!("\n[[images]]"));
        line(format_args!("file = {}", quoted(file)));
        line(format_args!("purpose = {}", quoted(purpose(&image.r#type))));
        if is_disk(file) {
            line(format_args!("disk = true"));
        }
    }
    line(format_args!("\n[flash]"));
    line(format_args!("steps = ["));
    line(format_args!(
        "    {},",
        quoted("Look up at https://openwrt.org/toh/start how this board is flashed, and write it down here.")
    ));
    line(format_args!("]\nrecovery = \"\""));
    Ok(text)
}

/// Images to hand out: those for a first installation, then those for upgrades.
fn images(board: &Board) -> Vec<(&str, &PublishedImage)> {
    let rank = |image: &PublishedImage| match image.r#type.as_str() {
        "factory" | "sdcard" | "combined" | "combined-efi" => Some(0),
        "sysupgrade" => Some(1),
        other if other.starts_with("factory") => Some(0),
        // Kernels, root file systems, boot loaders, images that run from memory: parts, not what a person flashes.
        _ => None,
    };
    let mut images: Vec<_> = board
        .image_ends()
        .filter_map(|(end, image)| Some((rank(image)?, end, image)))
        .collect();
    images.sort_by_key(|(rank, end, _)| (*rank, *end));
    images.into_iter().map(|(_, end, image)| (end, image)).collect()
}

fn purpose(kind: &str) -> &'static str {
    match kind {
        "sysupgrade" => "upgrade of a device that runs OpenWrt or Sennit",
        "sdcard" => "first installation: write to an SD card",
        "combined" | "combined-efi" => "first installation: write to a disk",
        _ => "first installation",
    }
}

fn is_disk(file: &str) -> bool {
    file.ends_with(".img") || file.ends_with(".img.gz")
}

fn first_part(target: &str) -> &str {
    target.split('/').next().unwrap_or(target)
}

/// OpenWrt's package architecture names CPU and tuning; Rust knows the CPU's family.
fn rust_target(arch: &str) -> Result<&'static str> {
    let float = arch.contains("neon") || arch.contains("vfp");
    Ok(match arch.split('_').next().unwrap_or(arch) {
        "x86" => "x86_64-unknown-linux-musl",
        "aarch64" => "aarch64-unknown-linux-musl",
        "i386" => "i686-unknown-linux-musl",
        "arm" if float && arch.contains("cortex") => "armv7-unknown-linux-musleabihf",
        "arm" => "arm-unknown-linux-musleabi",
        "riscv64" => "riscv64gc-unknown-linux-musl",
        _ => {
            return Err(Error::user(format!(
                "no Rust target is known for the package architecture {arch}"
            ))
            .hint("Sennit runs on x86, ARM and RISC-V devices"));
        }
    })
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::published::tests::FILOGIC;

    fn filogic() -> Target {
        Target::parse("profiles.json", FILOGIC.as_bytes()).unwrap()
    }

    #[test]
    fn a_profile_starts_from_what_openwrt_publishes() {
        let text = render("25.12.5", &filogic(), "bananapi_bpi-r3").unwrap();
        let expected = r#"[openwrt]
release = "25.12.5"
target = "mediatek/filogic"
profile = "bananapi_bpi-r3"
arch = "aarch64_cortex-a53"
"#;
        assert!(text.contains(expected), "{text}");
        let images = text.split("\n[[images]]\n").skip(1).collect::<Vec<_>>();
        assert_eq!(images.len(), 2, "boot loaders are no image to hand out: {text}");
        assert!(
            images[0].starts_with("file = \"sdcard.img.gz\"\npurpose"),
            "{text}"
        );
        assert!(images[0].contains("disk = true"), "{text}");
        assert!(
            images[1].starts_with("file = \"squashfs-sysupgrade.itb\"\n"),
            "{text}"
        );
        assert!(text.contains("title = \"Bananapi BPi-R3\""), "{text}");
    }

    #[test]
    fn what_cannot_become_a_profile_is_refused_with_the_reason() {
        let unknown = render("25.12.5", &filogic(), "bananapi_bpi-r33").unwrap_err();
        assert_eq!(unknown.hints(), ["did you mean `bananapi_bpi-r3`?"]);
        let nothing = render("25.12.5", &filogic(), "bananapi_bpi-r3-mini").unwrap_err();
        assert!(nothing.to_string().contains("publishes no image"), "{nothing}");
    }

    #[test]
    fn every_architecture_that_rust_knows_is_mapped() {
        assert_eq!(rust_target("x86_64").unwrap(), "x86_64-unknown-linux-musl");
        assert_eq!(
            rust_target("aarch64_cortex-a72").unwrap(),
            "aarch64-unknown-linux-musl"
        );
        assert_eq!(
            rust_target("arm_cortex-a7_neon-vfpv4").unwrap(),
            "armv7-unknown-linux-musleabihf"
        );
        assert_eq!(
            rust_target("arm_arm926ej-s").unwrap(),
            "arm-unknown-linux-musleabi"
        );
        assert!(rust_target("mips_24kc").is_err());
    }
}
