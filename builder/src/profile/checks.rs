//! What single values must look like. Each check says in a few words what is wrong, for a label under the value.

use std::net::Ipv4Addr;

/// Names that become file names, arguments and feature lists.
pub(super) fn plain_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match name.chars().find(|c| !plain(*c)) {
        _ if name.is_empty() => Err("empty".into()),
        Some(other) => Err(format!(
            "only a-z, 0-9 and `-` may stand here, not `{}`",
            other.escape_default()
        )),
        None if name.starts_with('-') || name.ends_with('-') => Err("starts or ends with `-`".into()),
        None => Ok(()),
    }
}

/// OpenWrt's package names, and names in `/etc/init.d`.
pub(super) fn package_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    match name.chars().find(|c| !allowed(*c)) {
        _ if name.is_empty() => Err("empty".into()),
        Some(other) => Err(format!("`{}` is in no package's name", other.escape_default())),
        None if name.starts_with(['-', '.', '+']) => Err("starts with a sign".into()),
        None => Ok(()),
    }
}

/// `25.12.5`, `24.10.0-rc1`
pub(super) fn release(text: &str) -> Result<(), String> {
    let (numbers, candidate) = text.split_once("-rc").map_or((text, None), |(n, c)| (n, Some(c)));
    let is_number =
        |part: &str| !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = numbers.split('.').collect();
    if parts.len() == 3 && parts.into_iter().all(is_number) && candidate.is_none_or(is_number) {
        return Ok(());
    }
    Err("a release looks like 25.12.5".into())
}

/// `bcm27xx/bcm2711`
pub(super) fn target(text: &str) -> Result<(), String> {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
    };
    match text.split_once('/') {
        Some((board, subtarget)) if part(board) && part(subtarget) => Ok(()),
        _ => Err("a target looks like bcm27xx/bcm2711".into()),
    }
}

/// An OpenWrt board, an architecture: one word that may end up in a path.
pub(super) fn word(text: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | ',');
    if text.is_empty() || text.starts_with('.') || !text.chars().all(allowed) {
        return Err("one word is expected: letters, digits, `-`, `_`, `.`".into());
    }
    Ok(())
}

/// The end of an image's file name.
pub(super) fn image_file(text: &str) -> Result<(), String> {
    word(text).map_err(|_| "the end of a file name is expected: ext4-factory.img.gz".into())
}

/// Only static musl binaries run on every OpenWrt release.
pub(super) fn rust_target(text: &str) -> Result<(), String> {
    let shape = text.split('-').count() == 4 && text.contains("-unknown-linux-musl");
    if shape && word(text).is_ok() {
        return Ok(());
    }
    Err("a static musl target is expected: aarch64-unknown-linux-musl".into())
}

/// What Linux takes as the name of an interface.
pub(super) fn interface(name: &str) -> Result<(), String> {
    if name.len() > 15 {
        return Err("longer than the 15 characters that Linux allows".into());
    }
    match name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
    {
        _ if name.is_empty() => Err("empty".into()),
        Some(other) => Err(format!(
            "`{}` cannot stand in an interface's name",
            other.escape_default()
        )),
        None if name == "." || name == ".." || name == "lo" => Err("not a port".into()),
        None => Ok(()),
    }
}

/// A path below `/sys/devices`: `platform/scb/fd580000.ethernet`.
pub(super) fn device_path(path: &str) -> Result<(), String> {
    if path.starts_with('/') {
        return Err("is meant relative to /sys/devices".into());
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:,@+/".contains(c);
    let clean = path
        .split('/')
        .all(|part| !part.is_empty() && part != "." && part != "..");
    if clean && path.chars().all(allowed) {
        Ok(())
    } else {
        Err("no path below /sys/devices".into())
    }
}

/// A name that a DHCP server and mDNS can hand around.
pub(super) fn hostname(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.is_empty()
        || name.len() > 63
        || !name.chars().all(allowed)
        || name.starts_with('-')
        || name.ends_with('-')
    {
        return Err("a host name has 1 to 63 letters, digits and `-`".into());
    }
    Ok(())
}

/// The router's own address in the LAN: an address of a private network that hosts can have.
pub(super) fn lan_address(text: &str) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr = text
        .parse()
        .map_err(|_| "an IPv4 address is expected: 192.168.77.1".to_owned())?;
    let shared = address.octets()[0] == 100 && (64..128).contains(&address.octets()[1]);
    if address.is_private() || shared {
        return Ok(address);
    }
    Err("not of a private network (10.x, 172.16–31.x, 192.168.x)".into())
}

