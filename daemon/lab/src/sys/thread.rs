//! What a thread asks of the kernel: to be woken on time, and to stand in another network namespace.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space, set_current_timer_slack};

/// Real-time priority of the emulator: above the probes, so that a link is on time while they are measured.
pub(crate) const EMULATOR_PRIORITY: i32 = 20;
/// Real-time priority of the probes: above the contestants, so that what they see is not the lab's own delay.
pub(crate) const PROBE_PRIORITY: i32 = 10;

/// Puts this thread into `SCHED_FIFO` and takes its timers' slack away. False where the kernel refuses.
#[allow(unsafe_code)]
pub(crate) fn real_time(priority: i32) -> bool {
    // The slack matters only where the priority is refused; failure of both shows in the measured lateness.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
    // SAFETY: all-zero is a valid `sched_param` on every libc (musl has more fields than glibc).
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority;
    // SAFETY: 0 is this thread, and the pointer is to a live value of the right type.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) == 0 }
}

/// Moves this thread into the network namespace `file` names. Threads that it starts later are there as well.
pub(crate) fn enter_network(file: &Path) -> io::Result<()> {
    let namespace = File::open(file)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}
