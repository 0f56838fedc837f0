//! What a router meets outside, in a network namespace of its own: two WANs, and a `sennit` server that both lead to.
//!
//! A WAN is a TAP device: what a virtual card sends comes out of it. Addresses are those that RFC 5737 keeps for examples.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, UdpSocket};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::{failed, lease};
use crate::{Error, Result};

/// Where the server listens, at the usual port.
pub(super) const SERVER: &str = "203.0.113.5";
/// The server's address in the tunnel.
pub(super) const INNER: &str = "10.73.0.1";
/// What the kernel, a shell and a daemon on this machine need is moments; this only ends a trial that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// One WAN of the virtual router.
#[derive(Debug)]
pub(crate) struct Wan {
    /// Of the TAP device, of QEMU's card, and of the router's UCI section.
    pub(crate) name: &'static str,
    /// The card's hardware address.
    pub(crate) mac: &'static str,
    /// Our end's address; the network has 24 bits.
    pub(super) gateway: Ipv4Addr,
    /// The router's address.
    pub(super) router: Ipv4Addr,
}

/// The two WANs.
pub(crate) const WANS: [Wan; 2] = [
    Wan {
        name: "wan1",
        mac: "52:54:00:5e:00:01",
        gateway: Ipv4Addr::new(192, 0, 2, 1),
        router: Ipv4Addr::new(192, 0, 2, 2),
    },
    Wan {
        name: "wan2",
        mac: "52:54:00:5e:00:02",
        gateway: Ipv4Addr::new(198, 51, 100, 1),
        router: Ipv4Addr::new(198, 51, 100, 2),
    },
];

/// An error for those who may not make a namespace.
pub(super) fn allowed() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::environment(
        "only root may make the network namespace and the network cards that --bond needs",
    )
    .hint("run the same command with sudo; without --bond no root is needed"))
}

/// The namespace and what runs in it; all of it ends when this is dropped.
pub(crate) struct Outside {
    _holder: Child,
    holder_id: u32,
    leases: Option<JoinHandle<()>>,
    server: Option<Child>,
    sennit: Utf8PathBuf,
    /// For the server's files: its own folder, because the path of a socket must be short.
    dir: tempfile::TempDir,
    log: Utf8PathBuf,
}

impl Drop for Outside {
    fn drop(&mut self) {
        if let Some(leases) = &self.leases {
            leases.abort();
        }
    }
}

