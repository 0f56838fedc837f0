//! What `sennit mode`, `sennit wan` and `sennit servers` changed, kept over restarts. It counts until the configuration itself says
//! something new about the same thing.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::Result;
use crate::config::{AUTO, ClientConfig, Mode, Priority};
use crate::system::write_atomically;

const FILE: &str = "settings.toml";

/// A value, and what the configuration said when it was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Choice<T> {
    chosen: T,
    configured: T,
}

impl<T: Copy + PartialEq> Choice<T> {
    fn or(choice: Option<&Self>, configured: T) -> T {
        match choice {
            Some(choice) if choice.configured == configured => choice.chosen,
            _ => configured,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Written {
    mode: Option<Choice<Mode>>,
    wan: BTreeMap<String, Choice<Priority>>,
    /// A server's name or a region; none: by measurement.
    server: Option<String>,
    /// The server that was used last.
    last_server: Option<String>,
}

/// The choices, and the file that holds them.
#[derive(Debug)]
pub struct Saved {
    file: PathBuf,
    written: Written,
}

impl Saved {
    /// Reads what was chosen. A file that cannot be read costs the choices, not the start.
    pub fn open(state_dir: &Path) -> Self {
        let file = state_dir.join(FILE);
        let written = match std::fs::read_to_string(&file) {
            Ok(text) => toml::from_str(&text).unwrap_or_else(|error: toml::de::Error| {
                warn!(file = %file.display(), error = error.message(), "not readable; the configuration counts");
                Written::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Written::default(),
            Err(error) => {
                warn!(file = %file.display(), %error, "not readable; the configuration counts");
                Written::default()
            }
        };
        Self { file, written }
    }

    /// The mode that counts.
    pub fn mode(&self, config: &ClientConfig) -> Mode {
        Choice::or(self.written.mode.as_ref(), config.mode)
    }

    /// The priority of a WAN that counts.
    pub fn priority(&self, config: &ClientConfig, device: &str) -> Priority {
        Choice::or(self.written.wan.get(device), config.wan(device).priority)
    }

    /// The server or region that the user wants; none: by measurement.
    pub fn server_choice(&self) -> Option<&str> {
        self.written.server.as_deref()
    }

    /// The server that was used last.
    pub fn last_server(&self) -> Option<&str> {
        self.written.last_server.as_deref()
    }

    /// Chooses a server, a region, or ([`AUTO`]) to choose by measurement.
    pub fn set_server_choice(&mut self, choice: &str) -> Result<()> {
        self.written.server = (choice != AUTO).then(|| choice.to_owned());
        self.save()
    }

    /// Remembers the server in use.
    pub fn set_last_server(&mut self, name: &str) -> Result<()> {
        if self.last_server() == Some(name) {
            return Ok(());
        }
        self.written.last_server = Some(name.to_owned());
        self.save()
    }

    /// Chooses a mode.
    pub fn set_mode(&mut self, config: &ClientConfig, mode: Mode) -> Result<()> {
        self.written.mode = Some(Choice {
            chosen: mode,
            configured: config.mode,
        });
        self.save()
    }

    /// Chooses a priority.
    pub fn set_priority(&mut self, config: &ClientConfig, device: &str, priority: Priority) -> Result<()> {
        let configured = config.wan(device).priority;
        self.written.wan.insert(
            device.to_owned(),
            Choice {
                chosen: priority,
                configured,
            },
        );
        self.save()
    }

    fn save(&self) -> Result<()> {
        let text = toml::to_string(&self.written).map_err(|error| {
            crate::Error::environment(error.to_string(), "this is a bug of sennit: please report it")
        })?;
        write_atomically(&self.file, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> ClientConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_choice_lasts_until_the_configuration_says_something_new() {
        let folder = tempfile::tempdir().unwrap();
        let plain = config("");
        let mut saved = Saved::open(folder.path());
        assert_eq!(saved.mode(&plain), Mode::Speed);
        saved.set_mode(&plain, Mode::Redundant).unwrap();
        saved.set_priority(&plain, "eth1", Priority::Backup).unwrap();

        let saved = Saved::open(folder.path());
        assert_eq!(saved.mode(&plain), Mode::Redundant);
        assert_eq!(saved.priority(&plain, "eth1"), Priority::Backup);
        assert_eq!(saved.priority(&plain, "eth2"), Priority::Primary);
        assert_eq!(saved.mode(&config("mode = \"redundant\"")), Mode::Redundant);
        let changed = config("[wan.eth1]\npriority = \"off\"\n");
        assert_eq!(saved.priority(&changed, "eth1"), Priority::Off);
    }

    #[test]
    fn a_broken_file_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "mode = 7").unwrap();
        assert_eq!(Saved::open(folder.path()).mode(&config("")), Mode::Speed);
    }
}
