//! What a TCP flow said last, kept so that it can be said again.
//!
//! A server that rebooted has lost its table of translated addresses. It learns a connection anew from any packet that
//! comes from inside; but the host of a download has nothing to say until something arrives. So the client repeats the
//! newest acknowledgement of each flow: to the other end it is one that came twice.

use std::time::Duration;

use bytes::Bytes;

use crate::inner::packet::tcp_flags;
use crate::inner::{Parsed, segment};
use crate::time::Instant;

/// What is newer than this needs not be noted again: an acknowledgement of a second ago does as well.
const REFRESH: Duration = Duration::from_secs(1);
/// Connections that were silent for longer are not spoken for.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// The newest headers of a flow, roughly.
#[derive(Debug, Default)]
pub(super) struct Reminder {
    at: Instant,
    /// A whole packet without payload; empty: nothing is to be repeated.
    packet: Vec<u8>,
}

impl Reminder {
    /// Looks at a packet that enters. One that ends the connection leaves nothing to be repeated.
    pub(super) fn note(&mut self, now: Instant, packet: &[u8], parsed: &Parsed) {
        const OTHERS: u8 = tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST;
        let Some(tcp) = parsed.tcp else { return };
        if tcp.flags & OTHERS != 0 || tcp.flags & tcp_flags::ACK == 0 {
            self.packet.clear();
        } else if self.packet.is_empty() || now.since(self.at) >= REFRESH {
            self.at = now;
            segment::write_acknowledgement(&mut self.packet, packet, parsed);
        }
    }

    /// The packet to be sent again.
    pub(super) fn packet(&self, now: Instant) -> Option<Bytes> {
        let wanted = !self.packet.is_empty() && now.since(self.at) < LONGEST;
        wanted.then(|| Bytes::copy_from_slice(&self.packet))
    }
}
