//! Tries the bond of a router that is up: two of its network cards are WANs to a server outside, and while a TCP
//! connection through the bond sends, the card that carries most of it loses its link.
//!
//! Everything outside lies in a network namespace of its own: no packet leaves this machine, and nothing is left of it.
//!
//! | file | does |
//! | --- | --- |
//! | `outside` | the namespace with both WANs, and the server in it |
//! | `lease` | gives the router its addresses on the WANs |
//! | `transfer` | the connection, what arrives of it, and how long nothing did |
//! | `monitor` | QEMU's control socket, which unplugs cards |

mod lease;
mod monitor;
mod outside;
mod transfer;

use std::time::{Duration, Instant};

use camino::Utf8Path;
use serde::Serialize;

pub(super) use self::outside::{Outside, WANS};

use self::monitor::Monitor;
use self::outside::Wan;
use self::transfer::Transfer;
use super::Router;
use crate::error::Exit;
use crate::report::Report;
use crate::{Error, Result};

/// How long a connection may stand still when a WAN goes.
const LONGEST_STALL: Duration = Duration::from_secs(3);
/// How long the transfer is watched after each event.
const WATCH: Duration = Duration::from_secs(8);
/// For everything that an emulated machine on a busy computer needs moments for.
const PATIENCE: Duration = Duration::from_secs(120);
/// The port at which the source of the transfer listens.
const PORT: u16 = 7007;
/// What the router must have sent on each WAN before one is cut, and on that one when it is back, in bytes.
const CARRIED: u64 = 256 << 10;
/// What must have come back before.
const RECEIVED: u64 = 2 << 20;
/// What a card that is unplugged may still have under way, in bytes.
const UNDER_WAY: u64 = 64 << 10;

/// What was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Bonded {
    /// The router's WANs by the names that it gives them.
    pub wans: Vec<String>,
    /// The share of what the router sent before the cut that each WAN carried, in the same order.
    pub shares: Vec<f64>,
    /// The WAN whose card was unplugged.
    pub cut: String,
    /// Bytes that came back before the cut, all as they were sent.
    pub bytes_before: u64,
    /// The same after it, while one WAN was left.
    pub bytes_after: u64,
    /// The longest time after the cut in which nothing arrived, in seconds.
    pub stall: f64,
    /// From plugging the card in again to its carrying the transfer too, in seconds.
    pub back: f64,
}

/// An error, at once, for those who may not try a bond.
pub fn allowed() -> Result<()> {
    outside::allowed()
}

