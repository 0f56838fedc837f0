//! The miniature's own scripts, without an image: the shims refuse what they do not implement, `uci` keeps UCI's rules,
//! and the ImageBuilder's readers agree with the project's codecs, of which they share no line.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use openwrt_formats::package::{File, Kind, Meta, Package};
use openwrt_formats::{adb_index, apk, ipk, usign};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("miniature")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A folder of UCI files, and the `uci` of the images on it.
struct Uci(tempfile::TempDir);

impl Uci {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["config", "staged"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        std::fs::write(folder.path().join("config/network"), "").expect("a file");
        Self(folder)
    }

    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new("awk")
            .arg("-f")
            .arg(data().join("rootfs/uci/lib/uci/uci.awk"))
            .arg("--")
            .args(arguments)
            .env("UCI_CONFIG", self.0.path().join("config"))
            .env("UCI_STAGED", self.0.path().join("staged"))
            .env("UCI_SEPARATOR", " ")
            .output()
            .expect("awk is there");
        (output.status.code().unwrap_or(-1), text(&output))
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.0.path().join("config/network")).expect("readable")
    }
}

#[test]
fn uci_changes_are_staged_until_they_are_committed() {
    let uci = Uci::new();
    for arguments in [
        ["set", "network.lan=interface"],
        ["set", "network.lan.note=it's \"two\" words"],
        ["add_list", "network.lan.dns=1.1.1.1"],
        ["add_list", "network.lan.dns=9.9.9.9"],
    ] {
        assert_eq!(uci.run(&arguments), (0, String::new()), "{arguments:?}");
    }
    assert_eq!(uci.file(), "", "nothing is written before commit");
    assert_eq!(
        uci.run(&["get", "network.lan.dns"]),
        (0, "1.1.1.1 9.9.9.9\n".into())
    );
    assert_eq!(uci.run(&["commit", "network"]).0, 0);
    let expected = "\nconfig interface 'lan'\n\toption note 'it'\\''s \"two\" words'\n\tlist dns '1.1.1.1'\n\tlist dns '9.9.9.9'\n";
    assert_eq!(uci.file(), expected);
    uci.run(&["delete", "network.lan"]);
    uci.run(&["revert", "network"]);
    assert_eq!(uci.run(&["get", "network.lan"]), (0, "interface\n".into()));
}

#[test]
fn uci_finds_sections_without_a_name_by_type_and_place() {
    let uci = Uci::new();
    for name in ["br-lan", "br-wan"] {
        uci.run(&["add", "network", "device"]);
        uci.run(&["set", &format!("network.@device[-1].name={name}")]);
    }
    let shown = "network.@device[0]=device\nnetwork.@device[0].name='br-lan'\n\
                 network.@device[1]=device\nnetwork.@device[1].name='br-wan'\n";
    assert_eq!(uci.run(&["show", "network"]), (0, shown.into()));
    uci.run(&["delete", "network.@device[0]"]);
    assert_eq!(
        uci.run(&["get", "network.@device[0].name"]),
        (0, "br-wan\n".into())
    );
}

#[test]
fn uci_refuses_what_is_not_there_and_what_it_does_not_know() {
    let uci = Uci::new();
    for arguments in [
        vec!["get", "network.lan.proto"],
        vec!["delete", "network.lan"],
        vec!["set", "wireless.radio0=wifi-device"],
        vec!["set", "network.a b=interface"],
        vec!["changes"],
        vec!["frobnicate", "network"],
    ] {
        let (status, said) = uci.run(&arguments);
        assert!(
            status != 0 && said.starts_with("uci: "),
            "{arguments:?}: {status} {said}"
        );
    }
}

/// Runs lines of shell with the library of services loaded, as an init script does.
fn service(lines: &str) -> Output {
    let library = data().join("rootfs/procd/lib/functions/procd.sh");
    Command::new("sh")
        .arg("-c")
        .arg(format!(
            "logger() {{ :; }}\ninitscript=/etc/init.d/test\n. '{}'\n{lines}\necho reached",
            library.display()
        ))
        .output()
        .expect("sh is there")
}

