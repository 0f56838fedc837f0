//! Profiles as people write them, and as they get them wrong.

use super::*;

/// A project in a temporary folder with one good device, `box`, and its base.
struct Fixture {
    dir: tempfile::TempDir,
}

const BASE: &str = r#"base = true
overlays = ["base"]
packages = ["kmod-tun", "ppp"]
features = ["luci"]
[settings]
hostname = "sennit"
lan_address = "192.168.73.1"
lan_prefix = 24
ntp = ["0.openwrt.pool.ntp.org"]
variables = { site = "home", floor = "1" }
"#;

const FEATURES: &str = r#"[feature.luci]
title = "Web interface"
packages = ["luci-ssl", "-ppp"]
overlays = ["web"]
disabled_services = ["uhttpd"]

[feature.adguard]
title = "DNS with blocking lists"
packages = ["adguardhome"]
ram_mib = 900
"#;

const DEVICE: &str = r#"extends = ["base"]
title = "A box"
aliases = ["kiste"]
rust_target = "x86_64-unknown-linux-musl"
packages = ["kmod-igc", "-ppp"]
overlays = ["own"]
[openwrt]
release = "25.12.5"
target = "x86/64"
profile = "generic"
arch = "x86_64"
[ports]
lan = [{ name = "eth0", device_path = "pci0000:00/0000:00:02.0" }]
wan = [{ name = "eth1" }]
[[images]]
file = "ext4-combined.img.gz"
purpose = "for a disk"
disk = true
[limits]
ram_mib = 512
[settings]
variables = { floor = "2" }
"#;

impl Fixture {
    fn new() -> Self {
        let fixture = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for overlay in ["base", "web", "own"] {
            std::fs::create_dir_all(fixture.dir.path().join("overlays").join(overlay)).unwrap();
        }
        std::fs::create_dir(fixture.dir.path().join("profiles")).unwrap();
        fixture
            .file("base", BASE)
            .file("features", FEATURES)
            .file("box", DEVICE)
    }

    fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.dir.path().join(format!("profiles/{name}.toml")), text).unwrap();
        self
    }

    /// The device with one piece of its text replaced.
    fn with(self, from: &str, to: &str) -> Self {
        assert!(DEVICE.contains(from), "the test's own text has changed");
        self.file("box", &DEVICE.replacen(from, to, 1))
    }

    fn project(&self) -> Project {
        Project::find(Some(self.dir.path().try_into().unwrap()), ".".into()).unwrap()
    }

    fn load(&self) -> Resolved {
        load(&self.project(), "box").unwrap()
    }

    fn error(&self) -> String {
        shown(&load(&self.project(), "box").unwrap_err())
    }
}

/// An error as the terminal shows it.
fn shown(error: &Error) -> String {
    let excerpt = error
        .excerpt_text()
        .map(|text| format!("\n{text}"))
        .unwrap_or_default();
    let hints: String = error
        .hints()
        .iter()
        .map(|hint| format!("\nhint: {hint}"))
        .collect();
    format!("error: {error}{excerpt}{hints}")
}

#[test]
fn a_device_is_its_own_file_over_features_over_bases() {
    let profile = Fixture::new().load().profile;
    assert_eq!(profile.packages.add, ["kmod-igc", "kmod-tun", "luci-ssl"]);
    assert_eq!(profile.packages.remove, ["ppp"]);
    assert_eq!(profile.overlays, ["base", "web", "own"]);
    assert_eq!(profile.disabled_services, ["uhttpd"]);
    assert_eq!(profile.features, ["luci"]);
    assert_eq!(profile.settings.variables["floor"], "2");
    assert_eq!(profile.settings.variables["site"], "home");
    assert_eq!(profile.settings.timezone, "UTC");
}

#[test]
fn a_feature_of_a_base_is_switched_off_with_all_it_brings() {
    let profile = Fixture::new()
        .with("aliases", "features = [\"-luci\"]\naliases")
        .load()
        .profile;
    assert!(profile.features.is_empty());
    assert!(!profile.packages.add.contains(&"luci-ssl".to_owned()));
    assert_eq!(profile.overlays, ["base", "own"]);
}

#[test]
fn what_a_feature_leaves_out_the_device_can_put_back() {
    let profile = Fixture::new().with("\"-ppp\"", "\"ppp\"").load().profile;
    assert!(profile.packages.add.contains(&"ppp".to_owned()));
    assert!(profile.packages.remove.is_empty());
}

#[test]
fn of_several_bases_the_later_is_nearer_and_a_shared_one_is_read_once() {
    let fixture = Fixture::new()
        .file(
            "left",
            "base = true\nextends = [\"base\"]\nrootfs_partsize = 100\npackages = [\"a\"]\n",
        )
        .file(
            "right",
            "base = true\nextends = [\"base\"]\nrootfs_partsize = 200\npackages = [\"-a\"]\n",
        )
        .with("extends = [\"base\"]", "extends = [\"left\", \"right\"]");
    let resolved = fixture.load();
    assert_eq!(resolved.profile.rootfs_partsize, Some(200));
    assert_eq!(resolved.origins["rootfs_partsize"].file, "profiles/right.toml");
    assert!(resolved.profile.packages.remove.contains(&"a".to_owned()));
}

