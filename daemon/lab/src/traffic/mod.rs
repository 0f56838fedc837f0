//! What is sent over the links and contestants, by ordinary sockets of the kernel, and what arrives of it.

pub mod bulk;
pub mod flood;
pub mod page;
pub mod probe;
pub mod quic;
mod socket;

use std::thread::JoinHandle;

use crate::Result;
use crate::namespace::Namespace;
use crate::time::Nanos;

pub use crate::sys::tcp::TcpInfo;
pub(crate) use socket::answering_at;
pub use socket::{Progress, Reach};

/// When traffic runs, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// First moment.
    pub start: Nanos,
    /// Last moment.
    pub end: Nanos,
}

/// Something that runs in a thread until its window ends.
#[derive(Debug)]
pub struct Running<T>(JoinHandle<Result<T>>);

impl<T: Send + 'static> Running<T> {
    /// Starts it in a thread that stands in the namespace.
    pub(crate) fn start(at: &Namespace, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<Self> {
        at.spawn(work).map(Self)
    }
}

impl<T> Running<T> {
    /// Waits for its end, and returns what was seen.
    pub fn finish(self) -> Result<T> {
        self.0
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
