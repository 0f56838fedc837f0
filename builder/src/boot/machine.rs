//! The virtual machine: which QEMU, which firmware, which arguments. Starts nothing itself.

use std::ffi::OsString;

use camino::{Utf8Path, Utf8PathBuf};

use super::bond::WANS;
use super::disk::BootLoader;
use crate::{Error, Result};

/// Memory of the virtual router in MiB.
const MEMORY: u32 = 512;

/// The machines that images are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// PCs.
    X86_64,
    /// 64-bit ARM boards.
    Aarch64,
}

impl Machine {
    /// The machine of a Rust target such as `aarch64-unknown-linux-musl`.
    pub fn of_rust_target(target: &str) -> Result<Self> {
        match target.split('-').next() {
            Some("x86_64") => Ok(Self::X86_64),
            Some("aarch64") => Ok(Self::Aarch64),
            _ => Err(Error::user(format!("no virtual machine for {target}"))
                .hint("images for x86_64 and aarch64 can be booted")),
        }
    }

    /// Where a removable disk's EFI boot loader lies.
    pub fn efi_file(self) -> &'static str {
        match self {
            Self::X86_64 => "EFI/BOOT/BOOTX64.EFI",
            Self::Aarch64 => "EFI/BOOT/BOOTAA64.EFI",
        }
    }

    fn qemu(self) -> Tool {
        match self {
            Self::X86_64 => Tool {
                name: "qemu-system-x86_64",
                apt: "qemu-system-x86",
                dnf: "qemu-system-x86-core",
                pacman: "qemu-system-x86",
            },
            Self::Aarch64 => Tool {
                name: "qemu-system-aarch64",
                apt: "qemu-system-arm",
                dnf: "qemu-system-aarch64-core",
                pacman: "qemu-system-aarch64",
            },
        }
    }

    fn efi_firmware(self) -> Tool {
        match self {
            Self::X86_64 => Tool {
                name: "EFI firmware for x86_64 (OVMF)",
                apt: "ovmf",
                dnf: "edk2-ovmf",
                pacman: "edk2-ovmf",
            },
            Self::Aarch64 => Tool {
                name: "EFI firmware for aarch64 (AAVMF)",
                apt: "qemu-efi-aarch64",
                dnf: "edk2-aarch64",
                pacman: "edk2-aarch64",
            },
        }
    }

    /// Places of the firmware's code and of its variable store: Debian and Ubuntu, Fedora, Arch, openSUSE.
    fn efi_files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::X86_64 => &[
                (
                    "/usr/share/OVMF/OVMF_CODE_4M.fd",
                    "/usr/share/OVMF/OVMF_VARS_4M.fd",
                ),
                ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
                (
                    "/usr/share/edk2/ovmf/OVMF_CODE.fd",
                    "/usr/share/edk2/ovmf/OVMF_VARS.fd",
                ),
                (
                    "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
                    "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
                ),
                (
                    "/usr/share/edk2-ovmf/x64/OVMF_CODE.fd",
                    "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd",
                ),
                (
                    "/usr/share/qemu/ovmf-x86_64-code.bin",
                    "/usr/share/qemu/ovmf-x86_64-vars.bin",
                ),
            ],
            Self::Aarch64 => &[
                ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
                (
                    "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw",
                    "/usr/share/edk2/aarch64/vars-template-pflash.raw",
                ),
                (
                    "/usr/share/edk2/aarch64/QEMU_CODE.fd",
                    "/usr/share/edk2/aarch64/QEMU_VARS.fd",
                ),
                (
                    "/usr/share/qemu/aavmf-aarch64-code.bin",
                    "/usr/share/qemu/aavmf-aarch64-vars.bin",
                ),
            ],
        }
    }
}

/// Something to install, under its name in each distribution.
struct Tool {
    name: &'static str,
    apt: &'static str,
    dnf: &'static str,
    pacman: &'static str,
}

impl Tool {
    fn missing(&self) -> Error {
        Error::environment(format!("{} is not installed", self.name)).hint(format!(
            "install it: `sudo apt install {}` (Fedora: `sudo dnf install {}`; Arch: `sudo pacman -S {}`)",
            self.apt, self.dnf, self.pacman
        ))
    }
}

/// The programs and files of one run.
#[derive(Debug)]
pub(super) struct Setup {
    /// The QEMU program.
    pub program: Utf8PathBuf,
    /// Firmware code and the template of its variables; `None`: the BIOS that QEMU brings.
    pub firmware: Option<(Utf8PathBuf, Utf8PathBuf)>,
}

/// Finds QEMU in `path` (as `$PATH`) and the firmware below `root` (`/` but for tests).
pub(super) fn find(machine: Machine, loader: BootLoader, path: &str, root: &Utf8Path) -> Result<Setup> {
    let qemu = machine.qemu();
    let program = path
        .split(':')
        .filter(|dir| !dir.is_empty())
        .map(|dir| Utf8Path::new(dir).join(qemu.name))
        .find(|file| file.is_file())
        .ok_or_else(|| qemu.missing())?;
    let firmware = match loader {
        BootLoader::Bios => None,
        BootLoader::Efi => {
            let below = |file: &str| root.join(file.trim_start_matches('/'));
            let found = machine
                .efi_files()
                .iter()
                .map(|(code, variables)| (below(code), below(variables)))
                .find(|(code, variables)| code.is_file() && variables.is_file());
            Some(found.ok_or_else(|| machine.efi_firmware().missing())?)
        }
    };
    Ok(Setup { program, firmware })
}

