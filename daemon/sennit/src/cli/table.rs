//! The state as text for people.

use serde_json::Value;

use super::not_understood;
use crate::{Error, Result};

/// The whole state.
pub(super) fn status(status: &Value) -> Result<String> {
    match status["role"].as_str() {
        Some("client") => client(status),
        Some("server") => server(status),
        _ => Err(not_understood()),
    }
}

/// The table of WANs, or of the one of that name.
pub(super) fn wans(status: &Value, only: Option<&str>) -> Result<String> {
    let wans = status["wans"].as_array().ok_or_else(|| {
        Error::user(
            "this is a server: WANs belong to its clients",
            "run the command on the client",
        )
    })?;
    let mut rows = vec![
        ["WAN", "priority", "state", "RTT", "loss", "up", "down", "why"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for wan in wans
        .iter()
        .filter(|wan| only.is_none_or(|only| wan["name"] == only))
    {
        rows.extend(wan_rows(wan));
    }
    if let (Some(only), 1) = (only, rows.len()) {
        return Err(Error::user(
            format!("there is no WAN {only:?}"),
            "sennit wan lists them",
        ));
    }
    Ok(aligned(&rows))
}

fn client(status: &Value) -> Result<String> {
    let active = |wan: &&Value| paths(wan).any(|path| path["state"] == "active");
    let wans_found = status["wans"].as_array().map(Vec::as_slice).unwrap_or_default();
    let in_use = wans_found.iter().filter(active).count();
    let state = match text(status, "state") {
        "connected" => format!("connected over {in_use} of {} WANs", wans_found.len()),
        "connecting" => "the server does not answer yet".to_owned(),
        "no_wan" => "no WAN can be used".to_owned(),
        "no_server" => "no server is joined".to_owned(),
        other => other.to_owned(),
    };
    let up = total(wans_found.iter().flat_map(paths), "throughput_up");
    let down = total(wans_found.iter().flat_map(paths), "throughput_down");
    Ok(format!(
        "client: {state}, mode {}{}, running for {}\n{}: {} up, {} down; addresses {}; server {}\n\n{}",
        text(status, "mode"),
        if status["cipher"] == "none" {
            ", not encrypted"
        } else {
            ""
        },
        duration(status["uptime_s"].as_u64().unwrap_or(0)),
        text(status, "interface"),
        rate(Some(up)),
        rate(Some(down)),
        list(&status["addresses"]),
        status["server"].as_str().unwrap_or("not known"),
        wans(status, None)?
    ))
}

fn server(status: &Value) -> Result<String> {
    let clients = status["clients"].as_array().ok_or_else(not_understood)?;
    let connected = clients
        .iter()
        .filter(|client| client["connected"] == true)
        .count();
    let mut rows = vec![
        ["client", "state", "paths", "RTT", "up", "down", "addresses"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for client in clients {
        let active = paths(client).filter(|path| path["state"] == "active").count();
        let fastest = paths(client)
            .filter_map(|path| path["rtt_ms"].as_f64())
            .min_by(f64::total_cmp);
        rows.push(vec![
            text(client, "name").to_owned(),
            if client["connected"] == true {
                "connected"
            } else {
                "away"
            }
            .to_owned(),
            format!("{active} of {}", paths(client).count()),
            milliseconds(fastest),
            rate(Some(total(paths(client), "throughput_up"))),
            rate(Some(total(paths(client), "throughput_down"))),
            list(&client["addresses"]),
        ]);
    }
    Ok(format!(
        "server: {connected} of {} clients connected, running for {}\n{}: addresses {}; listening on {}\n\n{}",
        clients.len(),
        duration(status["uptime_s"].as_u64().unwrap_or(0)),
        text(status, "interface"),
        list(&status["addresses"]),
        list(&status["listen"]),
        aligned(&rows)
    ))
}

fn wan_rows(wan: &Value) -> Vec<Vec<String>> {
    let row = |path: Option<&Value>| {
        let value = |key: &str| path.and_then(|path| path[key].as_f64());
        vec![
            text(wan, "name").to_owned(),
            text(wan, "priority").to_owned(),
            path.map_or("out", |path| text(path, "state")).to_owned(),
            milliseconds(value("rtt_ms")),
            value("loss_up").map_or_else(|| "-".to_owned(), |loss| format!("{:.1} %", loss * 100.0)),
            rate(value("throughput_up")),
            rate(value("throughput_down")),
            path.filter(|_| wan["paths"].as_array().is_some_and(|paths| paths.len() > 1))
                .map_or_else(|| text(wan, "why"), |path| text(path, "why"))
                .to_owned(),
        ]
    };
    let mut rows: Vec<_> = paths(wan).map(|path| row(Some(path))).collect();
    if rows.is_empty() {
        rows.push(row(None));
    }
    rows
}

fn paths(of: &Value) -> impl Iterator<Item = &Value> {
    of["paths"].as_array().into_iter().flatten()
}

/// The sum of a number over paths. (An empty `sum` of floating-point numbers is -0.)
fn total<'a>(paths: impl Iterator<Item = &'a Value>, key: &str) -> f64 {
    paths
        .filter_map(|path| path[key].as_f64())
        .fold(0.0, |total, value| total + value)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("-")
}

fn list(value: &Value) -> String {
    let items: Vec<&str> = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if items.is_empty() {
        "none yet".to_owned()
    } else {
        items.join(", ")
    }
}

fn milliseconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} ms"))
}

fn rate(bits: Option<f64>) -> String {
    match bits {
        None => "-".to_owned(),
        Some(bits) if bits < 1e3 => format!("{bits:.0} bit/s"),
        Some(bits) if bits < 1e6 => format!("{:.0} kbit/s", bits / 1e3),
        Some(bits) if bits < 1e9 => format!("{:.1} Mbit/s", bits / 1e6),
        Some(bits) => format!("{:.2} Gbit/s", bits / 1e9),
    }
}

fn duration(seconds: u64) -> String {
    match (
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    ) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, _, _) => format!("{days} d {hours} h"),
    }
}

