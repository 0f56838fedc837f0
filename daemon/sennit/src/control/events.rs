//! The last events, kept in memory, and handed to whoever listens.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// Events that are kept.
const KEPT: usize = 500;

/// One event, as JSON: `time` (milliseconds of the wall clock), `event` (its kind), and what belongs to it.
pub type LoggedEvent = Value;

/// The last events.
#[derive(Debug)]
pub struct EventLog {
    kept: VecDeque<LoggedEvent>,
    listeners: Sender<LoggedEvent>,
}

impl EventLog {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            kept: VecDeque::new(),
            listeners: channel(KEPT).0,
        }
    }

    /// Adds an event: an object with what belongs to it.
    pub fn add(&mut self, kind: &str, mut event: Value) {
        if let Some(fields) = event.as_object_mut() {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            fields.insert("time".to_owned(), json!(since.as_millis() as u64));
            fields.insert("event".to_owned(), kind.into());
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(event.clone());
        // Nobody need listen.
        let _ = self.listeners.send(event);
    }

    /// The events so far, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &LoggedEvent> {
        self.kept.iter()
    }

    /// Those to come.
    pub fn listen(&self) -> Receiver<LoggedEvent> {
        self.listeners.subscribe()
    }
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}