#[test]
fn services_cannot_call_what_the_shim_does_not_implement() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = format!(
        "PROCD_STATE='{}'\nprocd_open_service test\nprocd_open_instance\n",
        folder.path().display()
    );
    for call in [
        "procd_add_jail test",
        "procd_add_interface_trigger interface.* wan /etc/init.d/test reload",
        "procd_add_mdns http tcp 80",
        "uci_load_validate network interface lan f",
        "procd_set_param seccomp /etc/seccomp/test.json",
        "procd_set_param user nobody",
        "procd_set_param no_such_parameter 1",
        "procd_append_param respawn 5",
        "procd_close_instance",
    ] {
        let output = service(&format!("{open}{call}"));
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{call}: {said}");
        assert!(
            said.contains("not implemented in the miniature"),
            "{call}: {said}"
        );
        assert!(!said.contains("reached"), "{call} goes on");
    }
    let output = service(&format!(
        "{open}procd_set_param command sleep 1\nprocd_set_param respawn\nprocd_close_instance"
    ));
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn services_are_enabled_in_a_root_file_system_without_running_it() {
    let root = tempfile::tempdir().expect("a folder");
    let base = data().join("rootfs/base-files");
    for (from, to) in [
        ("lib/functions.sh", "lib/functions.sh"),
        ("etc/rc.common", "etc/rc.common"),
    ] {
        let to = root.path().join(to);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::copy(base.join(from), to).expect("copied");
    }
    let script = root.path().join("etc/init.d/test");
    std::fs::create_dir(root.path().join("etc/init.d")).expect("a folder");
    std::fs::write(&script, "#!/bin/sh /etc/rc.common\nSTART=42\nSTOP=7\n").expect("written");
    let act = |action: &str| {
        let common = root.path().join("etc/rc.common");
        let status = Command::new("bash")
            .arg(common)
            .arg(&script)
            .arg(action)
            .env("IPKG_INSTROOT", root.path())
            .status();
        status.expect("bash is there").success()
    };
    assert!(!act("enabled"));
    assert!(act("enable") && act("enabled"));
    let link = std::fs::read_link(root.path().join("etc/rc.d/S42test")).expect("a link");
    assert_eq!(link, Path::new("../init.d/test"));
    assert!(root.path().join("etc/rc.d/K7test").is_symlink());
    assert!(act("disable") && !act("enabled"));
}

/// Runs Python with the ImageBuilder's modules at hand.
fn python(lines: &str, arguments: &[&Path]) -> Output {
    Command::new("python3")
        .args(["-B", "-E", "-s", "-c"])
        .arg(format!("import sys\nsys.path.insert(0, sys.argv[1])\n{lines}"))
        .arg(data().join("imagebuilder/scripts"))
        .args(arguments)
        .output()
        .expect("python3 is there")
}

fn sample() -> Package {
    Package {
        meta: Meta {
            name: "probe".into(),
            version: "1.0-r1".into(),
            arch: "x86_64".into(),
            description: "A package for a test".into(),
            license: "MIT".into(),
            depends: vec!["libc".into()],
            provides: vec!["probe-any".into()],
            ..Meta::default()
        },
        files: vec![
            File {
                path: "usr/bin/probe".into(),
                mode: 0o755,
                kind: Kind::Regular(b"#!/bin/sh\n".to_vec()),
            },
            File {
                path: "usr/bin/other".into(),
                mode: 0o777,
                kind: Kind::Link("probe".into()),
            },
        ],
        ..Package::default()
    }
}

