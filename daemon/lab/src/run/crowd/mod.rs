//! Many clients of one server: the server is the real program, the clients are its engine in this process over real
//! sockets, each with its own key, its own addresses and a path over every WAN.
//!
//! What they carry are datagrams at a constant rate: whether a server is fair and what a client costs does not depend
//! on what TCP makes of it.

mod arrivals;
mod client;
mod hostile;
mod inner;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ring::rand::{SecureRandom, SystemRandom};
use sennit_engine::handshake::{PrivateKey, PublicKey};

use super::conditions::{condition_notes, drops, judge};
use super::{Outcome, Settings, Timeline, processes};
use crate::contestant::start_server;
use crate::emulator::Emulator;
use crate::histogram::Histogram;
use crate::machine::Machine;
use crate::measure::{self, Measures};
use crate::scenario::Crowd;
use crate::sys::clock;
use crate::time::Nanos;
use crate::topology::{Plan, SERVER, Topology, wan_interface};
use crate::traffic::Window;
use crate::{Error, Result};

use arrivals::Arrivals;
use client::{Member, Plan as MemberPlan};

/// The server's inner address; clients have those after it.
const INNER_SERVER: Ipv4Addr = Ipv4Addr::new(10, 73, 0, 1);
/// Its UDP port.
const PORT: u16 = 7300;
/// Before this time after the first initiation all clients are connected, or count as starved.
const CONNECT: Nanos = Nanos(6_000_000_000);
/// Clients have as many addresses in a WAN, and share them beyond that.
const ADDRESSES: usize = 200;

/// Does one run.
pub(super) fn run(settings: &Settings<'_>, crowd: &Crowd) -> Result<Outcome> {
    let Settings {
        scenario,
        variant,
        seed,
        tools,
        ..
    } = *settings;
    let clients = variant.flows;
    let topology = Topology::new(Plan::of(scenario, Vec::new()))?;
    for wan in 0..scenario.links.len() {
        let commands: Vec<String> = (0..clients.min(ADDRESSES))
            .map(|number| {
                let (address, device) = (outer_address(wan, number), wan_interface(wan));
                format!("addr add {address}/32 dev {device}")
            })
            .collect();
        topology.client.ip(&commands.join("\n"))?;
    }
    let emulator = Emulator::start(topology.links(), seed)?;
    let keys: Result<Vec<PrivateKey>> = (0..clients)
        .map(|_| Ok(PrivateKey::from_bytes(&random()?)))
        .collect();
    let keys = keys?;
    let entries: Vec<(PublicKey, IpAddr)> = keys
        .iter()
        .enumerate()
        .map(|(number, key)| (key.public(), inner_address(number).into()))
        .collect();
    let (mut started, server_key) = start_server(&topology, tools, INNER_SERVER, &entries)?;

    let start = clock::now() + CONNECT;
    let window = Window {
        start,
        end: start + Nanos::from_secs(scenario.seconds),
    };
    let plan = MemberPlan {
        window,
        way: variant.way,
        bytes: crowd.bytes,
        interval: Nanos::from_secs(crowd.bytes as f64 * 8.0 / (crowd.each * 1e6)),
        server_key,
        server: SocketAddr::new(SERVER.into(), PORT),
        wans: scenario.links.len(),
    };
    // Hostile initiations are made before the traffic: making them costs more than refusing them.
    let hostile = (crowd.hostile_per_second > 0)
        .then(|| hostile::start(&topology, server_key, crowd.hostile_per_second, window))
        .transpose()?;
    let members = client::start(&topology.client, keys, plan)?;
    let at_server = arrivals::start(&topology.server, clients, plan)?;

    clock::sleep_until(window.start);
    emulator.begin();
    let machine = Machine::now();
    let emulator_cpu_before = emulator.report()?.cpu;
    let before = processes(&started);
    super::events::wait_until(window.end, &mut started, &mut |_| Ok(()))?;
    let after = processes(&started);
    let strain = Machine::now().since(&machine);
    let report = emulator.report()?;
    let drops = drops(&topology, &started)?;
    let members = members.finish()?;
    let at_server = at_server.finish()?;
    let sent_hostile = hostile.map(crate::traffic::Running::finish).transpose()?;

    let cpu = report.cpu.saturating_sub(emulator_cpu_before);
    let mut notes = condition_notes(&report, &strain, cpu, &drops);
    if let Some(sent) = sent_hostile {
        notes.push(format!("{sent} hostile initiations were sent"));
    }
    let arrivals = Arrivals::of(&members, at_server, plan);
    let mut measures = Measures::default();
    figures(&mut measures, &members, &arrivals, crowd, plan);
    let gigabytes = arrivals.each.iter().sum::<u64>() as f64 / 1e9;
    for ((side, cpu, memory), (_, cpu_before, _)) in after.into_iter().zip(before) {
        let cpu = cpu - cpu_before;
        measures.add(format!("cpu.{side}"), "s/GB", cpu / gigabytes);
        measures.add(format!("cpu_share.{side}"), "", cpu / scenario.seconds);
        measures.add(format!("memory.{side}"), "MB", memory as f64 / 1e6);
    }
    Ok(Outcome {
        contestant: settings.kind.name().to_owned(),
        measures,
        invalid: judge(scenario, &report, &strain),
        notes,
        timeline: Timeline {
            goodput: arrivals.bins,
            ..Timeline::default()
        },
    })
}

