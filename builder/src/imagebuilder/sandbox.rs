//! Runs `make` in a tree: no network, a fixed environment, one process group, everything logged.
//!
//! Nothing of the caller's environment reaches `make`, so that nothing of it reaches an image.

use std::fs::File;
use std::process::Stdio;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use crate::{Error, Result};

/// What `make` may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A network namespace of its own with nothing in it: the rule.
    None,
    /// The host's: only where the user asked for it by `--allow-network`.
    Host,
}

/// Only the system's own folders: a user's `~/bin` must not change an image.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How commands run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sandbox {
    network: Network,
}

/// A command that ended by itself.
pub(super) struct Finished {
    /// True if its exit code was 0.
    pub(super) success: bool,
    /// `exit code 2`, `signal 9`
    pub(super) status: String,
}

impl Sandbox {
    /// Tries the namespaces once, so that a machine that forbids them is told so before any work.
    pub(super) async fn new(network: Network) -> Result<Self> {
        for tool in ["make", "unshare"] {
            if network == Network::Host && tool == "unshare" {
                continue;
            }
            if !PATH.split(':').any(|dir| Utf8Path::new(dir).join(tool).is_file()) {
                let package = if tool == "make" { "make" } else { "util-linux" };
                return Err(Error::environment(format!("{tool} is not installed"))
                    .hint(format!(
                        "sudo apt-get install {package}   # or what your system calls it"
                    ))
                    .hint("builder doctor   # lists all that is missing"));
            }
        }
        if network == Network::None {
            let probe = Command::new("unshare")
                .args(["--user", "--map-current-user", "--net", "true"])
                .env_clear()
                .env("PATH", PATH)
                .stdin(Stdio::null())
                .output()
                .await
                .map_err(|error| Error::environment("failed to start unshare").because(error))?;
            if !probe.status.success() {
                return Err(forbidden(
                    String::from_utf8_lossy(&probe.stderr).trim(),
                    read_setting,
                ));
            }
        }
        Ok(Self { network })
    }

    /// Runs `program` in `dir`; both its streams go to the end of `log`. Dropping the future kills all of it.
    pub(super) async fn run(
        self,
        dir: &Utf8Path,
        program: &[String],
        stdout: Option<File>,
        log: &Utf8Path,
    ) -> Result<Finished> {
        let open = || File::options().create(true).append(true).open(log);
        let log_out = open().map_err(|error| Error::io("write", log, error))?;
        let log_err = open().map_err(|error| Error::io("write", log, error))?;
        let temporary = dir.join("tmp");
        std::fs::create_dir_all(&temporary).map_err(|error| Error::io("create", &temporary, error))?;
        // The shell sets the umask: without unsafe code only a child can do that for itself.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "umask 022 && exec \"$@\"", "sh"]);
        if self.network == Network::None {
            command.args(["unshare", "--user", "--map-current-user", "--net", "--"]);
        }
        let mut child = command
            .args(program)
            .current_dir(dir)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("HOME", dir)
            .env("TMPDIR", &temporary)
            .stdin(Stdio::null())
            .stdout(stdout.unwrap_or(log_out))
            .stderr(log_err)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                Error::environment(format!("failed to start {}", program.join(" "))).because(error)
            })?;
        let group = Group(
            child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(Pid::from_raw),
        );
        let status = child.wait().await.map_err(|error| {
            Error::environment(format!("failed to wait for {}", program.join(" "))).because(error)
        })?;
        // Nothing that make left in the background may outlive it and write into the tree.
        drop(group);
        Ok(Finished {
            success: status.success(),
            status: status.to_string(),
        })
    }
}

/// Kills the whole process group when it goes out of scope, on every way out.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // ESRCH: all of it has ended, as it should.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn read_setting(name: &str) -> Option<String> {
    let path = Utf8PathBuf::from("/proc/sys").join(name.replace('.', "/"));
    std::fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

