//! Where a file may be, and why a place did not hand it out.

use std::fmt;

use camino::Utf8PathBuf;

use crate::Error;
use crate::source::Base;

/// One place to ask for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Url(String),
    File(Utf8PathBuf),
}

impl Place {
    pub(super) fn below(base: &Base, path: &str) -> Self {
        match base {
            Base::Url(_) => Self::Url(base.locate(path)),
            Base::Folder(_) => Self::File(base.locate(path).into()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::File(path) => f.write_str(path.as_str()),
        }
    }
}

/// Why a place did not hand out a file.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It says that it has no such file.
    Absent(String),
    /// It hands out other bytes.
    Wrong(String),
    /// It cannot be reached, or breaks off again and again.
    Unreachable(String),
    /// Nothing is wrong with the place: this machine's disk is. No other place will help.
    Local(Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(why) | Self::Wrong(why) | Self::Unreachable(why) => f.write_str(why),
            Self::Local(error) => write!(f, "{error}"),
        }
    }
}
