//! Connects this terminal to the router's console: keys go as they are, Ctrl-] ends.

use std::io::{self, IsTerminal, Read};

use rustix::termios::{self, OptionalActions, Termios};
use tokio::sync::mpsc;

/// Ctrl-], as telnet has it: Ctrl-C belongs to the router.
const END: u8 = 0x1d;

/// A terminal that passes every key on; as it was before when this is dropped.
pub(super) struct RawTerminal {
    before: Option<Termios>,
}

impl RawTerminal {
    /// Switches this process's terminal; without one it does nothing.
    pub(super) fn enter() -> io::Result<Self> {
        let input = io::stdin();
        if !input.is_terminal() {
            return Ok(Self { before: None });
        }
        let before = termios::tcgetattr(&input)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&input, OptionalActions::Now, &raw)?;
        Ok(Self { before: Some(before) })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Nothing can be done about a terminal that is gone.
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Keys as they are typed. The channel closes at Ctrl-]; the end of input (`</dev/null`) leaves it open.
pub(super) fn keys() -> mpsc::UnboundedReceiver<Vec<u8>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    // A thread of its own: a blocked read cannot be cancelled, and must not keep the runtime from ending.
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        loop {
            let typed = match io::stdin().read(&mut buffer) {
                Ok(read) if read > 0 => &buffer[..read],
                Ok(_) | Err(_) => loop {
                    std::thread::park();
                },
            };
            let end = typed.iter().position(|key| *key == END);
            let passed = typed[..end.unwrap_or(typed.len())].to_vec();
            if sender.send(passed).is_err() || end.is_some() {
                return;
            }
        }
    });
    receiver
}
