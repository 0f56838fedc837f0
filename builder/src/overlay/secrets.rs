//! Finds private keys in files that would go into an image, where everybody who has the image could read them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// The first private key in a file: its line and what kind it is.
pub(super) fn find(content: &[u8]) -> Option<(usize, &'static str)> {
    // Keys in UCI files and scripts are text, but a key may stand inside an otherwise binary file.
    let text = String::from_utf8_lossy(content);
    text.lines()
        .enumerate()
        .find_map(|(index, line)| Some((index + 1, kind(line)?)))
}

fn kind(line: &str) -> Option<&'static str> {
    let is_pem = line
        .split("-----BEGIN ")
        .nth(1)
        .and_then(|rest| rest.split("-----").next())
        .is_some_and(|label| label.ends_with("PRIVATE KEY") || label.starts_with("PGP PRIVATE KEY"));
    if is_pem {
        return Some("a PEM private key");
    }
    if line.contains("AGE-SECRET-KEY-1") {
        return Some("an age secret key");
    }
    if BASE64_STANDARD
        .decode(line.trim())
        .is_ok_and(|bytes| bytes.len() == 104 && bytes.starts_with(b"EdBK"))
    {
        return Some("a usign secret key");
    }
    let lower = line.to_ascii_lowercase();
    let named = [
        "private_key",
        "privatekey",
        "preshared_key",
        "presharedkey",
        "secret_key",
    ];
    named
        .iter()
        .filter_map(|name| lower.find(name).map(|at| at + name.len()))
        .any(|at| is_key_value(&line[at..]))
        .then_some("a WireGuard-style private key")
}

/// ` '…44 characters of base64…'`, `=…`, ` = …`
fn is_key_value(rest: &str) -> bool {
    let value = rest.trim_start_matches([' ', '\t', '=', '\'', '"']);
    value.len() != rest.len()
        && value
            .get(..44)
            .is_some_and(|key| BASE64_STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 32))
        && !value[44..].starts_with(|next: char| next.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_keys_of_all_kinds_are_found() {
        let key = BASE64_STANDARD.encode([7; 32]);
        let mut usign = b"EdBK".to_vec();
        usign.resize(104, 1);
        let cases = [
            ["-----BEGIN OPENSSH ", "PRIVATE KEY-----"].concat(),
            ["-----BEGIN EC ", "PRIVATE KEY-----"].concat(),
            ["-----BEGIN ", "PRIVATE KEY-----"].concat(),
            format!("\toption private_key '{key}'"),
            format!("uci set network.wg0.private_key={key}"),
            format!("PrivateKey = {key}"),
            BASE64_STANDARD.encode(usign),
        ];
        for case in cases {
            assert_eq!(
                find(format!("first\n{case}\n").as_bytes()).map(|(line, _)| line),
                Some(2),
                "{case}"
            );
        }
    }

    #[test]
    fn public_keys_and_empty_options_pass() {
        let key = BASE64_STANDARD.encode([7; 32]);
        for text in [
            "-----BEGIN PUBLIC KEY-----".to_owned(),
            format!("\toption public_key '{key}'"),
            "\toption private_key ''".to_owned(),
            "private_key=\"$(sennit keygen)\"".to_owned(),
        ] {
            assert_eq!(find(text.as_bytes()), None, "{text}");
        }
    }
}
