//! `sennit log`: what happened, oldest first.

use serde_json::Value;

use super::Daemon;
use super::printer::show;
use crate::Result;
use crate::control::Request;

pub(super) fn run(daemon: &Daemon, follow: bool, json: bool) -> Result<()> {
    let mut caller = daemon.call()?;
    let print = |event: &Value| show(&if json { event.to_string() } else { line(event) });
    if follow {
        for event in caller.follow()? {
            print(&event);
        }
    } else {
        let events = caller.ask(&Request::Events { follow: false })?;
        events.as_array().into_iter().flatten().for_each(print);
    }
    Ok(())
}

/// `2026-11-21 10:00:00Z path wan=eth1 state=active why="…"`.
fn line(event: &Value) -> String {
    let mut text = time(event["time"].as_u64().unwrap_or(0) / 1000);
    text.push(' ');
    text.push_str(event["event"].as_str().unwrap_or("?"));
    for (key, value) in event.as_object().into_iter().flatten() {
        if key != "time" && key != "event" {
            text.push_str(&format!(" {key}={}", plain(value)));
        }
    }
    text
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if !text.contains(' ') => text.clone(),
        value => value.to_string(),
    }
}

/// A time of the wall clock, seconds since 1970, as UTC.
fn time(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years are counted from March, so that the leap day is a year's last (days of the civil calendar).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01 00:00:00Z");
        assert_eq!(time(951_782_400), "2000-02-29 00:00:00Z");
        assert_eq!(time(1_795_255_199), "2026-11-21 09:59:59Z");
    }

    #[test]
    fn an_event_is_one_line() {
        let event = json!({"time": 0, "event": "path", "wan": "eth1", "why": "two words"});
        assert_eq!(
            line(&event),
            "1970-01-01 00:00:00Z path wan=eth1 why=\"two words\""
        );
    }
}
