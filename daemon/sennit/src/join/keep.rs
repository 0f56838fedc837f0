//! What a client keeps of a server that it joined: on OpenWrt in UCI, where LuCI shows it, elsewhere in the
//! configuration file, with all that the user wrote there left as it is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use crate::config::{self, ClientConfig, DEFAULT_PATH, Endpoint};
use crate::key::PublicKey;
use crate::system::write_atomically;
use crate::{Error, Result};

/// UCI's file; on OpenWrt the configuration is made from it.
const UCI_FILE: &str = "/etc/config/sennit";

/// The configuration that the service made from it.
const UCI_CONFIG: &str = "/var/run/sennit/sennit.toml";

/// Where this machine's configuration lies unless the user names another one.
pub fn default_config() -> PathBuf {
    if Path::new(UCI_FILE).exists() {
        UCI_CONFIG.into()
    } else {
        DEFAULT_PATH.into()
    }
}

/// The client's files.
#[derive(Clone, Debug)]
pub struct Files {
    /// The configuration, if the user named one.
    pub config: Option<PathBuf>,
    /// The private key.
    pub key: PathBuf,
}

/// A server that was joined.
#[derive(Clone, Debug)]
pub struct Kept<'a> {
    /// Where it is.
    pub address: &'a Endpoint,
    /// Who it is.
    pub public_key: &'a PublicKey,
    /// Beside the servers that are known already, under this name; otherwise in place of all of them.
    pub beside: Option<&'a str>,
}

/// Keeps the server. Returns whether the service starts by itself with it (OpenWrt).
///
/// # Errors
/// The files cannot be written, or what is in them is no configuration of a client. Nothing is changed then.
pub fn keep(files: &Files, kept: &Kept<'_>) -> Result<bool> {
    if files.config.is_none() && Path::new(UCI_FILE).exists() {
        uci(kept)?;
        return Ok(true);
    }
    let path = files.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
    let before = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            "# Written by sennit join. docs/configuration.md lists every key.\n".to_owned()
        }
        Err(error) => {
            return Err(Error::environment(
                format!("failed to read {}: {error}", path.display()),
                "run sennit as root",
            ));
        }
    };
    let after = with_server(&before, &files.key, kept).map_err(|why| {
        Error::user(
            format!("{}: {why}", path.display()),
            "correct the file, or name another one by --config FILE",
        )
    })?;
    write_atomically(path, after.as_bytes())?;
    config::read::<ClientConfig>(Some(path)).map(|_| false)
}

fn with_server(text: &str, key: &Path, kept: &Kept<'_>) -> Result<String, String> {
    let mut document: DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| error.to_string())?;
    if !document.contains_key("private_key") && !document.contains_key("private_key_file") {
        document["private_key_file"] = value(key.display().to_string());
    }
    let mut server = Table::new();
    if let Some(name) = kept.beside {
        server.insert("name", value(name));
    }
    server.insert("address", value(kept.address.to_string()));
    server.insert("public_key", value(kept.public_key.to_string()));
    let present = document.get("server");
    if present.is_some_and(|present| !present.is_table() && !present.is_array_of_tables()) {
        return Err("server is no table".to_owned());
    }
    let item = match kept.beside {
        None => Item::Table(server),
        Some(name) => {
            let mut all = match present {
                Some(Item::ArrayOfTables(known)) => known.clone(),
                Some(Item::Table(known)) => ArrayOfTables::from_iter([known.clone()]),
                _ => ArrayOfTables::new(),
            };
            // The same one again: it has a new address or key.
            all.retain(|known| known.get("name").and_then(Item::as_str) != Some(name));
            all.push(server);
            Item::ArrayOfTables(all)
        }
    };
    // Its place in the file stays.
    if let (Some(Item::Table(before)), Item::Table(_)) = (present, &item) {
        let (position, decor) = (before.position(), before.decor().clone());
        document["server"] = item;
        if let Some(table) = document["server"].as_table_mut() {
            table.set_position(position);
            *table.decor_mut() = decor;
        }
    } else {
        document["server"] = item;
    }
    let text = document.to_string();
    toml::from_str::<ClientConfig>(&text).map_err(|error| error.message().to_owned())?;
    Ok(text)
}

