//! What the data path asks of an engine, whichever role it plays.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sennit_engine::Client;
use sennit_engine::Server;
use sennit_engine::Transmit;
use sennit_engine::event::Event;
use sennit_engine::ids::{ClientId, NetworkPath};
use sennit_engine::inner::offload::VirtioHeader;
use sennit_engine::resequencer::Delivery;
use sennit_engine::time::Instant;

/// An engine: see [`sennit_engine`] for what each call means.
pub trait Endpoint: Send + 'static {
    /// What it tells.
    type Event: Send + 'static;

    /// A packet entered the tunnel. False if it was dropped at once.
    fn handle_tun(&mut self, now: Instant, header: VirtioHeader, packet: Bytes) -> bool;
    /// Datagrams arrived.
    fn handle_udp(
        &mut self,
        now: Instant,
        network: NetworkPath,
        batch: BytesMut,
        segment_size: usize,
        ce: bool,
    );
    /// The thread did not run for `gap`.
    fn clock_gap(&mut self, gap: Duration);
    /// Does what is due.
    fn handle_timeout(&mut self, now: Instant);
    /// When something is due.
    fn poll_timeout(&mut self) -> Option<Instant>;
    /// Appends datagrams to `out`.
    fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>, max_segments: usize) -> Option<Transmit>;
    /// The next packet that leaves the tunnel.
    fn poll_deliver(&mut self) -> Option<Delivery>;
    /// What happened.
    fn poll_event(&mut self) -> Option<Self::Event>;
}

/// A client without a server has no engine: what enters is dropped.
impl Endpoint for Option<Client> {
    type Event = Event;

    fn handle_tun(&mut self, now: Instant, header: VirtioHeader, packet: Bytes) -> bool {
        self.as_mut()
            .is_some_and(|client| client.handle_tun(now, header, packet).is_ok())
    }
    fn handle_udp(
        &mut self,
        now: Instant,
        network: NetworkPath,
        batch: BytesMut,
        segment_size: usize,
        ce: bool,
    ) {
        if let Some(client) = self {
            client.handle_udp(now, network, batch, segment_size, ce);
        }
    }
    fn clock_gap(&mut self, gap: Duration) {
        if let Some(client) = self {
            client.clock_gap(gap);
        }
    }
    fn handle_timeout(&mut self, now: Instant) {
        if let Some(client) = self {
            client.handle_timeout(now);
        }
    }
    fn poll_timeout(&mut self) -> Option<Instant> {
        self.as_mut().and_then(Client::poll_timeout)
    }
    fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>, max_segments: usize) -> Option<Transmit> {
        self.as_mut()
            .and_then(|client| client.poll_transmit(now, out, max_segments))
    }
    fn poll_deliver(&mut self) -> Option<Delivery> {
        self.as_mut().and_then(Client::poll_deliver)
    }
    fn poll_event(&mut self) -> Option<Event> {
        self.as_mut().and_then(Client::poll_event)
    }
}

impl Endpoint for Server {
    type Event = (Option<ClientId>, Event);

    fn handle_tun(&mut self, now: Instant, header: VirtioHeader, packet: Bytes) -> bool {
        Self::handle_tun(self, now, header, packet).is_ok()
    }
    fn handle_udp(
        &mut self,
        now: Instant,
        network: NetworkPath,
        batch: BytesMut,
        segment_size: usize,
        ce: bool,
    ) {
        Self::handle_udp(self, now, network, batch, segment_size, ce);
    }
    fn clock_gap(&mut self, gap: Duration) {
        Self::clock_gap(self, gap);
    }
    fn handle_timeout(&mut self, now: Instant) {
        Self::handle_timeout(self, now);
    }
    fn poll_timeout(&mut self) -> Option<Instant> {
        Self::poll_timeout(self)
    }
    fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>, max_segments: usize) -> Option<Transmit> {
        Self::poll_transmit(self, now, out, max_segments)
    }
    fn poll_deliver(&mut self) -> Option<Delivery> {
        Self::poll_deliver(self)
    }
    fn poll_event(&mut self) -> Option<Self::Event> {
        Self::poll_event(self)
    }
}
