//! A rented machine: QEMU with Debian's kernel and a copy of the disk that `ci cloud` makes, seed data as a provider hands
//! it over, and a network card in a namespace of the test's own.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::{Namespace, text};

/// An emulated machine is slow, and slower still where other tests run beside it; this only ends a test that fails.
const PATIENCE: Duration = Duration::from_secs(400);

/// Where `ci cloud` puts its disk.
pub(crate) fn image() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/cloud")
}

/// The machine's disk, which outlives its power.
pub(crate) struct Machine {
    /// The card's device in the namespace.
    card: String,
    namespace: PathBuf,
    folder: TempDir,
    power: Option<Power>,
}

/// What ends when the power is cut.
struct Power {
    qemu: Child,
    since: Instant,
    /// What the shell on the second serial port said.
    said: Arc<Mutex<String>>,
    /// Commands given so far.
    given: u32,
}

impl Machine {
    /// A new machine with its card in `namespace`, in a TAP device `card`, and this user-data.
    pub(crate) fn rent(namespace: &Namespace, card: &str, user_data: &str, network: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let machine = Self {
            card: card.to_owned(),
            namespace: namespace.path(),
            folder,
            power: None,
        };
        let seed = machine.path("seed");
        std::fs::create_dir(&seed).unwrap();
        for (name, content) in [
            ("meta-data", "instance-id: i-1\nlocal-hostname: rented\n"),
            ("user-data", user_data),
            ("network-config", network),
        ] {
            std::fs::write(seed.join(name), content).unwrap();
        }
        let base = image().join("disk.raw").canonicalize().unwrap();
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", text(&base)])
            .arg(machine.path("disk.qcow2"))
            .status()
            .unwrap();
        assert!(made.success(), "qemu-img failed");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Switches it on.
    pub(crate) fn start(&mut self) {
        let image = image();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.display()));
        command.args(
            "qemu-system-x86_64 -M q35 -accel tcg -cpu max -smp 1 -m 512 -nodefaults -no-user-config"
                .split(' '),
        );
        command.args(["-display", "none", "-kernel", text(&image.join("vmlinuz"))]);
        command.args(["-initrd", text(&image.join("initrd.img"))]);
        command.args(["-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0"]);
        let disk = self.path("disk.qcow2");
        let disk = format!(
            "driver=qcow2,node-name=disk,file.driver=file,file.filename={}",
            disk.display()
        );
        command.args(["-blockdev", &disk, "-device", "virtio-blk-pci,drive=disk"]);
        let seed = format!(
            "driver=vvfat,node-name=seed,read-only=on,label=CIDATA,dir={}",
            self.path("seed").display()
        );
        command.args(["-blockdev", &seed, "-device", "virtio-blk-pci,drive=seed"]);
        let card = format!("tap,id=card,ifname={},script=no,downscript=no", self.card);
        command.args([
            "-netdev",
            &card,
            "-device",
            "virtio-net-pci,netdev=card,mac=52:54:00:5e:00:05",
        ]);
        command.args(["-device", "virtio-rng-pci"]);
        let log = format!(
            "file,id=log,append=on,path={}",
            self.path("console.log").display()
        );
        command.args(["-chardev", &log, "-serial", "chardev:log", "-serial", "stdio"]);
        let mut qemu = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-system-x86_64 (package qemu-system-x86) starts");
        let said = Arc::new(Mutex::new(String::new()));
        let mut output = qemu.stdout.take().unwrap();
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]).replace('\r', "");
                heard.lock().unwrap().push_str(&text);
            }
        });
        self.power = Some(Power {
            qemu,
            since: Instant::now(),
            said,
            given: 0,
        });
    }

    /// Waits for the root shell on the second serial port.
    pub(crate) fn wait_shell(&mut self) {
        self.wait_said("# ", 0);
        self.type_in(" stty -echo; PS1=; PS2=\n");
        self.run("true");
    }

    /// How long the power has been on.
    pub(crate) fn uptime(&self) -> Duration {
        self.power.as_ref().unwrap().since.elapsed()
    }

    /// Runs commands in the machine's shell; they must succeed. Returns what they wrote.
    pub(crate) fn run(&mut self, commands: &str) -> String {
        let (code, said) = self.try_run(commands);
        assert_eq!(code, 0, "{commands}\n{said}\n{}", self.console());
        said
    }

    /// Runs commands in the machine's shell: their exit code, and what they wrote to both streams.
    pub(crate) fn try_run(&mut self, commands: &str) -> (i32, String) {
        let power = self.power.as_mut().unwrap();
        power.given += 1;
        let mark = format!("@{} ", power.given);
        let from = power.said.lock().unwrap().len();
        self.type_in(&format!(
            "{{ {commands}\n}} 2>&1 < /dev/null; echo \"@{}\" \"$?@\"\n",
            mark[1..].trim_end()
        ));
        self.wait_said(&mark, from);
        let after = self.wait_said("@\n", self.position(&mark, from) + mark.len());
        let said = self.power.as_ref().unwrap().said.lock().unwrap().clone();
        let (answer, code) = said[from..after].split_once(&mark).unwrap();
        (code.trim_end_matches("@\n").parse().unwrap(), answer.to_owned())
    }

    /// Asks again until a command succeeds.
    pub(crate) fn wait(&mut self, commands: &str) -> String {
        let start = Instant::now();
        loop {
            let (code, said) = self.try_run(commands);
            if code == 0 {
                return said;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "never: {commands}\n{said}\n{}",
                self.console()
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// As if somebody pulled the plug.
    pub(crate) fn cut_power(&mut self) {
        let mut power = self.power.take().unwrap();
        power.qemu.kill().unwrap();
        power.qemu.wait().unwrap();
    }

    /// Restarts it in good order, and waits for its shell.
    pub(crate) fn reboot(&mut self) {
        let from = {
            let power = self.power.as_mut().unwrap();
            power.since = Instant::now();
            power.said.lock().unwrap().len()
        };
        self.type_in("stty echo; systemctl reboot\n");
        self.wait_said("automatic login", from);
        let from = self.position("automatic login", from);
        self.wait_said("# ", from);
        self.type_in(" stty -echo; PS1=; PS2=\n");
        self.run("true");
    }

    /// The last lines of its console.
    pub(crate) fn console(&self) -> String {
        let log = std::fs::read(self.path("console.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Whether it will never come up.
    fn is_dead(&self) -> bool {
        let console = self.console();
        ["Kernel panic", "(initramfs)", "emergency mode"]
            .iter()
            .any(|end| console.contains(end))
    }

    fn type_in(&mut self, line: &str) {
        let power = self.power.as_mut().unwrap();
        power
            .qemu
            .stdin
            .as_mut()
            .unwrap()
            .write_all(line.as_bytes())
            .unwrap();
    }

    fn position(&self, text: &str, from: usize) -> usize {
        from + self.power.as_ref().unwrap().said.lock().unwrap()[from..]
            .find(text)
            .unwrap()
    }

    /// Waits until `text` was said behind `from`; returns where it ends.
    fn wait_said(&mut self, text: &str, from: usize) -> usize {
        let start = Instant::now();
        loop {
            let power = self.power.as_mut().unwrap();
            let said = power.said.lock().unwrap().clone();
            if let Some(at) = said[from..].find(text) {
                return from + at + text.len();
            }
            let ended = power.qemu.try_wait().unwrap().is_some() || self.is_dead();
            assert!(
                !ended && start.elapsed() < PATIENCE,
                "the machine's shell never said {text:?}:\n{}\nits console:\n{}",
                &said[from..],
                self.console()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(power) = &mut self.power {
            let _ = power.qemu.kill();
            let _ = power.qemu.wait();
        }
    }
}
