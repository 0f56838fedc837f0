//! A conversation with a server before there is a tunnel: an engine without a TUN device, over every WAN and to every
//! address of the server at once, until somebody has said what there was to say.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant as Clock};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sennit_engine::event::Event;
use sennit_engine::handshake;
use sennit_engine::ids::{NetworkPath, SocketId, WanId};
use sennit_engine::settings::{Encryption, Mode, WanSettings};
use sennit_engine::time::Instant;
use sennit_engine::wire::frame::CloseReason;
use sennit_engine::{Client, ClientConfig};

use super::message::{ToClient, ToServer, encode};
use crate::config::InterfaceName;
use crate::key::{PrivateKey, PublicKey};
use crate::netlink::{Family, Inventory, Netlink};
use crate::udp::{Outgoing, Receiver, UdpSocket};
use crate::wan::uplinks;
use crate::{Error, Result, key};

/// Datagrams of one batch: there is little to say.
const SEGMENTS: usize = 4;
/// Longest wait for a datagram when nothing is due.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// What happened.
#[derive(Debug)]
pub enum Heard {
    /// The server proved to be the one that was asked for.
    Connected,
    /// It said something.
    Message(ToClient),
}

/// What to do next.
#[derive(Debug)]
pub enum Reply<T> {
    /// Go on listening.
    Listen,
    /// Say this, and go on listening.
    Say(ToServer),
    /// All is said. The address by which the server answered first is told beside the result.
    Done(T),
}

/// Who speaks to whom.
#[derive(Debug)]
pub struct Partners<'a> {
    /// The key by which this end is known.
    pub identity: &'a PrivateKey,
    /// The server's.
    pub server: &'a PublicKey,
    /// Where it may be.
    pub addresses: &'a [SocketAddr],
    /// The tunnel's interface, which is no way there.
    pub tunnel: &'a InterfaceName,
}

/// Speaks to a server for at most `patience`; `hear` decides what is said. Nothing if the server did not answer, or the
/// conversation did not come to its end.
///
/// # Errors
/// No socket can be made, or `hear` fails.
pub fn converse<T>(
    partners: &Partners<'_>,
    patience: Duration,
    mut hear: impl FnMut(Heard) -> Result<Reply<T>>,
) -> Result<Option<(T, SocketAddr)>> {
    let mut conversation = Conversation::begin(partners)?;
    let until = Clock::now() + patience;
    while Clock::now() < until {
        conversation.exchange()?;
        while let Some(event) = conversation.client.poll_event() {
            let heard = match event {
                Event::Connected { .. } => Heard::Connected,
                Event::Control { message } => {
                    let message = serde_json::from_slice(&message).unwrap_or(ToClient::Unknown);
                    Heard::Message(message)
                }
                _ => continue,
            };
            match hear(heard)? {
                Reply::Listen => {}
                Reply::Say(message) => conversation.say(&message)?,
                Reply::Done(value) => {
                    let address = conversation.server_address(partners.addresses);
                    conversation.end();
                    return Ok(Some((value, address)));
                }
            }
        }
    }
    Ok(None)
}

struct Conversation {
    client: Client,
    sockets: Vec<(SocketId, UdpSocket)>,
    receiver: Receiver,
    began: Clock,
    out: Vec<u8>,
}

impl Conversation {
    fn begin(partners: &Partners<'_>) -> Result<Self> {
        let mut seed = [0; 32];
        key::random(&mut seed)?;
        let config = ClientConfig {
            private_key: handshake::PrivateKey::from_bytes(partners.identity.as_bytes()),
            server_key: handshake::PublicKey(*partners.server.as_bytes()),
            preshared_key: None,
            mode: Mode::Speed,
            aes_is_fast: false,
            encryption: Encryption::On,
        };
        let began = Clock::now();
        let mut conversation = Self {
            client: Client::new(config, now(began), seed),
            sockets: Vec::new(),
            receiver: Receiver::default(),
            began,
            out: Vec::new(),
        };
        let ways = ways(partners)?;
        for (number, (socket, remote)) in (0u16..).zip(ways) {
            let network = NetworkPath {
                socket: SocketId(number),
                local: None,
                remote,
            };
            let settings = WanSettings::default();
            conversation
                .client
                .set_wan(now(began), WanId(number), network, settings);
            conversation.sockets.push((SocketId(number), socket));
        }
        Ok(conversation)
    }

