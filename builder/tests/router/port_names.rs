//! /usr/libexec/sennit/name-ports: ports keep their names whatever the kernel calls them.

use builder::profile::Port;

use crate::root::Root;

fn port(name: &str, path: Option<&str>) -> Port {
    Port {
        name: name.into(),
        device_path: path.map(str::to_owned),
    }
}

const FIRST: &str = "pci0000:00/0000:00:1c.0/0000:01:00.0";
const SECOND: &str = "pci0000:00/0000:00:1c.1/0000:02:00.0";
const USB: &str = "pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0";

#[test]
fn a_usb_adapter_does_not_take_the_name_of_a_built_in_port() {
    let root = Root::new(|_| ());
    root.plug(FIRST, "eth0", &[]);
    root.plug(SECOND, "eth1", &[]);
    root.boot();
    assert_eq!(
        root.run("grep -v '^#' /etc/sennit/ports"),
        format!("eth0 {FIRST}\neth1 {SECOND}\n")
    );

    // The next boot: the adapter was quicker than the second port.
    root.unplug("eth1");
    root.plug(USB, "eth1", &[]);
    root.plug(SECOND, "eth2", &[]);
    root.run("/usr/libexec/sennit/name-ports");
    assert_eq!(
        (root.place("eth0"), root.place("eth1")),
        (FIRST.into(), SECOND.into())
    );
    assert_eq!(
        root.place("eth3"),
        USB,
        "the adapter keeps a name that nobody asks for"
    );
}

#[test]
fn swapped_ports_are_swapped_back() {
    let root = Root::new(|profile| {
        profile.ports.lan = vec![port("eth0", Some("platform/fe2a0000.ethernet"))];
        profile.ports.wan = vec![port("eth1", Some("platform/fe010000.ethernet"))];
    });
    root.plug("platform/fe010000.ethernet", "eth0", &[]);
    root.plug("platform/fe2a0000.ethernet", "eth1", &[]);
    root.run("/usr/libexec/sennit/name-ports");
    assert_eq!(root.place("eth0"), "platform/fe2a0000.ethernet");
    assert_eq!(root.place("eth1"), "platform/fe010000.ethernet");
}

#[test]
fn ports_are_numbered_along_the_bus_at_the_first_boot() {
    let root = Root::new(|_| ());
    root.plug(SECOND, "eth0", &[]);
    root.plug(&format!("{FIRST}/virtio3"), "eth1", &[]);
    root.boot();
    assert_eq!(root.place("eth0"), format!("{FIRST}/virtio3"));
    assert_eq!(root.place("eth1"), SECOND);
}

#[test]
fn two_ports_behind_one_device_keep_the_kernels_names() {
    let root = Root::new(|_| ());
    root.plug(FIRST, "eth0", &[]);
    root.run(&format!(
        "mkdir /sys/devices/{FIRST}/net/eth1; ln -s /sys/devices/{FIRST}/net/eth1 /sys/class/net/eth1"
    ));
    root.boot();
    assert_eq!(root.run("ls /sys/class/net"), "eth0\neth1\n");
    assert_eq!(root.run("ls /etc/sennit"), "");
}
