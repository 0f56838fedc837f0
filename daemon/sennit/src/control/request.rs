//! Requests and answers as JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;
use crate::config::{Mode, Priority};
use crate::registry::Action;

/// Version of the API: an older client may meet a newer daemon, which refuses what it does not know.
pub const VERSION: u32 = 1;

/// What a client of the socket asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The state.
    Status {},
    /// The events so far, and with `follow` those to come, one a line.
    Events {
        /// Go on with events as they happen.
        #[serde(default)]
        follow: bool,
    },
    /// Change how packets are spread.
    Mode {
        /// The new mode.
        mode: Mode,
    },
    /// Change when a WAN carries traffic.
    Wan {
        /// Name of its interface.
        name: String,
        /// The new priority.
        priority: Priority,
    },
    /// Read the configuration again.
    Reload {},
    /// On a client: its servers, which are measured anew.
    Servers {},
    /// On a client: use this server, one of this region, or (auto) the best.
    UseServer {
        /// Name or region.
        choice: String,
    },
    /// On a server: something about its clients.
    Registry {
        /// What.
        action: Action,
    },
    /// On a server: have a client send something to these TCP ports, by a WAN.
    Knock {
        /// Ports of the server.
        ports: Vec<u16>,
    },
    /// Stop, undo everything that was set in the system, end.
    Down {},
}

impl Request {
    /// Reads one line.
    pub fn parse(line: &str) -> Result<Self, Error> {
        let wrong = |error: serde_json::Error| {
            Error::user(
                format!("not a request: {error}"),
                "send one JSON object a line, as {\"command\":\"status\"}",
            )
        };
        let mut value: Value = serde_json::from_str(line).map_err(wrong)?;
        if let Some(object) = value.as_object_mut()
            && let Some(version) = object.remove("version")
            && version.as_u64().is_none_or(|version| version > VERSION.into())
        {
            return Err(Error::user(
                format!("version {version} of the control API is not known here (this is {VERSION})"),
                "use the sennit command that belongs to the running daemon",
            ));
        }
        serde_json::from_value(value).map_err(wrong)
    }

    /// As a line of JSON.
    pub fn to_line(&self) -> String {
        // A request is made of names and text: it always has a JSON form.
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("version".to_owned(), VERSION.into());
        }
        format!("{value}\n")
    }
}

/// The answer to a request: a JSON value, or what went wrong.
pub type Answer = Result<Value, Error>;

/// An answer as a line of JSON.
pub(super) fn answer_line(answer: &Answer) -> String {
    let value = match answer {
        Ok(value) => json!({ "ok": value }),
        Err(error) => {
            json!({ "error": { "message": error.to_string(), "hint": error.hint(), "code": error.exit() as u8 } })
        }
    };
    format!("{value}\n")
}

/// The answer that a line carries.
pub(super) fn parse_answer(line: &str) -> Answer {
    let not_understood = || {
        Error::environment(
            "the daemon's answer is not understood",
            "use the sennit command that belongs to the running daemon",
        )
    };
    let mut value: Value = serde_json::from_str(line).map_err(|_| not_understood())?;
    if let Some(error) = value.get("error") {
        let text = |key: &str| {
            error
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        return Err(match error.get("code").and_then(Value::as_u64) {
            Some(1) => Error::user(text("message"), text("hint")),
            _ => Error::environment(text("message"), text("hint")),
        });
    }
    value.get_mut("ok").map(Value::take).ok_or_else(not_understood)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_their_line() {
        for request in [
            Request::Status {},
            Request::Events { follow: true },
            Request::Mode {
                mode: Mode::Redundant,
            },
            Request::Wan {
                name: "eth1".to_owned(),
                priority: Priority::Backup,
            },
            Request::Reload {},
            Request::Registry {
                action: Action::Revoke {
                    name: "boat".to_owned(),
                },
            },
            Request::Down {},
        ] {
            assert_eq!(Request::parse(&request.to_line()), Ok(request));
        }
        assert_eq!(
            Request::parse(r#"{"command":"events"}"#),
            Ok(Request::Events { follow: false })
        );
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for line in [
            "",
            "status",
            "[]",
            r#"{"command":"reboot"}"#,
            r#"{"command":"mode"}"#,
            r#"{"command":"mode","mode":"fast"}"#,
            r#"{"command":"status","version":2}"#,
            r#"{"command":"status","verbose":true}"#,
        ] {
            assert!(Request::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn answers_survive_their_line() {
        let answer: Answer = Ok(json!({"state": "connected"}));
        assert_eq!(parse_answer(&answer_line(&answer)), answer);
        let refusal: Answer = Err(Error::user("no such WAN", "sennit wan lists them"));
        assert_eq!(parse_answer(&answer_line(&refusal)), refusal);
        assert!(parse_answer("{}").is_err());
    }
}
