//! No contestant at all: each flow goes over one WAN, forwarded by the kernel.

use super::{Started, translate};
use crate::Result;
use crate::scenario::Scenario;
use crate::topology::{SERVER, Topology, wan_interface};
use crate::traffic::Reach;

pub(super) fn start(topology: &Topology, scenario: &Scenario) -> Result<Started> {
    if scenario.uses_lan() {
        translate(topology, "wan*", "masquerade")?;
    }
    let reaches = (0..scenario.links.len()).map(|wan| {
        let name = wan_interface(wan);
        Reach::new(name.clone(), SERVER.into(), Some(name))
    });
    Ok(Started {
        reaches: reaches.collect(),
        processes: Vec::new(),
        tunnel: None,
        controls: Vec::new(),
        folder: None,
    })
}
