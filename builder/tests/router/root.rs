//! A root file system in a temporary folder, and scripts run inside it.

use std::process::Command;

use builder::overlay::{self, RenderContext};
use builder::profile::{self, Profile};
use builder::project::Project;
use camino::{Utf8Path, Utf8PathBuf};

/// `ip link set dev A down|name B` on the made-up /sys.
const IP: &str = r#"#!/bin/sh
[ "$5" = name ] || exit 0
class=/sys/class/net
[ -e "$class/$4" ] && ! [ -e "$class/$6" ] || exit 2
old="$(readlink -f "$class/$4")"
mv "$old" "${old%/*}/$6"
rm "$class/$4"
ln -s "${old%/*}/$6" "$class/$6"
"#;

/// What the packages firewall, dnsmasq and dropbear bring, as far as the scripts look at it.
const PACKAGES: [(&str, &str); 3] = [
    (
        "firewall",
        "config defaults\n\toption input 'ACCEPT'\n\toption output 'ACCEPT'\n\toption forward 'REJECT'\n\n\
         config zone\n\toption name 'lan'\n\tlist network 'lan'\n\toption input 'ACCEPT'\n\n\
         config zone\n\toption name 'wan'\n\tlist network 'wan'\n\tlist network 'wan6'\n\toption input 'REJECT'\n\n\
         config forwarding\n\toption src 'lan'\n\toption dest 'wan'\n\n\
         config rule\n\toption name 'Allow-DHCP-Renew'\n\toption src 'wan'\n\toption proto 'udp'\n\
         \toption dest_port '68'\n\toption target 'ACCEPT'\n",
    ),
    (
        "dhcp",
        "config dhcp 'lan'\n\toption interface 'lan'\n\toption start '100'\n\toption limit '150'\n\n\
         config dhcp 'wan'\n\toption interface 'wan'\n\toption ignore '1'\n",
    ),
    (
        "dropbear",
        "config dropbear\n\toption PasswordAuth 'on'\n\toption RootPasswordAuth 'on'\n\toption Port '22'\n",
    ),
];

/// A router.
pub(crate) struct Root {
    dir: tempfile::TempDir,
}

impl Root {
    /// The PC as the project's profile describes it, with `change` applied.
    pub(crate) fn new(change: impl FnOnce(&mut Profile)) -> Self {
        let manifest = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
        let project = Project {
            root: manifest.parent().expect("the workspace").to_owned(),
        };
        let mut profile = profile::load(&project, "pc").expect("the PC's profile").profile;
        change(&mut profile);
        let context = RenderContext {
            source_label: "test",
            version: "0.1.0",
        };
        let tree = overlay::render(&project, &profile, &context).expect("rendered");

        let root = Self {
            dir: tempfile::tempdir().expect("temporary folder"),
        };
        let miniature = project.root.join("ci/miniature/rootfs");
        for part in ["base-files", "uci", "procd"] {
            root.copy(&miniature.join(part));
        }
        let rendered = tempfile::tempdir().expect("temporary folder");
        let files = Utf8PathBuf::from_path_buf(rendered.path().join("files")).expect("UTF-8");
        overlay::write(&tree, &files).expect("written");
        root.copy(&files);
        for (name, text) in PACKAGES {
            root.write(&format!("etc/config/{name}"), text);
        }
        for folder in ["dev", "tmp/sysinfo", "sys/class/net", "sys/devices", "usr/bin"] {
            std::fs::create_dir_all(root.path().join(folder)).expect("made");
        }
        root.write("tmp/sysinfo/board_name", "generic\n");
        root.write("tmp/sysinfo/model", "PC\n");
        root.write("dev/null", "");
        let busybox = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .find(|path| Utf8Path::new(path).exists());
        let busybox = busybox.expect("busybox: apt-get install busybox-static");
        std::fs::copy(busybox, root.path().join("bin/busybox")).expect("copied");
        root.run_with("/bin/busybox", "/bin/busybox --install -s /bin");
        root.write("usr/sbin/made-up-ip", IP);
        // Debian's busybox takes its own `ip` before any other.
        root.run(
            "chmod 755 /usr/sbin/made-up-ip\n\
             sed -i 's/\\bip link/made-up-ip link/' /usr/libexec/sennit/name-ports /usr/libexec/sennit/usb-wan",
        );
        root
    }

