//! Messages between the two programs, beside the traffic: reliable, in order, small. What they say is the callers' affair.
//!
//! A session that begins anew forgets those that were not delivered; the callers say again what still counts.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::Session;
use super::path::Carried;
use crate::event::Event;
use crate::wire::frame;

/// Bytes of the longest message: with its number it fits into a datagram of the smallest path.
pub const LONGEST_MESSAGE: usize = 1000;
/// Messages that wait for the peer's acknowledgement, and those that wait here for earlier ones; more are refused.
const MOST_MESSAGES: usize = 64;
/// The number before each message.
const NUMBER_LEN: usize = 4;
/// What a frame takes beside the message and its number: its type and its length.
const OVERHEAD: usize = 3;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// It is longer than [`LONGEST_MESSAGE`].
    #[error("a message has at most {LONGEST_MESSAGE} bytes")]
    TooLong,
    /// Too many are on their way.
    #[error("the peer does not acknowledge messages")]
    TooMany,
    /// There is no session with this peer.
    #[error("the peer is not connected")]
    NotConnected,
}

#[derive(Debug)]
struct Outgoing {
    number: u32,
    /// The number, and the message.
    numbered: Bytes,
    /// It waits to be sent, for the first time or again.
    wanted: bool,
}

/// The messages of one session.
#[derive(Debug, Default)]
pub(super) struct Control {
    outgoing: VecDeque<Outgoing>,
    next_number: u32,
    /// The number that is delivered next.
    expected: u32,
    early: BTreeMap<u32, Bytes>,
}

impl Control {
    fn send(&mut self, message: &[u8]) -> Result<(), NotSent> {
        if message.len() > LONGEST_MESSAGE {
            return Err(NotSent::TooLong);
        }
        if self.outgoing.len() == MOST_MESSAGES {
            return Err(NotSent::TooMany);
        }
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        self.outgoing.push_back(Outgoing {
            number,
            numbered: [&number.to_be_bytes()[..], message].concat().into(),
            wanted: true,
        });
        Ok(())
    }

    /// The first message that waits and fits.
    fn next(&mut self, room: usize) -> Option<&mut Outgoing> {
        let next = self.outgoing.iter_mut().find(|outgoing| outgoing.wanted)?;
        (next.numbered.len() + OVERHEAD <= room).then_some(next)
    }

    pub(super) fn acknowledged(&mut self, number: u32) {
        self.outgoing.retain(|outgoing| outgoing.number != number);
    }

    pub(super) fn lost(&mut self, number: u32) {
        for outgoing in &mut self.outgoing {
            outgoing.wanted |= outgoing.number == number;
        }
    }

    /// Takes one that arrived; hands out those whose turn it is. False if it must come again later.
    fn receive(&mut self, numbered: &Bytes, mut deliver: impl FnMut(Bytes)) -> bool {
        let Some((number, _)) = numbered.split_first_chunk::<NUMBER_LEN>() else {
            return true;
        };
        let ahead = u32::from_be_bytes(*number).wrapping_sub(self.expected);
        if ahead > u32::MAX / 2 {
            return true;
        }
        if ahead as usize >= MOST_MESSAGES {
            return false;
        }
        // Copied, so that it does not keep its datagram's memory.
        let message = Bytes::copy_from_slice(&numbered[NUMBER_LEN..]);
        self.early.insert(u32::from_be_bytes(*number), message);
        while let Some(message) = self.early.remove(&self.expected) {
            self.expected = self.expected.wrapping_add(1);
            deliver(message);
        }
        true
    }
}

impl Session {
    /// Sends a message to the peer's program.
    ///
    /// # Errors
    /// It is too long, or too many wait.
    pub(crate) fn send_control(&mut self, message: &[u8]) -> Result<(), NotSent> {
        self.control.send(message)
    }

    /// Writes a message that waits, if it fits. True if there was one.
    pub(super) fn write_message(
        &mut self,
        index: usize,
        end: usize,
        out: &mut Vec<u8>,
        carried: &mut Carried,
    ) -> bool {
        // Nothing that was not asked for goes to an address that is not proved.
        if !self.views[index].usable || !self.paths[index].validated {
            return false;
        }
        let Some(next) = self.control.next(end.saturating_sub(out.len())) else {
            return false;
        };
        next.wanted = false;
        carried.message = Some(next.number);
        frame::write_control(out, &next.numbered);
        true
    }

    /// A message arrived. False if it must come again later.
    pub(super) fn handle_control(&mut self, message: &Bytes) -> bool {
        let events = &mut self.events;
        self.control
            .receive(message, |message| events.push_back(Event::Control { message }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: u32, text: &str) -> Bytes {
        [&number.to_be_bytes()[..], text.as_bytes()].concat().into()
    }

    fn receive(control: &mut Control, number: u32, text: &str) -> Vec<Bytes> {
        let mut delivered = Vec::new();
        assert!(control.receive(&numbered(number, text), |message| delivered.push(message)));
        delivered
    }

    #[test]
    fn messages_are_delivered_once_and_in_order() {
        let mut control = Control::default();
        assert!(receive(&mut control, 1, "second").is_empty());
        assert_eq!(receive(&mut control, 0, "first"), ["first", "second"]);
        assert!(receive(&mut control, 1, "second").is_empty());
        assert_eq!(receive(&mut control, 2, "third"), ["third"]);
    }

    #[test]
    fn what_is_too_far_ahead_must_come_again() {
        let mut control = Control::default();
        let far = MOST_MESSAGES as u32;
        assert!(!control.receive(&numbered(far, ""), |_| panic!("too early")));
        assert!(control.receive(&Bytes::from_static(b"abc"), |_| panic!("no number")));
        assert!(control.early.is_empty());
    }

    #[test]
    fn a_lost_message_is_sent_again_and_an_acknowledged_one_is_not() {
        let mut control = Control::default();
        control.send(b"one").unwrap();
        control.send(b"two").unwrap();
        for number in [0, 1] {
            let next = control.next(usize::MAX).unwrap();
            assert_eq!(next.number, number);
            next.wanted = false;
        }
        control.acknowledged(0);
        control.lost(0);
        control.lost(1);
        assert_eq!(control.next(usize::MAX).unwrap().number, 1);
        assert!(control.next(4).is_none(), "it does not fit");
        assert_eq!(control.send(&[0; LONGEST_MESSAGE + 1]), Err(NotSent::TooLong));
    }

    #[test]
    fn a_peer_that_acknowledges_nothing_takes_bounded_memory() {
        let mut control = Control::default();
        for _ in 0..MOST_MESSAGES {
            control.send(b"").unwrap();
        }
        assert_eq!(control.send(b""), Err(NotSent::TooMany));
    }
}
