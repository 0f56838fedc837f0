//! Any datagrams, one behind the other: none opens, and each number is taken once.

use std::collections::BTreeSet;

use sennit_engine::crypto::{DirectionKey, IV_LEN, KEY_LEN, Suite};
use sennit_engine::replay::{ReplayWindow, WINDOW};
use sennit_engine::wire::{self, DATA_HEADER_LEN, DataHeader};

/// The first byte chooses what is tried, and the suite.
pub fn run(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    if choice & 2 == 0 {
        open(*choice, rest)
    } else {
        replay(rest)
    }
}

fn open(choice: u8, datagram: &[u8]) {
    let suite = match choice >> 2 & 3 {
        0 => Suite::ChaCha20Poly1305,
        1 => Suite::Aes256Gcm,
        _ => Suite::AuthenticateOnly,
    };
    let key = DirectionKey::new(suite, &[choice; KEY_LEN], [7; IV_LEN]);
    let _ = (wire::kind(datagram), wire::receiver_index(datagram));
    let Some(header) = DataHeader::decode(datagram) else {
        return;
    };
    let prefix = header.encode();
    assert_eq!(prefix, datagram[..DATA_HEADER_LEN]);
    let number = wire::expand_packet_number(header.packet_number, u64::from(choice) << 22);
    assert_eq!(number as u32 & 0xff_ffff, header.packet_number);
    let opened = key.open(header.path, number, &mut datagram.to_vec());
    assert_eq!(opened, None, "a seal was guessed");

    // The same bytes as a plaintext come back.
    let mut sealed = datagram.to_vec();
    key.seal(header.path, number, &mut sealed, 0);
    let length = key.open(header.path, number, &mut sealed);
    assert_eq!(length, Some(datagram.len() - DATA_HEADER_LEN));
    assert_eq!(sealed[..datagram.len()], *datagram);
}

fn replay(input: &[u8]) {
    let mut window = ReplayWindow::new();
    let mut taken = BTreeSet::new();
    for truncated in input.chunks_exact(3) {
        let truncated = u32::from_be_bytes([0, truncated[0], truncated[1], truncated[2]]);
        let expected = window.expected();
        let number = wire::expand_packet_number(truncated, expected);
        let acceptable = window.would_accept(number);
        assert_eq!(
            acceptable,
            number + WINDOW >= expected && !taken.contains(&number)
        );
        assert_eq!(window.mark(number), acceptable);
        taken.insert(number);
    }
}
