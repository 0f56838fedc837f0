//! OpenPGP: detached signatures over `sha256sums`, trusted by the fingerprint of the primary key.
//!
//! The question is "did the owner of this primary key sign exactly these bytes, with a key that was good at the time
//! the signature says it was made?". There is no web of trust, no clock and no key store here. The newest statement
//! of the owner governs: a subkey whose expiry was prolonged is judged by the new date, and a revoked key is refused
//! whatever the date, because nobody can tell when a signature by a stolen key was really made.

use std::fmt;

use pgp::{
    armor::Dearmor,
    composed::{Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey},
    crypto::hash::HashAlgorithm,
    packet::{Signature, SignatureType, SubpacketData},
    types::{KeyDetails, Tag},
};

use crate::{Malformed, hex, unhex};

/// Largest key file or signature that is looked at, bytes.
const MOST_BYTES: usize = 4 << 20;
/// Most signatures that are tried.
const MOST_SIGNATURES: usize = 32;
/// Most certificates and most subkeys or signatures of one, so that checking ends soon.
const MOST_PARTS: usize = 512;

const ARMOR: &[u8] = b"-----BEGIN PGP ";

/// Fingerprint of a key: 20 bytes (version 4) or 32 (version 6).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(Vec<u8>);

impl Fingerprint {
    /// Reads 40 or 64 hexadecimal digits; blanks between them are allowed, as gpg prints them.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let digits: String = text.chars().filter(|character| *character != ' ').collect();
        match unhex(&digits) {
            Some(bytes) if matches!(bytes.len(), 20 | 32) => Ok(Self(bytes)),
            _ => Err(Malformed(format!(
                "{text:?} is no OpenPGP fingerprint of 40 hexadecimal digits"
            ))),
        }
    }

    fn of(key: &impl KeyDetails) -> Self {
        Self(key.fingerprint().as_bytes().to_vec())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0).to_ascii_uppercase())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Who made a good signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The trusted primary key.
    pub primary: Fingerprint,
    /// The key that signed: the primary itself or one of its subkeys.
    pub key: Fingerprint,
    /// When the signature says it was made, seconds since 1970.
    pub created: u64,
}

/// Checks that one of the signatures in `signature` (armored or binary) is over exactly `data`, by one of
/// `trusted_primary` or by a signing subkey of it, found in `key_file` (armored or binary, any number of keys).
///
/// # Errors
/// Says for each signature why it does not count: made by a key that the file lacks (named by its id), by an untrusted
/// or revoked one, by one that had expired or did not exist yet, or not over these bytes.
pub fn verify(
    key_file: &[u8],
    trusted_primary: &[Fingerprint],
    data: &[u8],
    signature: &[u8],
) -> Result<Signer, Malformed> {
    let certificates = certificates(key_file)?;
    let (trusted, others): (Vec<_>, Vec<_>) = certificates
        .iter()
        .partition(|key| trusted_primary.contains(&Fingerprint::of(*key)));
    if trusted.is_empty() {
        return Err(Malformed(format!(
            "the key file holds {}, but the trusted key is {}",
            list(others.into_iter().map(Fingerprint::of)),
            list(trusted_primary.iter().cloned())
        )));
    }
    let signatures = signatures(signature)?;
    let mut refusals: Vec<String> = Vec::new();
    for signature in &signatures {
        match judge(&trusted, signature, data) {
            Ok(signer) => return Ok(signer),
            Err(Malformed(refusal)) if refusals.contains(&refusal) => {}
            Err(Malformed(refusal)) => refusals.push(refusal),
        }
    }
    Err(Malformed(refusals.join("; ")))
}

/// The fingerprints of the primary keys in a key file, to show and to confirm a key on first use.
pub fn primaries(key_file: &[u8]) -> Result<Vec<Fingerprint>, Malformed> {
    Ok(certificates(key_file)?.iter().map(Fingerprint::of).collect())
}

fn list(fingerprints: impl Iterator<Item = Fingerprint>) -> String {
    let all: Vec<String> = fingerprints.map(|fingerprint| fingerprint.to_string()).collect();
    if all.is_empty() {
        "no key".into()
    } else {
        all.join(", ")
    }
}

