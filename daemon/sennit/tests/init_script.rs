//! The router's init script: what it writes from UCI is what the daemon reads, whatever the user typed.
//! OpenWrt's own functions are replaced by the few lines below, which behave as the real ones do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tempfile::TempDir;

const INIT_SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../package/files/etc/init.d/sennit");

/// UCI options come from the environment (`uci_OPTION`); calls of procd are printed.
const OPENWRT: &str = r#"
config_load() { echo "config_load $1"; }
config_get() { eval "$1=\"\${uci_$3:-\$4}\""; [ "$2" = main ] || eval "$1=\"\${uci_$2_$3:-\$4}\""; }
config_foreach() { for section in $(eval "echo \"\$uci_sections_$2\""); do "$1" "$section"; done; }
config_list_foreach() { for value in $(eval "echo \"\$uci_list_$2\""); do "$3" "$value"; done; }
uci() {
	shift
	case "$1 $2" in
	'get firewall.sennit_direct') echo "$uci_direct" ;;
	'get firewall.sennit_direct.enabled') echo "$uci_direct_enabled" ;;
	*) echo "uci $*" ;;
	esac
}
config_get_bool() { config_get "$@"; }
procd_open_instance() { echo "open"; }
procd_set_param() { echo "set $*"; }
procd_close_instance() { echo "close"; }
procd_send_signal() { echo "signal $1"; }
start() { start_service; }
"#;

/// Instead of the daemon: says how it was called.
const PROGRAM: &str = "program() { echo \"sennit $*\" >&2; }; PROGRAM=program FIREWALL=true UPNPD=/bin/true";

struct Router {
    run: TempDir,
}

impl Router {
    fn new() -> Self {
        Self {
            run: TempDir::new().unwrap(),
        }
    }

