//! clang, which compiles the C and assembly of the daemon's ciphers for every target without headers of a C library.

use std::process::{Command, Stdio};

use super::compiler::in_path;
use super::stamp::Facts;

/// The clang in `PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clang {
    /// The first line of `clang --version`.
    pub(super) version: String,
}

impl Clang {
    pub(super) fn find(facts: &mut Facts) -> Option<Self> {
        let program = in_path("clang")?;
        let version = facts.ask(&format!("clang {program}"), || {
            let output = Command::new(&program)
                .arg("--version")
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .output()
                .ok()
                .filter(|output| output.status.success())?;
            let text = String::from_utf8(output.stdout).ok()?;
            Some((text.lines().next()?.trim().to_owned(), vec![program.clone()]))
        })?;
        Some(Self { version })
    }

    /// The variables by which build scripts find it and learn that there is no C library.
    pub(super) fn variables(target: &str) -> [(String, &'static str); 2] {
        let target = target.replace('-', "_");
        [
            (format!("CC_{target}"), "clang"),
            (format!("CFLAGS_{target}"), C_FLAGS),
        ]
    }
}

/// `-ffreestanding`: clang's own header of vector instructions asks for `stdlib.h` otherwise. The last is ring's own
/// switch, which it sets by itself for all targets but x86-64.
pub(super) const C_FLAGS: &str = "-ffreestanding -nostdlibinc -DRING_CORE_NOSTDLIBINC=1";