/// Whether one signature counts.
fn judge(trusted: &[&SignedPublicKey], signature: &Signature, data: &[u8]) -> Result<Signer, Malformed> {
    if signature.typ() != Some(SignatureType::Binary) {
        return Err(Malformed(
            "a signature of a kind that is not over a file's bytes".into(),
        ));
    }
    let Some(created) = signature.created().map(|time| time.as_secs()) else {
        return Err(Malformed("a signature that does not say when it was made".into()));
    };
    let mut refusal = None;
    for certificate in trusted {
        let primary = Fingerprint::of(*certificate);
        if claims(signature, *certificate) {
            let state =
                primary_state(certificate, created).and_then(|state| state.may_sign("the key", &primary));
            match state.and_then(|()| fits(signature, &certificate.primary_key, data)) {
                Ok(()) => {
                    return Ok(Signer {
                        key: primary.clone(),
                        primary,
                        created: created.into(),
                    });
                }
                Err(error) => refusal = Some(error),
            }
        }
        for subkey in certificate
            .public_subkeys
            .iter()
            .filter(|subkey| claims(signature, *subkey))
        {
            let key = Fingerprint::of(subkey);
            let state = primary_state(certificate, created)
                .and_then(|_| subkey_state(certificate, subkey, created)?.may_sign("the subkey", &key));
            match state.and_then(|()| fits(signature, &subkey.key, data)) {
                Ok(()) => {
                    return Ok(Signer {
                        primary,
                        key,
                        created: created.into(),
                    });
                }
                Err(error) => refusal = Some(error),
            }
        }
    }
    Err(refusal.unwrap_or_else(|| {
        Malformed(format!(
            "signed by the key {}, which is not among the trusted ones of the key file",
            issuer(signature)
        ))
    }))
}

/// Whether a signature names this key as its maker, or names nobody.
fn claims(signature: &Signature, key: &impl KeyDetails) -> bool {
    let (ids, fingerprints) = (signature.issuer_key_id(), signature.issuer_fingerprint());
    ids.contains(&&key.legacy_key_id())
        || fingerprints.contains(&&key.fingerprint())
        || (ids.is_empty() && fingerprints.is_empty())
}

/// The maker that a signature names: the fingerprint if it has one, else the key id.
fn issuer(signature: &Signature) -> String {
    let fingerprints = signature.issuer_fingerprint();
    let ids = signature.issuer_key_id();
    match (fingerprints.first(), ids.first()) {
        (Some(fingerprint), _) => hex(fingerprint.as_bytes()).to_ascii_uppercase(),
        (None, Some(id)) => id.to_string().to_ascii_uppercase(),
        (None, None) => "(not named)".into(),
    }
}

fn fits(signature: &Signature, key: &impl pgp::types::VerifyingKey, data: &[u8]) -> Result<(), Malformed> {
    strong(signature)?;
    signature.verify(key, data).map_err(|_| {
        Malformed(format!(
            "the signature by {} does not fit the file",
            Fingerprint::of(key)
        ))
    })
}

/// Refuses hashes for which a second file with the same signature can be made.
fn strong(signature: &Signature) -> Result<(), Malformed> {
    match signature.hash_alg() {
        Some(
            HashAlgorithm::Sha224
            | HashAlgorithm::Sha256
            | HashAlgorithm::Sha384
            | HashAlgorithm::Sha512
            | HashAlgorithm::Sha3_256
            | HashAlgorithm::Sha3_512,
        ) => Ok(()),
        Some(other) => Err(Malformed(format!(
            "the signature uses {other}, which is broken or unknown"
        ))),
        None => Err(Malformed("a signature of an unknown version".into())),
    }
}

/// What the owner says a key may do.
struct State {
    sign: bool,
}

impl State {
    fn may_sign(self, what: &str, key: &Fingerprint) -> Result<(), Malformed> {
        if self.sign {
            Ok(())
        } else {
            Err(Malformed(format!("{what} {key} is not meant for signing files")))
        }
    }
}

