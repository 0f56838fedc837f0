//! The configuration file: TOML in, checked types out. Opens nothing but that file.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use tracing::level_filters::LevelFilter;

use crate::{Error, Result};

/// Where the configuration lies unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/sennit/sennit.toml";

/// Everything that a role needs to know. An absent key has its default; an unknown one is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of the tunnel interface.
    pub interface: InterfaceName,
    /// The least severe events that are logged.
    pub log_level: LogLevel,
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::user(
                format!("failed to read the configuration {}: {error}", path.display()),
                "name a TOML file that this user can read: sennit run client --config FILE",
            )
        })?;
        Self::parse(&text, path)
    }

    /// Reads and checks the file at [`DEFAULT_PATH`]; without one everything has its default.
    pub fn read_default() -> Result<Self> {
        let path = Path::new(DEFAULT_PATH);
        match path.try_exists() {
            Ok(false) => Ok(Self::default()),
            Ok(true) | Err(_) => Self::read(path),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let (line, column) = position(text, error.span().map_or(0, |span| span.start));
            Error::user(
                format!("{}:{line}:{column}: {}", path.display(), error.message()),
                "correct that line; the keys are: interface (a name of at most 15 characters), \
                 log_level (error, warn, info, debug or trace)",
            )
        })
    }
}

/// Line and column (in characters), both from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// A name that the kernel accepts for a network interface.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The longest name, in bytes: the kernel's `IFNAMSIZ` less the final zero.
    pub const MAX_BYTES: usize = libc::IFNAMSIZ - 1;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for InterfaceName {
    fn default() -> Self {
        Self("sennit0".to_owned())
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        // '%' is refused because the kernel would take "tun%d" as a pattern to number.
        let allowed = |character: char| character.is_ascii_graphic() && !matches!(character, '/' | ':' | '%');
        let usable = !name.is_empty() && name != "." && name != ".." && name.chars().all(allowed);
        if usable && name.len() <= Self::MAX_BYTES {
            Ok(Self(name))
        } else {
            Err(format!(
                "{name:?} is not an interface name (1 to {} printable ASCII characters without '/', ':' and '%')",
                Self::MAX_BYTES
            ))
        }
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what stops the daemon.
    Error,
    /// What somebody should look at.
    Warn,
    /// Changes of state.
    #[default]
    Info,
    /// Decisions.
    Debug,
    /// Every packet.
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, Path::new("sennit.toml"))
    }

    fn refusal(text: &str) -> String {
        parse(text).expect_err("this configuration is wrong").to_string()
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let config = parse("# nothing set\n").unwrap();
        assert_eq!(config.interface.as_str(), "sennit0");
        assert_eq!(config.log_level, LogLevel::Info);
    }

    #[test]
    fn every_key_is_read() {
        let config = parse("interface = \"bond1\"\nlog_level = \"debug\"\n").unwrap();
        assert_eq!(config.interface.as_str(), "bond1");
        assert_eq!(config.log_level, LogLevel::Debug);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place() {
        let message = refusal("interface = \"bond1\"\n  intreface = \"x\"\n");
        assert!(
            message.starts_with("sennit.toml:2:3: unknown field `intreface`"),
            "{message}"
        );
    }

    #[test]
    fn wrong_types_and_values_are_named_with_their_place() {
        assert!(refusal("interface = 7").starts_with("sennit.toml:1:13: invalid type: integer `7`"));
        assert!(refusal("\nlog_level = \"loud\"").starts_with("sennit.toml:2:13: unknown variant `loud`"));
        assert!(
            refusal("interface = \"a\"\ninterface = \"b\"").starts_with("sennit.toml:2:1: duplicate key")
        );
    }

    #[test]
    fn the_kernels_rules_for_interface_names_hold() {
        for name in ["sennit0", "a", "fifteen-letters", "wan.10@x"] {
            assert_eq!(
                InterfaceName::try_from(name.to_owned()).map(|name| name.0),
                Ok(name.to_owned())
            );
        }
        for name in [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "a:b",
            "tun%d",
            "sixteen-letters!",
            "ünnit0",
            "a\n",
        ] {
            assert!(
                InterfaceName::try_from(name.to_owned()).is_err(),
                "{name:?} was accepted"
            );
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::read(Path::new("/nonexistent/sennit.toml")).expect_err("there is no such file");
        assert!(error.to_string().contains("/nonexistent/sennit.toml"));
    }

    #[test]
    fn positions_count_characters_and_survive_any_offset() {
        assert_eq!(position("ä = 1\nb", 3), (1, 3));
        assert_eq!(position("a\nbc", 3), (2, 2));
        assert_eq!(position("a\n", 99), (2, 1));
        assert_eq!(position("ä", 1), (1, 2));
    }
}
