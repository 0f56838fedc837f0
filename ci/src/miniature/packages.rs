//! Builds the packages of the feeds from the tables, the root file system's parts and Debian's packages.

use std::process::Command;

use crate::{Failure, Result};
use camino::Utf8Path;
use openwrt_formats::package::{Meta, Package};
use openwrt_formats::{apk, ipk};

use super::archive::{Node, Tree};
use super::debian::{self, Archive};
use super::site::Context;
use super::tables::{self, Feed, Format};

/// Applets that would stand in the way of the root file system's own programs.
const WITHOUT: [&str; 11] = [
    "busybox", "init", "linuxrc", "ifup", "ifdown", "dpkg", "dpkg-deb", "rpm", "rpm2cpio", "mke2fs", "httpd",
];

/// A package as it is served.
pub(super) struct Built {
    pub(super) name: String,
    pub(super) feed: Feed,
    /// `kmod-tun_6.1.192-r1_x86_64.ipk`
    pub(super) file: String,
    pub(super) bytes: Vec<u8>,
}

/// All packages of a target, by name.
pub(super) fn build(context: &Context, tools: &Archive, data: &Utf8Path) -> Result<Vec<Built>> {
    let build = |package: &tables::Package| build_one(context, tools, data, package);
    context.tables.packages.iter().map(build).collect()
}

fn build_one(
    context: &Context,
    tools: &Archive,
    data: &Utf8Path,
    package: &tables::Package,
) -> Result<Built> {
    let own = data.join("rootfs").join(&package.name);
    let mut tree = if own.is_dir() {
        Tree::read(&own)?
    } else {
        Tree::default()
    };
    match package.name.as_str() {
        "busybox" => add_busybox(&mut tree, context, tools)?,
        "base-files" => add_release(&mut tree, context),
        _ => {}
    }
    add_modules(&mut tree, context, package)?;
    if tree.0.is_empty() {
        tree.file(
            format!("usr/share/miniature/{}", package.name),
            "A placeholder of the miniature.\n",
        );
    }
    let kernel = &context.kernel;
    let is_kernel = package.feed == Feed::Kmods || package.name == "kernel";
    let version = match package.name.as_str() {
        "kernel" => format!("{}~{}-r1", kernel.version, kernel.vermagic),
        "base-files" => format!("1~{}", context.release.commit()),
        _ if is_kernel => format!("{}-r1", kernel.version),
        _ => "1.0-r1".to_owned(),
    };
    let mut depends = package.depends.clone();
    if package.feed == Feed::Kmods {
        let version = format!("{}~{}-r1", kernel.version, kernel.vermagic);
        depends.push(match context.release.format {
            Format::Ipk => format!("kernel (={version})"),
            Format::Apk => format!("kernel={version}"),
        });
    }
    let meta = Meta {
        name: package.name.clone(),
        version,
        arch: context.target.arch.clone(),
        description: "Part of the miniature of OpenWrt".into(),
        license: "GPL-2.0".into(),
        url: String::new(),
        maintainer: String::new(),
        origin: package.name.clone(),
        depends,
        provides: package.provides.clone(),
        conflicts: package.conflicts.clone(),
        installed_size: 0,
    };
    let mut made = Package {
        meta,
        conffiles: package.conffiles.clone(),
        files: tree.into_files(),
        ..Package::default()
    };
    if made.files.iter().any(|file| file.path.starts_with("etc/init.d/")) || !package.modules.is_empty() {
        made.scripts.post_install = Some(boilerplate("default_postinst", &package.name));
        made.scripts.pre_deinstall = Some(boilerplate("default_prerm", &package.name));
    }
    let epoch = context.release.epoch;
    let (file, bytes) = match context.release.format {
        Format::Ipk => (
            format!("{}_{}_{}.ipk", made.meta.name, made.meta.version, made.meta.arch),
            ipk::write(&made, epoch),
        ),
        Format::Apk => (
            apk::file_name(&made.meta.name, &made.meta.version),
            apk::write(&made, epoch, apk::Compression::Deflate),
        ),
    };
    let bytes =
        bytes.map_err(|error| Failure::environment(format!("cannot pack {}: {error}", package.name)))?;
    Ok(Built {
        name: package.name.clone(),
        feed: package.feed,
        file,
        bytes,
    })
}

/// The script that OpenWrt's build gives every package.
fn boilerplate(function: &str, name: &str) -> Vec<u8> {
    format!(
        "#!/bin/sh\n[ \"${{IPKG_NO_SCRIPT}}\" = \"1\" ] && exit 0\n[ -s ${{IPKG_INSTROOT}}/lib/functions.sh ] || exit 0\n\
         . ${{IPKG_INSTROOT}}/lib/functions.sh\nexport root=\"${{IPKG_INSTROOT}}\"\nexport pkgname=\"{name}\"\n{function} $0 $@\n"
    )
    .into_bytes()
}

