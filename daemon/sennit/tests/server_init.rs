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

    /// Whether the router's datagrams to the server's port come as far as a socket: without one, the answer is that the
    /// port is closed, unless a filter drops or refuses them before.
    fn reached(&self) -> bool {
        let counter = |vm: &Self| {
            let counters = vm.script("cat /proc/net/snmp");
            let udp: Vec<&str> = counters.lines().filter(|line| line.starts_with("Udp:")).collect();
            let numbers = udp[1].split_whitespace().skip(1).take(2);
            numbers.map(|number| number.parse::<u64>().unwrap()).sum::<u64>()
        };
        let before = counter(self);
        let socket = self
            .router
            .enter(|| std::net::UdpSocket::bind("203.0.113.1:0").unwrap());
        let _ = socket.send_to(b"?", "203.0.113.5:7300");
        // The link is a pair of queues in this machine: what is not there by now was dropped.
        std::thread::sleep(std::time::Duration::from_millis(100));
        counter(self) > before
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
fn init_tells_ufw_what_to_let_through_and_uninstall_takes_it_back() {
    let Some(vm) = Vm::new("203.0.113.5/24") else {
        return;
    };
    if !has("ufw") {
        return;
    }
    // Its lock is the whole machine's, its rules are not.
    vm.script("ufw --force enable; ufw allow 22/tcp");
    let before = vm.script("ufw show added; ufw status verbose");
    vm.done(&["init"]);
    let added = vm.script("ufw show added");
    for rule in [
        "allow 7300/udp",
        "allow in on sennit0",
        "route allow in on sennit0",
        "route allow out on sennit0",
    ] {
        assert!(
            added.contains(&format!("ufw {rule} comment 'sennit'\n")),
            "{rule}: {added}"
        );
    }
    let second = vm.done(&["init", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!(value["steps"], serde_json::json!([]));
    assert!(vm.reached());
    vm.done(&["uninstall"]);
    assert_eq!(vm.script("ufw show added; ufw status verbose"), before);
    assert!(!vm.reached());
}

/// A message bus and firewalld, until `/run/stop` is there.
const FIREWALLD: &str = "mkdir -p /run/dbus /run/firewalld
dbus-daemon --system --nofork --nopidfile & bus=$!
sleep 0.2
firewalld --nofork --nopid --log-file /run/firewalld.log & wall=$!
while [ ! -e /run/stop ] && kill -0 $PPID; do sleep 0.1; done
kill $wall; wait $wall; kill $bus";

#[test]
fn init_tells_firewalld_what_to_let_through_and_uninstall_takes_it_back() {
    let Some(vm) = Vm::new("203.0.113.5/24") else {
        return;
    };
    if !has("firewall-cmd") || !has("dbus-daemon") {
        return;
    }
    let mut command = vm.machine.command("sh", &["-c", FIREWALLD]);
    let mut wall = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    wait("firewalld runs", || {
        let state = vm.machine.command("firewall-cmd", &["--state"]).output().unwrap();
        state.status.success()
    });
    // (Chains of a zone that was in use once stay in the kernel, empty.)
    let rules = "firewall-cmd --list-all-zones; firewall-cmd --permanent --list-all-zones";
    let before = vm.script(rules);
    assert!(!vm.reached());
    vm.done(&["init"]);
    assert!(vm.reached());
    let second = vm.done(&["init", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!(value["steps"], serde_json::json!([]));
    vm.script("firewall-cmd --reload");
    assert!(vm.reached());
    vm.done(&["uninstall"]);
    assert_eq!(vm.script(rules), before);
    vm.script("touch /run/stop");
    wall.wait().unwrap();
}

#[test]
fn check_finds_what_stands_in_the_way() {
    let Some(vm) = Vm::new("203.0.113.5/24") else {
        return;
    };
    vm.done(&["init", "--quiet"]);
    let check = |vm: &Vm| {
        let output = vm.server(&["check"]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, found) = check(&vm);
    assert_eq!(code, Some(0), "{found}");
    for good in [
        "ok       sennit listens on UDP port 7300\n",
        "ok       clients are told to reach it at 203.0.113.5:7300\n",
        "ok       the default route leaves by eth0\n",
        "ok       this machine forwards IPv4\n",
        "ok       the firewall table inet sennit is there\n",
    ] {
        assert!(found.contains(good), "{good}: {found}");
    }
    vm.script(
        "sysctl -qw net.ipv4.ip_forward=0; nft flush ruleset; sed -i s/203.0.113.5/10.0.0.5/ /etc/sennit/sennit.toml
         nft 'add table ip x; add chain ip x in { type filter hook input priority 0; policy drop; }'; ip link set eth0 mtu 1000",
    );
    let (code, found) = check(&vm);
    assert_eq!(code, Some(3), "{found}");
    for bad in [
        "problem  the key public says 10.0.0.5:7300, which is no public address\n",
        "problem  the MTU of eth0 is 1000 bytes\n",
        "problem  this machine does not forward IPv4",
        "problem  the firewall table inet sennit is missing",
        "problem  the packet filter nftables (ip x) does not let the tunnel through; missing: nft ip x in: iifname",
    ] {
        assert!(found.contains(bad), "{bad}: {found}");
    }
    // What the server looks after is right again with its next look.
    vm.script("kill -HUP $(cat /run/pid)");
    wait("the server has looked", || {
        let (_, found) = check(&vm);
        found.contains("inet sennit is there")
            && found.contains("filter nftables (ip x) lets the tunnel through")
    });
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