/// The primary key at time `at`, by its newest valid self-signature.
fn primary_state(certificate: &SignedPublicKey, at: u32) -> Result<State, Malformed> {
    let key = &certificate.primary_key;
    let fingerprint = Fingerprint::of(key);
    let details = &certificate.details;
    let of_type = |signature: &&Signature, typ| signature.typ() == Some(typ);
    let revoked = |signature: &&Signature| {
        of_type(signature, SignatureType::KeyRevocation) && signature.verify_key(key).is_ok()
    };
    if details
        .revocation_signatures
        .iter()
        .chain(&details.direct_signatures)
        .any(|signature| revoked(&signature))
    {
        return Err(Malformed(format!(
            "the key {fingerprint} was revoked by its owner"
        )));
    }
    let direct = details
        .direct_signatures
        .iter()
        .filter(|signature| of_type(signature, SignatureType::Key) && signature.verify_key(key).is_ok());
    let certified = details.users.iter().flat_map(|user| {
        let own = |signature: &&Signature| {
            claims(signature, key) && signature.verify_certification(key, Tag::UserId, &user.id).is_ok()
        };
        let own: Vec<&Signature> = user.signatures.iter().filter(own).collect();
        let withdrawn = own
            .iter()
            .any(|signature| of_type(signature, SignatureType::CertRevocation));
        own.into_iter()
            .filter(move |signature| !withdrawn && signature.is_certification())
    });
    let newest = newest(direct.chain(certified), at).ok_or_else(|| {
        Malformed(format!(
            "the key {fingerprint} has no valid signature of its owner on it"
        ))
    })?;
    alive("the key", key, newest, at)?;
    Ok(State {
        sign: flags(newest).is_none_or(|flags| flags.sign()),
    })
}

/// A subkey at time `at`, by its newest valid binding.
fn subkey_state(
    certificate: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    at: u32,
) -> Result<State, Malformed> {
    let (primary, key) = (&certificate.primary_key, &subkey.key);
    let fingerprint = Fingerprint::of(key);
    let valid = |signature: &&Signature| signature.verify_subkey_binding(primary, key).is_ok();
    let (revocations, bindings): (Vec<_>, Vec<_>) = subkey
        .signatures
        .iter()
        .partition(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation));
    if revocations.iter().any(valid) {
        return Err(Malformed(format!(
            "the subkey {fingerprint} was revoked by its owner"
        )));
    }
    let newest = newest(bindings.into_iter().filter(valid), at).ok_or_else(|| {
        Malformed(format!(
            "the subkey {fingerprint} is not validly bound to its primary key"
        ))
    })?;
    alive("the subkey", key, newest, at)?;
    let sign = flags(newest).is_some_and(|flags| flags.sign());
    // Without the subkey's own word, anybody could claim somebody else's signing key as their subkey.
    let back = |signature: &Signature| {
        strong(signature).is_ok()
            && !expired_signature(signature, at)
            && signature.verify_primary_key_binding(key, primary).is_ok()
    };
    if sign && !newest.embedded_signature().is_some_and(back) {
        return Err(Malformed(format!(
            "the subkey {fingerprint} does not confirm that it belongs to its primary key"
        )));
    }
    Ok(State { sign })
}

/// The newest of the owner's statements that rests on a good hash and had not expired at time `at`.
fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>, at: u32) -> Option<&'a Signature> {
    signatures
        .filter(|signature| strong(signature).is_ok() && !expired_signature(signature, at))
        .filter(|signature| signature.created().is_some())
        .max_by_key(|signature| signature.created().map(|time| time.as_secs()))
}

/// Whether a signature had itself run out at time `at`.
fn expired_signature(signature: &Signature, at: u32) -> bool {
    let lifetime = signature
        .signature_expiration_time()
        .map_or(0, |time| time.as_secs());
    let created = signature.created().map_or(0, |time| time.as_secs());
    lifetime != 0 && u64::from(at) >= u64::from(created) + u64::from(lifetime)
}