/// What a run uses on disk.
#[derive(Debug)]
pub(super) struct Files<'a> {
    /// The raw disk image; never written to.
    pub disk: &'a Utf8Path,
    /// Firmware code, and this run's own copy of its variables.
    pub firmware: Option<(&'a Utf8Path, &'a Utf8Path)>,
    /// QEMU writes all console output to it.
    pub console_log: &'a Utf8Path,
    /// With a socket for QEMU's control there are two network cards more: the TAP devices of the WANs.
    pub control: Option<&'a Utf8Path>,
}

/// QEMU's arguments. Console on stdin and stdout, network cards that reach nothing outside.
pub(super) fn arguments(machine: Machine, kvm: bool, files: &Files<'_>) -> Vec<OsString> {
    let mut list: Vec<String> = Vec::new();
    let mut add = |option: &str, value: String| list.extend([option.to_owned(), value]);
    add(
        "-machine",
        match machine {
            Machine::X86_64 => "pc".into(),
            Machine::Aarch64 => "virt".into(),
        },
    );
    add("-accel", if kvm { "kvm".into() } else { "tcg".into() });
    match (kvm, machine) {
        (true, _) => add("-cpu", "host".into()),
        (false, Machine::Aarch64) => add("-cpu", "cortex-a72".into()),
        (false, Machine::X86_64) => {}
    }
    add("-m", MEMORY.to_string());
    add("-smp", "2".into());
    add("-display", "none".into());
    add("-monitor", "none".into());
    add("-parallel", "none".into());
    if let Some((code, variables)) = files.firmware {
        add(
            "-drive",
            format!("if=pflash,format=raw,unit=0,readonly=on,file={}", escaped(code)),
        );
        add(
            "-drive",
            format!("if=pflash,format=raw,unit=1,file={}", escaped(variables)),
        );
    }
    // The image on disk stays as it is: what the router writes is thrown away at its end.
    add(
        "-drive",
        format!(
            "if=none,id=disk,format=raw,snapshot=on,file={}",
            escaped(files.disk)
        ),
    );
    add("-device", "virtio-blk-pci,drive=disk,bootindex=0".into());
    // The first card is the LAN. No option ROM: it would try to boot from the network.
    let cut_off: &[&str] = if files.control.is_some() {
        &["port0"]
    } else {
        &["port0", "port1"]
    };
    for card in cut_off {
        add("-netdev", format!("user,id={card},restrict=on"));
        add("-device", format!("virtio-net-pci,netdev={card},romfile="));
    }
    if let Some(control) = files.control {
        for wan in &WANS {
            let (name, mac) = (wan.name, wan.mac);
            add(
                "-netdev",
                format!("tap,id={name},ifname={name},script=no,downscript=no"),
            );
            add(
                "-device",
                format!("virtio-net-pci,netdev={name},mac={mac},romfile="),
            );
        }
        add("-qmp", format!("unix:{},server=on,wait=off", escaped(control)));
    }
    add("-device", "virtio-rng-pci".into());
    let log = escaped(files.console_log);
    add("-chardev", format!("stdio,id=console,signal=off,logfile={log}"));
    add("-serial", "chardev:console".into());
    list.push("-no-reboot".into());
    list.into_iter().map(OsString::from).collect()
}

/// QEMU splits option values at commas; a doubled one stands for itself.
fn escaped(path: &Utf8Path) -> String {
    path.as_str().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Utf8Path) {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        std::fs::write(path, "").expect("writes");
    }

    #[test]
    fn firmware_is_found_where_any_distribution_puts_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = Utf8Path::from_path(dir.path()).expect("UTF-8");
        touch(&root.join("bin/qemu-system-aarch64"));
        let path = format!("/nowhere::{root}/bin");

        let error = find(Machine::Aarch64, BootLoader::Efi, &path, root).expect_err("no firmware");
        assert_eq!(
            error.to_string(),
            "EFI firmware for aarch64 (AAVMF) is not installed"
        );
        assert!(
            error.hints()[0].contains("sudo apt install qemu-efi-aarch64"),
            "{:?}",
            error.hints()
        );

        // A code file without its variables is no firmware.
        touch(&root.join("usr/share/AAVMF/AAVMF_CODE.fd"));
        touch(&root.join("usr/share/edk2/aarch64/QEMU_CODE.fd"));
        touch(&root.join("usr/share/edk2/aarch64/QEMU_VARS.fd"));
        let setup = find(Machine::Aarch64, BootLoader::Efi, &path, root).expect("found");
        let (code, _) = setup.firmware.expect("firmware");
        assert_eq!(code, root.join("usr/share/edk2/aarch64/QEMU_CODE.fd"));
    }

    #[test]
    fn a_missing_qemu_names_the_package() {
        let error =
            find(Machine::X86_64, BootLoader::Bios, "/nowhere", Utf8Path::new("/")).expect_err("no qemu");
        assert_eq!(error.to_string(), "qemu-system-x86_64 is not installed");
        assert!(error.hints()[0].contains("sudo dnf install qemu-system-x86-core"));
    }

    #[test]
    fn every_network_card_is_cut_off_and_the_image_is_never_written() {
        let files = Files {
            disk: "/tmp/a,b.img".into(),
            firmware: None,
            console_log: "/tmp/log".into(),
            control: None,
        };
        let text = format!("{:?}", arguments(Machine::X86_64, false, &files));
        assert_eq!(text.matches("\"-netdev\"").count(), 2);
        assert_eq!(text.matches(",restrict=on\"").count(), 2);
        assert!(text.contains("snapshot=on,file=/tmp/a,,b.img"), "{text}");
        assert!(!text.contains("pflash"), "{text}");
    }
}