    /// Calls functions of the init script and returns what they told procd.
    fn call(&self, functions: &str, options: &[(&str, &str)]) -> String {
        let run = self.run.path().join("sennit");
        let script = format!(
            "{OPENWRT}\n. {INIT_SCRIPT}\nRUN_DIR='{0}' CONFIG_FILE='{0}/sennit.toml' ROLE_FILE='{0}/role'\n\
             KEY_FILE='{0}/private.key' STATE_DIR='{0}/state'\n{PROGRAM}\n{functions} 2>&1",
            run.display()
        );
        let output = Command::new("sh")
            .args(["-c", &script])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .envs(
                options
                    .iter()
                    .map(|(option, value)| (format!("uci_{option}"), value)),
            )
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn config(&self) -> String {
        std::fs::read_to_string(self.run.path().join("sennit/sennit.toml")).unwrap()
    }
}

#[test]
fn the_shipped_configuration_starts_a_client() {
    let router = Router::new();
    let calls = router.call("start_service", &[("enabled", "1"), ("role", "client")]);
    assert!(
        calls.contains("set command program run client --config "),
        "{calls}"
    );
    assert!(
        calls.contains("set respawn 3600 5 0\nset stdout 1\nset stderr 1\nclose\n"),
        "{calls}"
    );
    let file = router.run.path().join("sennit/sennit.toml");
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let check = Command::new(env!("CARGO_BIN_EXE_sennit"))
        .args(["run", "client", "--check", "--config", file.to_str().unwrap()])
        .status();
    assert!(check.unwrap().success());
}

#[test]
fn a_disabled_service_opens_no_instance_and_leaves_nothing() {
    let router = Router::new();
    let calls = router.call("start_service", &[("enabled", "0")]);
    assert!(
        !calls.contains("open") && !calls.contains("sennit down"),
        "{calls}"
    );
    router.call("start_service", &[("enabled", "1"), ("role", "client")]);
    let calls = router.call("start_service", &[("enabled", "0")]);
    assert!(
        !calls.contains("open") && calls.contains("sennit down --config"),
        "{calls}"
    );
}

#[test]
fn stop_takes_everything_down_and_restart_does_not() {
    let router = Router::new();
    router.call("start_service", &[("enabled", "1"), ("role", "client")]);
    assert!(
        router
            .call("action=stop; stop_service", &[])
            .contains("sennit down --config")
    );
    assert!(
        !router
            .call("action=restart; stop_service", &[])
            .contains("sennit")
    );
}

#[test]
fn a_key_is_made_once() {
    let router = Router::new();
    let options = [("enabled", "1"), ("role", "client")];
    assert!(
        router
            .call("start_service", &options)
            .contains("sennit keygen --out")
    );
    std::fs::write(router.run.path().join("sennit/private.key"), "x").unwrap();
    assert!(!router.call("start_service", &options).contains("keygen"));
}

#[test]
fn the_way_past_the_tunnel_is_shut_when_a_server_is_set() {
    let direct = |options: &[(&str, &str)]| {
        let base = [
            ("enabled", "1"),
            ("role", "client"),
            ("direct", "forwarding"),
            ("direct_enabled", "1"),
        ];
        let calls = Router::new().call("start_service", &[&base[..], options].concat());
        calls.contains("uci set firewall.sennit_direct.enabled=0")
    };
    assert!(!direct(&[]));
    assert!(direct(&[("server_address", "203.0.113.5")]));
    assert!(direct(&[
        ("sections_server", "nyc"),
        ("nyc_address", "198.51.100.7")
    ]));
    assert!(!direct(&[
        ("server_address", "203.0.113.5"),
        ("direct_fallback", "1")
    ]));
    assert!(!direct(&[("server_address", "203.0.113.5"), ("direct", "")]));
}

#[test]
fn every_option_arrives() {
    let router = Router::new();
    let key = "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=";
    router.call(
        "start_service",
        &[
            ("enabled", "1"),
            ("role", "client"),
            ("private_key", key),
            ("server_address", "203.0.113.5:7300"),
            ("server_public_key", key),
            ("mode", "redundant"),
            ("encryption", "off"),
            ("direct_fallback", "1"),
            ("list_lan", "lan1 lan2"),
            ("list_exclude", "eth9"),
            ("sections_wan", "a b"),
            ("a_device", "eth1"),
            ("a_priority", "backup"),
            ("a_metered", "1"),
            ("b_device", "usb0"),
            ("b_rate_limit_up", "5 Mbit/s"),
            ("sections_server", "nyc"),
            ("nyc_address", "198.51.100.7"),
            ("nyc_public_key", key),
            ("nyc_region", "us"),
        ],
    );
    let config: sennit::config::ClientConfig =
        sennit::config::read(Some(&router.run.path().join("sennit/sennit.toml"))).unwrap();
    assert_eq!(config.mode, sennit::config::Mode::Redundant);
    assert_eq!(config.encryption, sennit::config::Encryption::Off);
    assert_eq!(config.lan.len(), 2);
    assert!(config.direct_fallback && !config.wans.take("eth9") && config.wans.take("eth1"));
    assert_eq!(config.wan("eth1").priority, sennit::config::Priority::Backup);
    assert!(config.wan("eth1").metered);
    assert_eq!(config.wan("usb0").rate_limit_up.0, 5_000_000);
    assert_eq!(config.server.unwrap().address.to_string(), "203.0.113.5:7300");
    assert!(config.upnp_leases.is_some() && config.public_address_hook.is_some());
    assert_eq!(config.servers[1].name, "nyc");
    assert_eq!(config.servers[1].region.as_deref(), Some("us"));

    router.call(
        "start_service",
        &[
            ("enabled", "1"),
            ("role", "server"),
            ("nat", "0"),
            ("list_listen", "0.0.0.0:9"),
            ("sections_client", "boat"),
            ("boat_public_key", key),
            ("boat_limit_down", "20 Mbit/s"),
            ("boat_quota", "500 GB"),
            ("list_address", "10.73.0.2"),
            ("list_allow", "lan"),
            ("list_public", "203.0.113.5"),
            ("ipv6", "routed"),
            ("filter", "0"),
        ],
    );
    let text = router.config();
    let written: toml::Table = toml::from_str(&text).unwrap();
    let boat = &written["client"][0];
    assert_eq!(boat["limit_down"].as_str(), Some("20 Mbit/s"));
    assert_eq!(boat["quota"].as_str(), Some("500 GB"));
    assert_eq!(boat["allow"][0].as_str(), Some("lan"));
    assert_eq!(written["filter"].as_bool(), Some(false));
    assert_eq!(written["ipv6"].as_str(), Some("routed"));
    assert_eq!(written["public"][0].as_str(), Some("203.0.113.5"));
    assert!(text.contains("[[client]]\nname = \"boat\"\n"), "{text}");
    assert!(
        text.contains("listen = [\"0.0.0.0:9\"]\n") && text.contains("nat = false\n"),
        "{text}"
    );
}

#[test]
fn whatever_is_typed_arrives_as_it_was_typed() {
    for value in [
        "bond7",
        "a\"b",
        "back\\slash",
        "\\n",
        "two\nlines\n3",
        "$(id)",
        "`id`",
        "'",
        "%s",
        "-n",
        "ü €",
        "\ttab ",
    ] {
        let router = Router::new();
        router.call("start_service", &[("interface", value), ("log_level", "debug")]);
        let parsed: BTreeMap<String, toml::Value> = toml::from_str(&router.config()).unwrap();
        assert_eq!(parsed["interface"].as_str(), Some(value));
        assert_eq!(parsed["log_level"].as_str(), Some("debug"));
    }
}

#[test]
fn a_reload_signals_unless_procd_restarts_or_stops_the_daemon() {
    let router = Router::new();
    assert!(
        !router
            .call("reload_service", &[("role", "client")])
            .contains("signal"),
        "nothing ran before"
    );
    assert!(
        router
            .call("reload_service", &[("role", "client")])
            .contains("signal sennit")
    );
    assert!(
        !router
            .call("reload_service", &[("role", "server")])
            .contains("signal"),
        "the command changed"
    );
    assert!(
        !router
            .call("reload_service", &[("enabled", "0")])
            .contains("signal"),
        "it was stopped"
    );
}
