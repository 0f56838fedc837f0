//! Who has a UDP port: what `/proc` tells, for an error message.

use std::fs;
use std::path::Path;

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
