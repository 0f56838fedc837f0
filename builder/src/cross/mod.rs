//! Cross-compiles `sennit` as a static musl binary, with what this machine has.
//!
//! [`Toolchain::detect`] finds a compiler and a standard library for a target, in this order:
//! 1. a rustup target: its std, its musl and its linker (`rust-lld`), and `clang` for the ciphers' C and assembly;
//! 2. a compiler with the sources of std (`rust-src`, Debian's `rust-web-src`): std is built along, and `zig` brings
//!    musl and the linker, through `cargo-zigbuild`.
//!
//! **Invariant:** the same toolchain and sources give the same bytes in any folder; what makes a toolchain the same is
//! [`Toolchain::inputs`], and nothing in it depends on where things lie.
//! **Invariant:** finding out what there is starts no cargo, and on the second call no compiler either.

mod clang;
mod compile;
mod compiler;
mod elf;
mod sources;
mod stamp;
mod zig;

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

pub use compile::Network;
pub use sources::source_digest;

use crate::project::Project;
use crate::{Error, Result};
use clang::Clang;
use compiler::Compiler;
use stamp::Facts;
use zig::Zig;

/// The targets that a profile may name.
pub const TARGETS: [&str; 2] = ["aarch64-unknown-linux-musl", "x86_64-unknown-linux-musl"];

/// What compiles the daemon for one target on this machine.
#[derive(Clone, Debug)]
pub struct Toolchain {
    target: String,
    compiler: Compiler,
    library: Library,
}

/// Where the target's standard library comes from.
#[derive(Clone, Debug)]
enum Library {
    /// Compiled by those who made the compiler, with musl and start-up objects beside it.
    Prebuilt { clang: Clang },
    /// Its sources, compiled with the daemon; musl and the linker come with zig.
    Source { digest: String, zig: Zig },
}

impl Toolchain {
    /// Finds what can compile for `rust_target`; the error says the one command that makes it so.
    ///
    /// `SENNIT_RUSTC` names the one compiler to use, with its `cargo` beside it.
    pub fn detect(project: &Project, rust_target: &str) -> Result<Self> {
        if !TARGETS.contains(&rust_target) {
            return Err(
                Error::user(format!("{rust_target} is no target that the daemon is built for")).hint(
                    format!(
                        "rust_target in the profile must be one of: {}",
                        TARGETS.join(", ")
                    ),
                ),
            );
        }
        let mut facts = Facts::load(project.work().join("toolchain.json"));
        let compilers = compiler::candidates(project, &mut facts)?;
        let clang = Clang::find(&mut facts);
        let zig = Zig::find(project, &mut facts);
        facts.store();
        choose(rust_target, compilers, clang, zig)
    }

    /// The Rust target.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Everything of this toolchain that may change the binary's bytes: part of the build key and of the provenance.
    pub fn inputs(&self) -> BTreeMap<String, String> {
        let (std, linker) = match &self.library {
            Library::Prebuilt { .. } => (
                "prebuilt with the compiler".to_owned(),
                "rust-lld of the compiler".to_owned(),
            ),
            Library::Source { digest, zig } => (format!("source, sha256 {digest}"), zig.version.clone()),
        };
        let c_compiler = match &self.library {
            Library::Prebuilt { clang } => format!("{}, {}", clang.version, clang::C_FLAGS),
            Library::Source { zig, .. } => zig.version.clone(),
        };
        let flags = compile::flags(&self.library).join(" ");
        let release = compile::RELEASE_VARIABLES
            .iter()
            .filter_map(|name| std::env::var(name).ok())
            .collect::<Vec<_>>()
            .join(" ");
        [
            ("compiler", self.compiler.version.clone()),
            ("standard_library", std),
            ("linker", linker),
            ("c_compiler", c_compiler),
            ("flags", flags),
            ("profile", compile::PROFILE.to_owned()),
            ("target", self.target.clone()),
            ("release", release),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }

    /// One line for people: `rustc 1.95.0 (59807616e 2026-04-14), std prebuilt, linked by rust-lld`.
    pub fn describe(&self) -> String {
        let compiler = self.compiler.version.lines().next().unwrap_or_default();
        match &self.library {
            Library::Prebuilt { .. } => format!("{compiler}, std prebuilt, linked by rust-lld"),
            Library::Source { zig, .. } => format!("{compiler}, std from source, linked by {}", zig.version),
        }
    }
}

fn choose(
    target: &str,
    compilers: Vec<Compiler>,
    clang: Option<Clang>,
    zig: Option<Zig>,
) -> Result<Toolchain> {
    let toolchain = |compiler: &Compiler, library| Toolchain {
        target: target.to_owned(),
        compiler: compiler.clone(),
        library,
    };
    let prebuilt = compilers.iter().find(|compiler| compiler.has_prebuilt(target));
    if let (Some(compiler), Some(clang)) = (prebuilt, clang) {
        return Ok(toolchain(compiler, Library::Prebuilt { clang }));
    }
    let with_sources = compilers
        .iter()
        .find_map(|compiler| Some((compiler, compiler.library_digest.clone()?)));
    match (with_sources, zig) {
        (Some((compiler, digest)), Some(zig)) => Ok(toolchain(compiler, Library::Source { digest, zig })),
        _ if prebuilt.is_some() => Err(Error::environment(format!(
            "cannot compile the daemon for {target}: clang is not installed, which compiles its ciphers"
        ))
        .hint("sudo apt install clang (Fedora: sudo dnf install clang; Arch: sudo pacman -S clang)")),
        (sources, zig) => Err(nothing_for(target, &compilers, sources.is_some(), zig.is_some())),
    }
}

fn nothing_for(target: &str, compilers: &[Compiler], has_sources: bool, has_zig: bool) -> Error {
    let found = match compilers {
        [] => "no rustc on this machine".to_owned(),
        compilers => {
            let places: Vec<&str> = compilers.iter().map(|compiler| compiler.rustc.as_str()).collect();
            let missing = match (has_sources, has_zig) {
                (true, _) => "std sources, but no cargo-zigbuild with zig to link with",
                (false, true) => "zig, but no std sources",
                (false, false) => "neither std sources nor zig",
            };
            format!(
                "{} has no standard library for it; there is {missing}",
                places.join(" or ")
            )
        }
    };
    let error = Error::environment(format!("cannot compile the daemon for {target}: {found}"));
    let error = match compilers {
        [] => error.hint("install Rust: https://rustup.rs"),
        _ => error.hint(format!("rustup target add {target}")),
    };
    error.hint("on Debian, or without rustup's server: cargo run --release -p ci -- setup")
}

/// A folder that lies somewhere else on every machine, and the name it has in every binary.
struct Remapped {
    from: Utf8PathBuf,
    to: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "aarch64-unknown-linux-musl";

