//! FLASH.md: what the person does who has just built an image for one device and wants it on the device.

use std::fmt::Write as _;

use crate::overlay::RenderContext;
use crate::profile::{Port, Profile};

/// One image that lies in the same folder as the note.
#[derive(Clone, Debug)]
pub struct Handed {
    /// File name.
    pub name: String,
    /// What it is for, one line.
    pub purpose: String,
    /// Bytes.
    pub size: u64,
}

/// The text of FLASH.md for a device, whose images are in the order of the profile.
pub fn flash_note(profile: &Profile, images: &[Handed], context: &RenderContext<'_>) -> String {
    let mut note = format!("# Sennit {} on {}\n\n", context.version, profile.title);
    // Writing to a String cannot fail.
    let _ = head(&mut note, profile, images, context);
    let _ = steps(&mut note, profile, images);
    let _ = first_start(&mut note, profile);
    let _ = later(&mut note, profile);
    note
}

fn head(
    note: &mut String,
    profile: &Profile,
    images: &[Handed],
    context: &RenderContext<'_>,
) -> std::fmt::Result {
    let openwrt = &profile.openwrt;
    if !context.source_label.is_empty() {
        writeln!(
            note,
            "> **This is a `{label}` image.** It was not made from OpenWrt's own files. Do not flash it to a router\n\
             > unless you know what is in it.\n",
            label = context.source_label
        )?;
    }
    writeln!(
        note,
        "Made with OpenWrt {} ({}, profile `{}`).\n",
        openwrt.release, openwrt.target, openwrt.profile
    )?;
    writeln!(note, "## The files\n\n| file | size | for |\n| --- | --- | --- |")?;
    for image in images {
        writeln!(
            note,
            "| `{}` | {} | {} |",
            image.name,
            mebibytes(image.size),
            image.purpose
        )?;
    }
    writeln!(
        note,
        "\nCheck them before you flash: `sha256sum --check --ignore-missing SHA256SUMS` in this folder says `OK` for\n\
         each. A damaged image can leave a device that does not start.\n"
    )
}

fn steps(note: &mut String, profile: &Profile, images: &[Handed]) -> std::fmt::Result {
    let first = images.first().map_or("IMAGE", |image| &image.name);
    writeln!(note, "## Flash\n")?;
    for (index, step) in profile.flash.steps.iter().enumerate() {
        writeln!(note, "{}. {}", index + 1, step.replace("{image}", first))?;
    }
    writeln!(note)
}

fn first_start(note: &mut String, profile: &Profile) -> std::fmt::Result {
    let settings = &profile.settings;
    let address = settings.lan_address;
    let has_web = profile.features.iter().any(|feature| feature == "luci");
    let has_usb = profile.overlays.iter().any(|overlay| overlay == "usb-tether");
    writeln!(note, "## First start\n")?;
    writeln!(
        note,
        "1. Connect a computer to a LAN socket (in the settings: {}). It gets an address by itself; the router is {address}.",
        names(&profile.ports.lan)
    )?;
    match profile.ports.wan.as_slice() {
        [] => write!(note, "2. This device has no socket of its own for a WAN:")?,
        [one] => write!(
            note,
            "2. Connect an internet line to the WAN socket (`{}`).",
            one.name
        )?,
        several => write!(
            note,
            "2. Connect your internet lines to the WAN sockets ({}).",
            names(several)
        )?,
    }
    match (has_usb, profile.ports.wan.is_empty()) {
        (true, true) => writeln!(
            note,
            " plug USB network adapters or phones (USB tethering on) in, each joins as a WAN."
        )?,
        (true, false) => writeln!(
            note,
            " USB network adapters and phones (USB tethering on) join as further WANs."
        )?,
        (false, true) => writeln!(note, " configure one in the web interface.")?,
        (false, false) => writeln!(note)?,
    }
    if has_web {
        writeln!(
            note,
            "3. Open `https://{address}/`. The browser warns because the router made its certificate itself: accept it.\n   \
             Log in as `root` with an empty password, and set one at once, as the page asks you to."
        )?;
    } else {
        writeln!(
            note,
            "3. This image has no web interface: log in on the console and set a password with `passwd`."
        )?;
    }
    writeln!(
        note,
        "4. SSH (`ssh root@{address}`) works from the LAN only. It takes passwords as soon as you have set one, a few\n   \
         seconds later; before that it takes none, so that nobody gets in with an empty one."
    )?;
    match settings.wifi_country.as_str() {
        "" => writeln!(
            note,
            "5. Wi-Fi, if the device has it, is off until you set your country and a password.\n"
        )?,
        country => writeln!(
            note,
            "5. Wi-Fi, if the device has it, is set to country {country} and off until you set a password.\n"
        )?,
    }
    writeln!(
        note,
        "Until the router has a bonding server, the LAN uses the first WAN that works. With a server, everything goes\n\
         through the bond. `uci set firewall.sennit_direct.enabled=0; uci commit firewall; service firewall reload` shuts\n\
         the direct way by hand.\n"
    )
}