#[test]
fn each_value_knows_where_it_was_written() {
    let origins = Fixture::new().load().origins;
    let place = |key: &str| {
        let origin = &origins[key];
        let feature = origin
            .feature
            .as_deref()
            .map(|name| format!(" ({name})"))
            .unwrap_or_default();
        format!("{}:{}{feature}", origin.file, origin.line)
    };
    assert_eq!(place("title"), "profiles/box.toml:2");
    assert_eq!(place("openwrt.release"), "profiles/box.toml:8");
    assert_eq!(place("settings.hostname"), "profiles/base.toml:6");
    assert_eq!(place("settings.variables.floor"), "profiles/box.toml:22");
    assert_eq!(place("packages.add.luci-ssl"), "profiles/features.toml:3 (luci)");
    assert_eq!(place("packages.remove.ppp"), "profiles/box.toml:5");
    assert_eq!(place("overlays.web"), "profiles/features.toml:4 (luci)");
    assert!(
        !origins.contains_key("settings.timezone"),
        "a default has no origin"
    );
}

#[test]
fn names_and_aliases_are_found_in_any_case_and_slips_are_noticed() {
    let fixture = Fixture::new();
    assert_eq!(load(&fixture.project(), "KISTE").unwrap().profile.name, "box");
    assert_eq!(
        shown(&load(&fixture.project(), "kitse").unwrap_err()),
        "error: unknown device `kitse`\n\
         hint: did you mean `kiste`?\n\
         hint: `builder list` shows the devices; `builder new-profile` makes a new one"
    );
    assert_eq!(
        shown(&load(&fixture.project(), "base").unwrap_err()),
        "error: `base` is a base for other profiles, not a device\nhint: `builder list` shows the devices"
    );
}

#[test]
fn a_broken_profile_stands_in_the_way_of_the_list_only() {
    let fixture = Fixture::new().file("broken", "titel = 1\n");
    assert!(load(&fixture.project(), "kiste").is_ok());
    assert!(list(&fixture.project()).is_err());
}

#[test]
fn an_unknown_key_is_shown_with_its_line_and_the_nearest_key() {
    assert_eq!(
        Fixture::new().with("title =", "titel =").error(),
        "error: unknown key `titel` in profiles/box.toml\n \
         --> profiles/box.toml:2:1\n  \
           |\n\
         2 | titel = \"A box\"\n  \
           | ^^^^^ no such key here\n\
         hint: did you mean `title`?"
    );
    assert_eq!(
        Fixture::new()
            .with("purpose = \"for a disk\"", "purpose = \"for a disk\"\nsize = 3")
            .error(),
        "error: unknown key `size` in profiles/box.toml\n  \
         --> profiles/box.toml:18:1\n   \
            |\n\
         18 | size = 3\n   \
            | ^^^^ no such key here\n\
         hint: keys that may stand here: file, purpose, disk"
    );
}

#[test]
fn a_wrong_type_says_what_was_expected_in_the_words_of_toml() {
    assert_eq!(
        Fixture::new().with("[\"kiste\"]", "\"kiste\"").error(),
        "error: wrong type: expected a list, found string \"kiste\" in profiles/box.toml\n \
         --> profiles/box.toml:3:11\n  \
           |\n\
         3 | aliases = \"kiste\"\n  \
           |           ^^^^^^^ expected a list\n\
         hint: write it as a list: [\"…\"]"
    );
}

#[test]
fn unknown_features_and_overlays_name_what_there_is() {
    assert_eq!(
        Fixture::new()
            .with("aliases", "features = [\"adgaurd\"]\naliases")
            .error(),
        "error: unknown feature `adgaurd` in profiles/box.toml\n \
         --> profiles/box.toml:3:13\n  \
           |\n\
         3 | features = [\"adgaurd\"]\n  \
           |             ^^^^^^^^^ no [feature.adgaurd] in profiles/features.toml\n\
         hint: did you mean `adguard`?"
    );
    assert_eq!(
        Fixture::new().with("[\"own\"]", "[\"mine\"]").error(),
        "error: unknown overlay `mine` in profiles/box.toml\n \
         --> profiles/box.toml:6:13\n  \
           |\n\
         6 | overlays = [\"mine\"]\n  \
           |             ^^^^^^ there is no folder overlays/mine\n\
         hint: overlays: base, own, web"
    );
}

#[test]
fn a_feature_that_needs_more_memory_than_there_is_is_refused() {
    assert_eq!(
        Fixture::new()
            .with("aliases", "features = [\"adguard\"]\naliases")
            .error(),
        "error: feature `adguard` needs 900 MiB of RAM, box has 512 MiB\n \
         --> profiles/box.toml:3:13\n  \
           |\n\
         3 | features = [\"adguard\"]\n  \
           |             ^^^^^^^^^ switched on here\n\
         hint: take it away for this device: features = [\"-adguard\"]"
    );
}