    fn compiler(prebuilt: &[&str], library_digest: Option<&str>) -> Compiler {
        Compiler {
            rustc: "/opt/rust/bin/rustc".into(),
            cargo: "/opt/rust/bin/cargo".into(),
            sysroot: "/opt/rust".into(),
            version: "rustc 1.95.0 (59807616e 2026-04-14)\nLLVM version: 22.1.2".to_owned(),
            prebuilt: prebuilt.iter().map(|&target| target.to_owned()).collect(),
            library_digest: library_digest.map(str::to_owned),
        }
    }

    fn clang() -> Option<Clang> {
        Some(Clang {
            version: "Debian clang version 14.0.6".to_owned(),
        })
    }

    fn zig() -> Zig {
        Zig {
            zigbuild: "/venv/bin/cargo-zigbuild".into(),
            version: "cargo-zigbuild 0.24.0, zig 0.17.0".to_owned(),
        }
    }

    #[test]
    fn a_prebuilt_library_is_taken_before_sources() {
        let compilers = vec![compiler(&[], Some("aa")), compiler(&[TARGET], None)];
        let toolchain = choose(TARGET, compilers, clang(), Some(zig())).unwrap();
        assert_eq!(
            toolchain.describe(),
            "rustc 1.95.0 (59807616e 2026-04-14), std prebuilt, linked by rust-lld"
        );
    }

    #[test]
    fn sources_need_zig() {
        let toolchain = choose(TARGET, vec![compiler(&[], Some("aa"))], clang(), Some(zig())).unwrap();
        assert!(
            toolchain
                .describe()
                .ends_with("std from source, linked by cargo-zigbuild 0.24.0, zig 0.17.0")
        );
        let error = choose(TARGET, vec![compiler(&[], Some("aa"))], clang(), None).unwrap_err();
        assert!(
            error.to_string().contains("std sources, but no cargo-zigbuild"),
            "{error}"
        );
        assert_eq!(error.hints()[0], "rustup target add aarch64-unknown-linux-musl");
    }

    #[test]
    fn a_prebuilt_library_needs_clang() {
        let compilers = || vec![compiler(&[TARGET], None)];
        let error = choose(TARGET, compilers(), None, Some(zig())).unwrap_err();
        assert!(error.to_string().contains("clang is not installed"), "{error}");
        let compilers = vec![compiler(&[TARGET], Some("aa"))];
        assert!(
            choose(TARGET, compilers, None, Some(zig())).is_ok(),
            "zig does without"
        );
    }

    #[test]
    fn no_compiler_at_all_says_where_rust_comes_from() {
        let error = choose(TARGET, Vec::new(), clang(), None).unwrap_err();
        assert!(error.hints()[0].contains("rustup.rs"));
    }

    #[test]
    fn inputs_name_versions_and_no_places() {
        for library in [
            Library::Prebuilt {
                clang: clang().unwrap(),
            },
            Library::Source {
                digest: "aa".to_owned(),
                zig: zig(),
            },
        ] {
            let toolchain = Toolchain {
                target: TARGET.to_owned(),
                compiler: compiler(&[TARGET], None),
                library,
            };
            let inputs = toolchain.inputs();
            assert!(inputs["compiler"].contains("59807616e") && inputs["compiler"].contains("LLVM"));
            let text = format!("{inputs:?}");
            assert!(!text.contains("/opt") && !text.contains("/venv"), "{text}");
        }
    }

    #[test]
    fn only_known_targets_are_taken() {
        let project = Project {
            root: "/nonexistent".into(),
        };
        let error = Toolchain::detect(&project, "mips-unknown-linux-musl").unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::User);
    }
}