/// Names the kernel setting that stands in the way, as far as it can be told.
fn forbidden(said: &str, setting: impl Fn(&str) -> Option<String>) -> Error {
    let culprits: Vec<&str> = [
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "kernel.unprivileged_userns_clone",
            "0",
            "kernel.unprivileged_userns_clone=1",
        ),
        ("user.max_user_namespaces", "0", "user.max_user_namespaces=15000"),
        ("user.max_net_namespaces", "0", "user.max_net_namespaces=15000"),
    ]
    .into_iter()
    .filter(|(name, forbidding, _)| setting(name).as_deref() == Some(forbidding))
    .map(|(_, _, remedy)| remedy)
    .collect();
    let mut error = Error::environment(format!(
        "this system forbids user namespaces, which keep the ImageBuilder off the network ({said})"
    ));
    for remedy in &culprits {
        error = error.hint(format!("sudo sysctl -w {remedy}"));
    }
    if culprits.is_empty() {
        error = error.hint(
            "in a container: allow the calls unshare and clone with CLONE_NEWUSER (docker: --security-opt seccomp=unconfined)",
        );
    }
    error.hint("or run the ImageBuilder with the host's network: --allow-network")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(network: Network, script: &str) -> (bool, String) {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = Utf8Path::from_path(dir.path()).expect("UTF-8");
        let log = root.join("log");
        let sandbox = Sandbox::new(network).await.expect("namespaces are allowed here");
        let program = ["sh", "-c", script].map(str::to_owned);
        let finished = sandbox.run(root, &program, None, &log).await.expect("runs");
        (finished.success, std::fs::read_to_string(log).expect("log"))
    }

    #[tokio::test]
    async fn there_is_no_network_and_no_environment_of_the_caller() {
        let (success, log) = shell(
            Network::None,
            "sed 1,2d /proc/net/dev; cat /proc/net/route; umask; id -u; env | sed 's/=.*//' | sort | tr '\\n' ' '",
        )
        .await;
        assert!(success, "{log}");
        let interfaces: Vec<&str> = log.lines().filter(|line| line.contains(": ")).collect();
        assert!(
            interfaces.len() == 1 && interfaces[0].trim_start().starts_with("lo:"),
            "{log}"
        );
        assert!(log.contains("\n0022\n"), "{log}");
        assert!(
            log.contains(&format!("\n{}\n", rustix::process::getuid().as_raw())),
            "own user: {log}"
        );
        assert!(log.ends_with("HOME LC_ALL PATH PWD TMPDIR TZ "), "{log}");
    }

    #[tokio::test]
    async fn a_socket_leads_nowhere() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("address").port();
        let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
        let (inside, _) = shell(Network::None, &format!("bash -c '{connect}'")).await;
        assert!(!inside, "even the host's loopback is out of reach");
        let (outside, log) = shell(Network::Host, &format!("bash -c '{connect}'")).await;
        assert!(outside, "the same command works with --allow-network: {log}");
    }

    #[tokio::test]
    async fn background_children_die_with_it() {
        let (success, log) = shell(Network::None, "sleep 1000 & echo $!").await;
        assert!(success);
        let pid = log.trim();
        // The kernel removes a killed process at its own pace; it is a zombie or gone, never asleep.
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(!state.contains(") S "), "{state}");
    }

    #[tokio::test]
    async fn dropping_the_run_kills_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = Utf8Path::from_path(dir.path()).expect("UTF-8");
        let fifo = root.join("fifo");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&fifo)
                .status()
                .expect("mkfifo")
                .success()
        );
        let sandbox = Sandbox::new(Network::None).await.expect("namespaces");
        // The reader sees end of file only when every holder of the fifo's other end is gone.
        let script = format!("sleep 1000 > {fifo}");
        let program = ["sh".to_owned(), "-c".to_owned(), script];
        let log = root.join("log");
        let read = tokio::task::spawn_blocking({
            let fifo = fifo.clone();
            move || std::fs::read(fifo)
        });
        tokio::select! {
            _ = sandbox.run(root, &program, None, &log) => panic!("it sleeps"),
            () = async { while !child_holds(&fifo) { tokio::task::yield_now().await } } => {}
        }
        assert!(read.await.expect("joins").expect("reads").is_empty());
    }

    /// True once some `sleep` has the fifo open.
    fn child_holds(fifo: &Utf8Path) -> bool {
        let processes = std::fs::read_dir("/proc").expect("proc");
        processes.flatten().any(|process| {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            command.starts_with(b"sleep\0")
                && std::fs::read_link(process.path().join("fd/1"))
                    .is_ok_and(|target| target == fifo.as_std_path())
        })
    }

    #[test]
    fn the_forbidding_setting_is_named() {
        let setting =
            |name: &str| (name == "kernel.apparmor_restrict_unprivileged_userns").then(|| "1".to_owned());
        let error = forbidden("unshare: Operation not permitted", setting);
        assert!(
            error.hints()[0].contains("kernel.apparmor_restrict_unprivileged_userns=0"),
            "{:?}",
            error.hints()
        );
        assert!(error.hints().iter().any(|hint| hint.contains("--allow-network")));
        let error = forbidden("unshare: Operation not permitted", |_| None);
        assert!(error.hints()[0].contains("container"));
    }
}
