//! No contestant at all: each flow goes over one WAN, forwarded by the kernel.

use super::{Started, masquerade};
use crate::Result;
use crate::scenario::Scenario;
use crate::topology::{SERVER, Topology, wan_interface};
use crate::traffic::Reach;

pub(super) fn start(topology: &Topology, scenario: &Scenario) -> Result<Started> {
    if scenario.uses_lan() {
        masquerade(topology, "wan*")?;
    }
    let reaches = (0..scenario.links.len()).map(|wan| Reach {
        name: wan_interface(wan),
        target: SERVER.into(),
        device: Some(wan_interface(wan)),
    });
    Ok(Started {
        reaches: reaches.collect(),
        processes: Vec::new(),
        tunnel: None,
        control: None,
        folder: None,
    })
}
