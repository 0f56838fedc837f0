//! The vectors of docs/PROTOCOL.md (`vectors.txt` beside this file): the engine makes them from fixed seeds, and a second
//! implementation makes the same.
//!
//! After a change of the protocol: `SENNIT_WRITE_VECTORS=1 cargo test -p sennit-engine --test vectors`.

mod frames;
mod second;

use std::fmt::Write as _;
use std::path::Path;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sennit_engine::crypto::Suite;
use sennit_engine::handshake::{
    CookieKeeper, InitiationPayload, Initiator, Keys, PresharedKey, PrivateKey, Responder, ResponsePayload,
    VERSION,
};
use sennit_engine::ids::{PathId, ReceiverIndex};
use sennit_engine::settings::{Encryption, Mode};
use sennit_engine::time::Instant;
use sennit_engine::wire::DataHeader;

/// Lines of `name = hex`.
#[derive(Default)]
struct Vectors(String);

impl Vectors {
    fn section(&mut self, title: &str) {
        let _ = write!(self.0, "\n[{title}]\n");
    }

    fn add(&mut self, name: &str, bytes: &[u8]) {
        let _ = write!(self.0, "{name} = ");
        for byte in bytes {
            let _ = write!(self.0, "{byte:02x}");
        }
        self.0.push('\n');
    }
}

const CLIENT_INDEX: u32 = 0x00ab_cdef;
const SERVER_INDEX: u32 = 0x0012_3456;

/// The 32 bytes that a generator with this seed draws first.
fn drawn(seed: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    generator(seed).fill_bytes(&mut bytes);
    bytes
}

fn generator(seed: u8) -> ChaCha12Rng {
    ChaCha12Rng::from_seed([seed; 32])
}

fn index(index: u32) -> [u8; 3] {
    let [_, high, middle, low] = index.to_be_bytes();
    [high, middle, low]
}

/// What offers this suite.
fn initiation(suite: Suite) -> InitiationPayload {
    InitiationPayload {
        version: VERSION,
        suites: Suite::offer(true, encryption(suite)),
        instance: 0x1122_3344_5566_7788,
        peer_instance: 0x99aa_bbcc_ddee_ff00,
        receiver: ReceiverIndex(CLIENT_INDEX),
        mode: Mode::Redundant,
        path: PathId(3),
    }
}

fn response(suite: Suite) -> ResponsePayload {
    ResponsePayload {
        suite,
        instance: 0x0102_0304_0506_0708,
        resumed: true,
        receiver: ReceiverIndex(SERVER_INDEX),
        addresses: vec![
            ("10.77.0.2".parse().expect("an address"), 24),
            ("fd77::2".parse().expect("an address"), 64),
        ],
        gateway: vec!["10.77.0.1".parse().expect("an address")],
        load: 42,
    }
}

/// The payloads as docs/PROTOCOL.md lays them out, written by hand.
fn encryption(suite: Suite) -> Encryption {
    if suite.encrypts() {
        Encryption::On
    } else {
        Encryption::Off
    }
}

fn initiation_bytes(suite: Suite) -> Vec<u8> {
    let mut bytes = vec![1, if suite.encrypts() { 0b011 } else { 0b111 }];
    bytes.extend(0x1122_3344_5566_7788u64.to_be_bytes());
    bytes.extend(0x99aa_bbcc_ddee_ff00u64.to_be_bytes());
    bytes.extend([1, 3]);
    bytes
}

fn response_bytes(suite: u8) -> Vec<u8> {
    let mut bytes = vec![suite, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0x12, 0x34, 0x56];
    bytes.extend([2, 4, 10, 77, 0, 2, 24]);
    bytes.extend([6, 0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 64]);
    bytes.extend([1, 4, 10, 77, 0, 1]);
    bytes.push(42);
    bytes
}

