//! What people do with a registry.

use super::*;
use crate::key::PrivateKey;

const NOW: UnixTime = 1_800_000_000;

fn key() -> PublicKey {
    PrivateKey::generate().unwrap().public()
}

fn invitation(name: Option<&str>) -> Invite {
    Invite {
        name: name.map(str::to_owned),
        public_key: key(),
        made: NOW,
        expires: NOW + 3600,
        used: None,
    }
}

fn join(registry: &Registry, invite: &Invite, key: &PublicKey, now: UnixTime) -> Result<Client, Refusal> {
    let address = |clients: &[Client]| Some(vec![IpAddr::from([10, 73, 0, clients.len() as u8 + 2])]);
    registry
        .register(&invite.public_key, key, Some("router"), now, address)
        .unwrap()
}

#[test]
fn a_code_admits_one_client_once() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let invite = invitation(Some("boat"));
    registry.invite(&invite).unwrap();
    let boat = key();
    let client = join(&registry, &invite, &boat, NOW).unwrap();
    assert_eq!((client.name.as_str(), client.public_key), ("boat", boat));
    // The answer got lost: it asks again, later than the code was good for.
    assert_eq!(join(&registry, &invite, &boat, NOW + 9999), Ok(client));
    assert_eq!(join(&registry, &invite, &key(), NOW), Err(Refusal::Used));
    assert_eq!(registry.clients().unwrap().len(), 1);
}

#[test]
fn expired_unknown_and_revoked_codes_admit_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let invite = invitation(None);
    assert_eq!(join(&registry, &invite, &key(), NOW), Err(Refusal::Expired));
    registry.invite(&invite).unwrap();
    assert_eq!(
        join(&registry, &invite, &key(), NOW + 3600),
        Err(Refusal::Expired)
    );
    registry.remove_invite(&invite.public_key).unwrap();
    assert_eq!(join(&registry, &invite, &key(), NOW), Err(Refusal::Expired));
    assert!(registry.clients().unwrap().is_empty());
}

#[test]
fn everything_is_there_after_a_restart_and_only_its_owner_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let invite = invitation(None);
    let client = {
        let registry = Registry::open(folder.path()).unwrap();
        registry.invite(&invite).unwrap();
        registry.set_once("purpose", &"secret").unwrap();
        join(&registry, &invite, &key(), NOW).unwrap()
    };
    let registry = Registry::open(folder.path()).unwrap();
    assert_eq!(registry.clients().unwrap(), [client]);
    assert_eq!(
        registry.once::<String>("purpose").unwrap().as_deref(),
        Some("secret")
    );
    registry.burn("purpose").unwrap();
    assert_eq!(registry.once::<String>("purpose").unwrap(), None);
    let mode = std::fs::metadata(folder.path().join(FILE))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = Registry::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("another sennit has it open"), "{error}");
}

#[test]
fn two_clients_of_one_name_get_two() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let names: Vec<String> = (0..3)
        .map(|_| {
            let invite = invitation(None);
            registry.invite(&invite).unwrap();
            join(&registry, &invite, &key(), NOW).unwrap().name
        })
        .collect();
    assert_eq!(names, ["router", "router-2", "router-3"]);
    registry.remove_client("router-2").unwrap();
    assert!(registry.remove_client("router-2").is_err());
}

#[test]
fn a_name_that_a_stranger_brings_is_harmless() {
    assert_eq!(free_name("../../etc", &[]), "client");
    assert_eq!(free_name("\u{1b}[2J", &[]), "client");
    assert_eq!(free_name("", &[]), "client");
    assert_eq!(free_name(&"x".repeat(33), &[]), "client");
}

#[test]
fn an_export_makes_the_same_registry_elsewhere() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let registry = Registry::open(here.path()).unwrap();
    let invite = invitation(Some("boat"));
    registry.invite(&invite).unwrap();
    join(&registry, &invite, &key(), NOW).unwrap();
    let client = registry.clients().unwrap()[0].public_key;
    let mut usage = Usage::default();
    usage.add(Month::of(NOW), Traffic { up: 7, down: 8 });
    registry.set_usages([(&client, &usage)].into_iter()).unwrap();
    let exported = registry.export().unwrap();
    let other = Registry::open(there.path()).unwrap();
    assert_eq!(other.import(exported.clone()).unwrap(), 1);
    assert_eq!(other.clients().unwrap(), registry.clients().unwrap());
    assert_eq!(other.usage(&client).unwrap(), usage);

    let mut twice = exported;
    let boat = twice["clients"][0].clone();
    twice["clients"].as_array_mut().unwrap().push(boat);
    assert!(other.import(twice).is_err());
    assert!(other.import(serde_json::json!({"clients": []})).is_err());
    assert_eq!(
        other.clients().unwrap().len(),
        1,
        "a refused import changes nothing"
    );
}

#[test]
fn old_invitations_are_forgotten_and_open_ones_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let old = invitation(None);
    registry.invite(&old).unwrap();
    let later = Invite {
        made: NOW + 30 * 24 * 3600,
        expires: NOW + 31 * 24 * 3600,
        ..invitation(None)
    };
    registry.invite(&later).unwrap();
    assert_eq!(registry.invites().unwrap(), [later]);
}
