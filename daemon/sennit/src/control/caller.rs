//! The command line's side of the control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::request::{Answer, Request, parse_answer};
use crate::{Error, Result};

/// `down` has much to do; everything else answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a running daemon.
#[derive(Debug)]
pub struct Caller {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Caller {
    /// Connects to the daemon that listens at `path`.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::environment(
                format!(
                    "no sennit is running here (nothing answers on {})",
                    path.display()
                ),
                "start it: sennit run client; if it has a configuration of its own: --config FILE",
            ),
            io::ErrorKind::PermissionDenied => Error::environment(
                format!("not allowed to speak to the daemon on {}", path.display()),
                "run this command as root",
            ),
            _ => lost(path, &error),
        })?;
        let patience = stream.set_read_timeout(Some(PATIENCE));
        patience.map_err(|error| lost(path, &error))?;
        Ok(Self {
            stream: BufReader::new(stream),
            path: path.to_owned(),
        })
    }

    /// Asks and waits for the answer.
    pub fn ask(&mut self, request: &Request) -> Answer {
        self.say(request)?;
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err(lost(&self.path, &io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => parse_answer(&line),
            Err(error) => Err(lost(&self.path, &error)),
        }
    }

    /// The events so far and those to come.
    pub fn follow(mut self) -> Result<Events> {
        self.say(&Request::Events { follow: true })?;
        let patience = self.stream.get_ref().set_read_timeout(None);
        patience.map_err(|error| lost(&self.path, &error))?;
        Ok(Events { caller: self })
    }

    fn say(&mut self, request: &Request) -> Result<()> {
        let said = self.stream.get_mut().write_all(request.to_line().as_bytes());
        said.map_err(|error| lost(&self.path, &error))
    }
}

/// Events as they happen.
#[derive(Debug)]
pub struct Events {
    caller: Caller,
}

impl Iterator for Events {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.caller.stream.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => serde_json::from_str(&line).ok(),
        }
    }
}

fn lost(path: &Path, error: &io::Error) -> Error {
    Error::environment(
        format!("the daemon on {} does not answer: {error}", path.display()),
        "see its log; it may have just ended",
    )
}
