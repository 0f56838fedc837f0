//! Starts what a scenario sends: through the contestant, and beside it.

use super::Result;
use crate::namespace::Namespace;
use crate::scenario::{self, Bulk, Host, Scenario, Variant};
use crate::topology::{SERVER, Topology};
use crate::traffic::bulk::{self, BulkPlan, BulkReport};
use crate::traffic::flood::{self, FloodPlan, FloodReport};
use crate::traffic::page::{self, Page, PagePlan};
use crate::traffic::probe::{self, ProbePlan, ProbeReport};
use crate::traffic::quic;
use crate::traffic::{Reach, Running, Window};

/// Traffic of one reach (or of a neighbour).
#[derive(Default)]
pub(super) struct Traffic {
    bulks: Vec<Running<BulkReport>>,
    probes: Vec<Running<ProbeReport>>,
    pages: Vec<Running<Vec<Page>>>,
    floods: Vec<Running<FloodReport>>,
}

/// What was seen of it.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) bulks: Vec<BulkReport>,
    pub(crate) probes: Vec<ProbeReport>,
    pub(crate) pages: Vec<Page>,
    pub(crate) floods: Vec<FloodReport>,
}

impl Traffic {
    pub(super) fn finish(self) -> Result<Seen> {
        let bulks: Result<Vec<_>> = self.bulks.into_iter().map(Running::finish).collect();
        let probes: Result<Vec<_>> = self.probes.into_iter().map(Running::finish).collect();
        let pages: Result<Vec<_>> = self.pages.into_iter().map(Running::finish).collect();
        let floods: Result<Vec<_>> = self.floods.into_iter().map(Running::finish).collect();
        Ok(Seen {
            bulks: bulks?,
            probes: probes?,
            pages: pages?.concat(),
            floods: floods?,
        })
    }

    fn add_bulk(
        &mut self,
        from: &Namespace,
        to: &Namespace,
        reach: &Reach,
        bulk: &Bulk,
        variant: &Variant,
        window: Window,
    ) -> Result<()> {
        let plan = BulkPlan {
            way: bulk.way.unwrap_or(variant.way),
            flows: bulk.flows.unwrap_or(variant.flows),
            congestion: bulk
                .congestion
                .clone()
                .unwrap_or_else(|| variant.congestion.clone()),
        };
        let window = Window {
            start: window.start + bulk.start,
            end: window.end,
        };
        let start = if plan.congestion == quic::NAME {
            quic::start
        } else {
            bulk::start
        };
        self.bulks.push(start(from, to, reach.clone(), plan, window)?);
        Ok(())
    }

    fn add_probe(
        &mut self,
        from: &Namespace,
        to: &Namespace,
        reach: &Reach,
        probe: &scenario::Probe,
        window: Window,
    ) -> Result<()> {
        let plan = ProbePlan {
            name: probe.name.clone(),
            per_second: probe.per_second,
            bytes: probe.bytes,
        };
        let window = Window {
            start: window.start + probe.start,
            end: window.end,
        };
        self.probes
            .push(probe::start(from, to, reach.clone(), plan, window)?);
        Ok(())
    }
}

/// Traffic that the contestant carries.
pub(super) fn own_traffic(
    topology: &Topology,
    scenario: &Scenario,
    variant: &Variant,
    reach: &Reach,
    window: Window,
) -> Result<Traffic> {
    let host = |host: Host| match host {
        Host::Client => Some((&topology.client, reach.clone())),
        // A LAN host knows nothing of the client's interfaces.
        Host::Lan => Some((
            &topology.lan,
            Reach {
                device: None,
                ..reach.clone()
            },
        )),
        Host::Neighbour(_) => None,
    };
    let mut traffic = Traffic::default();
    for bulk in &scenario.bulks {
        if let Some((from, reach)) = host(bulk.host) {
            traffic.add_bulk(from, &topology.server, &reach, bulk, variant, window)?;
        }
    }
    for page in &scenario.pages {
        if let Some((from, reach)) = host(page.host) {
            let plan = PagePlan {
                congestion: variant.congestion.clone(),
                seed: 1,
            };
            let window = Window {
                start: window.start + page.start,
                end: window.end,
            };
            traffic
                .pages
                .push(page::start(from, &topology.server, reach, plan, window)?);
        }
    }
    if !reach.takes_datagrams() {
        // They would go beside it, over the first WAN.
        return Ok(traffic);
    }
    for probe in &scenario.probes {
        if let Some((from, reach)) = host(probe.host) {
            traffic.add_probe(from, &topology.server, &reach, probe, window)?;
        }
    }
    for flood in &scenario.floods {
        let plan = FloodPlan {
            way: variant.way,
            per_second: flood.per_second.clone(),
            bytes: flood.bytes,
        };
        traffic.floods.push(flood::start(
            &topology.client,
            &topology.server,
            reach.clone(),
            plan,
            window,
        )?);
    }
    Ok(traffic)
}

/// Traffic of hosts that do not use it.
pub(super) fn neighbours_traffic(
    topology: &Topology,
    scenario: &Scenario,
    variant: &Variant,
    window: Window,
) -> Result<Traffic> {
    let mut traffic = Traffic::default();
    for (wan, from) in &topology.neighbours {
        let reach = Reach::new(format!("neighbour{wan}"), SERVER.into(), None);
        for bulk in scenario
            .bulks
            .iter()
            .filter(|bulk| bulk.host == Host::Neighbour(*wan))
        {
            traffic.add_bulk(from, &topology.server, &reach, bulk, variant, window)?;
        }
        for probe in scenario
            .probes
            .iter()
            .filter(|probe| probe.host == Host::Neighbour(*wan))
        {
            traffic.add_probe(from, &topology.server, &reach, probe, window)?;
        }
    }
    Ok(traffic)
}
