//! `sennit top`: the state again every second, in place on a terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::{Daemon, table};
use crate::Result;
use crate::control::Request;

/// To the upper left corner, and clears what was there.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub(super) fn run(daemon: &Daemon) -> Result<()> {
    let mut caller = daemon.call()?;
    let mut output = std::io::stdout();
    let clear = if output.is_terminal() { CLEAR } else { "" };
    loop {
        let text = table::status(&caller.ask(&Request::Status {})?)?;
        if writeln!(output, "{clear}{text}")
            .and_then(|()| output.flush())
            .is_err()
        {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}
