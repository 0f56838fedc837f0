//! System calls that no crate wraps safely: TUN requests, batches of datagrams, offload settings. All `unsafe` is here.

pub(crate) mod clock;
pub(crate) mod datagrams;
pub(crate) mod ethtool;
pub(crate) mod interface;

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Puts a descriptor into the runtime's event loop, to be told when it can be read.
#[allow(unsafe_code)]
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps its one descriptor open until it is dropped, which the `AsyncFd` does last.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}
