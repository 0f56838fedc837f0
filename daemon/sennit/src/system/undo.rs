//! What `sennit down` has to change back: every setting with the value it had before, written to a file before the
//! change is made, so that nothing is forgotten whatever ends the process.

use std::io;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::filters::Rule;
use super::write_atomically;
use crate::config::InterfaceName;
use crate::netlink::{Inventory, Netlink};
use crate::sys::ethtool::Features;
use crate::{Error, Result};

const FILE: &str = "undo.json";
const VERSION: u32 = 1;

/// One changed setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    /// A file below `/proc/sys`.
    Sysctl {
        path: PathBuf,
        before: String,
        set: String,
    },
    /// An offload setting of an interface.
    Feature {
        interface: String,
        feature: String,
        before: bool,
    },
    /// A rule in another packet filter.
    Filter { rule: Rule },
    /// An address for which neighbours on an interface are answered.
    Neighbour { interface: String, address: Ipv6Addr },
}

impl Change {
    fn is_of_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sysctl { path: a, .. }, Self::Sysctl { path: b, .. }) => a == b,
            (
                Self::Feature {
                    interface: a,
                    feature: x,
                    ..
                },
                Self::Feature {
                    interface: b,
                    feature: y,
                    ..
                },
            ) => a == b && x == y,
            (Self::Filter { .. } | Self::Neighbour { .. }, _) => self == other,
            _ => false,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    version: u32,
    /// A reboot undoes everything itself.
    boot: String,
    interfaces: Vec<InterfaceName>,
    changes: Vec<Change>,
}

/// The list of changes, and the file that holds it.
#[derive(Debug)]
pub struct Undo {
    file: PathBuf,
    written: Written,
}

impl Undo {
    /// Reads the list of an earlier start; without one it is empty.
    pub fn open(state_dir: &Path) -> Result<Self> {
        let file = state_dir.join(FILE);
        let boot = boot_id();
        let empty = || Written {
            version: VERSION,
            boot: boot.clone(),
            interfaces: Vec::new(),
            changes: Vec::new(),
        };
        let written = match std::fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => empty(),
            Err(error) => {
                return Err(Error::environment(
                    format!("failed to read {}: {error}", file.display()),
                    "run sennit as root",
                ));
            }
            Ok(text) => match serde_json::from_slice::<Written>(&text) {
                Ok(written) if written.version == VERSION && written.boot == boot => written,
                Ok(written) if written.version > VERSION => {
                    return Err(Error::environment(
                        format!("{} was written by a newer sennit", file.display()),
                        "undo its changes with that one: sennit down",
                    ));
                }
                Ok(_) => empty(),
                Err(error) => {
                    warn!(file = %file.display(), %error, "not readable; what it said cannot be undone");
                    empty()
                }
            },
        };
        Ok(Self { file, written })
    }

    /// Tunnel interfaces that were made.
    pub fn interfaces(&self) -> &[InterfaceName] {
        &self.written.interfaces
    }

    /// Remembers a tunnel interface.
    pub fn remember_interface(&mut self, interface: &InterfaceName) -> Result<()> {
        if self.written.interfaces.contains(interface) {
            return Ok(());
        }
        self.written.interfaces.push(interface.clone());
        self.save()
    }

    /// Sets a file below `/proc/sys`; its value before is restored by [`restore`](Self::restore). A file that does not
    /// exist is passed over: the kernel or the interface lacks that setting.
    pub fn set_sysctl(&mut self, path: &Path, value: &str) -> Result<()> {
        let failed = |error: io::Error| {
            Error::environment(
                format!("failed to set {} to {value}: {error}", path.display()),
                "run sennit as root; in a container, give it a writable /proc/sys",
            )
        };
        let before = match std::fs::read_to_string(path) {
            Ok(before) => before.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        if before == value {
            return Ok(());
        }
        self.remember(Change::Sysctl {
            path: path.to_owned(),
            before,
            set: value.to_owned(),
        })?;
        debug!(setting = %path.display(), value, "set");
        std::fs::write(path, value).map_err(failed)
    }

    /// Turns an offload setting of an interface on or off. One that the kernel does not know is passed over.
    pub fn set_feature(&mut self, interface: &InterfaceName, feature: &str, on: bool) -> Result<()> {
        let failed = |error: io::Error| {
            Error::environment(
                format!(
                    "failed to turn {feature} of {interface} {}: {error}",
                    if on { "on" } else { "off" }
                ),
                "check the key lan: it names the ports behind which your hosts are",
            )
        };
        let features = Features::of(interface.as_str()).map_err(failed)?;
        match features.read(feature).map_err(failed)? {
            Some(before) if before != on => {
                let interface = interface.as_str().to_owned();
                self.remember(Change::Feature {
                    interface,
                    feature: feature.to_owned(),
                    before,
                })?;
                features.write(feature, on).map_err(failed)
            }
            _ => Ok(()),
        }
    }

    /// Remembers a rule that is about to be set in another packet filter.
    pub fn remember_rule(&mut self, rule: &Rule) -> Result<()> {
        self.remember(Change::Filter { rule: rule.clone() })
    }

    /// Remembers an address for which neighbours on an interface are about to be answered.
    pub fn remember_neighbour(&mut self, interface: &str, address: Ipv6Addr) -> Result<()> {
        self.remember(Change::Neighbour {
            interface: interface.to_owned(),
            address,
        })
    }

    /// Restores every setting that still has the value that was set, and empties the list.
    pub fn restore(&mut self) -> Result<()> {
        for change in std::mem::take(&mut self.written.changes).into_iter().rev() {
            restore_one(&change);
        }
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::environment(
                format!("failed to remove {}: {error}", self.file.display()),
                "run sennit down as root",
            )),
            _ => Ok(()),
        }
    }

    /// The first value counts: a later start finds what an earlier one set.
    fn remember(&mut self, change: Change) -> Result<()> {
        if self
            .written
            .changes
            .iter()
            .any(|known| known.is_of_the_same(&change))
        {
            return Ok(());
        }
        self.written.changes.push(change);
        self.save()
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.written).map_err(|error| {
            Error::environment(error.to_string(), "this is a bug of sennit: please report it")
        })?;
        write_atomically(&self.file, &text)
    }
}

