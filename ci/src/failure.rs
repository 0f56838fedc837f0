//! Why a command of this crate failed, and the process's exit code (docs/STYLE.md: 1 user, 2 environment, 5 boot).

use std::fmt;

/// What this crate's functions return.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// A failure with its remedy in the text.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: u8,
    message: String,
}

impl Failure {
    /// A check did not pass, or an argument is wrong.
    pub(crate) fn user(message: impl Into<String>) -> Self {
        Self {
            exit: 1,
            message: message.into(),
        }
    }

    /// A comparison found a difference.
    pub(crate) fn differs(message: impl Into<String>) -> Self {
        Self {
            exit: 3,
            message: message.into(),
        }
    }

    /// The machine lacks something, or an outside program failed.
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self {
            exit: 2,
            message: message.into(),
        }
    }

    /// A file operation that failed; `action` fits "failed to ACTION PATH".
    pub(crate) fn io(action: &str, path: impl AsRef<std::path::Path>, error: std::io::Error) -> Self {
        Self::environment(format!("failed to {action} {}: {error}", path.as_ref().display()))
    }

    /// The process's exit code.
    pub(crate) fn exit(&self) -> u8 {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<xshell::Error> for Failure {
    fn from(error: xshell::Error) -> Self {
        Self::environment(error.to_string())
    }
}
