//! `sennit setup`: writes a configuration, and a private key if there is none.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::printer::say;
use crate::config::{ClientConfig, DEFAULT_KEY_PATH, DEFAULT_PATH, Endpoint, ServerConfig};
use crate::key::{PrivateKey, PublicKey};
use crate::{Error, Result};

#[derive(Subcommand)]
pub(super) enum Setup {
    /// The machine with the public address.
    Server {
        /// A client that may join: a name, and the public key that `sennit keygen` printed there. May be repeated.
        #[arg(long = "client", value_name = "NAME=PUBLIC_KEY", required = true, value_parser = parse_client)]
        clients: Vec<(String, PublicKey)>,
        /// UDP address on which clients reach it.
        #[arg(long, value_name = "ADDRESS", default_value = "[::]:7300")]
        listen: SocketAddr,
        #[command(flatten)]
        files: Files,
    },
    /// The router: has the WANs.
    Client {
        /// Name or address of the server, and its UDP port if it is not 7300.
        #[arg(long, value_name = "HOST[:PORT]")]
        server: Endpoint,
        /// The public key that `sennit keygen` printed on the server.
        #[arg(long, value_name = "PUBLIC_KEY", value_parser = parse_key)]
        server_key: PublicKey,
        #[command(flatten)]
        files: Files,
    },
}

#[derive(clap::Args)]
pub(super) struct Files {
    /// Where the configuration goes.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// This machine's private key; made if it does not exist.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_KEY_PATH)]
    key: PathBuf,
    /// Replace a configuration that exists; the old one stays as FILE.bak.
    #[arg(long)]
    force: bool,
}

fn parse_key(text: &str) -> Result<PublicKey, String> {
    PublicKey::try_from(text.to_owned())
}

pub(super) fn parse_client(text: &str) -> Result<(String, PublicKey), String> {
    let (name, key) = text
        .split_once('=')
        .ok_or_else(|| "write it as NAME=PUBLIC_KEY".to_owned())?;
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if name.is_empty() || !name.chars().all(allowed) {
        return Err("a client's name has letters, digits, - _ and .".to_owned());
    }
    Ok((name.to_owned(), parse_key(key)?))
}

pub(super) fn run(setup: &Setup) -> Result<()> {
    let (files, text) = match setup {
        Setup::Server {
            clients,
            listen,
            files,
        } => (files, server(clients, *listen, &files.key)),
        Setup::Client {
            server,
            server_key,
            files,
        } => (files, client(server, server_key, &files.key)),
    };
    let role = match setup {
        Setup::Server { .. } => "server",
        Setup::Client { .. } => "client",
    };
    write(&files.config, &text, files.force)?;
    // What was written is read back before anybody is told that it is good.
    match setup {
        Setup::Server { .. } => crate::config::read::<ServerConfig>(Some(&files.config)).map(|_| ())?,
        Setup::Client { .. } => crate::config::read::<ClientConfig>(Some(&files.config)).map(|_| ())?,
    }
    let key = if files.key.exists() {
        PrivateKey::read(&files.key)?
    } else {
        let key = PrivateKey::generate()?;
        key.write(&files.key, false)?;
        key
    };
    let option = if files.config == Path::new(DEFAULT_PATH) {
        String::new()
    } else {
        format!(" --config {}", files.config.display())
    };
    say(&format!(
        "wrote {}\nthis machine's public key: {}\nstart it: sennit run {role}{option}",
        files.config.display(),
        key.public()
    ));
    Ok(())
}

fn server(clients: &[(String, PublicKey)], listen: SocketAddr, key: &Path) -> String {
    let mut text = format!(
        "# Written by sennit setup. docs/configuration.md lists every key.\n\
         private_key_file = {:?}\nlisten = [\"{listen}\"]\n\
         address = [\"10.73.0.1/24\", \"fd73:656e:6e69:7400::1/64\"]\nnat = true\n",
        key.display().to_string()
    );
    for (index, (name, public_key)) in clients.iter().enumerate() {
        let host = index + 2;
        let _ = write!(
            text,
            "\n[[client]]\nname = \"{name}\"\npublic_key = \"{public_key}\"\n\
             address = [\"10.73.0.{host}\", \"fd73:656e:6e69:7400::{host:x}\"]\n"
        );
    }
    text
}

fn client(server: &Endpoint, server_key: &PublicKey, key: &Path) -> String {
    format!(
        "# Written by sennit setup. docs/configuration.md lists every key.\n\
         private_key_file = {:?}\n\n[server]\naddress = \"{server}\"\npublic_key = \"{server_key}\"\n",
        key.display().to_string()
    )
}

fn write(path: &Path, text: &str, force: bool) -> Result<()> {
    if path.exists() {
        if !force {
            return Err(Error::user(
                format!("{} exists", path.display()),
                "edit it, or replace it by --force (the old one stays as FILE.bak)",
            ));
        }
        let mut backup = path.as_os_str().to_owned();
        backup.push(".bak");
        std::fs::rename(path, &backup).map_err(|error| {
            Error::environment(
                format!("failed to keep {} as a backup: {error}", path.display()),
                "run this command as root",
            )
        })?;
    }
    let failed = |error: Error| {
        Error::environment(
            error.to_string(),
            "run this command as root, or name a file of your own by --config",
        )
    };
    crate::system::write_atomically(path, text.as_bytes()).map_err(failed)
}