/// Columns as wide as their widest cell, two spaces apart.
pub(super) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_client_shows_one_sentence_and_a_row_for_each_path() {
        let value = json!({
            "version": 1, "role": "client", "state": "connected", "mode": "speed", "interface": "sennit0",
            "addresses": ["10.73.0.2/24"], "server": "203.0.113.5:7300", "uptime_s": 3723,
            "wans": [
                {"name": "eth1", "device": "eth1", "priority": "primary", "why": "carries data", "paths": [
                    {"id": 0, "state": "active", "rtt_ms": 21.34, "loss_up": 0.001, "throughput_up": 1.25e6,
                     "throughput_down": 4.8e7, "why": "carries data"}]},
                {"name": "wwan0", "device": "wwan0", "priority": "backup", "why": "no carrier", "paths": []},
            ],
        });
        assert_eq!(
            status(&value).unwrap(),
            "client: connected over 1 of 2 WANs, mode speed, running for 1 h 2 min\n\
             sennit0: 1.2 Mbit/s up, 48.0 Mbit/s down; addresses 10.73.0.2/24; server 203.0.113.5:7300\n\
             \n\
             WAN    priority  state   RTT      loss   up          down         why\n\
             eth1   primary   active  21.3 ms  0.1 %  1.2 Mbit/s  48.0 Mbit/s  carries data\n\
             wwan0  backup    out     -        -      -           -            no carrier\n"
        );
        assert!(wans(&value, Some("eth9")).is_err());
    }

    #[test]
    fn a_server_shows_its_clients() {
        let value = json!({
            "version": 1, "role": "server", "state": "running", "interface": "sennit0", "uptime_s": 5,
            "addresses": ["10.73.0.1/24"], "listen": ["[::]:7300"],
            "clients": [{"name": "boat", "connected": false, "addresses": ["10.73.0.2"], "paths": []}],
        });
        assert_eq!(
            status(&value).unwrap(),
            "server: 0 of 1 clients connected, running for 5 s\n\
             sennit0: addresses 10.73.0.1/24; listening on [::]:7300\n\
             \n\
             client  state  paths   RTT  up       down     addresses\n\
             boat    away   0 of 0  -    0 bit/s  0 bit/s  10.73.0.2\n"
        );
    }

    #[test]
    fn what_is_no_status_is_refused() {
        assert!(status(&json!({})).is_err());
        assert!(status(&json!([1])).is_err());
    }
}