    /// The same router after board_detect, config_generate and all uci-defaults, as /etc/init.d/boot runs them.
    pub(crate) fn booted(change: impl FnOnce(&mut Profile)) -> Self {
        let root = Self::new(change);
        root.boot();
        root
    }

    /// Boots for the first time. A script of uci-defaults that fails, or says something on stderr, fails the test.
    pub(crate) fn boot(&self) {
        self.run("/bin/board_detect; /bin/config_generate");
        self.run(
            "cp -a /etc/uci-defaults /tmp/uci-defaults\n\
             cd /etc/uci-defaults\n\
             for script in *; do ( . \"./$script\" ) && rm \"$script\" || exit 1; done\n\
             uci commit",
        );
    }

    /// Puts the uci-defaults back, as an upgrade does that kept the configuration.
    pub(crate) fn upgrade(&self) {
        self.run("rm -rf /etc/uci-defaults; mv /tmp/uci-defaults /etc/uci-defaults");
        self.boot();
    }

    /// All configuration, as `uci show` prints it.
    pub(crate) fn configuration(&self) -> String {
        self.run("for name in system network firewall dhcp dropbear; do uci show $name; done")
    }

    /// One value; empty if it is not set.
    pub(crate) fn uci(&self, key: &str) -> String {
        self.run(&format!("uci -q get {key} || true")).trim().to_owned()
    }

    /// Adds a network device to the made-up /sys.
    pub(crate) fn plug(&self, path: &str, interface: &str, attributes: &[(&str, &str)]) {
        self.run(&format!(
            "mkdir -p /sys/devices/{path}/net/{interface}\n\
             ln -s /sys/devices/{path} /sys/devices/{path}/net/{interface}/device\n\
             ln -s /sys/devices/{path}/net/{interface} /sys/class/net/{interface}\n\
             echo 1 >/sys/class/net/{interface}/type"
        ));
        for (name, value) in attributes {
            self.run(&format!("echo '{value}' >/sys/class/net/{interface}/{name}"));
        }
    }

    /// Takes it away.
    pub(crate) fn unplug(&self, interface: &str) {
        self.run(&format!(
            "rm -r \"$(readlink -f /sys/class/net/{interface})\" /sys/class/net/{interface}"
        ));
    }

    /// Where an interface sits, by its present name.
    pub(crate) fn place(&self, interface: &str) -> String {
        let device = self.run(&format!("readlink -f /sys/class/net/{interface}/device"));
        device.trim().trim_start_matches("/sys/devices/").to_owned()
    }

    /// Runs a script; it must succeed and be silent on stderr. Answers what it printed.
    pub(crate) fn run(&self, script: &str) -> String {
        self.run_with("/bin/sh", script)
    }

    fn run_with(&self, shell: &str, script: &str) -> String {
        // Scripts rename and stop interfaces and set the host name: never those of the machine that runs the tests.
        let mut command = Command::new("unshare");
        command.args(["--net", "--uts", "--ipc", "--mount"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.arg("chroot");
        command.arg(self.dir.path());
        match shell {
            "/bin/sh" => command.args(["/bin/sh", "-c", script]),
            _ => command.args(script.split(' ')),
        };
        let output = command
            .env_clear()
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .output()
            .expect("chroot runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.is_empty(),
            "{script}\n{}: {said}",
            output.status
        );
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let file = self.path().join(path);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        std::fs::write(file, text).expect("written");
    }

    fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.dir.path()).expect("UTF-8")
    }

    /// Copies a folder over the root; `cp` keeps modes and links.
    fn copy(&self, folder: &Utf8Path) {
        let status = Command::new("cp")
            .args(["-a", &format!("{folder}/."), self.path().as_str()])
            .status();
        assert!(status.expect("cp runs").success(), "{folder}");
    }
}
