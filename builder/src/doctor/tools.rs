//! The programs that builds and boots call, and which package of each distribution brings them.

use std::path::{Path, PathBuf};

/// A program, or several that do the same.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// Shown to the user.
    pub name: &'static str,
    /// Any one of these in `PATH`, or an absolute path that exists, will do.
    pub programs: &'static [&'static str],
    /// False: only booting, or old releases, miss it.
    pub needed_to_build: bool,
    /// Who needs it.
    pub reason: &'static str,
    pub(super) apt: &'static str,
    pub(super) dnf: &'static str,
    pub(super) pacman: &'static str,
}

/// Package managers whose package names are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageManager {
    /// Debian, Ubuntu.
    Apt,
    /// Fedora.
    Dnf,
    /// Arch.
    Pacman,
}

impl PackageManager {
    /// By the program that is there.
    pub fn of_this_machine() -> Option<Self> {
        [
            ("apt-get", Self::Apt),
            ("dnf", Self::Dnf),
            ("pacman", Self::Pacman),
        ]
        .into_iter()
        .find(|(program, _)| find_program(program).is_some())
        .map(|(_, manager)| manager)
    }

    /// The command that installs a tool.
    pub fn install(self, tool: &Tool) -> String {
        match self {
            Self::Apt => format!("sudo apt-get install {}", tool.apt),
            Self::Dnf => format!("sudo dnf install {}", tool.dnf),
            Self::Pacman => format!("sudo pacman -S {}", tool.pacman),
        }
    }
}

impl Tool {
    /// Where the first of its programs lies.
    pub fn found(&self) -> Option<String> {
        self.programs
            .iter()
            .find_map(|program| find_program(program))
            .map(|path| path.display().to_string())
    }
}

/// Looks in `PATH` and in the folders of system programs, which a user's `PATH` may lack.
pub fn find_program(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(PathBuf::from(program)).filter(|path| path.exists());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

const fn tool(
    name: &'static str,
    programs: &'static [&'static str],
    packages: [&'static str; 3],
    reason: &'static str,
) -> Tool {
    let [apt, dnf, pacman] = packages;
    Tool {
        name,
        programs,
        needed_to_build: true,
        reason,
        apt,
        dnf,
        pacman,
    }
}

const fn optional(tool: Tool) -> Tool {
    Tool {
        needed_to_build: false,
        ..tool
    }
}

/// What OpenWrt's ImageBuilder lists as its host needs, and what `builder boot` calls.
pub(super) const TOOLS: &[Tool] = &[
    tool("make", &["make"], ["make", "make", "make"], "the ImageBuilder"),
    tool("bash", &["bash"], ["bash", "bash", "bash"], "the ImageBuilder"),
    tool(
        "unshare",
        &["unshare"],
        ["util-linux", "util-linux", "util-linux"],
        "running it without network",
    ),
    tool(
        "awk",
        &["gawk", "awk"],
        ["gawk", "gawk", "gawk"],
        "the ImageBuilder",
    ),
    tool(
        "patch",
        &["patch"],
        ["patch", "patch", "patch"],
        "the ImageBuilder",
    ),
    tool(
        "getopt",
        &["getopt"],
        ["util-linux", "util-linux", "util-linux"],
        "the ImageBuilder",
    ),
    tool("tar", &["tar"], ["tar", "tar", "tar"], "the ImageBuilder"),
    tool(
        "find, xargs",
        &["find"],
        ["findutils", "findutils", "findutils"],
        "the ImageBuilder",
    ),
    tool(
        "diff",
        &["diff"],
        ["diffutils", "diffutils", "diffutils"],
        "the ImageBuilder",
    ),
    tool("gzip", &["gzip"], ["gzip", "gzip", "gzip"], "the ImageBuilder"),
    tool(
        "bzip2",
        &["bzip2"],
        ["bzip2", "bzip2", "bzip2"],
        "the ImageBuilder",
    ),
    tool(
        "unzip",
        &["unzip"],
        ["unzip", "unzip", "unzip"],
        "the ImageBuilder",
    ),
    tool(
        "wget",
        &["wget"],
        ["wget", "wget", "wget"],
        "the ImageBuilder's host check",
    ),
    tool("perl", &["perl"], ["perl", "perl", "perl"], "the ImageBuilder"),
    tool(
        "python3",
        &["python3"],
        ["python3", "python3", "python"],
        "the ImageBuilder",
    ),
    tool("file", &["file"], ["file", "file", "file"], "the ImageBuilder"),
    tool(
        "which",
        &["which"],
        ["debianutils", "which", "which"],
        "the ImageBuilder",
    ),
    tool(
        "cargo",
        &["cargo"],
        ["cargo", "cargo", "rustup"],
        "compiling sennit",
    ),
    tool(
        "clang",
        &["clang"],
        ["clang", "clang", "clang"],
        "compiling the ciphers of sennit",
    ),
    optional(tool(
        "qemu (PC)",
        &["qemu-system-x86_64"],
        ["qemu-system-x86", "qemu-system-x86-core", "qemu-system-x86"],
        "`builder boot` of PC images",
    )),
    optional(tool(
        "qemu (arm64)",
        &["qemu-system-aarch64"],
        [
            "qemu-system-arm",
            "qemu-system-aarch64-core",
            "qemu-system-aarch64",
        ],
        "`builder boot` of arm64 images",
    )),
    optional(tool(
        "UEFI (PC)",
        &[
            "/usr/share/OVMF/OVMF_CODE_4M.fd",
            "/usr/share/OVMF/OVMF_CODE.fd",
            "/usr/share/edk2/ovmf/OVMF_CODE.fd",
            "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        ],
        ["ovmf", "edk2-ovmf", "edk2-ovmf"],
        "`builder boot` of EFI images",
    )),
    optional(tool(
        "UEFI (arm64)",
        &[
            "/usr/share/AAVMF/AAVMF_CODE.fd",
            "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw",
            "/usr/share/edk2/aarch64/QEMU_CODE.fd",
        ],
        ["qemu-efi-aarch64", "edk2-aarch64", "edk2-aarch64"],
        "`builder boot` of arm64 images",
    )),
];
