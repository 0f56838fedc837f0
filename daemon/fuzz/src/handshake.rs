//! Any handshake datagrams, with a right `mac1`, so that they get past it: none is taken, and the true ones still are.

use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use sennit_engine::crypto::Suite;
use sennit_engine::handshake::{
    Admission, Gate, InitiationPayload, Initiator, PrivateKey, PublicKey, Responder, VERSION,
};
use sennit_engine::ids::{PathId, ReceiverIndex};
use sennit_engine::settings::{Encryption, Mode};
use sennit_engine::time::Instant;

/// The first byte chooses who gets the rest. If that is as long as a true datagram it lies over one, where it is not zero.
pub fn run(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    let mut rng = ChaCha12Rng::from_seed([1; 32]);
    let server = PrivateKey::from_bytes(&[2; 32]);
    let client = PrivateKey::from_bytes(&[3; 32]);
    let payload = InitiationPayload {
        version: VERSION,
        suites: Suite::offer(true, Encryption::On),
        instance: 1,
        peer_instance: 0,
        receiver: ReceiverIndex(4),
        mode: Mode::Speed,
        path: PathId(0),
    };
    let (mut initiator, true_initiation) =
        Initiator::start(&client, &server.public(), None, &payload, None, &mut rng).expect("it starts");
    match choice % 3 {
        0 => {
            let hostile = with_mac1(laid_over(&true_initiation, rest), &server.public(), 32);
            let same =
                hostile[..hostile.len().saturating_sub(16)] == true_initiation[..true_initiation.len() - 16];
            assert_eq!(Responder::read(&server, &hostile).is_ok(), same);
            let mut gate = Gate::new(server.public(), Instant::ZERO, &mut rng);
            let remote = ([192, 0, 2, *choice], 7).into();
            for _ in 0..101 {
                match gate.admit(&hostile, remote, Instant::ZERO, &mut rng) {
                    Admission::Prove(reply) => assert!(reply.len() < hostile.len()),
                    Admission::Compute | Admission::Drop => {}
                }
            }
        }
        1 => {
            let hostile = with_mac1(rest.to_vec(), &client.public(), 16);
            assert!(initiator.finish(&hostile).is_err());
        }
        _ => assert_eq!(initiator.cookie(rest), None),
    }
}

fn laid_over(truth: &[u8], rest: &[u8]) -> Vec<u8> {
    if rest.len() != truth.len() {
        return rest.to_vec();
    }
    truth
        .iter()
        .zip(rest)
        .map(|(truth, other)| if *other == 0 { *truth } else { *other })
        .collect()
}

/// Makes `mac1`, which stands `from_end` bytes before the end, right.
fn with_mac1(mut datagram: Vec<u8>, receiver: &PublicKey, from_end: usize) -> Vec<u8> {
    let Some(at) = datagram.len().checked_sub(from_end) else {
        return datagram;
    };
    let key = Blake2s256::new_with_prefix("sennit 1 mac1")
        .chain_update(receiver.0)
        .finalize();
    let mut mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(&key).expect("32 bytes");
    Mac::update(&mut mac, &datagram[..at]);
    datagram[at..at + 16].copy_from_slice(&mac.finalize().into_bytes());
    datagram
}