    fn say(&mut self, message: &ToServer) -> Result<()> {
        let said = self.client.send_control(&encode(message));
        said.map_err(|error| Error::environment(error.to_string(), "try again"))
    }

    /// Sends what is due, waits for an answer, and takes it in.
    fn exchange(&mut self) -> Result<()> {
        self.transmit();
        let wait = self.client.poll_timeout().map_or(LONGEST_WAIT, |deadline| {
            deadline.since(now(self.began)).min(LONGEST_WAIT)
        });
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let mut descriptors: Vec<PollFd<'_>> = self
            .sockets
            .iter()
            .map(|(_, socket)| PollFd::new(socket, PollFlags::IN))
            .collect();
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(Error::environment(
                    format!("failed to wait for an answer: {error}"),
                    "try again",
                ));
            }
        }
        drop(descriptors);
        let arrived = now(self.began);
        for (id, socket) in &self.sockets {
            let client = &mut self.client;
            let outcome = self.receiver.receive(socket, |meta, data| {
                let network = NetworkPath {
                    socket: *id,
                    local: meta.local,
                    remote: meta.remote,
                };
                client.handle_udp(arrived, network, data, meta.segment, meta.congested);
            });
            match outcome {
                // A WAN that refuses is one of several.
                Ok(_) | Err(_) => {}
            }
        }
        if self
            .client
            .poll_timeout()
            .is_some_and(|deadline| deadline <= arrived)
        {
            self.client.handle_timeout(arrived);
        }
        self.transmit();
        Ok(())
    }

    fn transmit(&mut self) {
        loop {
            self.out.clear();
            let time = now(self.began);
            let Some(transmit) = self.client.poll_transmit(time, &mut self.out, SEGMENTS) else {
                return;
            };
            let message = Outgoing {
                data: &self.out,
                segment: transmit.segment_size,
                remote: transmit.network.remote,
                local: None,
            };
            let socket = self.sockets.iter().find(|(id, _)| *id == transmit.network.socket);
            if let Some((_, socket)) = socket {
                // What is lost is sent again, like all that the network loses.
                socket.send(&[message], |_, _| {});
            }
        }
    }

    /// The server's address on the quickest path.
    fn server_address(&self, addresses: &[SocketAddr]) -> SocketAddr {
        let status = self.client.status(now(self.began));
        let quickest = status
            .paths
            .iter()
            .filter(|path| path.rtt.is_some())
            .min_by_key(|path| path.rtt);
        let any = SocketAddr::from(([0; 4], 0));
        quickest.map_or_else(
            || addresses.first().copied().unwrap_or(any),
            |path| path.network.remote,
        )
    }

    /// Says goodbye, so that the server need not wonder.
    fn end(mut self) {
        self.transmit();
        self.client.close(CloseReason::Ends);
        self.transmit();
    }
}

fn now(began: Clock) -> Instant {
    // The engine's clock begins at one second: it subtracts.
    Instant::from_nanos(1_000_000_000 + began.elapsed().as_nanos() as u64)
}

/// A socket on every WAN for every address of the server; where there is no WAN, or none of its IP version, what the
/// routes say.
fn ways(partners: &Partners<'_>) -> Result<Vec<(UdpSocket, SocketAddr)>> {
    let mut netlink = Netlink::open().map_err(failed)?;
    let inventory = Inventory::read(&mut netlink).map_err(failed)?;
    let uplinks = uplinks(&inventory, partners.tunnel);
    let mut ways = Vec::new();
    let mut refusal = None;
    for remote in partners.addresses {
        let family = Family::of(remote.ip());
        let mut found = false;
        for uplink in uplinks.iter().filter(|uplink| uplink.has(family)) {
            match UdpSocket::on_device(&uplink.device, remote.is_ipv6()) {
                Ok(socket) => {
                    found = true;
                    ways.push((socket, *remote));
                }
                Err(error) => refusal = Some(error),
            }
        }
        if !found {
            let any = if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = any
                .parse()
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
                .and_then(UdpSocket::listening);
            match socket {
                Ok(socket) => ways.push((socket, *remote)),
                Err(error) => refusal = Some(error),
            }
        }
    }
    match (ways.is_empty(), refusal) {
        (true, Some(error)) => Err(failed(error)),
        _ => Ok(ways),
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::environment(
        format!("failed to open a socket to the server: {error}"),
        "run sennit as root",
    )
}
