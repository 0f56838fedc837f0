//! The one error type of this crate: what failed, why, and what to do about it.

use std::fmt;

/// What the process's end means to a supervisor or script. The numbers are documented and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for was done.
    Ok = 0,
    /// Something the user wrote is wrong: an argument or the configuration.
    User = 1,
    /// The machine is at fault: no TUN device, no privilege.
    Environment = 2,
    /// `sennit check` found something.
    Found = 3,
}

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, with what the user can do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Error {
    exit: Exit,
    message: String,
    hint: String,
}

impl Error {
    /// Something the user wrote is wrong; `hint` says how to correct it.
    pub fn user(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            exit: Exit::User,
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// The machine is at fault; `hint` says how to repair it.
    pub fn environment(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            exit: Exit::Environment,
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// The class, which is also the process's exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// What to do about it: a whole sentence or a command.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
