//! The control socket: a Unix socket with one JSON object a line in each direction, for the command line, dashboards and
//! scripts. docs/configuration.md lists requests and answers.

mod caller;
mod events;
mod listener;
mod request;

pub use caller::{Caller, Events};
pub use events::{EventLog, LoggedEvent};
pub use listener::{Listener, Question};
pub use request::{Answer, Request, VERSION};