/// Fails where `address` is the network's own or its broadcast address.
pub(super) fn lan_prefix(prefix: u8, address: Ipv4Addr) -> Result<(), String> {
    if !(8..=30).contains(&prefix) {
        return Err("a prefix length from 8 to 30 is expected".into());
    }
    let hosts = u32::MAX >> prefix;
    let host = u32::from(address) & hosts;
    if host == 0 || host == hosts {
        return Err(format!("{address}/{prefix} is no host of its network"));
    }
    Ok(())
}

/// An IANA zone's name, `Europe/Berlin`.
pub(super) fn timezone(text: &str) -> Result<(), String> {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_+".contains(c))
    };
    if text.split('/').all(part) {
        Ok(())
    } else {
        Err("a zone's name is expected: UTC, Europe/Berlin".into())
    }
}

/// ISO 3166 alpha-2, or empty.
pub(super) fn wifi_country(text: &str) -> Result<(), String> {
    let code = text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase());
    if text.is_empty() || code {
        Ok(())
    } else {
        Err("two capital letters are expected, or nothing: DE".into())
    }
}

/// A host name or address of a server.
pub(super) fn server(text: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':');
    if text.is_empty() || !text.chars().all(allowed) {
        return Err("a host name or an address is expected".into());
    }
    Ok(())
}

/// Base of our feed, or empty.
pub(super) fn feed_url(text: &str) -> Result<(), String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match rest {
        _ if text.is_empty() => Ok(()),
        Some(rest)
            if !rest.is_empty() && !text.chars().any(|c| c.is_whitespace() || c == '\'' || c == '"') =>
        {
            Ok(())
        }
        _ => Err("an http or https URL is expected".into()),
    }
}

/// Names of users' own variables, as templates can spell them.
pub(super) fn variable(name: &str) -> Result<(), String> {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
    if starts
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    {
        return Ok(());
    }
    Err("a variable's name has a-z, 0-9 and `_`, and starts with a letter".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_from_real_devices_are_accepted() {
        assert_eq!(plain_name("nanopi-r5s"), Ok(()));
        assert_eq!(package_name("luci-app-sqm"), Ok(()));
        assert_eq!(package_name("libstdcpp6"), Ok(()));
        assert_eq!(release("25.12.5"), Ok(()));
        assert_eq!(release("24.10.0-rc7"), Ok(()));
        assert_eq!(target("qualcommax/ipq60xx"), Ok(()));
        assert_eq!(word("friendlyarm_nanopi-r5s"), Ok(()));
        assert_eq!(device_path("platform/scb/fd580000.ethernet"), Ok(()));
        assert_eq!(
            device_path("platform/3c0400000.pcie/pci0001:00/0001:00:00.0/0001:01:00.0"),
            Ok(())
        );
        assert_eq!(timezone("America/Argentina/Buenos_Aires"), Ok(()));
        assert_eq!(feed_url(""), Ok(()));
    }

    #[test]
    fn values_that_would_break_a_shell_a_path_or_a_network_are_refused() {
        assert!(plain_name("RPi4").is_err());
        assert!(plain_name("../etc").is_err());
        assert!(package_name("a;reboot").is_err());
        assert!(package_name("").is_err());
        assert!(release("25.12").is_err());
        assert!(release("25.12.5/../..").is_err());
        assert!(target("bcm27xx").is_err());
        assert!(rust_target("aarch64-unknown-linux-gnu").is_err());
        assert!(interface("a-name-of-16-cha").is_err());
        assert!(device_path("/sys/devices/platform").is_err());
        assert!(device_path("platform/../x").is_err());
        assert!(lan_address("8.8.8.8").is_err());
        assert!(lan_address("192.168.1").is_err());
        assert!(lan_prefix(24, Ipv4Addr::new(192, 168, 1, 0)).is_err());
        assert!(lan_prefix(31, Ipv4Addr::new(192, 168, 1, 1)).is_err());
        assert!(wifi_country("de").is_err());
        assert!(server("pool.ntp.org; reboot").is_err());
        assert!(feed_url("ftp://example.org/").is_err());
        assert!(hostname("my_router").is_err());
    }
}