/// Debian's static busybox, and a link for each of its applets. The list is asked of the one that runs on this machine.
fn add_busybox(tree: &mut Tree, context: &Context, tools: &Archive) -> Result<()> {
    let folders = ["bin", "sbin", "usr/bin", "usr/sbin"];
    let path = ["bin/busybox", "usr/bin/busybox"]
        .map(|path| tools.root.join(path))
        .into_iter()
        .find(|path| path.exists());
    tree.program("bin/busybox", context.kernel.busybox());
    let listing = match path {
        Some(path) => debian::run(Command::new(path).arg("--list-full"))?,
        None => return Err(Failure::environment("Debian's busybox-static has no program")),
    };
    for applet in listing.lines() {
        let (folder, name) = applet.rsplit_once('/').unwrap_or(("usr/bin", applet));
        if !WITHOUT.contains(&name) {
            let folder = if folders.contains(&folder) {
                folder
            } else {
                "usr/bin"
            };
            let up = "../".repeat(folder.split('/').count());
            tree.link(format!("{folder}/{name}"), format!("{up}bin/busybox"));
        }
    }
    tree.link("linuxrc", "bin/busybox");
    Ok(())
}

/// Who made the system and for what, and the folders that every root file system has.
fn add_release(tree: &mut Tree, context: &Context) {
    let (release, target) = (&context.release, &context.target);
    for folder in [
        "dev",
        "etc/config",
        "etc/modules.d",
        "etc/rc.d",
        "etc/uci-defaults",
        "lib/upgrade/keep.d",
        "mnt",
        "overlay",
        "proc",
        "rom",
        "root",
        "sys",
        "tmp",
        "usr/lib",
    ] {
        tree.0.insert(folder.into(), Node::Folder);
    }
    tree.link("var", "tmp");
    tree.link("etc/resolv.conf", "/tmp/resolv.conf");
    tree.link("etc/mtab", "/proc/mounts");
    tree.file("etc/openwrt_version", format!("{}\n", release.revision));
    tree.file(
        "etc/openwrt_release",
        format!(
            "DISTRIB_ID='OpenWrt'\nDISTRIB_RELEASE='{}'\nDISTRIB_REVISION='{}'\nDISTRIB_TARGET='{}'\n\
             DISTRIB_ARCH='{}'\nDISTRIB_DESCRIPTION='miniature of OpenWrt {0} {1}'\nDISTRIB_TAINTS='miniature'\n",
            release.version, release.revision, target.name, target.arch
        ),
    );
    tree.file(
        "etc/os-release",
        format!(
            "NAME=\"OpenWrt\"\nVERSION=\"{0}\"\nID=\"openwrt\"\nID_LIKE=\"lede openwrt\"\nPRETTY_NAME=\"OpenWrt {0} (miniature)\"\n\
             VERSION_ID=\"{0}\"\nBUILD_ID=\"{1}\"\nOPENWRT_BOARD=\"{2}\"\nOPENWRT_ARCH=\"{3}\"\n",
            release.version, release.revision, target.name, target.arch
        ),
    );
}

/// A package's kernel modules, and the file that loads them. Modules that several need lie in the kernel's package.
fn add_modules(tree: &mut Tree, context: &Context, package: &tables::Package) -> Result<()> {
    let kernel = &context.kernel;
    let folder = format!("lib/modules/{}", kernel.release);
    if package.name == "kernel" {
        // What the others need without being it: a package owns exactly the modules that the table names for it.
        let everything: Vec<&String> = context
            .tables
            .packages
            .iter()
            .flat_map(|package| &package.modules)
            .collect();
        let owned = |name: &str| {
            let others = context
                .tables
                .packages
                .iter()
                .filter(|other| other.name != "kernel");
            others
                .flat_map(|other| &other.modules)
                .any(|module| module.trim_end_matches('?').replace('-', "_") == name)
        };
        for (name, content) in kernel.closure(&everything)? {
            if !owned(&name) {
                tree.file(format!("{folder}/{name}.ko"), content);
            }
        }
    } else {
        for (name, content) in kernel.closure(&package.modules)? {
            if package
                .modules
                .iter()
                .any(|module| module.trim_end_matches('?').replace('-', "_") == name)
            {
                tree.file(format!("{folder}/{name}.ko"), content);
            }
        }
    }
    let loaded: Vec<String> = kernel
        .closure(&package.modules)?
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    if !loaded.is_empty() {
        let order = if package.name == "kernel" { "00" } else { "30" };
        let short = package.name.trim_start_matches("kmod-");
        tree.file(format!("etc/modules.d/{order}-{short}"), loaded.join("\n") + "\n");
    }
    Ok(())
}
