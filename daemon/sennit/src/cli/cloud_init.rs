//! `sennit cloud-init`: the user-data that makes a server of an empty Debian or Ubuntu machine at its first boot, written
//! before that machine exists.
//!
//! User-data can be read by others (the provider, every program on the machine): it holds a code that counts once, and
//! public keys; never a private key.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::json;

use super::invite::parse_time;
use super::join::{Own, own};
use super::printer::{say, show};
use crate::config::DEFAULT_PORT;
use crate::join::Code;
use crate::key::PublicKey;
use crate::system::write_with_mode;
use crate::{Error, Result, registry};

/// Where the code is kept on this machine until it is used, in the folder of the state.
const KEPT: &str = "cloud-init.code";
/// Name of this machine's key in messages about it.
const DEFAULT_NAME: &str = "router";

#[derive(clap::Args)]
pub(super) struct CloudInit {
    /// What the server calls this machine.
    #[arg(long, default_value = DEFAULT_NAME, value_parser = parse_name)]
    name: String,
    /// UDP port on which the server is reached.
    #[arg(long, default_value_t = DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// How long the code counts, from now on: 30m, 24h, 7d.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_time)]
    expires: u64,
    /// Where the machine gets sennit: a static program for its processor, by HTTP or HTTPS. Without it, that of this
    /// release.
    #[arg(long, value_name = "URL", requires = "sha256", value_parser = parse_url)]
    binary_url: Option<String>,
    /// The SHA-256 of that program, in hex digits: anything else is not started.
    #[arg(long, value_name = "HEX", requires = "binary_url")]
    sha256: Option<Sha256>,
    /// This machine's private key, if not that of its configuration; made if it does not exist. It stays here.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The configuration that this machine's daemon is started with.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write the user-data to a file instead of printing it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print {"user_data": …, "code": …, "expires": …, "public_key": …}.
    #[arg(long)]
    json: bool,
}

/// A program for one kind of processor.
#[derive(Clone, Debug)]
struct Binary {
    /// As `uname -m` says; `*` for any.
    machine: &'static str,
    url: String,
    sha256: Sha256,
}

impl Binary {
    /// Of an address and a SHA-256 with a space between them.
    fn parse(machine: &'static str, said: &str) -> Option<Self> {
        let (url, sha256) = said.split_once(' ')?;
        Some(Self {
            machine,
            url: parse_url(url).ok()?,
            sha256: sha256.parse().ok()?,
        })
    }
}

/// 64 hex digits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sha256(String);