#[test]
fn a_circle_of_bases_is_named_as_a_whole() {
    let fixture = Fixture::new()
        .file("one", "base = true\nextends = [\"two\"]\n")
        .file("two", "base = true\nextends = [\"one\"]\n")
        .with("[\"base\"]", "[\"base\", \"one\"]");
    assert_eq!(
        fixture.error(),
        "error: profiles extend each other in a circle: box → one → two → one\n \
         --> profiles/two.toml:2:12\n  \
           |\n\
         2 | extends = [\"one\"]\n  \
           |            ^^^^^ closes the circle\n\
         hint: remove `one` from `extends` in profiles/two.toml"
    );
    assert!(
        Fixture::new()
            .with("[\"base\"]", "[\"bsae\"]")
            .error()
            .contains("hint: did you mean `base`?")
    );
}

#[test]
fn a_missing_key_says_where_to_add_it() {
    assert_eq!(
        Fixture::new().with("title = \"A box\"\n", "").error(),
        "error: missing key `title`: neither profiles/box.toml nor a profile that it extends has it\n\
         hint: add it to profiles/box.toml; profiles/pc.toml is an example"
    );
    assert_eq!(
        Fixture::new().with("name = \"eth1\"", "").error(),
        "error: missing key `name` in profiles/box.toml\n  \
         --> profiles/box.toml:14:8\n   \
            |\n\
         14 | wan = [{  }]\n   \
            |        ^^^^ needs a key `name`\n\
         hint: add name = …"
    );
}

#[test]
fn one_alias_for_two_devices_is_refused_by_the_list() {
    let fixture = Fixture::new().file("chest", DEVICE);
    assert_eq!(
        shown(&list(&fixture.project()).unwrap_err()),
        "error: alias `kiste` is used twice\n \
         --> profiles/chest.toml:3:12\n  \
           |\n\
         3 | aliases = [\"kiste\"]\n  \
           |            ^^^^^^^ profiles/box.toml answers to it already\n\
         hint: remove it in one of profiles/box.toml and profiles/chest.toml"
    );
}

#[test]
fn one_port_in_two_roles_is_refused() {
    assert_eq!(
        Fixture::new().with("name = \"eth1\"", "name = \"eth0\"").error(),
        "error: port `eth0` is used twice in profiles/box.toml\n  \
         --> profiles/box.toml:14:17\n   \
            |\n\
         14 | wan = [{ name = \"eth0\" }]\n   \
            |                 ^^^^^^ is a LAN port already\n\
         hint: a port is either LAN or WAN, once"
    );
    let same_path = "{ name = \"eth1\", device_path = \"pci0000:00/0000:00:02.0\" }";
    assert!(
        Fixture::new()
            .with("{ name = \"eth1\" }", same_path)
            .error()
            .contains("is used twice")
    );
}

#[test]
fn values_that_no_router_can_have_are_refused_where_they_stand() {
    for (from, to, message) in [
        ("25.12.5", "25.12", "a release looks like 25.12.5"),
        ("x86/64", "x86", "a target looks like bcm27xx/bcm2711"),
        (
            "[settings]",
            "[settings]\nlan_address = \"192.168.1\"",
            "an IPv4 address is expected",
        ),
        (
            "[settings]",
            "[settings]\nlan_address = \"192.168.73.255\"",
            "is no host of its network",
        ),
        (
            "[settings]",
            "[settings]\nwifi_country = \"Germany\"",
            "two capital letters are expected",
        ),
        (
            "name = \"eth1\"",
            "name = \"an interface\"",
            "cannot stand in an interface's name",
        ),
        (
            "pci0000:00/",
            "/sys/devices/pci0000:00/",
            "is meant relative to /sys/devices",
        ),
        (
            "[\"kiste\"]",
            "[\"Kiste\"]",
            "only a-z, 0-9 and `-` may stand here, not `K`",
        ),
        ("kmod-igc", "kmod igc", "is in no package's name"),
        ("ram_mib = 512", "ram_mib = 0", "zero"),
        (
            "ram_mib = 512",
            "ram_mib = -1",
            "expected a whole number in range, not negative",
        ),
        ("[ports]", "[ports", "malformed TOML"),
    ] {
        let error = Fixture::new().with(from, to).error();
        assert!(error.contains(message), "{to}: {error}");
        assert!(error.contains("profiles/b"), "no place: {error}");
    }
}

#[test]
fn the_projects_own_profiles_are_valid() {
    let root = camino::Utf8Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned();
    let project = Project { root };
    if let Err(error) = list(&project) {
        panic!("{}", shown(&error));
    }
}

#[test]
fn the_example_in_the_manual_has_only_keys_that_exist() {
    let manual = include_str!("../../../docs/profiles.md");
    let example = manual
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let parsed: Result<raw::RawProfile, _> = toml::from_str(example);
    assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
}
