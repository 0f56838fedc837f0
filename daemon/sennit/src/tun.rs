//! The TUN device: the tunnel's inner end, where the kernel hands us IP packets and takes ours.
//!
//! The interface is persistent: it outlives the process, so that a killed daemon leaves its routes, and with them
//! traffic that waits instead of leaking. The next start takes it over; [`Tun::remove`] ends it.
//!
//! Packets come and go with a virtio header (`struct virtio_net_hdr`, 10 bytes), by which TCP enters and leaves in
//! pieces of up to 64 KiB.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use bytes::BytesMut;
use tracing::debug;

use crate::config::InterfaceName;
use crate::netlink::{Inventory, Netlink};
use crate::sys::interface::{self as sys, offload};
use crate::{Error, Result};

/// Largest packet that the tunnel carries whole, bytes; it is the same on every path.
pub const MTU: u16 = 1500;

/// Bytes of the header before each packet.
pub const HEADER: usize = 10;

/// The most that one read can return, bytes: the header and the largest IP packet.
pub const READ: usize = HEADER + 65536;

/// Packets that may wait for us: 4 ms at 500,000 packets per second.
const QUEUE_LENGTH: u32 = 2000;

/// Tries to get hold of an interface that is to be removed: a program that was started a moment before holds a copy of
/// every descriptor until it really runs.
const SHORTLY_BUSY: u32 = 50;

const CLONE_DEVICE: &str = "/dev/net/tun";

/// An open TUN device whose interface is up.
#[derive(Debug)]
pub struct Tun {
    device: File,
    name: InterfaceName,
    index: u32,
    udp_offload: bool,
}

impl Tun {
    /// Makes the interface, or takes over one that an earlier process left, and brings it up. Needs CAP_NET_ADMIN.
    pub fn create(name: &InterfaceName) -> Result<Self> {
        let device = attach(name)?;
        let failed = |what: &str, error: io::Error| {
            Error::environment(format!("failed to {what} {name}: {error}"), "run sennit as root")
        };
        sys::set_tun_persistent(device.as_fd(), true).map_err(|error| failed("keep", error))?;
        sys::set_tun_header_length(device.as_fd(), HEADER)
            .map_err(|error| failed("set the header of", error))?;
        let tcp = offload::CHECKSUM | offload::TCP;
        let udp_offload = sys::set_tun_offload(device.as_fd(), tcp | offload::UDP).is_ok();
        if !udp_offload {
            debug!(interface = %name, "this kernel has no UDP segmentation offload for TUN devices");
            sys::set_tun_offload(device.as_fd(), tcp)
                .map_err(|error| failed("set the offloads of", error))?;
        }
        let index = bring_up(name).map_err(|error| failed("bring up", error))?;
        Ok(Self {
            device,
            name: name.clone(),
            index,
            udp_offload,
        })
    }

    /// Removes the interface of this name if it is a TUN device; returns whether there was one.
    pub fn remove(name: &InterfaceName) -> Result<bool> {
        let failed = |error: io::Error| {
            Error::environment(
                format!("failed to remove {name}: {error}"),
                "run sennit down as root",
            )
        };
        let inventory = Netlink::open().and_then(|mut netlink| Inventory::read(&mut netlink));
        if inventory.map_err(failed)?.link(name.as_str()).is_none() {
            return Ok(false);
        }
        let mut device = attach(name);
        for _ in 0..SHORTLY_BUSY {
            if device.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
            device = attach(name);
        }
        sys::set_tun_persistent(device?.as_fd(), false).map_err(failed)?;
        Ok(true)
    }

    /// The interface's name.
    pub fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// The kernel's number of the interface.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Whether UDP may be handed in and out in large pieces.
    pub fn has_udp_offload(&self) -> bool {
        self.udp_offload
    }

    /// Takes one packet, behind its header, into the free room of the empty `buffer`, which needs [`READ`] bytes of it.
    /// Never waits: [`io::ErrorKind::WouldBlock`] if there is none.
    pub fn receive(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        sys::read_into(self.device.as_fd(), buffer, READ)
    }

    /// Hands a packet, gathered from its header and its parts, to the kernel.
    pub fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(&self.device, parts)?)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn attach(name: &InterfaceName) -> Result<File> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(CLONE_DEVICE)
        .map_err(no_clone_device)?;
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    sys::attach_tun(&device, name.as_str(), flags).map_err(|error| not_attached(name, &error))?;
    Ok(device)
}

fn bring_up(name: &InterfaceName) -> io::Result<u32> {
    let mut netlink = Netlink::open()?;
    let inventory = Inventory::read(&mut netlink)?;
    let index = inventory
        .link(name.as_str())
        .map(|link| link.index)
        .ok_or(io::ErrorKind::NotFound)?;
    netlink.bring_up(index, MTU, QUEUE_LENGTH)?;
    Ok(index)
}

fn no_clone_device(error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            "the kernel has no TUN support loaded: install kmod-tun (OpenWrt) or run modprobe tun"
        }
        io::ErrorKind::PermissionDenied => "run sennit as root",
        _ => "check that the kernel module tun is loaded: modprobe tun",
    };
    Error::environment(format!("failed to open {CLONE_DEVICE}: {error}"), hint)
}

fn not_attached(name: &InterfaceName, error: &io::Error) -> Error {
    let message = format!("failed to create the tunnel interface {name}: {error}");
    match error.raw_os_error() {
        // EBUSY: a living process has it. EINVAL: the name belongs to an interface that is no TUN device.
        Some(libc::EBUSY | libc::EINVAL) => Error::environment(
            format!("the interface {name} is already in use"),
            format!(
                "stop the other sennit, or choose another name by the key interface (ip link show {name})"
            ),
        ),
        Some(libc::EPERM) => Error::environment(message, "run sennit as root, or give it CAP_NET_ADMIN"),
        _ => Error::environment(
            message,
            "check that the kernel module tun is loaded: modprobe tun",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_of_the_kernel_says_what_to_do() {
        let name = InterfaceName::default();
        let refused = |code| not_attached(&name, &io::Error::from_raw_os_error(code));
        assert_eq!(
            refused(libc::EBUSY).to_string(),
            "the interface sennit0 is already in use"
        );
        assert!(refused(libc::EPERM).hint().contains("root"));
        assert!(
            no_clone_device(io::Error::from_raw_os_error(libc::ENOENT))
                .hint()
                .contains("kmod-tun")
        );
        assert!(
            no_clone_device(io::Error::from_raw_os_error(libc::ENXIO))
                .hint()
                .contains("modprobe")
        );
    }
}
