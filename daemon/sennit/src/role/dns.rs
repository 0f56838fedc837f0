//! Asks name servers by the WANs themselves. While the tunnel is down, the system's own resolver cannot be reached: its
//! questions go into the tunnel. Ours carry the tunnel's mark and leave by each WAN.
//!
//! An answer is not proved to be true; it only says where to knock, and the server then has to prove who it is.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::udp::MARK;

/// Where the name servers that the WANs told are written: on OpenWrt, under systemd, everywhere else.
const FILES: [&str; 3] = [
    "/tmp/resolv.conf.d/resolv.conf.auto",
    "/run/systemd/resolve/resolv.conf",
    "/etc/resolv.conf",
];
const PORT: u16 = 53;
/// How long an answer may take; a question that was lost is asked again by the next attempt.
const PATIENCE: Duration = Duration::from_secs(3);
/// Once there is an address, how long the other IP version's may take.
const OTHER_VERSION: Duration = Duration::from_millis(300);

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const HEADER: usize = 12;

/// The addresses of `host`, asked of every known name server by every device; empty if none answers.
pub(super) async fn resolve(host: &str, devices: &[String]) -> Vec<IpAddr> {
    let mut questions = JoinSet::new();
    for server in name_servers() {
        for device in devices {
            for kind in [TYPE_A, TYPE_AAAA] {
                let (host, device) = (host.to_owned(), device.clone());
                questions.spawn(async move { ask(&host, kind, server, &device).await.unwrap_or_default() });
            }
        }
    }
    let mut found: Vec<IpAddr> = Vec::new();
    let mut patience = PATIENCE;
    while let Ok(Some(answer)) = tokio::time::timeout(patience, questions.join_next()).await {
        for address in answer.unwrap_or_default() {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        if !found.is_empty() {
            patience = OTHER_VERSION;
        }
    }
    found
}

fn name_servers() -> Vec<IpAddr> {
    let mut found = Vec::new();
    for file in FILES {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        for server in parse_name_servers(&text) {
            if !found.contains(&server) {
                found.push(server);
            }
        }
    }
    found
}

/// Those of a `resolv.conf` that can be asked by a WAN: not a resolver on this machine.
fn parse_name_servers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok())
        .filter(|address: &IpAddr| !address.is_loopback() && !address.is_unspecified())
}

async fn ask(host: &str, kind: u16, server: IpAddr, device: &str) -> io::Result<Vec<IpAddr>> {
    let remote = SocketAddr::new(server, PORT);
    let socket = Socket::new(Domain::for_address(remote), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_mark(MARK)?;
    socket.bind_device(Some(device.as_bytes()))?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.connect(remote).await?;
    let mut id = [0; 2];
    crate::key::random(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    let id = u16::from_be_bytes(id);
    socket.send(&question(id, host, kind)).await?;
    let mut answer = [0; 1500];
    loop {
        let length = socket.recv(&mut answer).await?;
        if let Some(addresses) = parse_answer(&answer[..length], id) {
            return Ok(addresses);
        }
    }
}

/// A question for one type of record.
fn question(id: u16, host: &str, kind: u16) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + host.len() + 6);
    message.extend_from_slice(&id.to_be_bytes());
    // Recursion is wanted; one question.
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in host.trim_end_matches('.').split('.') {
        // A label has at most 63 bytes; what is longer is no name, and no server knows it.
        message.push(label.len().min(63) as u8);
        message.extend_from_slice(&label.as_bytes()[..label.len().min(63)]);
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

/// The addresses in the answer to question `id`; `None` if this is not that answer.
fn parse_answer(message: &[u8], id: u16) -> Option<Vec<IpAddr>> {
    let word = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let is_answer = message.get(2)? & 0x80 != 0;
    if word(0)? != id || !is_answer {
        return None;
    }
    let (questions, answers) = (word(4)?, word(6)?);
    let mut at = HEADER;
    for _ in 0..questions {
        at = after_name(message, at)? + 4;
    }
    let mut addresses = Vec::new();
    for _ in 0..answers {
        let fixed = after_name(message, at)?;
        let length = usize::from(word(fixed + 8)?);
        let data = message.get(fixed + 10..fixed + 10 + length)?;
        let address: Option<IpAddr> = match word(fixed)? {
            TYPE_A => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
            TYPE_AAAA => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
            _ => None,
        };
        addresses.extend(address);
        at = fixed + 10 + length;
    }
    Some(addresses)
}

/// Where the name that begins at `at` ends: with a zero, or with a pointer to the rest of it.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer of a real name server: an alias and an address, names compressed.
    fn answer(id: u16) -> Vec<u8> {
        let mut message = question(id, "www.host.example", TYPE_A);
        message[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 2]);
        message.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 16]);
        message.extend_from_slice(&[0xc0, 16, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 5]);
        message
    }

    #[test]
    fn an_answer_gives_its_addresses() {
        let expected: IpAddr = "203.0.113.5".parse().unwrap();
        assert_eq!(parse_answer(&answer(7), 7), Some(vec![expected]));
        assert_eq!(parse_answer(&answer(7), 8), None);
        assert_eq!(parse_answer(&question(7, "host.example", TYPE_A), 7), None);
    }

    #[test]
    fn whatever_arrives_is_read_without_panic() {
        let whole = answer(7);
        for length in 0..whole.len() {
            assert_eq!(parse_answer(&whole[..length], 7), None);
            for value in [0, 1, 0x3f, 0xc0, 0xff] {
                let mut changed = whole.clone();
                changed[length] = value;
                let _ = parse_answer(&changed, 7);
            }
        }
    }

    #[test]
    fn name_servers_on_this_machine_are_passed_over() {
        let text = "# x\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n nameserver 2001:db8::53\nsearch lan\nnameserver ::1\n";
        let found: Vec<String> = parse_name_servers(text)
            .map(|address| address.to_string())
            .collect();
        assert_eq!(found, ["192.0.2.53", "2001:db8::53"]);
    }
}
