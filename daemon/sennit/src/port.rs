//! Which ports this machine's programs have, and who has one: what `/proc` tells.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::config::Protocol;

/// Ports at which some program waits for what comes from outside: TCP sockets that listen, UDP sockets that hear everybody.
pub fn waiting() -> BTreeSet<(Protocol, u16)> {
    const TCP_LISTEN: &str = "0A";
    const UDP_UNCONNECTED: &str = "07";
    let mut ports = BTreeSet::new();
    for (file, protocol, state) in [
        ("/proc/net/tcp", Protocol::Tcp, TCP_LISTEN),
        ("/proc/net/tcp6", Protocol::Tcp, TCP_LISTEN),
        ("/proc/net/udp", Protocol::Udp, UDP_UNCONNECTED),
        ("/proc/net/udp6", Protocol::Udp, UDP_UNCONNECTED),
    ] {
        // A kernel without IPv6 lacks two of them.
        let table = fs::read_to_string(file).unwrap_or_default();
        ports.extend(waiting_in(&table, state).map(|port| (protocol, port)));
    }
    ports
}

/// Out of a table like `/proc/net/udp`: local address in the second column, state in the fourth. What waits on the
/// loopback interface is not reached from outside.
fn waiting_in<'a>(table: &'a str, state: &'a str) -> impl Iterator<Item = u16> + 'a {
    table.lines().skip(1).filter_map(move |line| {
        let mut columns = line.split_ascii_whitespace();
        let local = columns.nth(1)?;
        let is_waiting = columns.nth(1)? == state;
        let (address, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (is_waiting && port != 0 && !address_of(address)?.is_loopback()).then_some(port)
    })
}

/// Words of 32 bits, each as this machine would print the number that its bytes are.
fn address_of(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for start in (0..text.len()).step_by(8) {
        let word = u32::from_str_radix(text.get(start..start + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes)
            .ok()
            .map(Ipv4Addr::from)
            .map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes)
            .ok()
            .map(Ipv6Addr::from)
            .map(|address| address.to_canonical()),
        _ => None,
    }
}

/// The program that has a UDP port, as "name (process 123)"; `None` if `/proc` does not tell.
pub fn holder(port: u16) -> Option<String> {
    let inode = ["/proc/net/udp6", "/proc/net/udp"]
        .into_iter()
        .find_map(|table| inode(&fs::read_to_string(table).ok()?, port))?;
    let link = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(id) = name
            .to_str()
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let mut targets = descriptors
            .flatten()
            .filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        if targets.any(|target| target == Path::new(&link)) {
            let program = fs::read_to_string(process.path().join("comm")).ok()?;
            return Some(format!("{} (process {id})", program.trim()));
        }
    }
    None
}

/// The inode of the socket in a table like `/proc/net/udp`: local address in the second column, inode in the tenth.
fn inode(table: &str, port: u16) -> Option<String> {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let local = columns.nth(1)?;
        local
            .ends_with(&suffix)
            .then(|| columns.nth(7))
            .flatten()
            .map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_outsiders_could_reach_are_found() {
        let far = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let near = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let six = std::net::TcpListener::bind("[::]:0").unwrap();
        let found = waiting();
        let has = |protocol, address: std::net::SocketAddr| found.contains(&(protocol, address.port()));
        assert!(has(Protocol::Udp, far.local_addr().unwrap()));
        assert!(!has(Protocol::Udp, near.local_addr().unwrap()));
        assert!(has(Protocol::Tcp, six.local_addr().unwrap()));
        far.connect("127.0.0.1:9").unwrap();
        assert!(!waiting().contains(&(Protocol::Udp, far.local_addr().unwrap().port())));
    }

    #[test]
    fn a_port_of_this_process_is_found() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let holder = holder(port).unwrap();
        assert!(
            holder.ends_with(&format!("(process {})", std::process::id())),
            "{holder}"
        );
        drop(socket);
        assert_eq!(inode("header\n", port), None);
    }
}
