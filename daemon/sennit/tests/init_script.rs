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
config_get() { eval "$1=\"\${uci_$3:-\$4}\""; }
config_get_bool() { config_get "$@"; }
procd_open_instance() { echo "open"; }
procd_set_param() { echo "set $*"; }
procd_close_instance() { echo "close"; }
procd_send_signal() { echo "signal $1"; }
start() { start_service; }
"#;

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
            "{OPENWRT}\n. {INIT_SCRIPT}\nRUN_DIR='{0}' CONFIG_FILE='{0}/sennit.toml' ROLE_FILE='{0}/role'\n{functions}",
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
        calls.contains("set command /usr/sbin/sennit run client --config "),
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
fn a_disabled_service_opens_no_instance() {
    let calls = Router::new().call("start_service", &[("enabled", "0")]);
    assert!(!calls.contains("open"), "{calls}");
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
        let parsed: BTreeMap<String, String> = toml::from_str(&router.config()).unwrap();
        assert_eq!(parsed["interface"], value);
        assert_eq!(parsed["log_level"], "debug");
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
