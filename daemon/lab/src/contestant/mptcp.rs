//! The kernel's own bond: multipath TCP between the client's host and the server, a subflow over every WAN.
//!
//! It carries TCP only, and only between two hosts that both speak it: no datagrams, no QUIC, nothing of a LAN behind.

use super::Started;
use crate::scenario::Scenario;
use crate::topology::{SERVER, Topology, wan_interface};
use crate::traffic::Reach;
use crate::{Error, Result};

/// Subflows beside the first that a connection may have: the most that the kernel allows.
const SUBFLOWS: u32 = 8;

pub(super) fn start(topology: &Topology, scenario: &Scenario) -> Result<Started> {
    for host in [&topology.client, &topology.server] {
        let limit = SUBFLOWS.to_string();
        host.output("ip", &["mptcp", "limits", "set", "subflows", &limit])
            .map_err(|error| Error::environment(error.to_string(), "use a kernel with CONFIG_MPTCP"))?;
    }
    for wan in 0..scenario.links.len() {
        let (address, device) = (format!("10.71.{wan}.2"), wan_interface(wan));
        topology.client.output(
            "ip",
            &["mptcp", "endpoint", "add", &address, "dev", &device, "subflow"],
        )?;
    }
    let reach = Reach {
        multipath: true,
        ..Reach::new("mptcp", SERVER.into(), None)
    };
    Ok(Started {
        reaches: vec![reach],
        processes: Vec::new(),
        tunnel: None,
        controls: Vec::new(),
        folder: None,
    })
}