/// Checks that a key existed and had not expired at time `at`.
fn alive(what: &str, key: &impl KeyDetails, statement: &Signature, at: u32) -> Result<(), Malformed> {
    let fingerprint = Fingerprint::of(key);
    let created = key.created_at().as_secs();
    if at < created {
        return Err(Malformed(format!(
            "the signature claims to be older than {what} {fingerprint}"
        )));
    }
    let lifetime = statement.key_expiration_time().map_or(0, |time| time.as_secs());
    let end = u64::from(created) + u64::from(lifetime);
    if lifetime != 0 && u64::from(at) >= end {
        return Err(Malformed(format!(
            "{what} {fingerprint} had expired when the signature was made"
        )));
    }
    Ok(())
}

/// The key flags of a statement, if it has any (an absent field means "everything" for a primary key).
fn flags(signature: &Signature) -> Option<pgp::packet::KeyFlags> {
    let present = |data: &SubpacketData| matches!(data, SubpacketData::KeyFlags(_));
    let config = signature.config()?;
    config
        .hashed_subpackets()
        .any(|subpacket| present(&subpacket.data))
        .then(|| signature.key_flags())
}

/// Every certificate of a key file; armored blocks may follow each other.
fn certificates(bytes: &[u8]) -> Result<Vec<SignedPublicKey>, Malformed> {
    let broken = |error: pgp::errors::Error| Malformed(format!("this is no OpenPGP key file: {error}"));
    let mut all = Vec::new();
    for block in blocks(bytes, "key file")? {
        for certificate in SignedPublicKey::from_bytes_many(&block[..]).map_err(broken)? {
            let certificate = certificate.map_err(broken)?;
            let signatures = |certificate: &SignedPublicKey| {
                let subkeys = certificate
                    .public_subkeys
                    .iter()
                    .map(|subkey| subkey.signatures.len() + 1);
                let users = certificate
                    .details
                    .users
                    .iter()
                    .map(|user| user.signatures.len() + 1);
                subkeys.chain(users).sum::<usize>()
            };
            if all.len() >= MOST_PARTS || signatures(&certificate) > MOST_PARTS {
                return Err(Malformed("the key file holds too many keys or signatures".into()));
            }
            all.push(certificate);
        }
    }
    if all.is_empty() {
        return Err(Malformed("the key file holds no OpenPGP key".into()));
    }
    Ok(all)
}

/// Every signature of a detached signature file.
fn signatures(bytes: &[u8]) -> Result<Vec<Signature>, Malformed> {
    let broken = |error: pgp::errors::Error| Malformed(format!("this is no OpenPGP signature: {error}"));
    let mut all = Vec::new();
    for block in blocks(bytes, "signature")? {
        for signature in DetachedSignature::from_bytes_many(&block[..]).map_err(broken)? {
            all.push(signature.map_err(broken)?.signature);
            if all.len() > MOST_SIGNATURES {
                return Err(Malformed(format!("more than {MOST_SIGNATURES} signatures")));
            }
        }
    }
    if all.is_empty() {
        return Err(Malformed("the signature file holds no OpenPGP signature".into()));
    }
    Ok(all)
}