impl FromStr for Sha256 {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() == 64 && text.chars().all(|character| character.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err("a SHA-256 has 64 hex digits, as sha256sum prints them".to_owned())
        }
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    registry::check_name(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// Characters that mean nothing to a shell within quotes, nor to YAML in a block.
fn parse_url(text: &str) -> Result<String, String> {
    let allowed =
        |character: char| character.is_ascii_alphanumeric() || "-._~:/?&=%+@,[]".contains(character);
    let named = text.starts_with("https://") || text.starts_with("http://");
    if named && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("write it as https://HOST/PATH, other characters as %XX".to_owned())
    }
}

/// The programs of this release, which `ci daemon` tells the compiler: each an address and a SHA-256.
fn released() -> Result<Vec<Binary>> {
    let said = [
        ("x86_64", option_env!("SENNIT_RELEASE_AMD64")),
        ("aarch64", option_env!("SENNIT_RELEASE_ARM64")),
    ];
    let binaries: Vec<Binary> = said
        .into_iter()
        .filter_map(|(machine, said)| Binary::parse(machine, said?))
        .collect();
    if binaries.is_empty() {
        return Err(Error::user(
            "this sennit was built outside a release: it does not know where a new machine gets its own",
            "put a static sennit on a web server of yours and name it: sennit cloud-init --binary-url URL --sha256 HEX",
        ));
    }
    Ok(binaries)
}

pub(super) fn run(arguments: &CloudInit) -> Result<()> {
    let binaries = match (&arguments.binary_url, &arguments.sha256) {
        (Some(url), Some(sha256)) => vec![Binary {
            machine: "*",
            url: url.clone(),
            sha256: sha256.clone(),
        }],
        _ => released()?,
    };
    let Own { key, common, .. } = own(arguments.config.as_deref(), arguments.key.as_deref())?;
    let code = Code::new(registry::now() + arguments.expires, None)?;
    let text = user_data(&code, &arguments.name, key.public(), arguments.port, &binaries);
    let kept = common.state_dir.join(KEPT);
    write_with_mode(&kept, format!("{code}\n").as_bytes(), 0o600)?;
    if let Some(file) = &arguments.out {
        write_with_mode(file, text.as_bytes(), 0o600)?;
    }
    let port = match arguments.port {
        DEFAULT_PORT => String::new(),
        port => format!(":{port}"),
    };
    if arguments.json {
        let value = json!({
            "user_data": text, "code": code.to_string(), "expires": code.expires,
            "public_key": key.public().to_string(), "port": arguments.port,
        });
        show(&value.to_string());
        return Ok(());
    }
    let place = match &arguments.out {
        Some(file) => format!("what {} holds", file.display()),
        None => {
            show(text.trim_end());
            "the text above".to_owned()
        }
    };
    say(&format!(
        "\nPaste {place} as user-data (cloud-init) of a new Debian or Ubuntu machine whose provider lets UDP {} in.\n\
         It counts once, for the next {} hours at most. When the machine is there, on this one:\n\n    \
         sennit join {code} --server ADDRESS{port}\n\n({} keeps the code.)",
        arguments.port,
        arguments.expires.div_ceil(3600),
        kept.display(),
    ));
    Ok(())
}

/// The whole user-data.
fn user_data(code: &Code, name: &str, client: PublicKey, port: u16, binaries: &[Binary]) -> String {
    let mut choice = String::new();
    for Binary { machine, url, sha256 } in binaries {
        choice += &format!("        {machine}) url='{url}' sha256={sha256} ;;\n");
    }
    if binaries.iter().all(|binary| binary.machine != "*") {
        choice += "        *) echo \"sennit: no program for $(uname -m)\" >&2; exit 1 ;;\n";
    }
    format!(
        r##"#cloud-config
# Makes a server of sennit for the client "{name}". Written by `sennit cloud-init`.
# The code counts once; there is no private key in here.
package_update: true
packages:
  - ca-certificates
  - curl
  - nftables
write_files:
  - path: /run/sennit-setup/code
    permissions: "0600"
    content: |
      {code}
  - path: /run/sennit-setup/setup
    permissions: "0600"
    content: |
      #!/bin/sh
      # Gets sennit, makes sure that it is the right one, and lets it set up the rest.
      set -eu
      case "$(uname -m)" in
{choice}      esac
      program=/usr/local/bin/sennit
      curl --fail --silent --show-error --location --retry 10 --retry-delay 3 --retry-connrefused \
        --output "$program.new" "$url"
      if ! echo "$sha256  $program.new" | sha256sum --check --status; then
        rm -f "$program.new"
        echo "sennit: $url is not the program that it should be (SHA-256)" >&2
        exit 1
      fi
      chmod 755 "$program.new"
      mv "$program.new" "$program"
      "$program" server init --first-contact /run/sennit-setup/code --client '{name}={client}' --port {port}
      rm -r /run/sennit-setup
runcmd:
  - [sh, /run/sennit-setup/setup]
"##
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn text(machines: &[&'static str]) -> (Code, String) {
        let code = Code::new(1_800_000_000, None).unwrap();
        let client = PrivateKey::generate().unwrap().public();
        let binaries: Vec<Binary> = machines
            .iter()
            .map(|machine| Binary {
                machine,
                url: format!("https://example.net/{machine}/sennit"),
                sha256: SHA256.parse().unwrap(),
            })
            .collect();
        let text = user_data(&code, "boat", client, 7300, &binaries);
        assert!(text.contains(&format!("--client 'boat={client}' --port 7300")));
        (code, text)
    }

    #[test]
    fn user_data_is_small_and_its_script_is_one() {
        let (code, text) = text(&["x86_64", "aarch64"]);
        // The least that a provider takes (EC2).
        assert!(text.len() < 16 << 10);
        assert!(text.contains(&format!("      {code}\n")));
        let (_, script) = text.split_once("      #!/bin/sh\n").unwrap();
        let (script, _) = script.split_once("runcmd:").unwrap();
        let checked = std::process::Command::new("sh")
            .args(["-n", "-c", script])
            .status()
            .unwrap();
        assert!(checked.success(), "{script}");
        assert!(script.contains("no program for"), "{script}");
    }

    #[test]
    fn one_program_may_serve_any_processor() {
        let (_, text) = text(&["*"]);
        assert!(text.contains("        *) url='https://example.net/*/sennit'"));
        assert!(!text.contains("no program for"));
    }

    #[test]
    fn a_release_says_where_and_what() {
        let said = format!("https://example.net/sennit {SHA256}");
        let binary = Binary::parse("x86_64", &said).unwrap();
        assert_eq!(
            (binary.url.as_str(), binary.sha256.0.as_str()),
            ("https://example.net/sennit", SHA256)
        );
        assert!(Binary::parse("x86_64", "https://example.net/sennit").is_none());
        assert!(Binary::parse("x86_64", "").is_none());
    }

    #[test]
    fn what_would_break_the_script_is_refused() {
        for url in [
            "ftp://h/x",
            "https://h/'x",
            "https://h/x y",
            "https://h/$(x)",
            "https://h/x\n",
        ] {
            assert!(parse_url(url).is_err(), "{url}");
        }
        assert!(parse_url("https://example.net:8443/a_b/sennit-1.0?x=%20").is_ok());
        assert!("abc".parse::<Sha256>().is_err() && format!("{SHA256}0").parse::<Sha256>().is_err());
        assert!(parse_name("a b").is_err() && parse_name("a'b").is_err());
    }
}
