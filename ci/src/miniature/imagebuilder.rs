//! Puts a target's ImageBuilder together: the committed Makefile and scripts, host tools, kernel, boot loader, the
//! packages that OpenWrt bundles, and the facts of the target.

use crate::{Failure, Result};
use camino::Utf8Path;
use serde_json::json;

use super::archive::{self, Tree};
use super::debian::Archive;
use super::packages::Built;
use super::site::{Context, gzip};
use super::tables::{Format, Target};

/// Packages that lie in the ImageBuilder itself.
const BUNDLED: [&str; 3] = ["base-files", "kernel", "libc"];

/// Programs that make file systems, and the libraries they need.
const TOOLS: [&str; 2] = ["sbin/mke2fs", "sbin/debugfs"];
const LIBRARIES: [&str; 15] = [
    "ld-linux-x86-64.so.2",
    "libblkid.so.1",
    "libc.so.6",
    "libcom_err.so.2",
    "libe2p.so.2",
    "libext2fs.so.2",
    "liblz4.so.1",
    "liblzma.so.5",
    "liblzo2.so.2",
    "libm.so.6",
    "libpthread.so.0",
    "libss.so.2",
    "libuuid.so.1",
    "libz.so.1",
    "libzstd.so.1",
];

/// Modules of GRUB that are built into its image: disks, file systems, and what the menu uses.
const GRUB_MODULES: &str = "part_gpt part_msdos fat normal linux echo configfile test";

/// Writes the archive into the target's folder.
pub(super) fn write(
    context: &Context,
    built: &[Built],
    debian: &Archive,
    tools: &Archive,
    data: &Utf8Path,
    site: &Utf8Path,
) -> Result<()> {
    let (release, target) = (context.release, context.target);
    let mut tree = Tree::read(&data.join("imagebuilder"))?;
    tree.file(
        "include/version.mk",
        format!(
            "# Facts of the release that this ImageBuilder belongs to.\nREVISION:={}\nSOURCE_DATE_EPOCH:={}\n",
            release.revision, release.epoch
        ),
    );
    tree.file(
        ".config",
        format!(
            "{}CONFIG_SIGNATURE_CHECK=y\nCONFIG_TARGET_ROOTFS_PARTSIZE={}\nCONFIG_TARGET_KERNEL_PARTSIZE=64\n",
            if release.format == Format::Apk { "CONFIG_USE_APK=y\n" } else { "" },
            target.rootfs_megabytes
        ),
    );
    tree.file("target.json", format!("{:#}\n", facts(context)));
    match release.format {
        Format::Ipk => {
            let key = context.keys.usign.public();
            tree.file(format!("keys/{}", key.id()), key.to_text());
            tree.file("repositories.conf", opkg_repositories(context));
        }
        Format::Apk => {
            let pem = context.keys.apk.public().to_pem();
            let pem = pem.map_err(|error| Failure::environment(error.to_string()))?;
            tree.file("keys/miniature.pem", pem);
            tree.file("repositories", apk_repositories(context));
        }
    }
    for package in built
        .iter()
        .filter(|package| BUNDLED.contains(&package.name.as_str()))
    {
        tree.file(format!("packages/{}", package.file), package.bytes.as_slice());
    }
    tree.file("target/linux/kernel/vmlinuz", context.kernel.image.as_slice());
    tree.file(
        "target/linux/kernel/initrd.gz",
        gzip(&context.kernel.initrd(release.epoch)?),
    );
    add_boot_loader(&mut tree, target, debian, tools)?;
    for program in TOOLS {
        tools.bundle(&mut tree, program)?;
    }
    tools.bundle(&mut tree, "usr/bin/mksquashfs")?;
    tools.bundle_libraries(&mut tree, &LIBRARIES)?;

    let name = format!(
        "openwrt-imagebuilder-{}-{}.Linux-x86_64",
        release.version,
        target.name.replace('/', "-")
    );
    let bytes = tree
        .tar_zst(&name, release.epoch)
        .map_err(|error| Failure::environment(format!("failed to pack {name}: {error}")))?;
    archive::write_file(
        &site.join(context.target_folder()).join(format!("{name}.tar.zst")),
        &bytes,
        0o644,
    )
}

/// What the scripts know of the target.
fn facts(context: &Context) -> serde_json::Value {
    let (release, target) = (context.release, context.target);
    json!({
        "release": release.version,
        "format": release.format,
        "name": target.name,
        "machine": target.machine,
        "arch": target.arch,
        "consoles": target.consoles,
        "efi-loader": efi_loader(target).1,
        "default_packages": target.default_packages,
        "linux_kernel": context.linux_kernel(),
        "devices": target.devices,
    })
}

/// The feeds' addresses. Their host does not exist, so that nothing is ever taken from the real ones by mistake.
fn opkg_repositories(context: &Context) -> String {
    let mut text = "## Remote package repositories\n".to_owned();
    for (_, name, folder) in context.feeds() {
        text += &format!("src/gz {name} https://miniature.invalid/{folder}\n");
    }
    text + "\n## This is the local package repository, do not remove!\nsrc imagebuilder file:packages\n\noption check_signature\n"
}

fn apk_repositories(context: &Context) -> String {
    let line = |(_, _, folder)| format!("https://miniature.invalid/{folder}/packages.adb\n");
    context.feeds().into_iter().map(line).collect()
}

/// GRUB's name of the target's UEFI, and the name of the program that the firmware looks for.
fn efi_loader(target: &Target) -> (&'static str, &'static str) {
    match target.debian.as_str() {
        "amd64" => ("x86_64-efi", "bootx64.efi"),
        _ => ("arm64-efi", "bootaa64.efi"),
    }
}

fn add_boot_loader(tree: &mut Tree, target: &Target, debian: &Archive, tools: &Archive) -> Result<()> {
    let modules: Vec<&str> = GRUB_MODULES.split(' ').collect();
    let (platform, program) = efi_loader(target);
    if platform == "x86_64-efi" {
        let mut arguments = vec![
            "-p",
            "(hd0,msdos1)/boot/grub",
            "biosdisk",
            "serial",
            "terminal",
            "all_video",
        ];
        arguments.extend(&modules);
        tree.file(
            "target/linux/grub/core.img",
            tools.grub_image(debian, "i386-pc", &arguments)?,
        );
        tree.file(
            "target/linux/grub/boot.img",
            debian.read("usr/lib/grub/i386-pc/boot.img")?,
        );
    }
    // Without a device in its prefix GRUB takes the partition that the firmware loaded it from.
    let mut arguments = vec!["-p", "/boot/grub", "serial", "terminal"];
    arguments.extend(&modules);
    tree.file(
        format!("target/linux/grub/{program}"),
        tools.grub_image(debian, platform, &arguments)?,
    );
    Ok(())
}
