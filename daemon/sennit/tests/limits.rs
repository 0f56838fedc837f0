//! What a client may use: its limits in both directions, changed while it is connected, and its quota of a month, which
//! outlives the server's process.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::time::{Duration, Instant};

use common::bond::{Bond, INTERNET};
use common::transfer::{Direction, Transfer};
use common::{Running, wait};
use rustix::process::Signal;
use serde_json::Value;

/// Long enough to average over a flow's ups and downs.
const SPAN: Duration = Duration::from_secs(4);
/// What a transfer carries of what a limit counts: payload of full packets.
const PAYLOAD: f64 = 1448.0 / 1500.0;

/// Writes the configurations, with these lines at the server's client.
fn configure(bond: &Bond, server_lines: &str, lines_of_client: &str) {
    bond.configure_both(common::bond::SERVER, "lan = [\"lan\"]", server_lines);
    let file = bond.server_home.path("sennit.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}{lines_of_client}\n")).unwrap();
}

fn start(bond: &Bond) -> (Running, Running) {
    let both = (bond.start_client(), bond.start_server());
    bond.wait_paths(2);
    both
}

/// Megabits of payload per second over [`SPAN`].
fn rate(transfer: &Transfer) -> f64 {
    let (start, before) = (Instant::now(), transfer.received());
    std::thread::sleep(SPAN);
    (transfer.received() - before) as f64 * 8.0 / 1e6 / start.elapsed().as_secs_f64()
}

/// The transfer comes within 5 % of a limit, which may take its sender some time, and is never above. Returns its rate.
fn settles(transfer: &Transfer, limit: f64) -> f64 {
    let wanted = limit * PAYLOAD;
    let mut found = 0.0;
    for _ in 0..4 {
        found = rate(transfer);
        assert!(found < wanted * 1.05, "{found} Mbit/s of {wanted}");
        if found > wanted * 0.95 {
            return found;
        }
    }
    panic!("{found} Mbit/s of {wanted}");
}

/// The server's words on its only client.
fn client(bond: &Bond) -> Value {
    bond.server_home.status()["clients"][0].clone()
}

/// The mean round trip of pings from the LAN host, milliseconds.
fn ping(bond: &Bond) -> f64 {
    let said = bond.host.run(&format!("ping -q -c 20 -i 0.1 {INTERNET}"));
    let times = said.split("= ").nth(1).unwrap();
    times.split('/').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_client_gets_its_limits_and_others_when_they_change() {
    let Some(bond) = Bond::new() else { return };
    configure(&bond, "", "limit_down = \"20 Mbit/s\"\nlimit_up = \"8 Mbit/s\"");
    let (_client, server) = start(&bond);
    let idle = ping(&bond);
    let down = Transfer::open(&bond, INTERNET, Direction::Down, Duration::ZERO);
    let up = Transfer::open(&bond, INTERNET, Direction::Up, Duration::ZERO);
    std::thread::sleep(Duration::from_secs(2));
    let (downs, ups) = std::thread::scope(|scope| {
        let ups = scope.spawn(|| rate(&up));
        (settles(&down, 20.0), ups.join().unwrap())
    });
    let loaded = ping(&bond);
    eprintln!("{downs:.2} of 20 down, {ups:.2} of 8 up; ping {idle:.1} ms idle, {loaded:.1} ms meanwhile");
    // Acknowledgements of the other direction are counted, too.
    assert!((8.0 * 0.85..8.0 * 1.05).contains(&ups), "{ups} Mbit/s of 8");
    assert!(
        loaded < idle + 15.0,
        "a ping takes {loaded} ms beside full transfers, {idle} ms alone"
    );

    configure(&bond, "", "limit_down = \"5 Mbit/s\"");
    server.signal(Signal::HUP);
    wait("the new limits count", || {
        client(&bond)["limit_down"] == 5_000_000
    });
    up.finish();
    std::thread::sleep(Duration::from_secs(2));
    let downs = settles(&down, 5.0);
    let up = Transfer::open(&bond, INTERNET, Direction::Up, Duration::ZERO);
    let ups = rate(&up);
    eprintln!("{downs:.2} of 5 down, {ups:.0} up without a limit");
    assert!(ups > 20.0, "{ups} Mbit/s without a limit");
    let log = server.whole_log();
    assert_eq!(log.matches(" connected").count(), 1, "nobody noticed:\n{log}");
}

#[test]
fn a_client_that_has_used_up_its_quota_is_slowed_down_and_stays_so() {
    let Some(bond) = Bond::new() else { return };
    configure(
        &bond,
        "quota_rate = \"2 Mbit/s\"",
        "limit_down = \"100 Mbit/s\"\nquota = \"30 MB\"",
    );
    let (_client, mut server) = start(&bond);
    let down = Transfer::open(&bond, INTERNET, Direction::Down, Duration::ZERO);
    down.reaches(30_000_000, Instant::now() + Duration::from_secs(20));
    server.wait_for("used up its quota");
    // A sender that was fifty times as fast has to find out.
    std::thread::sleep(Duration::from_secs(3));
    let slow = rate(&down);
    eprintln!("{slow:.2} of 2 when the quota is used up");
    // What a hole held back arrives at once when it is filled.
    assert!((1.4..2.6).contains(&slow), "{slow} Mbit/s of 2");
    let before = client(&bond);
    assert_eq!(before["slowed"], true, "{before:#}");

    // Counts outlive the process.
    server.signal(Signal::TERM);
    server.wait_end();
    let _server = bond.start_server();
    bond.wait_paths(2);
    wait("the client is slowed again", || client(&bond)["slowed"] == true);
    let (used, before) = (
        client(&bond)["used_down"].as_u64().unwrap(),
        before["used_down"].as_u64().unwrap(),
    );
    assert!(used >= before, "{used} bytes after the restart, {before} before");
}