/// What cannot be restored any more (the interface is gone) needs no restoring.
fn restore_one(change: &Change) {
    match change {
        Change::Sysctl { path, before, set } => {
            let now = std::fs::read_to_string(path).unwrap_or_default();
            if now.trim() == set
                && let Err(error) = std::fs::write(path, before)
            {
                warn!(setting = %path.display(), %error, "not restored");
            }
        }
        Change::Feature {
            interface,
            feature,
            before,
        } => {
            let outcome = Features::of(interface).and_then(|features| features.write(feature, *before));
            if let Err(error) = outcome {
                debug!(interface, feature, %error, "not restored");
            }
        }
        Change::Filter { rule } => rule.remove(),
        Change::Neighbour { interface, address } => {
            let outcome = Netlink::open().and_then(|mut netlink| {
                match Inventory::read(&mut netlink)?.link(interface) {
                    Some(link) => netlink.remove_neighbour_proxy(link.index, *address),
                    None => Ok(()),
                }
            });
            if let Err(error) = outcome {
                warn!(interface, %address, %error, "neighbours are still answered for it");
            }
        }
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_is_restored_even_after_several_starts() {
        let folder = tempfile::tempdir().unwrap();
        let setting = folder.path().join("rp_filter");
        std::fs::write(&setting, "1\n").unwrap();
        Undo::open(folder.path())
            .unwrap()
            .set_sysctl(&setting, "2")
            .unwrap();
        let mut second = Undo::open(folder.path()).unwrap();
        second.set_sysctl(&setting, "0").unwrap();
        assert_eq!(std::fs::read_to_string(&setting).unwrap(), "0");
        std::fs::write(&setting, "2").unwrap();
        second.restore().unwrap();
        assert_eq!(std::fs::read_to_string(&setting).unwrap(), "1");
        assert!(!folder.path().join(FILE).exists());
    }

    #[test]
    fn what_somebody_else_has_set_since_stays() {
        let folder = tempfile::tempdir().unwrap();
        let setting = folder.path().join("ip_forward");
        std::fs::write(&setting, "0").unwrap();
        let mut undo = Undo::open(folder.path()).unwrap();
        undo.set_sysctl(&setting, "1").unwrap();
        std::fs::write(&setting, "7").unwrap();
        undo.restore().unwrap();
        assert_eq!(std::fs::read_to_string(&setting).unwrap(), "7");
    }

    #[test]
    fn a_list_of_another_boot_is_forgotten_and_a_broken_one_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let name = InterfaceName::default();
        Undo::open(folder.path())
            .unwrap()
            .remember_interface(&name)
            .unwrap();
        assert_eq!(Undo::open(folder.path()).unwrap().interfaces(), [name]);
        let file = folder.path().join(FILE);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace(&boot_id(), "another")).unwrap();
        assert!(Undo::open(folder.path()).unwrap().interfaces().is_empty());
        std::fs::write(&file, "{").unwrap();
        assert!(Undo::open(folder.path()).unwrap().interfaces().is_empty());
        std::fs::write(&file, text.replace("\"version\": 1", "\"version\": 2")).unwrap();
        assert!(Undo::open(folder.path()).is_err());
    }
}
