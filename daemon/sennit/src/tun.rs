//! The TUN device: the tunnel's inner end, where the kernel hands us IP packets. The only module with `unsafe`.
//!
//! The interface lives as long as the [`Tun`]: dropping it, or any end of the process, removes it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::config::InterfaceName;
use crate::{Error, Result};

/// Largest packet that the tunnel carries whole, bytes; it is the same on every path.
pub const MTU: u16 = 1500;

const CLONE_DEVICE: &str = "/dev/net/tun";

/// The kernel tells of an interface that somebody removed as an error only, not as something to read.
const WANTED: Interest = Interest::READABLE.add(Interest::ERROR);

/// An open TUN device whose interface is up.
#[derive(Debug)]
pub struct Tun {
    device: AsyncFd<File>,
    name: InterfaceName,
}

impl Tun {
    /// Creates the interface, sets its MTU and brings it up. Needs a tokio runtime and CAP_NET_ADMIN.
    pub fn create(name: &InterfaceName) -> Result<Self> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(CLONE_DEVICE)
            .map_err(no_clone_device)?;
        // Exclusive: an interface of this name that somebody else made persistent is not ours to take.
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
        request(device.as_fd(), libc::TUNSETIFF, name, Value::Flags(flags))
            .map_err(|error| not_created(name, &error))?;
        bring_up(name).map_err(|error| {
            Error::environment(
                format!("failed to bring {name} up: {error}"),
                "run sennit as root",
            )
        })?;
        let device = watch(device)?;
        Ok(Self {
            device,
            name: name.clone(),
        })
    }

    /// The interface's name.
    pub fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// Waits for the next packet that the kernel routed into the interface and returns its length in bytes.
    /// Cancelling loses no packet.
    pub async fn receive(&self, packet: &mut [u8]) -> io::Result<usize> {
        self.device
            .async_io(WANTED, |mut device| device.read(packet))
            .await
    }
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

fn not_created(name: &InterfaceName, error: &io::Error) -> Error {
    let message = format!("failed to create the tunnel interface {name}: {error}");
    match error.raw_os_error() {
        // EINVAL: the name belongs to an interface that is no TUN device.
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

fn bring_up(name: &InterfaceName) -> io::Result<()> {
    let control = datagram_socket()?;
    request(
        control.as_fd(),
        libc::SIOCSIFMTU as libc::Ioctl,
        name,
        Value::Mtu(MTU.into()),
    )?;
    request(
        control.as_fd(),
        libc::SIOCSIFFLAGS as libc::Ioctl,
        name,
        Value::Flags(libc::IFF_UP),
    )
}

/// Puts the device into the runtime's event loop.
#[allow(unsafe_code)]
fn watch(device: File) -> Result<AsyncFd<File>> {
    // SAFETY: a `File` keeps its one descriptor open until it is dropped, which the `AsyncFd` does last.
    unsafe { AsyncFd::register_with_interest(device, WANTED) }.map_err(|error| {
        Error::environment(
            format!("failed to watch {CLONE_DEVICE}: {error}"),
            "raise the limit of open files (ulimit -n)",
        )
    })
}

/// What an interface request carries besides the name.
enum Value {
    Flags(libc::c_int),
    Mtu(libc::c_int),
}

/// Any socket serves as the handle of interface requests.
#[allow(unsafe_code)]
fn datagram_socket() -> io::Result<OwnedFd> {
    // SAFETY: `socket` takes no pointers.
    let descriptor = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, was made above, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// One `ioctl` with an `ifreq`. `code` must be a request that reads an `ifreq` with exactly this `value` member.
#[allow(unsafe_code)]
fn request(
    descriptor: BorrowedFd<'_>,
    code: libc::Ioctl,
    name: &InterfaceName,
    value: Value,
) -> io::Result<()> {
    // SAFETY: `ifreq` is plain data of the C ABI, for which all zero bits are valid.
    let mut interface: libc::ifreq = unsafe { std::mem::zeroed() };
    // InterfaceName is at most IFNAMSIZ - 1 bytes long, so that the final zero stays.
    for (target, byte) in interface.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *target = byte as libc::c_char;
    }
    match value {
        // The kernel's field is 16 bits wide and all flags used here are below 0x10000.
        Value::Flags(flags) => interface.ifr_ifru.ifru_flags = flags as libc::c_short,
        Value::Mtu(mtu) => interface.ifr_ifru.ifru_mtu = mtu,
    }
    // SAFETY: `interface` is a live ifreq, which is what the requests used in this module read and write.
    let outcome = unsafe { libc::ioctl(descriptor.as_raw_fd(), code, &mut interface) };
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_of_the_kernel_says_what_to_do() {
        let name = InterfaceName::default();
        let refused = |code| not_created(&name, &io::Error::from_raw_os_error(code));
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