fn later(note: &mut String, profile: &Profile) -> std::fmt::Result {
    if !profile.flash.recovery.is_empty() {
        writeln!(note, "## If something goes wrong\n\n{}\n", profile.flash.recovery)?;
    }
    let made_for_it = profile
        .images
        .iter()
        .find(|image| image.file.contains("sysupgrade"));
    let Some(upgrade) = made_for_it.or_else(|| profile.images.iter().find(|image| image.disk)) else {
        return Ok(());
    };
    writeln!(
        note,
        "## Upgrade later\n\nSettings survive: give the newer file that ends in `{}` to System → Backup / Flash Firmware in\n\
         the web interface, or copy it to the router's `/tmp` and run `sysupgrade -v /tmp/FILE` there.",
        upgrade.file
    )?;
    match upgrade.file.split_once("squashfs") {
        Some((before, after))
            if profile
                .images
                .iter()
                .any(|image| image.file == format!("{before}ext4{after}")) =>
        {
            writeln!(note, "If you installed an `ext4` image, take the `ext4` file.")
        }
        Some(_) | None => Ok(()),
    }
}

fn names(ports: &[Port]) -> String {
    ports
        .iter()
        .map(|port| format!("`{}`", port.name))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Rounded up, so that a card that is as big as this says is big enough.
fn mebibytes(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(1024 * 1024);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Flash, Image};
    use crate::testing;

    fn note(label: &str, change: impl FnOnce(&mut Profile)) -> String {
        let mut profile = testing::profile();
        profile.flash = Flash {
            steps: vec!["Unpack `{image}`.".into(), "Write it.".into()],
            recovery: "Write it again.".into(),
        };
        profile.images = vec![Image {
            file: "ext4-combined.img.gz".into(),
            purpose: "disks".into(),
            disk: true,
        }];
        change(&mut profile);
        let images = [Handed {
            name: "sennit-0.1.0-sample-ext4.img.gz".into(),
            purpose: "disks".into(),
            size: 15_728_641,
        }];
        flash_note(
            &profile,
            &images,
            &RenderContext {
                source_label: label,
                version: "0.1.0",
            },
        )
    }

    #[test]
    fn steps_are_numbered_and_name_the_image() {
        let note = note("", |_| ());
        assert!(note.starts_with("# Sennit 0.1.0 on Sample board\n"));
        assert!(
            note.contains("1. Unpack `sennit-0.1.0-sample-ext4.img.gz`.\n2. Write it.\n"),
            "{note}"
        );
        assert!(
            note.contains("| `sennit-0.1.0-sample-ext4.img.gz` | 15.1 MiB | disks |"),
            "{note}"
        );
        assert!(note.contains("ends in `ext4-combined.img.gz`"), "{note}");
        assert!(!note.contains("Do not flash"), "{note}");
    }

    #[test]
    fn an_image_of_another_source_warns_first() {
        let note = note("miniature", |_| ());
        assert!(
            note.lines()
                .nth(2)
                .expect("third line")
                .starts_with("> **This is a `miniature` image.**"),
            "{note}"
        );
    }

    #[test]
    fn the_first_start_fits_the_device() {
        let plain = note("", |_| ());
        assert!(
            plain.contains("no web interface") && plain.contains("WAN socket (`eth1`).\n"),
            "{plain}"
        );
        let full = note("", |profile| {
            profile.features.push("luci".into());
            profile.overlays.push("usb-tether".into());
            profile.ports.wan.clear();
            profile.settings.wifi_country = "DE".into();
        });
        for part in [
            "https://192.168.77.1/",
            "no socket of its own for a WAN: plug USB",
            "country DE",
        ] {
            assert!(full.contains(part), "{part}: {full}");
        }
    }
}
