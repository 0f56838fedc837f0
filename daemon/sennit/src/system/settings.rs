//! Kernel settings that the tunnel needs: forwarding, and answers that arrive by another interface than the one that
//! the routing rules name.

use std::path::{Path, PathBuf};

use super::Undo;
use crate::Result;
use crate::config::InterfaceName;

const SYSCTL: &str = "/proc/sys/net";
const LOOSE: &str = "2";

/// Sets kernel settings, each remembered in the [`Undo`] list first.
#[derive(Debug)]
pub struct Settings<'a> {
    undo: &'a mut Undo,
}

impl<'a> Settings<'a> {
    /// Settings that `undo` remembers.
    pub fn new(undo: &'a mut Undo) -> Self {
        Self { undo }
    }

    /// This machine forwards packets. `uplinks`: interfaces whose IPv6 routes come by router advertisements, which a
    /// forwarding machine hears only if it is told to.
    pub fn forward(&mut self, uplinks: &[String]) -> Result<()> {
        for uplink in uplinks {
            let accept = of_interface("ipv6", uplink, "accept_ra");
            if std::fs::read_to_string(&accept).is_ok_and(|value| value.trim() == "1") {
                self.undo.set_sysctl(&accept, "2")?;
            }
        }
        self.undo
            .set_sysctl(&Path::new(SYSCTL).join("ipv4/ip_forward"), "1")?;
        self.undo
            .set_sysctl(&Path::new(SYSCTL).join("ipv6/conf/all/forwarding"), "1")
    }

    /// Neighbours on this interface are answered for addresses behind this machine, and at once: nobody else would.
    pub fn answer_neighbours_on(&mut self, uplink: &str) -> Result<()> {
        self.undo
            .set_sysctl(&of_interface("ipv6", uplink, "proxy_ndp"), "1")?;
        let delay = Path::new(SYSCTL)
            .join("ipv6/neigh")
            .join(uplink)
            .join("proxy_delay");
        self.undo.set_sysctl(&delay, "0")
    }

    /// The server's datagrams may arrive on a WAN although packets to the server go into the tunnel: the check of the
    /// return path, where it is on, accepts what any interface could answer.
    pub fn accept_answers_on(&mut self, wan: &str) -> Result<()> {
        let strict = |path: &Path| std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "1");
        let own = of_interface("ipv4", wan, "rp_filter");
        // The kernel takes the larger of the two.
        if strict(&own) || strict(&of_interface("ipv4", "all", "rp_filter")) {
            self.undo.set_sysctl(&own, LOOSE)?;
        }
        Ok(())
    }

    /// The tunnel may deliver a packet late: connection tracking takes it for what it is, instead of letting it pass
    /// without address translation, which the other end answers with a reset.
    pub fn take_late_packets(&mut self) -> Result<()> {
        let liberal = Path::new(SYSCTL).join("netfilter/nf_conntrack_tcp_be_liberal");
        self.undo.set_sysctl(&liberal, "1")
    }

    /// Packets of a LAN port arrive in large pieces that the tunnel can take as they are: the kernel joins the packets
    /// of a flow into one, not into a list.
    pub fn join_packets_on(&mut self, lan: &InterfaceName) -> Result<()> {
        self.undo.set_feature(lan, "rx-gro-list", false)?;
        self.undo.set_feature(lan, "rx-udp-gro-forwarding", true)
    }
}

fn of_interface(version: &str, interface: &str, key: &str) -> PathBuf {
    Path::new(SYSCTL)
        .join(version)
        .join("conf")
        .join(interface)
        .join(key)
}
