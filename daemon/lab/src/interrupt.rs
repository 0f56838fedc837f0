//! Ctrl-C: work ends at its next wait, so that everything made is taken down again. A second one ends at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{Error, Result};

fn flag() -> &'static Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(Arc::default)
}

/// Listens for signals from now on.
pub fn listen() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the first signal finds the flag unset and only sets it.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(flag()))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(flag())))
            .map_err(|error| Error::environment(format!("failed to listen for signals: {error}"), ""))?;
    }
    Ok(())
}

/// An error once a signal came.
pub fn check() -> Result<()> {
    if flag().load(Ordering::Relaxed) {
        Err(Error::interrupted())
    } else {
        Ok(())
    }
}

/// Waits until `done` says so, a signal comes (an error), or the time is over (false).
pub fn wait(limit: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + limit;
    loop {
        check()?;
        if done()? {
            return Ok(true);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
}
