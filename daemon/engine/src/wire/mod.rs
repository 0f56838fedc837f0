//! What stands in a datagram: kinds, the header of data, truncated numbers, and the frames inside.
//!
//! Only layout, no meaning: nothing here keeps state, allocates, or trusts a byte. docs/PROTOCOL.md says the same in prose.

pub mod frame;
pub mod varint;

use crate::ids::{PathId, ReceiverIndex};

/// Bytes in front of the sealed part of a data datagram.
pub const DATA_HEADER_LEN: usize = 8;
/// Bytes of the seal behind the plaintext.
pub const TAG_LEN: usize = 16;
/// Bytes that a data datagram takes beyond UDP and IP for itself.
pub const DATA_OVERHEAD: usize = DATA_HEADER_LEN + TAG_LEN;

/// What a datagram is, by its first byte. The values carry the protocol's version, 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A client begins a handshake.
    Initiation = 0x81,
    /// The server's answer, which completes it.
    Response = 0x82,
    /// A busy server wants the client's address proved first.
    CookieReply = 0x83,
    /// Sealed frames.
    Data = 0x84,
}

/// The kind of a datagram; none if it is not ours, and then there is no answer.
pub fn kind(datagram: &[u8]) -> Option<Kind> {
    match datagram.first()? {
        0x81 => Some(Kind::Initiation),
        0x82 => Some(Kind::Response),
        0x83 => Some(Kind::CookieReply),
        0x84 => Some(Kind::Data),
        _ => None,
    }
}

/// The index in bytes 1 to 3 of every kind: the receiver's, but for an initiation, where it is the sender's own.
pub fn receiver_index(datagram: &[u8]) -> Option<ReceiverIndex> {
    let [_, high, middle, low, ..] = *datagram else {
        return None;
    };
    Some(ReceiverIndex(u32::from_be_bytes([0, high, middle, low])))
}

/// The first four bytes of a datagram. An index has 24 bits; more are cut off.
pub(crate) fn head(kind: Kind, index: ReceiverIndex) -> [u8; 4] {
    let [_, high, middle, low] = index.0.to_be_bytes();
    [kind as u8, high, middle, low]
}

/// The clear part of a data datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// Whose session and key, as its receiver numbers them.
    pub receiver: ReceiverIndex,
    /// The path that the packet number counts on.
    pub path: PathId,
    /// The low 24 bits of the packet number.
    pub packet_number: u32,
}

impl DataHeader {
    /// The header's bytes. The packet number may be given whole; only its low 24 bits are written.
    pub fn encode(self) -> [u8; DATA_HEADER_LEN] {
        let [kind, r0, r1, r2] = head(Kind::Data, self.receiver);
        let [_, p0, p1, p2] = self.packet_number.to_be_bytes();
        [kind, r0, r1, r2, self.path.0, p0, p1, p2]
    }

    /// Reads the header; none if this is no data datagram, or too short to be sealed.
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        if datagram.len() < DATA_OVERHEAD {
            return None;
        }
        let [0x84, r0, r1, r2, path, p0, p1, p2, ..] = *datagram else {
            return None;
        };
        Some(Self {
            receiver: ReceiverIndex(u32::from_be_bytes([0, r0, r1, r2])),
            path: PathId(path),
            packet_number: u32::from_be_bytes([0, p0, p1, p2]),
        })
    }
}

/// The packet number nearest to `expected` whose low 24 bits are `truncated`.
pub fn expand_packet_number(truncated: u32, expected: u64) -> u64 {
    expand(u64::from(truncated), 24, expected)
}

/// The unit offset nearest to `expected` whose low 32 bits are `truncated`.
pub fn expand_offset(truncated: u32, expected: u64) -> u64 {
    expand(u64::from(truncated), 32, expected)
}

fn expand(truncated: u64, bits: u32, expected: u64) -> u64 {
    let window = 1u64 << bits;
    let half = window / 2;
    let near = (expected & !(window - 1)) | (truncated & (window - 1));
    if near < expected && expected - near > half {
        near.checked_add(window).unwrap_or(near)
    } else if near > expected && near - expected >= half {
        near.checked_sub(window).unwrap_or(near)
    } else {
        near
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_comes_back_and_nothing_else_is_one() {
        let header = DataHeader {
            receiver: ReceiverIndex(0x00c0_ffee),
            path: PathId(7),
            packet_number: 0x0001_0203,
        };
        let mut datagram = header.encode().to_vec();
        assert_eq!(datagram, [0x84, 0xc0, 0xff, 0xee, 7, 1, 2, 3]);
        assert_eq!(DataHeader::decode(&datagram), None, "no room for the seal");
        datagram.resize(DATA_OVERHEAD, 0);
        assert_eq!(DataHeader::decode(&datagram), Some(header));
        assert_eq!(receiver_index(&datagram), Some(header.receiver));
        datagram[0] = 0x81;
        assert_eq!(DataHeader::decode(&datagram), None);
    }

    #[test]
    fn only_four_first_bytes_are_ours() {
        let ours = (0..=255u8).filter(|first| kind(&[*first]).is_some()).count();
        assert_eq!(ours, 4);
        assert_eq!(kind(&[]), None);
        for known in [Kind::Initiation, Kind::Response, Kind::CookieReply, Kind::Data] {
            assert_eq!(kind(&[known as u8]), Some(known));
        }
    }

    #[test]
    fn numbers_expand_at_the_borders() {
        assert_eq!(expand_packet_number(0, 0), 0);
        assert_eq!(
            expand_packet_number(0xff_ffff, 0),
            0xff_ffff,
            "there is nothing below zero"
        );
        assert_eq!(expand_packet_number(2, 0xff_fffe), 0x100_0002);
        assert_eq!(expand_packet_number(0xff_fffe, 0x100_0002), 0xff_fffe);
        assert_eq!(expand_offset(0, u64::MAX), u64::MAX - 0xffff_ffff);
    }

    proptest! {
        #[test]
        fn a_number_near_the_expected_one_survives_truncation(
            expected in any::<u64>(), distance in -(1i64 << 23) + 1..1 << 23,
        ) {
            if let Some(number) = expected.checked_add_signed(distance) {
                prop_assert_eq!(expand_packet_number((number & 0xff_ffff) as u32, expected), number);
                prop_assert_eq!(expand_offset(number as u32, expected), number);
            }
        }
    }
}