/// Joins the router to the server, starts the transfer, cuts a WAN, and judges.
pub(super) async fn attempt(
    router: &mut Router,
    outside: &mut Outside,
    control: &Utf8Path,
    report: &Report,
) -> Result<Bonded> {
    let spinner = report.spinner("Joining the server over both WANs");
    let key = router.ask("p key \"$(sennit pubkey)\"", PATIENCE).await?;
    let key = key.value("key").unwrap_or_default();
    let server_key = outside.start_server(&key)?;
    let answer = router.ask(&joining(&server_key), PATIENCE).await?;
    let wans: Vec<String> = WANS.iter().filter_map(|wan| answer.value(wan.name)).collect();
    if wans.iter().any(String::is_empty) {
        return Err(failed("it does not have the network cards that it was given"));
    }
    router.beside(outside.wait_active(WANS.len(), PATIENCE)).await?;
    drop(spinner);
    report.done(format!("{} and {} are active", wans[0], wans[1]));

    let spinner = report.spinner("A transfer over both WANs");
    let listener = outside.listen(PORT)?;
    router.ask(&echo(), PATIENCE).await?;
    let transfer = router.beside(Transfer::accept(&listener, PATIENCE)).await?;
    let start = outside.carried()?;
    let shares = router.beside(both_carry(outside, &transfer, &start)).await?;
    let cut = usize::from(shares[1] > shares[0]);
    drop(spinner);

    let spinner = report.spinner(format!("{} loses its link", wans[cut]));
    let mut monitor = Monitor::connect(control).await?;
    let bytes_before = transfer.received();
    monitor.set_link(WANS[cut].name, false).await?;
    transfer.forget_gaps();
    let before = outside.carried()?[cut];
    router.beside(tokio::time::sleep(WATCH)).await;
    let stall = transfer.longest_gap();
    let bytes_after = transfer.received() - bytes_before;
    transfer.check()?;
    drop(spinner);
    let carried = outside.carried()?[cut] - before;
    if carried > UNDER_WAY {
        return Err(Error::bug(format!("an unplugged card sent {carried} bytes")));
    }
    if stall > LONGEST_STALL || bytes_after == 0 {
        return Err(failed(format!(
            "the transfer stood still for {:.1} s when {} lost its link",
            stall.as_secs_f64(),
            wans[cut]
        )));
    }
    report.done(format!(
        "{} lost its link; the transfer went on after {:.2} s at most",
        wans[cut],
        stall.as_secs_f64()
    ));

    let spinner = report.spinner(format!("{} comes back", wans[cut]));
    let plugged = Instant::now();
    monitor.set_link(WANS[cut].name, true).await?;
    router
        .beside(async {
            while outside.carried()?[cut] < before + carried + CARRIED {
                transfer.check()?;
                if plugged.elapsed() > PATIENCE {
                    return Err(failed(format!("it does not use {} again", wans[cut])));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        })
        .await?;
    let back = plugged.elapsed();
    drop(spinner);
    Ok(Bonded {
        cut: wans[cut].clone(),
        wans,
        shares,
        bytes_before,
        bytes_after,
        stall: stall.as_secs_f64(),
        back: back.as_secs_f64(),
    })
}

/// Waits until both WANs have carried enough of the transfer; their shares.
async fn both_carry(outside: &Outside, transfer: &Transfer, start: &[u64]) -> Result<Vec<f64>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        transfer.check()?;
        let carried: Vec<u64> = outside
            .carried()?
            .iter()
            .zip(start)
            .map(|(now, before)| now.saturating_sub(*before))
            .collect();
        let all: u64 = carried.iter().sum();
        if carried.iter().all(|bytes| *bytes >= CARRIED) && transfer.received() >= RECEIVED {
            return Ok(carried.iter().map(|bytes| *bytes as f64 / all as f64).collect());
        }
        if Instant::now() > deadline {
            return Err(failed(format!(
                "the transfer does not use both WANs: they carried {carried:?} bytes, and {} came back",
                transfer.received()
            )));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What the user of a router types: its uplinks, its server, and that all of it holds from now on. The second uplink of
/// a router that knows only one (or none) is made as the first boot makes them.
fn joining(server_key: &str) -> String {
    let mut script = String::from(
        "card() {\nfor c in /sys/class/net/*; do\n[ -e $c/device ] || continue\n\
         [ \"$(cat $c/address)\" = $1 ] && echo ${c##*/}\ndone\n}\n\
         wan() {\nuci set network.$1=interface\nuci set network.$1.proto=dhcp\n\
         uci set network.$1.device=$2\nuci set network.$1.metric=$3\np $1 $2\n}\n",
    );
    for (number, Wan { name, mac, .. }) in WANS.iter().enumerate() {
        script += &format!("wan {name} \"$(card {mac})\" {}\n", (number + 1) * 10);
    }
    script += &format!(
        "uci commit network\nuci set sennit.main.server_address={}\n\
         k={server_key}\nuci set sennit.main.server_public_key=$k\nuci commit sennit\nreload_config\n",
        outside::SERVER
    );
    script
}

/// Sends everything back that the source sends, so that both directions are tried by one connection.
fn echo() -> String {
    format!(
        "mkfifo /tmp/echo\n(nc {} {PORT} </tmp/echo | cat >/tmp/echo) >/dev/null 2>&1 &\n",
        outside::INNER
    )
}

fn failed(reason: impl std::fmt::Display) -> Error {
    Error::new(Exit::BootFailed, format!("the router does not bond: {reason}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_typed_fits_a_terminal() {
        let key = "A".repeat(44);
        for line in (super::joining(&key) + &super::echo()).lines() {
            assert!(line.len() < 76, "{line}");
        }
    }
}
