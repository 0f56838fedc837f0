//! Port mappings that hosts of the LAN asked this router for by UPnP IGD, NAT-PMP or PCP, as miniupnpd lists them in its
//! lease file. Only read: miniupnpd speaks with the hosts.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use crate::config::{Forward, Protocol};

/// Mappings that are passed on: as many as fit one message.
pub const MOST: usize = 75;

/// The lease file, and what was in it last.
#[derive(Debug, Default)]
pub struct Leases {
    read: Option<(SystemTime, u64)>,
    forwards: BTreeSet<Forward>,
}

impl Leases {
    /// Reads the file if it is another one than last time; true if what it says has changed. No file: no mappings.
    pub fn look(&mut self, file: &Path) -> bool {
        let stamp = std::fs::metadata(file)
            .and_then(|metadata| Ok((metadata.modified()?, metadata.len())))
            .ok();
        // A second change within the clock's resolution could hide behind the first one.
        let settled = |stamp: &(SystemTime, u64)| stamp.0.elapsed().is_ok_and(|age| age.as_secs() >= 2);
        if stamp == self.read && stamp.as_ref().is_none_or(settled) {
            return false;
        }
        self.read = stamp;
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let forwards = text.lines().filter_map(lease).collect();
        std::mem::replace(&mut self.forwards, forwards) != self.forwards
    }

    /// The outer ports, each as a forward of its own.
    pub fn forwards(&self) -> &BTreeSet<Forward> {
        &self.forwards
    }
}

/// One line: `PROTOCOL:OUTER PORT:ADDRESS:PORT:UNTIL:DESCRIPTION`.
fn lease(line: &str) -> Option<Forward> {
    let mut fields = line.split(':');
    let protocol = match fields.next()? {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        _ => return None,
    };
    let port = fields.next()?.parse().ok().filter(|port| *port != 0)?;
    // Here the port stays what it is: miniupnpd itself leads it on to the host.
    Some(Forward {
        protocol,
        first: port,
        last: port,
        to: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_ports_are_read_and_changes_noticed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut leases = Leases::default();
        assert!(!leases.look(Path::new("/nonexistent/leases")));
        std::fs::write(
            file.path(),
            "TCP:8080:192.168.7.2:80:1763800000:a web site: mine\nUDP:5000:192.168.7.3:5000:0:\nnonsense\nTCP:0:1:1:0:\n",
        )
        .unwrap();
        assert!(leases.look(file.path()));
        let forwards: Vec<String> = leases.forwards().iter().map(ToString::to_string).collect();
        assert_eq!(forwards, ["tcp/8080", "udp/5000"]);
        assert!(!leases.look(file.path()), "nothing has changed");
        std::fs::write(file.path(), "UDP:5000:192.168.7.3:5000:0:\n").unwrap();
        assert!(leases.look(file.path()));
        assert_eq!(leases.forwards().len(), 1);
        drop(file.close());
        assert!(leases.look(Path::new("/nonexistent/leases")));
        assert!(leases.forwards().is_empty());
    }
}
