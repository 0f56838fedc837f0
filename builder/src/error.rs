//! The one error type of this crate: what failed, why, and what to do about it.
//!
//! Messages are lowercase fragments that fit after "error: "; hints are whole sentences or commands.

use std::fmt;

/// What a command's end means to a script that called it. The numbers are documented and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for was done.
    Ok = 0,
    /// Something the user wrote is wrong: an argument, a profile, an overlay.
    User = 1,
    /// The machine or a server is at fault: no disk space, no network, a missing tool, a wrong hash.
    Environment = 2,
    /// A comparison found a difference.
    Differs = 3,
    /// An image is over its size budget.
    OverBudget = 4,
    /// An image did not boot.
    BootFailed = 5,
    /// A bug of ours.
    Bug = 70,
    /// Ctrl-C.
    Interrupted = 130,
}

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, with what the user can do about it.
#[derive(Debug)]
pub struct Error {
    exit: Exit,
    message: String,
    /// A rendered excerpt of the file at fault, shown below the message.
    excerpt: Option<String>,
    hints: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure with a class of its own.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            excerpt: None,
            hints: Vec::new(),
            source: None,
        }
    }

    /// Something the user wrote is wrong.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(Exit::User, message)
    }

    /// The machine or a server is at fault.
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(Exit::Environment, message)
    }

    /// A state that our own code should have made impossible.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Exit::Bug, message)
    }

    /// A file operation that failed; `action` fits "failed to ACTION PATH".
    pub fn io(action: &str, path: impl AsRef<std::path::Path>, source: std::io::Error) -> Self {
        let error = Self::environment(format!("failed to {action} {}", path.as_ref().display()));
        let hint = match source.kind() {
            std::io::ErrorKind::StorageFull => Some("free some disk space, then run the same command again"),
            std::io::ErrorKind::PermissionDenied => Some("check who owns this file or folder"),
            std::io::ErrorKind::ReadOnlyFilesystem => Some("this file system is mounted read-only"),
            _ => None,
        };
        let error = error.because(source);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// Adds what to do about it; several are shown in order.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds a rendered excerpt of the file at fault.
    #[must_use]
    pub fn excerpt(mut self, excerpt: impl Into<String>) -> Self {
        self.excerpt = Some(excerpt.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts what was being done in front of the message: "CONTEXT: MESSAGE".
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// The class, which is also the process's exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The excerpt, if there is one.
    pub fn excerpt_text(&self) -> Option<&str> {
        self.excerpt.as_deref()
    }

    /// What to do about it.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self
            .source
            .as_ref()
            .map(|source| &**source as &dyn std::error::Error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