#[test]
fn both_readers_of_packages_see_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let apk_path = folder.path().join("probe.apk");
    let ipk_path = folder.path().join("probe.ipk");
    std::fs::write(
        &apk_path,
        apk::write(&sample(), 7, apk::Compression::Deflate).expect("an apk"),
    )
    .expect("written");
    std::fs::write(&ipk_path, ipk::write(&sample(), 7).expect("an ipk")).expect("written");
    let read = "import apk, ipk\n\
        for reader, path in ((apk, sys.argv[2]), (ipk, sys.argv[3])):\n\
        \x20   for entry in reader.read(open(path, 'rb').read(), path).entries:\n\
        \x20       if entry.path.startswith('usr/bin/'):\n\
        \x20           print(entry.path, entry.kind, oct(entry.mode), entry.content)";
    let expected = "usr/bin/other link 0o777 b'probe'\nusr/bin/probe file 0o755 b'#!/bin/sh\\n'\n";
    let output = python(read, &[&apk_path, &ipk_path]);
    assert_eq!(text(&output), expected.repeat(2));

    let mut broken = std::fs::read(&ipk_path).expect("readable");
    broken.truncate(broken.len() / 2);
    std::fs::write(&ipk_path, broken).expect("written");
    let output = python(read, &[&apk_path, &ipk_path]);
    assert!(
        !output.status.success() && text(&output).contains("malformed package file"),
        "{}",
        text(&output)
    );
}

#[test]
fn an_apk_index_of_an_unknown_key_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = folder.path().join("keys");
    std::fs::create_dir(&keys).expect("a folder");
    let key = adb_index::SecretKey::from_seed(&[7; 32]).expect("a key");
    std::fs::write(keys.join("feed.pem"), key.public().to_pem().expect("PEM")).expect("written");
    let package = apk::write(&sample(), 7, apk::Compression::Deflate).expect("an apk");
    let index = adb_index::write(&[adb_index::entry(&package).expect("an entry")]).expect("an index");
    let path = folder.path().join("packages.adb");
    let read = |key: &adb_index::SecretKey| {
        std::fs::write(&path, adb_index::sign(&index, key).expect("signed")).expect("written");
        python(
            "import apk\nfor row in apk.index(sys.argv[2], sys.argv[3]):\n    print(row['name'], row['provides'])",
            &[&path, &keys],
        )
    };
    let output = read(&key);
    assert_eq!(text(&output), "probe ['probe-any']\n");
    let output = read(&adb_index::SecretKey::from_seed(&[8; 32]).expect("a key"));
    assert!(
        !output.status.success() && text(&output).contains("UNTRUSTED signature"),
        "{}",
        text(&output)
    );
}

#[test]
fn both_implementations_of_usign_accept_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = usign::SecretKey::from_seed(&[3; 32]);
    let public = folder.path().join(key.public().id().to_string());
    std::fs::write(public, key.public().to_text()).expect("written");
    let signature = folder.path().join("signature");
    std::fs::write(&signature, key.sign(b"Package: probe\n")).expect("written");
    let check = "import usign\ntext = open(sys.argv[3]).read()\n\
        print(usign.verify_with_folder(b'Package: probe\\n', text, sys.argv[2]), usign.verify_with_folder(b'Package: Probe\\n', text, sys.argv[2]))";
    assert_eq!(text(&python(check, &[folder.path(), &signature])), "True False\n");

    let sign = "import usign\nprint(usign.public_key_text(bytes(32), bytes(8), 'test'), end='')\n\
        print(usign.sign(b'Package: probe\\n', bytes(32), bytes(8)), end='')";
    let said = text(&python(sign, &[]));
    let lines: Vec<&str> = said.lines().collect();
    let public = usign::PublicKey::parse(&format!("{}\n{}\n", lines[0], lines[1])).expect("a key");
    let signature = format!("{}\n{}\n", lines[2], lines[3]);
    assert!(public.verify(b"Package: probe\n", &signature).is_ok());
    assert!(public.verify(b"Package: Probe\n", &signature).is_err());
}
