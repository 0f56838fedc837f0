//! Handshakes from start to end, and what strangers, thieves of old datagrams and floods can do.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::ids::PathId;
use crate::settings::{Encryption, Mode};
use crate::time::Instant;

struct Ends {
    rng: ChaCha12Rng,
    client: PrivateKey,
    server: PrivateKey,
    psk: PresharedKey,
}

impl Ends {
    fn new(seed: u8) -> Self {
        let mut rng = ChaCha12Rng::from_seed([seed; 32]);
        Self {
            client: PrivateKey::generate(&mut rng),
            server: PrivateKey::generate(&mut rng),
            psk: PresharedKey::generate(&mut rng),
            rng,
        }
    }

    fn start(&mut self, cookie: Option<&Cookie>) -> (Initiator, Vec<u8>) {
        Initiator::start(
            &self.client,
            &self.server.public(),
            Some(&self.psk),
            &initiation(),
            cookie,
            &mut self.rng,
        )
        .expect("it starts")
    }

    fn respond(&mut self, datagram: &[u8]) -> (Keys, Vec<u8>) {
        Responder::read(&self.server, datagram)
            .expect("it is read")
            .respond(Some(&self.psk), &response(), &mut self.rng)
            .expect("it is answered")
    }
}

fn initiation() -> InitiationPayload {
    InitiationPayload {
        version: VERSION,
        suites: Suite::offer(true, Encryption::On),
        instance: 11,
        peer_instance: 0,
        receiver: ReceiverIndex(0x00ab_cdef),
        mode: Mode::Redundant,
        path: PathId(3),
    }
}

