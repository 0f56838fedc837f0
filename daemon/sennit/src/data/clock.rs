//! The time that the engine is given: nanoseconds of the kernel's monotonic clock since the start.

use rustix::time::{ClockId, clock_gettime};
use sennit_engine::time::Instant;

/// A clock that never goes back and stands still while the machine sleeps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: u64,
}

impl Clock {
    /// A clock that begins now, a second after its epoch, so that times shortly before the start exist too.
    pub fn new() -> Self {
        Self {
            start: nanoseconds().saturating_sub(1_000_000_000),
        }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(nanoseconds().saturating_sub(self.start))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

fn nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // The kernel's monotonic clock is not negative.
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