#[test]
fn the_engine_the_second_implementation_and_the_file_agree() {
    let secrets = second::Secrets {
        client: drawn(1),
        client_ephemeral: drawn(2),
        server: drawn(3),
        server_ephemeral: drawn(4),
        psk: drawn(5),
    };
    let client = PrivateKey::from_bytes(&secrets.client);
    let server = PrivateKey::from_bytes(&secrets.server);
    let psk = PresharedKey::from_bytes(&secrets.psk);

    let mut vectors = Vectors::default();
    vectors.section("keys");
    vectors.add("client_private", &secrets.client);
    vectors.add("client_public", &client.public().0);
    vectors.add("client_ephemeral_private", &secrets.client_ephemeral);
    vectors.add("server_private", &secrets.server);
    vectors.add("server_public", &server.public().0);
    vectors.add("server_ephemeral_private", &secrets.server_ephemeral);
    vectors.add("preshared", &secrets.psk);
    assert_eq!(second::public(&secrets.client), client.public().0);

    for suite in [Suite::ChaCha20Poly1305, Suite::Aes256Gcm, Suite::AuthenticateOnly] {
        vectors.section(&format!("handshake, suite {}", suite.to_wire()));
        let (mut initiator, first) = Initiator::start(
            &client,
            &server.public(),
            Some(&psk),
            &initiation(suite),
            None,
            &mut generator(2),
        )
        .expect("it starts");
        let (server_keys, answer) = Responder::read(&server, &first)
            .expect("it is read")
            .respond(Some(&psk), &response(suite), &mut generator(4))
            .expect("it is answered");
        let (client_keys, _) = initiator.finish(&answer).expect("it is the answer");

        let again = second::handshake(
            &secrets,
            index(CLIENT_INDEX),
            None,
            &initiation_bytes(suite),
            &response_bytes(suite.to_wire()),
        );
        assert_eq!(first, again.initiation);
        assert_eq!(answer, again.response);
        vectors.add("initiation_payload", &initiation_bytes(suite));
        vectors.add("initiation", &first);
        vectors.add("response_payload", &response_bytes(suite.to_wire()));
        vectors.add("response", &answer);
        vectors.add("handshake_hash", &again.hash);

        for (name, keys, split, receiver) in [
            ("client_to_server", &client_keys, &again.split[0], SERVER_INDEX),
            ("server_to_client", &server_keys, &again.split[1], CLIENT_INDEX),
        ] {
            let (key, iv) = second::data_key(split, suite.to_wire(), &again.hash);
            vectors.add(&format!("{name}_split"), split);
            vectors.add(&format!("{name}_key"), &key);
            vectors.add(&format!("{name}_iv"), &iv);
            let (path, number, plaintext) = (3, 0x01_0203_0405, b"\x01\x00\x00\x00");
            let datagram = sealed(keys, path, number, plaintext);
            let other = second::data_datagram(
                suite.to_wire(),
                (key, iv),
                index(receiver),
                path,
                number,
                plaintext,
            );
            assert_eq!(datagram, other);
            vectors.add(&format!("{name}_data"), &datagram);
        }
    }
    cookie(&mut vectors, &secrets, &client, &server, &psk);
    frames::add(&mut vectors);
    compare(&vectors.0);
}

fn sealed(keys: &Keys, path: u8, number: u64, plaintext: &[u8]) -> Vec<u8> {
    let header = DataHeader {
        receiver: keys.remote,
        path: PathId(path),
        packet_number: number as u32,
    }
    .encode();
    let mut datagram = header.to_vec();
    datagram.extend_from_slice(plaintext);
    keys.seal.seal(PathId(path), number, &mut datagram, 0);
    datagram
}

fn cookie(
    vectors: &mut Vectors,
    secrets: &second::Secrets,
    client: &PrivateKey,
    server: &PrivateKey,
    psk: &PresharedKey,
) {
    vectors.section("cookie");
    let start = |cookie| {
        Initiator::start(
            client,
            &server.public(),
            Some(psk),
            &initiation(Suite::Aes256Gcm),
            cookie,
            &mut generator(2),
        )
        .expect("it starts")
    };
    let (initiator, first) = start(None);
    let mut rng = generator(6);
    let mut keeper = CookieKeeper::new(server.public(), Instant::ZERO, &mut rng);
    let remote = "192.0.2.7:4000".parse().expect("an address");
    let reply = keeper
        .cookie_reply(&first, remote, Instant::ZERO, &mut rng)
        .expect("the client knows the server");
    let engine_cookie = initiator.cookie(&reply).expect("it is for us");
    let (_, proving) = start(Some(&engine_cookie));
    assert!(keeper.proves_address(&proving, remote, Instant::ZERO));

    let cookie = second::open_cookie(&server.public().0, &first, &reply);
    let again = second::handshake(
        secrets,
        index(CLIENT_INDEX),
        Some(cookie),
        &initiation_bytes(Suite::Aes256Gcm),
        &[],
    );
    assert_eq!(proving, again.initiation);
    vectors.add("reply_to_initiation", &reply);
    vectors.add("cookie", &cookie);
    vectors.add("initiation_with_cookie", &proving);
}

fn compare(made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/vectors.txt");
    if std::env::var_os("SENNIT_WRITE_VECTORS").is_some() {
        std::fs::write(&path, made).expect("the file can be written");
    }
    let written = std::fs::read_to_string(&path).expect("the file is there");
    for (made, written) in made.lines().zip(written.lines()) {
        assert_eq!(made, written, "vectors.txt says otherwise");
    }
    assert_eq!(made.lines().count(), written.lines().count());
}
