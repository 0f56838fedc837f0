//! What the daemon changes in the system besides its own interface: routes, rules, firewall, kernel settings. All of it
//! stays when the process ends, is put right by the next start, and is undone by [`down`].

pub mod filters;
mod firewall;
mod routing;
mod server_firewall;
mod settings;
pub mod special;
mod undo;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tracing::{info, warn};

pub use firewall::{ClientFirewall, Firewall};
pub use routing::{RULE_PRIORITY, Routing, TABLE};
pub use server_firewall::{Guest, ServerFirewall};
pub use settings::Settings;
pub use undo::Undo;

use crate::config::{Common, Network};
use crate::netlink::{Address, Netlink};
use crate::tun::Tun;
use crate::{Error, Result};

/// Undoes everything: what [`Undo`] remembers, routes, rules, firewall, the interface.
pub fn down(common: &Common) -> Result<()> {
    let mut failure = None;
    let mut note = |outcome: Result<()>| {
        if let Err(error) = outcome {
            warn!("{error} (hint: {})", error.hint());
            failure.get_or_insert(error);
        }
    };
    let mut undo = Undo::open(&common.state_dir)?;
    let mut interfaces = undo.interfaces().to_vec();
    if !interfaces.contains(&common.interface) {
        interfaces.push(common.interface.clone());
    }
    note(Routing::open().and_then(|mut routing| routing.remove()));
    note(Firewall::remove());
    note(undo.restore());
    for interface in interfaces {
        match Tun::remove(&interface) {
            Ok(true) => info!(%interface, "removed"),
            Ok(false) => {}
            Err(error) => note(Err(error)),
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Gives an interface exactly these addresses (of those that reach further than the link).
pub fn set_addresses(
    netlink: &mut Netlink,
    link: u32,
    present: &[Network],
    wanted: &[Network],
) -> Result<()> {
    let failed = |network: &Network, error| {
        Error::environment(
            format!("failed to set the address {network} of the tunnel interface: {error}"),
            "run sennit as root",
        )
    };
    for network in wanted.iter().filter(|network| !present.contains(network)) {
        let address = Address {
            link,
            network: *network,
        };
        match netlink.add_address(address) {
            // A kernel without IPv6, or with it turned off, does without.
            Err(error) if network.address.is_ipv6() => warn!(%network, %error, "address not set"),
            outcome => outcome.map_err(|error| failed(network, error))?,
        }
    }
    for network in present.iter().filter(|network| !wanted.contains(network)) {
        let address = Address {
            link,
            network: *network,
        };
        netlink
            .remove_address(address)
            .map_err(|error| failed(network, error))?;
    }
    Ok(())
}

/// A folder for what must outlive the process; made if it does not exist.
fn make_state_dir(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| {
        Error::environment(
            format!("failed to make the folder {}: {error}", folder.display()),
            "run sennit as root, or set state_dir to a folder that it may write to",
        )
    })
}

/// Writes a file so that it is either the old or the new one, whatever happens meanwhile. Who may read the old one may read
/// the new one.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let old = std::fs::metadata(path).ok();
    write(path, content, old.map(|old| old.permissions()))
}

/// The same, with these permissions from the first byte on.
pub fn write_with_mode(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    write(path, content, Some(Permissions::from_mode(mode)))
}

fn write(path: &Path, content: &[u8], permissions: Option<Permissions>) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::environment(
            format!("failed to write {}: {error}", path.display()),
            "check that the disk is not full and that sennit may write to state_dir",
        )
    };
    if let Some(folder) = path.parent() {
        make_state_dir(folder)?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        if let Some(permissions) = permissions {
            file.set_permissions(permissions)?;
        }
        std::io::Write::write_all(&mut file, content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(failed)
}
