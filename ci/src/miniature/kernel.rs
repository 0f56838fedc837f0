//! Debian's kernel as the miniature uses it: the image, its modules by name, and the initial root file system that loads
//! what OpenWrt's kernels have built in.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Failure, Result};
use camino::{Utf8Path, Utf8PathBuf};

use super::archive::{self, Tree};
use super::debian::Archive;
use super::tables::Package;

/// Modules that find and mount the root file system.
const EARLY: [&str; 12] = [
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_scsi",
    "ata_piix?",
    "ahci?",
    "nvme?",
    "sd_mod",
    "squashfs",
    "overlay",
    "crc32c_generic?",
    "ext4?",
];

/// What the initial root file system calls of busybox.
const APPLETS: [&str; 15] = [
    "sh",
    "mount",
    "insmod",
    "cat",
    "hexdump",
    "basename",
    "dirname",
    "readlink",
    "usleep",
    "switch_root",
    "printf",
    "mkdir",
    "echo",
    "ls",
    "dmesg",
];

/// The kernel of one architecture.
pub(super) struct Kernel {
    /// `6.1.192`
    pub(super) version: String,
    /// As `uname -r` says, the name of the modules' folder.
    pub(super) release: String,
    /// Names the set of modules, as OpenWrt's vermagic does: 32 hex digits.
    pub(super) vermagic: String,
    /// The bootable image.
    pub(super) image: Vec<u8>,
    modules: BTreeMap<String, Utf8PathBuf>,
    /// Names of what the kernel has built in, which other architectures may have as modules.
    built_in: BTreeSet<String>,
    data: Utf8PathBuf,
    busybox: Vec<u8>,
}

impl Kernel {
    /// Finds the kernel among Debian's packages. Fails if a module that a package of the tables needs is not there.
    pub(super) fn prepare(debian: &Archive, data: &Utf8Path, packages: &[Package]) -> Result<Self> {
        let folder = debian.find("lib/modules", "")?;
        let release = folder.file_name().unwrap_or_default().to_owned();
        let mut modules = BTreeMap::new();
        for path in archive::files_below(&folder)? {
            if let Some(name) = path.file_name().and_then(|name| name.strip_suffix(".ko")) {
                modules.insert(name.replace('-', "_"), path.clone());
            }
        }
        let listing = archive::read_file(&folder.join("modules.builtin"))?;
        let listing = String::from_utf8_lossy(&listing);
        let built_in = listing
            .lines()
            .filter_map(|path| Utf8Path::new(path).file_stem())
            .map(|name| name.replace('-', "_"))
            .collect();
        let image = debian.read(&format!("boot/vmlinuz-{release}"))?;
        let vermagic = archive::sha256(&image).to_string()[..32].to_owned();
        let busybox = debian
            .read("bin/busybox")
            .or_else(|_| debian.read("usr/bin/busybox"))?;
        let kernel = Self {
            version: debian.kernel_version.clone(),
            release,
            vermagic,
            image,
            modules,
            built_in,
            data: data.to_owned(),
            busybox,
        };
        for package in packages {
            kernel.closure(&package.modules)?;
        }
        Ok(kernel)
    }

    /// The static busybox beside the kernel.
    pub(super) fn busybox(&self) -> &[u8] {
        &self.busybox
    }

    /// The modules with all that they need, in the order in which they can be loaded: name and content.
    pub(super) fn closure<S: AsRef<str>>(&self, wanted: &[S]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut chosen = Vec::new();
        for name in wanted {
            let name = name.as_ref();
            match name.strip_suffix('?') {
                Some(name) if !self.modules.contains_key(&name.replace('-', "_")) => {}
                Some(name) => self.add(name, &mut chosen)?,
                None => self.add(name, &mut chosen)?,
            }
        }
        Ok(chosen)
    }

    fn add(&self, name: &str, chosen: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
        let name = name.replace('-', "_");
        if self.built_in.contains(&name) || chosen.iter().any(|(other, _)| *other == name) {
            return Ok(());
        }
        let path = self.modules.get(&name).ok_or_else(|| {
            Failure::environment(format!("Debian's kernel {} has no module {name}", self.release))
        })?;
        let content = archive::read_file(path)?;
        for dependency in dependencies(&content) {
            self.add(&dependency, chosen)?;
        }
        chosen.push((name, content));
        Ok(())
    }

    /// The initial root file system, before compression.
    pub(super) fn initrd(&self, epoch: u64) -> Result<Vec<u8>> {
        let mut tree = Tree::read(&self.data.join("initrd"))?;
        for folder in ["bin", "dev", "modules", "overlay", "proc", "rom", "root", "sys"] {
            tree.0.insert(folder.into(), super::archive::Node::Folder);
        }
        tree.program("bin/busybox", self.busybox.as_slice());
        for applet in APPLETS {
            tree.link(format!("bin/{applet}"), "busybox");
        }
        let mut order = String::new();
        for (name, content) in self.closure(&EARLY)? {
            order += &format!("{name}.ko\n");
            tree.file(format!("modules/{name}.ko"), content);
        }
        tree.file("modules/order", order);
        Ok(tree.cpio(epoch))
    }
}

/// The names in a module's `depends=` line.
fn dependencies(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = module.windows(key.len()).position(|window| window == key) else {
        return Vec::new();
    };
    let rest = &module[at + key.len()..];
    let end = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
    let names = String::from_utf8_lossy(&rest[..end]);
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_what_it_needs() {
        assert_eq!(
            dependencies(b"\x7fELF\0license=GPL\0depends=mii,usbcore\0name=x\0"),
            ["mii", "usbcore"]
        );
        assert_eq!(dependencies(b"\0depends=\0retpoline=Y\0"), Vec::<String>::new());
    }
}