fn response() -> ResponsePayload {
    ResponsePayload {
        suite: Suite::Aes256Gcm,
        instance: 22,
        resumed: false,
        receiver: ReceiverIndex(0x0012_3456),
        addresses: vec![
            ("10.77.0.2".parse().expect("v4"), 24),
            ("fd77::2".parse().expect("v6"), 64),
        ],
        gateway: vec!["10.77.0.1".parse().expect("v4")],
        load: 42,
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn opens(from: &Keys, to: &Keys) -> bool {
    let mut datagram = b"a headerframes".to_vec();
    from.seal.seal(PathId(1), 9, &mut datagram, 0);
    to.open.open(PathId(1), 9, &mut datagram) == Some(6)
}

#[test]
fn two_datagrams_make_keys_that_fit() {
    let mut ends = Ends::new(1);
    let (mut initiator, datagram) = ends.start(None);
    let received = Responder::read(&ends.server, &datagram).expect("it is read");
    assert_eq!(received.client, ends.client.public());
    assert_eq!(received.payload, initiation());
    let (server, answer) = received
        .respond(Some(&ends.psk), &response(), &mut ends.rng)
        .expect("it is answered");
    let (client, payload) = initiator.finish(&answer).expect("it is the answer");
    assert_eq!(payload, response());
    assert!(opens(&client, &server) && opens(&server, &client));
    assert!(!opens(&client, &client), "the directions have keys of their own");
    assert_eq!((client.local, client.remote), (server.remote, server.local));
    assert!(answer.len() <= 3 * datagram.len(), "the server amplifies little");
    assert!(initiator.finish(&answer).is_err(), "an answer counts once");
}

#[test]
fn each_handshake_has_keys_of_its_own() {
    let mut ends = Ends::new(2);
    let (mut first, first_datagram) = ends.start(None);
    let (_, second_datagram) = ends.start(None);
    assert_ne!(
        first_datagram[4..36],
        second_datagram[4..36],
        "ephemeral keys differ"
    );
    let (_, first_answer) = ends.respond(&first_datagram);
    let (second_server, second_answer) = ends.respond(&second_datagram);
    assert_eq!(first.finish(&second_answer).err(), Some(HandshakeError::Rejected));
    let (client, _) = first
        .finish(&first_answer)
        .expect("the wrong answer changed nothing");
    assert!(!opens(&client, &second_server));
}

#[test]
fn a_replayed_initiation_gives_its_sender_nothing() {
    let mut ends = Ends::new(3);
    let (mut initiator, datagram) = ends.start(None);
    let (_, answer) = ends.respond(&datagram);
    let (client, _) = initiator.finish(&answer).expect("it is the answer");
    let (replayed, _) = ends.respond(&datagram);
    assert!(
        !opens(&client, &replayed),
        "the server's ephemeral key is another"
    );
}

#[test]
fn strangers_are_told_apart_from_wrong_keys() {
    let mut ends = Ends::new(4);
    let (mut initiator, datagram) = ends.start(None);
    let other = Ends::new(5);
    assert_eq!(
        Responder::read(&other.server, &datagram).err(),
        Some(HandshakeError::NotForUs)
    );
    // Another preshared key shows at the client.
    let (_, answer) = Responder::read(&ends.server, &datagram)
        .expect("it is read")
        .respond(Some(&other.psk), &response(), &mut ends.rng)
        .expect("it is answered");
    assert_eq!(initiator.finish(&answer).err(), Some(HandshakeError::Rejected));
    let (_, answer) = ends.respond(&datagram);
    assert!(initiator.finish(&answer).is_ok());
}

#[test]
fn a_suite_that_was_not_offered_is_refused() {
    let mut ends = Ends::new(6);
    let payload = InitiationPayload {
        suites: Suite::offer(false, Encryption::On),
        ..initiation()
    };
    let server = ends.server.public();
    let (mut initiator, datagram) = Initiator::start(
        &ends.client,
        &server,
        Some(&ends.psk),
        &payload,
        None,
        &mut ends.rng,
    )
    .expect("it starts");
    let (_, answer) = ends.respond(&datagram);
    assert_eq!(
        initiator.finish(&answer).err(),
        Some(HandshakeError::Incompatible)
    );
}

#[test]
fn the_clear_index_is_authenticated() {
    let mut ends = Ends::new(7);
    let (_, mut datagram) = ends.start(None);
    datagram[3] ^= 1;
    let end = datagram.len() - 32;
    // Who knows the public key can make mac1, but not the rest.
    let mac1 = mac::mac_128(&mac::mac1_key(&ends.server.public()), &[&datagram[..end]]);
    datagram[end..end + 16].copy_from_slice(&mac1);
    assert_eq!(
        Responder::read(&ends.server, &datagram).err(),
        Some(HandshakeError::Rejected)
    );
}

#[test]
fn a_cookie_proves_one_address_for_a_while() {
    let mut ends = Ends::new(8);
    let now = Instant::from_millis(1_000_000);
    let mut keeper = CookieKeeper::new(ends.server.public(), now, &mut ends.rng);
    let home = address("192.0.2.7:4000");
    let (initiator, datagram) = ends.start(None);
    assert!(!keeper.proves_address(&datagram, home, now));
    let reply = keeper
        .cookie_reply(&datagram, home, now, &mut ends.rng)
        .expect("it knows us");
    assert!(reply.len() < datagram.len());
    let cookie = initiator.cookie(&reply).expect("it is for us");

    let (again, proving) = ends.start(Some(&cookie));
    assert!(keeper.proves_address(&proving, home, now));
    assert!(keeper.proves_address(&proving, address("[::ffff:192.0.2.7]:4000"), now));
    assert!(!keeper.proves_address(&proving, address("192.0.2.8:4000"), now));
    assert!(!keeper.proves_address(&proving, address("192.0.2.7:4001"), now));
    assert!(
        again.cookie(&reply).is_none(),
        "the reply was to another initiation"
    );
    assert!(Responder::read(&ends.server, &proving).is_ok());

    let later = now + Duration::from_secs(130);
    keeper
        .cookie_reply(&proving, home, later, &mut ends.rng)
        .expect("the secret changes");
    assert!(
        keeper.proves_address(&proving, home, later),
        "the former secret still counts"
    );
    let late = now + Duration::from_secs(240);
    assert!(!keeper.proves_address(&proving, home, late));
    assert_eq!(keeper.cookie_reply(&[0x81; 170], home, now, &mut ends.rng), None);
}

#[test]
fn a_flood_costs_few_multiplications_and_a_client_gets_in_all_the_same() {
    let mut ends = Ends::new(9);
    let now = Instant::from_millis(1000);
    let mut gate = Gate::new(ends.server.public(), now, &mut ends.rng);
    let (_, hostile) = ends.start(None);
    let mut computed = 0;
    for step in 0..10_000u32 {
        let spoofed = SocketAddr::from((step.to_be_bytes(), 1000));
        let at = now + Duration::from_micros(100) * step;
        if gate.admit(&hostile, spoofed, at, &mut ends.rng) == Admission::Compute {
            computed += 1;
        }
    }
    assert!((140..=160).contains(&computed), "{computed} in a second");

    let end = now + Duration::from_micros(999_950);
    let home = address("192.0.2.7:4000");
    let (initiator, datagram) = ends.start(None);
    let Admission::Prove(reply) = gate.admit(&datagram, home, end, &mut ends.rng) else {
        panic!("the gate is closed to who proves nothing");
    };
    let cookie = initiator.cookie(&reply).expect("it is for us");
    let (_, proving) = ends.start(Some(&cookie));
    assert_eq!(gate.admit(&proving, home, end, &mut ends.rng), Admission::Compute);
    // The same initiation again and again, now from a true address.
    let computed = (0..10_000)
        .filter(|_| gate.admit(&proving, home, end, &mut ends.rng) == Admission::Compute)
        .count();
    assert_eq!(computed, 19);
    assert_eq!(
        gate.admit(&[0x81; 200], home, end, &mut ends.rng),
        Admission::Drop
    );
}

#[test]
fn many_true_addresses_are_bounded_in_memory_and_work() {
    let mut ends = Ends::new(10);
    let now = Instant::from_millis(1000);
    let mut gate = Gate::new(ends.server.public(), now, &mut ends.rng);
    let mut keeper_rng = ends.rng.clone();
    let (initiator, datagram) = ends.start(None);
    while gate.admit(&datagram, address("192.0.2.1:1"), now, &mut keeper_rng) == Admission::Compute {}
    let mut computed = 0;
    for host in 0..6000u32 {
        let remote = SocketAddr::from(((0x0a00_0000 + host).to_be_bytes(), 7));
        let Admission::Prove(reply) = gate.admit(&datagram, remote, now, &mut keeper_rng) else {
            panic!("no proof yet");
        };
        // A fresh ephemeral key is not needed to prove an address: mac2 is enough.
        let cookie = initiator.cookie(&reply).expect("it is for us");
        let mut proving = datagram.clone();
        let end = proving.len() - 16;
        let mac2 = mac::mac_128(&cookie.0, &[&proving[..end]]);
        proving[end..].copy_from_slice(&mac2);
        computed += usize::from(gate.admit(&proving, remote, now, &mut keeper_rng) == Admission::Compute);
    }
    assert_eq!(computed, 200);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damage_is_refused_and_hurts_nothing(
        at in any::<prop::sample::Index>(), bit in 0..8u32, cut in any::<prop::sample::Index>(),
    ) {
        let mut ends = Ends::new(11);
        let (mut initiator, datagram) = ends.start(None);
        let mut damaged = datagram.clone();
        // mac2 is looked at by the gate only.
        let place = at.index(damaged.len() - 16);
        damaged[place] ^= 1 << bit;
        prop_assert!(Responder::read(&ends.server, &damaged).is_err());
        prop_assert!(Responder::read(&ends.server, &datagram[..cut.index(datagram.len())]).is_err());

        let (_, answer) = ends.respond(&datagram);
        let mut damaged = answer.clone();
        damaged[at.index(answer.len())] ^= 1 << bit;
        prop_assert!(initiator.finish(&damaged).is_err());
        prop_assert!(initiator.finish(&answer[..cut.index(answer.len())]).is_err());
        prop_assert!(initiator.finish(&answer).is_ok());
    }

    #[test]
    fn any_bytes_can_come(kind in 0x81..=0x84u8, rest in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut ends = Ends::new(12);
        let (mut initiator, _) = ends.start(None);
        let now = Instant::ZERO;
        let mut gate = Gate::new(ends.server.public(), now, &mut ends.rng);
        let mut datagram = vec![kind];
        datagram.extend_from_slice(&rest);
        prop_assert!(Responder::read(&ends.server, &datagram).is_err());
        prop_assert!(initiator.finish(&datagram).is_err());
        prop_assert!(initiator.cookie(&datagram).is_none());
        let verdict = gate.admit(&datagram, address("192.0.2.7:4000"), now, &mut ends.rng);
        prop_assert_eq!(verdict, Admission::Drop);
    }
}