impl Outside {
    /// Makes the namespace with both WANs. `sennit` is a program of this machine; the server's log goes to `log`.
    pub(crate) async fn new(sennit: &Utf8Path, log: &Utf8Path) -> Result<Self> {
        let mut script = String::from("set -e; ip link set lo up; ");
        script += &format!("ip addr add {SERVER}/32 dev lo; ");
        for Wan { name, gateway, .. } in &WANS {
            script += &format!(
                "ip tuntap add dev {name} mode tap; ip addr add {gateway}/24 brd + dev {name}; ip link set {name} up; "
            );
        }
        // `read` keeps the namespace until our end of the pipe closes.
        script += "echo ready; read -r _";
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Error::io("start", "unshare", error).hint("sudo apt install util-linux"))?;
        let missing = || Error::bug("unshare was started without pipes");
        let mut line = String::new();
        let mut said = BufReader::new(holder.stdout.take().ok_or_else(missing)?);
        let read = tokio::time::timeout(PATIENCE, said.read_line(&mut line)).await;
        if !matches!(read, Ok(Ok(_))) || line != "ready\n" {
            let _ = holder.start_kill();
            let said = holder.wait_with_output().await;
            let said = said.map(|output| String::from_utf8_lossy(&output.stderr).trim().to_owned());
            return Err(
                Error::environment("failed to make a network namespace with two TAP devices")
                    .excerpt(said.unwrap_or_default())
                    .hint(
                        "it needs the program `ip` (sudo apt install iproute2) and the device /dev/net/tun",
                    ),
            );
        }
        let holder_id = holder.id().ok_or_else(missing)?;
        let dir = tempfile::Builder::new()
            .prefix("sennit-bond-")
            .tempdir()
            .map_err(|error| Error::environment("failed to create a temporary folder").because(error))?;
        let mut outside = Self {
            _holder: holder,
            holder_id,
            leases: None,
            server: None,
            sennit: sennit.to_owned(),
            dir,
            log: log.to_owned(),
        };
        let socket = outside.enter(|| {
            let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67))?;
            socket.set_broadcast(true)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        let socket = UdpSocket::from_std(socket).map_err(|error| inside("listen for DHCP", error))?;
        outside.leases = Some(tokio::spawn(lease::serve(socket)));
        Ok(outside)
    }

    /// A command line that runs a program in the namespace.
    pub(crate) fn command(&self, program: &Utf8Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.namespace()))
            .arg("--")
            .arg(program)
            .kill_on_drop(true);
        command
    }

    /// Where the server's log is.
    pub(crate) fn log(&self) -> &Utf8Path {
        &self.log
    }

    /// Where QEMU's control socket goes.
    pub(crate) fn control(&self) -> Utf8PathBuf {
        self.path("monitor.sock")
    }

    /// Starts the server for a router with this public key; its own public key.
    pub(super) fn start_server(&mut self, router: &str) -> Result<String> {
        let key = std::process::Command::new(&self.sennit)
            .args(["keygen", "--out", self.path("private.key").as_str()])
            .output()
            .map_err(|error| Error::io("start", &self.sennit, error))?;
        if !key.status.success() {
            return Err(Error::environment("`sennit keygen` failed on this machine")
                .excerpt(String::from_utf8_lossy(&key.stderr).trim()));
        }
        let config = format!(
            "private_key_file = {:?}\ncontrol = {:?}\nstate_dir = {:?}\nlisten = [\"{SERVER}:7300\"]\n\
             address = [\"{INNER}/24\"]\nnat = false\nfilter = false\n\
             [[client]]\nname = \"router\"\npublic_key = {router:?}\naddress = [\"10.73.0.2\"]\n",
            self.path("private.key").as_str(),
            self.path("control.sock").as_str(),
            self.path("state").as_str(),
        );
        let config_file = self.path("sennit.toml");
        std::fs::write(&config_file, config).map_err(|error| Error::io("write", &config_file, error))?;
        let log = File::create(&self.log).map_err(|error| Error::io("create", &self.log, error))?;
        let errors = log
            .try_clone()
            .map_err(|error| Error::io("open", &self.log, error))?;
        let server = self
            .command(&self.sennit)
            .args(["run", "server", "--config", config_file.as_str()])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| Error::io("start", "nsenter", error))?;
        self.server = Some(server);
        Ok(String::from_utf8_lossy(&key.stdout).trim().to_owned())
    }

    /// Waits until the server uses this many paths to the router.
    pub(super) async fn wait_active(&self, paths: usize, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let states = self.path_states().await;
            if states.iter().filter(|state| *state == "active").count() >= paths {
                return Ok(());
            }
            if Instant::now() > deadline {
                let seen = match states.as_slice() {
                    [] => "none".to_owned(),
                    states => states.join(", "),
                };
                return Err(failed(format!(
                    "after {} s its paths at the server are: {seen}",
                    patience.as_secs()
                )));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What the server says of each path to the router; nothing while it does not answer.
    async fn path_states(&self) -> Vec<String> {
        let output = Command::new(&self.sennit)
            .args([
                "status",
                "--json",
                "--control",
                self.path("control.sock").as_str(),
            ])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await;
        let status: Value = output
            .ok()
            .and_then(|output| serde_json::from_slice(&output.stdout).ok())
            .unwrap_or_default();
        let paths = status["clients"][0]["paths"].as_array().cloned();
        paths
            .unwrap_or_default()
            .iter()
            .filter_map(|path| Some(path["state"].as_str()?.to_owned()))
            .collect()
    }

    /// A TCP socket in the namespace.
    pub(super) fn listen(&self, port: u16) -> Result<TcpListener> {
        let listener = self.enter(move || {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        TcpListener::from_std(listener).map_err(|error| inside("listen", error))
    }

    /// Bytes that the router has sent on each WAN, as this machine's kernel counts them.
    pub(super) fn carried(&self) -> Result<Vec<u64>> {
        let file = format!("/proc/{}/net/dev", self.holder_id);
        let table = std::fs::read_to_string(&file).map_err(|error| Error::io("read", &file, error))?;
        WANS.iter()
            .map(|wan| {
                bytes_of(&table, wan.name)
                    .ok_or_else(|| Error::environment(format!("{file} lacks {}", wan.name)))
            })
            .collect()
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.holder_id)
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8PathBuf::from(self.dir.path().join(name).to_string_lossy().into_owned())
    }

    /// Calls `action` on a thread of its own in the namespace: sockets made there stay there.
    fn enter<T: Send>(&self, action: impl FnOnce() -> std::io::Result<T> + Send) -> Result<T> {
        let namespace = self.namespace();
        let file = File::open(&namespace).map_err(|error| Error::io("open", &namespace, error))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                rustix::thread::move_into_link_name_space(file.as_fd(), None)?;
                action()
            });
            thread
                .join()
                .map_err(|_| Error::bug("a thread in the namespace died"))?
                .map_err(|error| inside("open a socket", error))
        })
    }
}

/// Received bytes of a device in the kernel's table.
fn bytes_of(table: &str, device: &str) -> Option<u64> {
    let line = table
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(device)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn inside(action: &str, error: std::io::Error) -> Error {
    Error::environment(format!("failed to {action} in the network namespace")).because(error)
}

#[cfg(test)]
mod tests {
    use super::bytes_of;

    #[test]
    fn the_kernels_table_of_devices_is_read() {
        let table = "Inter-|   Receive                     |  Transmit\n face |bytes packets errs drop fifo\n  \
                     wan1: 1000 2 0 0 0 0 0 0 30 4 0 0 0 0 0 0\n wan12: 7 2 0 0 0 0 0 0 1 4 0 0 0 0 0 0\n";
        assert_eq!(bytes_of(table, "wan1"), Some(1000));
        assert_eq!(bytes_of(table, "wan12"), Some(7));
        assert_eq!(bytes_of(table, "wan2"), None);
    }
}