fn figures(
    measures: &mut Measures,
    members: &[Member],
    arrivals: &Arrivals,
    crowd: &Crowd,
    plan: MemberPlan,
) {
    let span = plan.window.end.since(plan.window.start);
    let all: u64 = arrivals.each.iter().sum();
    measures.add("goodput", "Mbit/s", measure::megabits(all, span));
    let offered = crowd.each * members.len() as f64 * 1e6 / 8.0 * span.secs();
    measures.add("crowd.delivered", "", all as f64 / offered);
    let each: Vec<f64> = arrivals.each.iter().map(|bytes| *bytes as f64).collect();
    measures.add("jain", "", measure::jain(&each));
    let connected = members.iter().filter(|member| member.connected.is_some()).count();
    measures.add("crowd.connected", "", connected as f64);
    let mut late = Histogram::new();
    members.iter().for_each(|member| late.merge(&member.lateness));
    measures.add("crowd.lateness_p99", "ms", late.quantile(0.99).millis());
    if crowd.hostile_per_second > 0 {
        let phases = hostile::phases(plan.window);
        let rate = |phase: Window| {
            let index = |time: Nanos| (time.since(plan.window.start).0 / crate::emulator::BIN.0) as usize;
            let bins = arrivals
                .bins
                .iter()
                .take(index(phase.end))
                .skip(index(phase.start));
            measure::megabits(bins.sum(), phase.end.since(phase.start))
        };
        let calm = rate(phases[0]);
        measures.add("crowd.attacked_real", "", rate(phases[1]) / calm);
        measures.add("crowd.attacked_spoofed", "", rate(phases[2]) / calm);
    }
}

/// A client's address in the tunnel.
fn inner_address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 73, (1 + number / 200) as u8, (1 + number % 200) as u8)
}

/// Whose address that is.
fn number_of(address: Ipv4Addr) -> usize {
    let [_, _, third, fourth] = address.octets();
    (usize::from(third).wrapping_sub(1))
        .wrapping_mul(200)
        .wrapping_add(usize::from(fourth))
        .wrapping_sub(1)
}

/// A client's address in a WAN.
fn outer_address(wan: usize, number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 71, wan as u8, (10 + number % ADDRESSES) as u8)
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::environment("the kernel gave no random numbers", ""))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_known_by_its_inner_address() {
        for number in [0, 1, 199, 200, 999] {
            assert_eq!(number_of(inner_address(number)), number);
        }
        assert!(number_of(INNER_SERVER) > 1000);
    }
}