/// The packets of a file: as they are if binary, else those of each armored block.
fn blocks(bytes: &[u8], what: &str) -> Result<Vec<Vec<u8>>, Malformed> {
    if bytes.len() > MOST_BYTES {
        return Err(Malformed(format!(
            "a {what} of more than {} MiB",
            MOST_BYTES >> 20
        )));
    }
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        return Ok(vec![bytes.to_vec()]);
    }
    let starts: Vec<usize> = bytes
        .windows(ARMOR.len())
        .enumerate()
        .filter(|(_, window)| *window == ARMOR)
        .map(|(at, _)| at)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    let mut blocks = Vec::new();
    for (start, end) in starts.iter().zip(ends) {
        let mut block = Vec::new();
        std::io::Read::read_to_end(&mut Dearmor::new(&bytes[*start..end]), &mut block)
            .map_err(|error| Malformed(format!("the armor of this {what} is damaged: {error}")))?;
        blocks.push(block);
    }
    if blocks.is_empty() {
        return Err(Malformed(format!(
            "this {what} is neither armored nor binary OpenPGP"
        )));
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("../tests/fixtures/openpgp/", $name)).as_slice()
        };
    }

    const DATA: &[u8] = fixture!("data");

    fn key(name: &str) -> Fingerprint {
        let lines = include_str!("../tests/fixtures/openpgp/fingerprints").lines();
        let mut words = lines.filter_map(|line| line.split_once(' '));
        Fingerprint::parse(words.find(|(word, _)| *word == name).unwrap().1).unwrap()
    }

    fn check(key_file: &[u8], signature: &[u8]) -> Result<Signer, Malformed> {
        verify(key_file, &[key("release")], DATA, signature)
    }

    #[track_caller]
    fn refused(key_file: &[u8], signature: &[u8], why: &str) {
        let error = check(key_file, signature).unwrap_err();
        assert!(error.0.contains(why), "{error}");
    }

    #[test]
    fn the_primary_and_its_signing_subkeys_may_sign() {
        let signer = check(fixture!("release.asc"), fixture!("by-primary.asc")).unwrap();
        assert_eq!((&signer.primary, &signer.key), (&key("release"), &key("release")));
        let signer = check(fixture!("release.asc"), fixture!("by-new.asc")).unwrap();
        assert_eq!((&signer.primary, &signer.key), (&key("release"), &key("new")));
        assert_eq!(signer.created, 1_717_200_000); // 2024-06-01
    }

    #[test]
    fn a_subkey_counts_for_what_it_signed_before_it_expired() {
        let signer = check(fixture!("release.asc"), fixture!("by-old-in-time.asc")).unwrap();
        assert_eq!(signer.key, key("old"));
        let why = format!(
            "the subkey {} had expired when the signature was made",
            key("old")
        );
        refused(fixture!("release.asc"), fixture!("by-old-late.asc"), &why);
        check(fixture!("release-prolonged.asc"), fixture!("by-old-late.asc")).unwrap();
    }

    #[test]
    fn a_subkey_that_the_key_file_lacks_is_named() {
        let why = format!("signed by the key {}, which is not among", key("new"));
        refused(fixture!("release-2022.asc"), fixture!("by-new.asc"), &why);
        refused(
            fixture!("release.asc"),
            fixture!("by-stranger.asc"),
            &key("stranger").to_string(),
        );
    }

    #[test]
    fn revoked_keys_are_refused_whenever_they_signed() {
        let why = format!("the subkey {} was revoked", key("revoked"));
        refused(
            fixture!("release-subkey-revoked.asc"),
            fixture!("by-revoked.asc"),
            &why,
        );
        check(fixture!("release-subkey-revoked.asc"), fixture!("by-new.asc")).unwrap();
        let why = format!("the key {} was revoked", key("release"));
        refused(fixture!("release-revoked.asc"), fixture!("by-primary.asc"), &why);
        refused(fixture!("release-revoked.asc"), fixture!("by-new.asc"), &why);
    }

    #[test]
    fn one_good_signature_among_several_suffices() {
        let signer = check(fixture!("release.asc"), fixture!("by-stranger-and-new.asc")).unwrap();
        assert_eq!(signer.key, key("new"));
        let two_blocks = [fixture!("by-old-late.asc"), fixture!("by-primary.asc")].concat();
        assert_eq!(
            check(fixture!("release.asc"), &two_blocks).unwrap().key,
            key("release")
        );
        let two_bad = [fixture!("by-old-late.asc"), fixture!("by-stranger.asc")].concat();
        refused(fixture!("release.asc"), &two_bad, "had expired");
        refused(fixture!("release.asc"), &two_bad, "not among");
    }

    #[test]
    fn only_trusted_fingerprints_count() {
        let both = [fixture!("stranger.asc"), fixture!("release.asc")].concat();
        assert_eq!(primaries(&both).unwrap(), [key("stranger"), key("release")]);
        check(&both, fixture!("by-new.asc")).unwrap();
        refused(&both, fixture!("by-stranger.asc"), "not among the trusted");
        let why = format!(
            "the key file holds {}, but the trusted key is {}",
            key("stranger"),
            key("release")
        );
        refused(fixture!("stranger.asc"), fixture!("by-stranger.asc"), &why);
        assert!(verify(&both, &[], DATA, fixture!("by-new.asc")).is_err());
        // A subkey's fingerprint is no anchor.
        assert!(
            verify(
                fixture!("release.asc"),
                &[key("new")],
                DATA,
                fixture!("by-new.asc")
            )
            .is_err()
        );
    }

    #[test]
    fn other_data_does_not_fit() {
        let error = verify(
            fixture!("release.asc"),
            &[key("release")],
            b"line one\n",
            fixture!("by-new.asc"),
        );
        assert!(error.unwrap_err().0.contains("does not fit the file"));
        // No normalisation of line ends.
        assert!(
            verify(
                fixture!("release.asc"),
                &[key("release")],
                b"line one\r\nline two\r\n",
                fixture!("by-new.asc")
            )
            .is_err()
        );
    }

    #[test]
    fn binary_files_are_read_too() {
        let keys = blocks(fixture!("release.asc"), "key file").unwrap().concat();
        let signature = blocks(fixture!("by-new.asc"), "signature").unwrap().concat();
        check(&keys, &signature).unwrap();
    }

    #[test]
    fn a_signing_subkey_without_its_own_word_is_refused() {
        use pgp::ser::Serialize;
        let mut certificate = certificates(fixture!("release.asc")).unwrap().remove(0);
        for subkey in &mut certificate.public_subkeys {
            for signature in &mut subkey.signatures {
                let config = signature.config().unwrap();
                let embedded = |data: &SubpacketData| matches!(data, SubpacketData::EmbeddedSignature(_));
                assert!(
                    !config
                        .hashed_subpackets()
                        .any(|subpacket| embedded(&subpacket.data))
                );
                let at = config
                    .unhashed_subpackets()
                    .position(|subpacket| embedded(&subpacket.data));
                if let Some(at) = at {
                    signature.unhashed_subpacket_remove(at).unwrap();
                }
            }
        }
        refused(
            &certificate.to_bytes().unwrap(),
            fixture!("by-new.asc"),
            "does not confirm",
        );
        check(&certificate.to_bytes().unwrap(), fixture!("by-primary.asc")).unwrap();
    }

    #[test]
    fn a_subkey_moved_to_another_certificate_is_not_bound() {
        use pgp::ser::Serialize;
        let release = certificates(fixture!("release.asc")).unwrap().remove(0);
        let mut stranger = certificates(fixture!("stranger.asc")).unwrap().remove(0);
        stranger.public_subkeys = release.public_subkeys;
        let error = verify(
            &stranger.to_bytes().unwrap(),
            &[key("stranger")],
            DATA,
            fixture!("by-new.asc"),
        )
        .unwrap_err();
        assert!(error.0.contains("not validly bound"), "{error}");
    }

    #[test]
    fn fingerprints_are_read_as_people_write_them() {
        let spaced = Fingerprint::parse("8a8b c12f 46b8 36c0 f9cd  b36f 1d53 d187 7742 e911").unwrap();
        assert_eq!(spaced.to_string(), "8A8BC12F46B836C0F9CDB36F1D53D1877742E911");
        assert!(
            Fingerprint::parse("1D53D1877742E911").is_err(),
            "a key id is not enough"
        );
        assert!(Fingerprint::parse("").is_err());
    }

    #[test]
    fn damage_never_panics_and_never_passes() {
        let keys = fixture!("release.asc");
        let signature = blocks(fixture!("by-new.asc"), "signature").unwrap().concat();
        let good = check(keys, &signature).unwrap();
        crate::hostile::mutations(&signature, 29, |bad| {
            if let Ok(signer) = check(keys, bad) {
                assert_eq!(signer, good, "only what is not signed may differ");
            }
        });
        let binary = blocks(keys, "key file").unwrap().concat();
        crate::hostile::mutations(&binary, 401, |bad| {
            if let Ok(signer) = check(bad, &signature) {
                assert_eq!(signer, good, "other parts of the key file may be damaged");
            }
        });
        crate::hostile::splices(keys, 20, |bad| drop(check(bad, &signature)));
        crate::hostile::splices(fixture!("by-stranger-and-new.asc"), 20, |bad| {
            drop(check(keys, bad))
        });
        crate::hostile::splices(&binary, 20, |bad| drop(check(bad, &signature)));
    }
}
