//! Time in nanoseconds of `CLOCK_MONOTONIC`: one clock for the emulator, the probes and every namespace.

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::time::Nanos;

/// Nanoseconds of the monotonic clock.
pub(crate) fn now() -> Nanos {
    Nanos(nanoseconds(clock_gettime(ClockId::Monotonic)))
}

/// How far the wall clock (which stamps received frames) is ahead of the monotonic one, in nanoseconds.
pub(crate) fn wall_offset() -> u64 {
    let monotonic = now();
    nanoseconds(clock_gettime(ClockId::Realtime)).saturating_sub(monotonic.0)
}

/// Sleeps until `deadline`; a signal does not end it early.
pub(crate) fn sleep_until(deadline: Nanos) {
    let request = Timespec {
        tv_sec: (deadline.0 / 1_000_000_000) as i64,
        tv_nsec: (deadline.0 % 1_000_000_000) as i64,
    };
    while now() < deadline {
        if clock_nanosleep_absolute(ClockId::Monotonic, &request).is_ok() {
            return;
        }
    }
}

/// Processor time that this thread has taken, in nanoseconds.
pub(crate) fn thread_cpu() -> u64 {
    nanoseconds(clock_gettime(ClockId::ThreadCPUTime))
}

/// Processor time that this process has taken, in nanoseconds.
pub(crate) fn process_cpu() -> u64 {
    nanoseconds(clock_gettime(ClockId::ProcessCPUTime))
}

fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
