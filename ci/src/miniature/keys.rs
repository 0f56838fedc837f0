//! The miniature's keys, made once: OpenPGP by the host's own `gpg` (a proof for our verifier that is not our code), usign.
//!
//! Secret halves stay in `private/`, a folder that only the user can open.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::{Failure, Result};
use camino::{Utf8Path, Utf8PathBuf};
use openwrt_formats::adb_index;
use openwrt_formats::usign::SecretKey;

use super::archive;
use super::debian::run;

/// Keys that sign the site.
pub(super) struct Keys {
    gnupg: Utf8PathBuf,
    /// The OpenPGP key file, armoured.
    pub(super) openpgp: Vec<u8>,
    /// Signs `sha256sums` and the indexes of opkg.
    pub(super) usign: SecretKey,
    /// Signs the indexes of apk.
    pub(super) apk: adb_index::SecretKey,
}

impl Keys {
    /// Reads the keys, or makes those that are not there.
    pub(super) fn prepare(source: &Utf8Path) -> Result<Self> {
        let private = source.join("private");
        let public = source.join("keys");
        archive::create_folder(&private)?;
        let closed = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&private, closed).map_err(|error| Failure::io("close", &private, error))?;

        let usign_path = private.join("usign.sec");
        if !usign_path.exists() {
            let key = SecretKey::from_seed(&random_seed()?);
            archive::write_file(&usign_path, key.to_text().as_bytes(), 0o600)?;
        }
        let text =
            std::fs::read_to_string(&usign_path).map_err(|error| Failure::io("read", &usign_path, error))?;
        let usign = SecretKey::parse(&text)
            .map_err(|error| Failure::environment(format!("{usign_path}: {error}")))?;
        archive::write_file(
            &public.join("usign.pub"),
            usign.public().to_text().as_bytes(),
            0o644,
        )?;

        let apk = apk_key(&private.join("apk.pem"))?;
        let pem = apk
            .public()
            .to_pem()
            .map_err(|error| Failure::environment(error.to_string()))?;
        archive::write_file(&public.join("apk.pem"), pem.as_bytes(), 0o644)?;

        // An interrupted run leaves a folder of that name only when the key in it is whole.
        let gnupg = private.join("gnupg");
        if !gnupg.exists() {
            make_openpgp(&gnupg)?;
        }
        let openpgp = run(gpg(&gnupg).args(["--armor", "--export"]))?.into_bytes();
        archive::write_file(&public.join("openpgp.asc"), &openpgp, 0o644)?;
        let listing = run(gpg(&gnupg).args(["--with-colons", "--list-keys"]))?;
        let fingerprint = listing
            .lines()
            .find_map(|line| line.strip_prefix("fpr:"))
            .and_then(|line| line.split(':').find(|field| field.len() == 40))
            .ok_or_else(|| Failure::environment(format!("{gnupg} has no key: remove {private}")))?;
        archive::write_file(
            &public.join("openpgp.fingerprint"),
            format!("{fingerprint}\n").as_bytes(),
            0o644,
        )?;
        Ok(Self {
            gnupg,
            openpgp,
            usign,
            apk,
        })
    }

    /// A detached, armoured OpenPGP signature of a file, written to `signature`.
    pub(super) fn sign_openpgp(&self, file: &Utf8Path, signature: &Utf8Path) -> Result<()> {
        run(gpg(&self.gnupg)
            .args(["--yes", "--armor", "--digest-algo", "SHA512", "--output"])
            .arg(signature)
            .arg("--detach-sign")
            .arg(file))?;
        Ok(())
    }
}

fn apk_key(path: &Utf8Path) -> Result<adb_index::SecretKey> {
    let malformed = |error| Failure::environment(format!("{path}: {error}"));
    if !path.exists() {
        let key = adb_index::SecretKey::from_seed(&random_seed()?).map_err(malformed)?;
        archive::write_file(path, key.to_pem().map_err(malformed)?.as_bytes(), 0o600)?;
    }
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, error))?;
    adb_index::SecretKey::parse(&text).map_err(malformed)
}

/// A primary key that only certifies, and a subkey that signs: the shape of OpenWrt's own.
fn make_openpgp(place: &Utf8Path) -> Result<()> {
    // gpg's agent talks over a socket in the folder, whose path must be short: made elsewhere, moved when whole.
    let made = tempfile::Builder::new()
        .prefix("gnupg")
        .tempdir()
        .map_err(|error| Failure::io("create", "a temporary folder", error))?;
    let folder = Utf8Path::from_path(made.path())
        .ok_or_else(|| Failure::environment("the temporary folder is not UTF-8"))?;
    let name = "Miniature of OpenWrt (tests only) <miniature@localhost>";
    let quick = ["--passphrase", "", "--pinentry-mode", "loopback"];
    run(gpg(folder)
        .args(quick)
        .args(["--quick-generate-key", name, "ed25519", "cert", "never"]))?;
    let listing = run(gpg(folder).args(["--with-colons", "--list-keys"]))?;
    let fingerprint = listing
        .lines()
        .find_map(|line| line.strip_prefix("fpr:"))
        .and_then(|line| line.split(':').find(|field| field.len() == 40))
        .ok_or_else(|| Failure::environment("gpg made no key"))?;
    run(gpg(folder)
        .args(quick)
        .args(["--quick-add-key", fingerprint, "ed25519", "sign", "never"]))?;
    stop_agent(folder);
    let new = place.with_extension("new");
    archive::remove(&new)?;
    copy_folder(folder, &new)?;
    std::fs::rename(&new, place).map_err(|error| Failure::io("rename", &new, error))
}

fn gpg(home: &Utf8Path) -> Command {
    let mut command = Command::new("gpg");
    command
        .args(["--batch", "--no-tty", "--quiet", "--no-options", "--homedir"])
        .arg(home);
    command
}

/// The agent would keep the temporary folder in use. It ends by itself too, so that a failure is no matter.
fn stop_agent(home: &Utf8Path) {
    let _ = Command::new("gpgconf")
        .args(["--homedir", home.as_str(), "--kill", "gpg-agent"])
        .output();
}

fn copy_folder(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    for path in archive::files_below(from)? {
        let name = path.strip_prefix(from).unwrap_or(&path);
        archive::write_file(&to.join(name), &archive::read_file(&path)?, 0o600)?;
    }
    let closed = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(to, closed).map_err(|error| Failure::io("close", to, error))
}

fn random_seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut seed))
        .map_err(|error| Failure::io("read", "/dev/urandom", error))?;
    Ok(seed)
}
