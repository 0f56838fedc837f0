//! A machine becomes a server by one command and stops being one by another, with a stand-in for systemd.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Namespace, SENNIT, has, picture, wait};

/// What `systemctl` does for a server, without systemd.
const SYSTEMCTL: &str = r#"#!/bin/sh
unit=/etc/systemd/system/sennit-server.service
running() { [ -e /run/pid ] && kill -0 "$(cat /run/pid)" 2>/dev/null; }
stop() { if running; then kill "$(cat /run/pid)"; while running; do sleep 0.02; done; fi; }
case "$1" in
daemon-reload) ;;
is-active) running ;;
is-enabled) [ -e /run/enabled ] ;;
enable) : > /run/enabled ;;
disable) rm -f /run/enabled; stop ;;
restart)
    stop
    setsid $(sed -n 's/^ExecStart=//p' $unit) > /run/log 2>&1 < /dev/null &
    echo $! > /run/pid ;;
*) echo "what is $1?" >&2; exit 1 ;;
esac
"#;

/// A VM fresh from the cloud, on a network with a router.
struct Vm {
    machine: Namespace,
    router: Namespace,
}

impl Vm {
    fn new(address: &str) -> Option<Self> {
        if !has("nft") {
            return None;
        }
        let vm = Self {
            machine: Namespace::machine()?,
            router: Namespace::new()?,
        };
        vm.router.connect("eth0", "203.0.113.1/24", &vm.machine, address);
        vm.machine.run("ip route add default dev eth0");
        vm.machine.run("mount -t tmpfs tmpfs /usr/local/bin");
        vm.machine.run("mkdir -p /run/systemd/system /etc/systemd/system");
        vm.script(&format!(
            "cat > /usr/local/bin/systemctl <<'END'\n{SYSTEMCTL}END\nchmod +x /usr/local/bin/systemctl"
        ));
        wait("the link is up", || {
            vm.machine.run("ip -6 addr show scope link").contains("fe80::")
        });
        Some(vm)
    }

    fn script(&self, script: &str) -> String {
        let output = self.machine.command("sh", &["-ec", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn server(&self, arguments: &[&str]) -> Output {
        let mut command = self.machine.command(SENNIT, &["server"]);
        command
            .args(arguments)
            .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> Output {
        let output = self.server(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        output
    }

    fn refused(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.server(arguments);
        (output.status.code(), said(&output))
    }

    fn has(&self, path: &str) -> bool {
        self.machine
            .command("test", &["-e", path])
            .status()
            .unwrap()
            .success()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self
            .machine
            .command("systemctl", &["disable"])
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .status();
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn init_makes_a_server_a_second_one_changes_nothing_and_uninstall_leaves_nothing() {
    let Some(vm) = Vm::new("203.0.113.5/24") else {
        return;
    };
    let before = picture(&vm.machine);
    vm.done(&["init", "--dry-run"]);
    assert!(!vm.has("/etc/sennit") && !vm.has("/usr/local/bin/sennit") && picture(&vm.machine) == before);

    let first = vm.done(&["init", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!(value["public"], serde_json::json!(["203.0.113.5:7300"]));
    assert_eq!(value["supervisor"], "systemd");
    let status = vm.machine.run("/usr/local/bin/sennit status --json");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(
        (&status["role"], &status["state"]),
        (&"server".into(), &"running".into())
    );
    assert_eq!(vm.script("stat -c %a /etc/sennit/private.key"), "600\n");

    let pid = vm.script("cat /run/pid");
    let second = vm.done(&["init", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!(value["steps"], serde_json::json!([]));
    assert_eq!(vm.script("cat /run/pid"), pid);
    // What is missing comes back.
    vm.script("rm /run/enabled");
    vm.done(&["init"]);
    assert!(vm.has("/run/enabled"));

    vm.done(&["uninstall"]);
    assert_eq!(picture(&vm.machine), before);
    assert!(vm.has("/etc/sennit/sennit.toml") && vm.has("/etc/sennit/private.key"));
    for gone in [
        "/usr/local/bin/sennit",
        "/etc/systemd/system/sennit-server.service",
        "/run/enabled",
    ] {
        assert!(!vm.has(gone), "{gone}");
    }
    // It becomes the same server again, and then goes for good.
    let key = vm.script("cat /etc/sennit/private.key");
    vm.done(&["init"]);
    assert_eq!(vm.script("cat /etc/sennit/private.key"), key);
    vm.done(&["uninstall", "--purge"]);
    assert_eq!(picture(&vm.machine), before);
    assert!(!vm.has("/etc/sennit") && !vm.has("/var/lib/sennit"));
}

#[test]
fn what_keeps_a_machine_from_being_a_server_is_said_with_its_remedy() {
    let Some(vm) = Vm::new("10.0.0.5/24") else { return };
    let (code, text) = vm.refused(&["init"]);
    assert!(
        code == Some(1) && text.contains("private address 10.0.0.5"),
        "{text}"
    );
    assert!(text.contains("hint: ") && text.contains("--address"), "{text}");

    let holder = vm
        .machine
        .enter(|| std::net::UdpSocket::bind("0.0.0.0:7300").unwrap());
    let (code, text) = vm.refused(&["init", "--address", "203.0.113.5"]);
    let by = "UDP port 7300 is in use by server_init";
    assert!(code == Some(2) && text.contains(by), "{text}");
    drop(holder);

    vm.machine.run("ip route del default");
    let (code, text) = vm.refused(&["init", "--address", "203.0.113.5"]);
    assert!(code == Some(2) && text.contains("no default route"), "{text}");
    vm.machine.run("ip route add default dev eth0");

    // Behind a cloud's NAT, with the address that the cloud shows.
    vm.done(&["init", "--address", "server.example", "--port", "7400", "--quiet"]);
    let config = vm.script("cat /etc/sennit/sennit.toml");
    assert!(
        config.contains("public = [\"server.example:7400\"]\n"),
        "{config}"
    );
    let (code, text) = vm.refused(&["init", "--address", "other.example"]);
    assert!(
        code == Some(1) && text.contains("hint: write it there: public"),
        "{text}"
    );
    vm.done(&["uninstall", "--purge"]);
}

#[test]
fn systemd_finds_the_service_right_and_well_guarded() {
    let analyze = |arguments: &[&str], folder: &Path| {
        Command::new("systemd-analyze")
            .args(arguments)
            .arg(folder.join("sennit-server.service"))
            .output()
    };
    let folder = tempfile::tempdir().unwrap();
    let text = sennit::host::Supervisor::Systemd.text(Path::new("/bin/true"));
    std::fs::write(folder.path().join("sennit-server.service"), text).unwrap();
    let Ok(verified) = analyze(&["verify", "--man=no"], folder.path()) else {
        return;
    };
    assert!(verified.status.success(), "{}", said(&verified));
    assert!(!said(&verified).contains("sennit-server"), "{}", said(&verified));
    // The tool's own scale: 0 is out of reach, 10 has no guard at all.
    let guarded = analyze(&["security", "--offline=true", "--threshold=30"], folder.path()).unwrap();
    assert!(
        guarded.status.success(),
        "{}",
        String::from_utf8_lossy(&guarded.stdout)
    );
}

#[test]
fn the_openrc_service_is_a_right_script() {
    let text = sennit::host::Supervisor::OpenRc.text(Path::new("/usr/local/bin/sennit"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let checked = Command::new("sh").arg("-n").arg(file.path()).output().unwrap();
    assert!(checked.status.success(), "{}", said(&checked));
}
