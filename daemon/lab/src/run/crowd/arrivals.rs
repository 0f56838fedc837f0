//! The far end of the crowd, at the server's own host: datagrams to or from every client, by ordinary sockets.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use super::client::{Member, Plan};
use super::{INNER_SERVER, inner_address, number_of};
use crate::emulator::{BIN, Way};
use crate::namespace::Namespace;
use crate::sys::clock;
use crate::time::Nanos;
use crate::traffic::{Running, answering_at};
use crate::{Error, Result};

/// Both ends of the datagrams use it.
pub(super) const PORT_INSIDE: u16 = 4000;
/// Datagrams leave in groups of what is due.
const TICK: Nanos = Nanos(1_000_000);

/// Payload that arrived within the window.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// Of each client.
    pub(super) each: Vec<u64>,
    /// Of all, in bins from the window's start.
    pub(super) bins: Vec<u64>,
}

impl Arrivals {
    fn none(clients: usize, plan: Plan) -> Self {
        let bins = plan.window.end.since(plan.window.start).0 / BIN.0 + 1;
        Self {
            each: vec![0; clients],
            bins: vec![0; bins as usize],
        }
    }

    /// Where datagrams went up those at the server, else those at the clients.
    pub(super) fn of(members: &[Member], at_server: Self, plan: Plan) -> Self {
        if plan.way == Way::Up {
            return at_server;
        }
        let mut arrivals = Self::none(members.len(), plan);
        for (number, member) in members.iter().enumerate() {
            for (index, bytes) in member.bins.iter().enumerate() {
                arrivals.add(number, index, u64::from(*bytes));
            }
        }
        arrivals
    }

    fn add(&mut self, client: usize, index: usize, bytes: u64) {
        if let (Some(each), Some(bin)) = (self.each.get_mut(client), self.bins.get_mut(index)) {
            *each += bytes;
            *bin += bytes;
        }
    }
}

/// Sends to all clients, or receives from them, until the window ends.
pub(super) fn start(at: &Namespace, clients: usize, plan: Plan) -> Result<Running<Arrivals>> {
    Running::start(at, move || {
        let socket = answering_at(SocketAddr::new(INNER_SERVER.into(), PORT_INSIDE))?;
        let mut arrivals = Arrivals::none(clients, plan);
        match plan.way {
            Way::Up => {
                let mut room = [0; 2048];
                while clock::now() < plan.window.end {
                    let Ok((length, from)) = socket.recv_from(&mut room) else {
                        continue;
                    };
                    let now = clock::now();
                    if let IpAddr::V4(from) = from.ip()
                        && now >= plan.window.start
                    {
                        let index = (now.since(plan.window.start).0 / BIN.0) as usize;
                        arrivals.add(number_of(from), index, length as u64);
                    }
                }
            }
            Way::Down => {
                let payload = vec![0x5a; plan.bytes];
                clock::sleep_until(plan.window.start);
                let mut sent = 0_u64;
                while clock::now() < plan.window.end {
                    let gone = clock::now().since(plan.window.start);
                    let due = gone.0 * clients as u64 / plan.interval.0.max(1);
                    while sent < due {
                        let to = SocketAddrV4::new(inner_address(sent as usize % clients), PORT_INSIDE);
                        // What the tunnel has no room for is lost, as at any interface.
                        let _ = socket.send_to(&payload, to);
                        sent += 1;
                    }
                    clock::sleep_until(clock::now() + TICK);
                }
                if sent == 0 {
                    return Err(Error::environment("nothing was sent to the crowd", ""));
                }
            }
        }
        Ok(arrivals)
    })
}
