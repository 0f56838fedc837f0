//! A DHCP server for the two cards whose addresses are known beforehand: enough of RFC 2131 that a router gets them.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::outside::{WANS, Wan};

/// Up to the options: the fixed part of a message and the magic cookie.
const FIXED: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACKNOWLEDGE: u8 = 5;
/// Longer than any trial, in seconds.
const LEASE: u32 = 86_400;
const CLIENT_PORT: u16 = 68;

/// Answers until it is dropped.
pub(super) async fn serve(socket: UdpSocket) {
    let mut message = [0; 1500];
    loop {
        // What cannot be read or sent is asked again by the router.
        let Ok((length, _)) = socket.recv_from(&mut message).await else {
            tokio::task::yield_now().await;
            continue;
        };
        if let Some((wan, answer)) = answer(&message[..length]) {
            // To the network's broadcast address, which leads out of the right card: the router has no address yet.
            let [a, b, c, _] = wan.router.octets();
            let to = SocketAddr::from((Ipv4Addr::new(a, b, c, 255), CLIENT_PORT));
            let _ = socket.send_to(&answer, to).await;
        }
    }
}

/// What is said to a router's message, and on which WAN.
fn answer(message: &[u8]) -> Option<(&'static Wan, Vec<u8>)> {
    let (fixed, options) = message.split_at_checked(FIXED)?;
    if fixed[0] != 1 || fixed[FIXED - 4..] != COOKIE {
        return None;
    }
    let mac: Vec<String> = fixed[28..34].iter().map(|byte| format!("{byte:02x}")).collect();
    let wan = WANS.iter().find(|wan| wan.mac == mac.join(":"))?;
    let kind = match message_type(options)? {
        DISCOVER => OFFER,
        REQUEST => ACKNOWLEDGE,
        _ => return None,
    };
    let mut answer = fixed.to_vec();
    answer[0] = 2;
    answer[16..20].copy_from_slice(&wan.router.octets());
    let mut option = |code: u8, value: &[u8]| {
        answer.extend([code, value.len() as u8]);
        answer.extend(value);
    };
    option(53, &[kind]);
    option(54, &wan.gateway.octets());
    option(51, &LEASE.to_be_bytes());
    option(1, &[255, 255, 255, 0]);
    option(3, &wan.gateway.octets());
    answer.push(255);
    Some((wan, answer))
}

/// The value of option 53.
fn message_type(mut options: &[u8]) -> Option<u8> {
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [53, 1, kind, ..] => return Some(*kind),
            [255, ..] | [] | [_] => return None,
            [_, length, rest @ ..] => options = rest.get(usize::from(*length)..)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(mac: [u8; 6], options: &[u8]) -> Vec<u8> {
        let mut message = vec![0; FIXED];
        message[0] = 1;
        message[4..8].copy_from_slice(&[1, 2, 3, 4]);
        message[28..34].copy_from_slice(&mac);
        message[236..].copy_from_slice(&COOKIE);
        message.extend(options);
        message
    }

    const SECOND: [u8; 6] = [0x52, 0x54, 0, 0x5e, 0, 2];

    #[test]
    fn a_card_is_offered_its_own_address_and_then_given_it() {
        for (asked, said) in [(DISCOVER, OFFER), (REQUEST, ACKNOWLEDGE)] {
            let (wan, answer) =
                answer(&message(SECOND, &[0, 12, 1, 65, 53, 1, asked, 255])).expect("an answer");
            assert_eq!(wan.name, WANS[1].name);
            assert_eq!(answer[16..20], WANS[1].router.octets());
            assert_eq!(answer[4..8], [1, 2, 3, 4], "the same conversation");
            assert_eq!(message_type(&answer[FIXED..]), Some(said));
        }
    }

    #[test]
    fn strangers_and_broken_messages_get_no_answer() {
        let whole = message(SECOND, &[53, 1, DISCOVER, 255]);
        assert!(answer(&message([2; 6], &[53, 1, DISCOVER, 255])).is_none());
        assert!(answer(&message(SECOND, &[12, 200, 1])).is_none());
        for length in 0..whole.len() - 1 {
            assert!(answer(&whole[..length]).is_none(), "{length}");
        }
    }
}