fn uci(kept: &Kept<'_>) -> Result<()> {
    let run = |arguments: &[&str]| -> Result<()> {
        let failed = |why: String| {
            Error::environment(
                format!("uci {} failed: {why}", arguments.join(" ")),
                "run sennit as root; uci show sennit prints what is there",
            )
        };
        let output = Command::new("uci")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    };
    run(&["set", "sennit.main.role=client"])?;
    let (address, key) = (kept.address, kept.public_key);
    if let Some(name) = kept.beside {
        // Names of sections are narrower than those of servers.
        let section: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        run(&["set", &format!("sennit.{section}=server")])?;
        run(&["set", &format!("sennit.{section}.name={name}")])?;
        run(&["set", &format!("sennit.{section}.address={address}")])?;
        run(&["set", &format!("sennit.{section}.public_key={key}")])?;
    } else {
        run(&["set", &format!("sennit.main.server_address={address}")])?;
        run(&["set", &format!("sennit.main.server_public_key={key}")])?;
        // What belonged to the servers before; there may be none.
        let _ = run(&["-q", "delete", "sennit.main.server_preshared_key"]);
        while run(&["-q", "delete", "sennit.@server[0]"]).is_ok() {}
    }
    run(&["commit", "sennit"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    fn kept(text: &str) -> Result<String, String> {
        kept_as(text, None)
    }

    fn kept_as(text: &str, beside: Option<&str>) -> Result<String, String> {
        let kept = Kept {
            address: &"203.0.113.5".parse().unwrap(),
            public_key: &PrivateKey::generate().unwrap().public(),
            beside,
        };
        with_server(text, Path::new("/etc/sennit/private.key"), &kept)
    }

    #[test]
    fn another_server_stands_beside_the_first_and_the_same_one_only_once() {
        let one = kept("").unwrap();
        let two = kept_as(&one, Some("nyc")).unwrap();
        let again = kept_as(&two, Some("nyc")).unwrap();
        for text in [&two, &again] {
            let config: ClientConfig = toml::from_str(text).unwrap();
            let names: Vec<&str> = config.servers.iter().map(|server| server.name.as_str()).collect();
            assert_eq!(names, ["203.0.113.5", "nyc"], "{text}");
        }
        let config: ClientConfig = toml::from_str(&kept(&again).unwrap()).unwrap();
        assert_eq!(config.servers.len(), 1);
    }

    #[test]
    fn an_empty_file_becomes_a_configuration() {
        let text = kept("").unwrap();
        assert!(
            text.contains("private_key_file = \"/etc/sennit/private.key\""),
            "{text}"
        );
        assert!(
            text.contains("[server]\naddress = \"203.0.113.5:7300\"\n"),
            "{text}"
        );
    }

    #[test]
    fn what_the_user_wrote_stays() {
        let before = "# my boat\nmode = \"redundant\" # for calls\nprivate_key_file = \"/root/key\"\n\n\
                      [server]\naddress = \"198.51.100.1:7300\"\npublic_key = \"x\"\npreshared_key = \"y\"\n\n\
                      [wan.eth1]\npriority = \"backup\"\n";
        let text = kept(before).unwrap();
        assert!(
            text.starts_with("# my boat\nmode = \"redundant\" # for calls\n"),
            "{text}"
        );
        assert!(text.contains("[wan.eth1]\npriority = \"backup\"\n"), "{text}");
        assert!(
            text.contains("/root/key") && !text.contains("preshared_key"),
            "{text}"
        );
        assert!(!text.contains("198.51.100.1"), "{text}");
    }

    #[test]
    fn a_file_that_is_not_understood_is_not_touched() {
        assert!(kept("mode = [").is_err());
        assert!(kept("server = 3").is_err());
        assert!(kept("colour = \"red\"").unwrap_err().contains("colour"));
    }
}
