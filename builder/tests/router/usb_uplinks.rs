//! /usr/libexec/sennit/usb-wan: phones, sticks and adapters on USB keep their names and join as WANs once.

use crate::root::Root;

const BUS: &str = "pci0000:00/0000:00:14.0/usb1";

/// Plugs a device into a socket and sends the kernel's event for it.
fn plug(root: &Root, socket: &str, interface: &str, serial: &str, mac: &str) {
    root.plug(
        &format!("{BUS}/{socket}/{socket}:1.0"),
        interface,
        &[("address", mac), ("addr_assign_type", "0")],
    );
    root.run(&format!(
        "cd /sys/devices/{BUS}/{socket}; echo 12d1 >idVendor; echo 14db >idProduct; rm -f serial"
    ));
    if !serial.is_empty() {
        root.run(&format!("echo '{serial}' >/sys/devices/{BUS}/{socket}/serial"));
    }
    event(root, interface);
}

fn event(root: &Root, interface: &str) {
    root.run(&format!(
        "ACTION=add; DEVICENAME={interface}; . /etc/hotplug.d/net/10-sennit-usb"
    ));
}

#[test]
fn a_phone_joins_as_a_wan() {
    let root = Root::booted(|_| ());
    plug(&root, "1-2", "usb0", "R58M123", "02:11:22:33:44:55");
    for (key, value) in [
        ("network.usbwan1.proto", "dhcp"),
        ("network.usbwan1.device", "usbwan1"),
        ("network.usbwan1.metric", "101"),
        ("network.usbwan1_6.proto", "dhcpv6"),
        ("firewall.@zone[1].network", "wan1 wan1_6 usbwan1 usbwan1_6"),
    ] {
        assert_eq!(root.uci(key), value, "{key}");
    }
    assert!(root.place("usbwan1").ends_with("1-2:1.0"));
}

#[test]
fn a_device_keeps_its_name_in_another_socket_and_its_second_visit_changes_nothing() {
    let root = Root::booted(|_| ());
    plug(&root, "1-2", "usb0", "R58M123", "02:11:22:33:44:55");
    root.unplug("usbwan1");
    let before = root.configuration();
    plug(&root, "1-3", "usb0", "R58M123", "02:66:77:88:99:aa");
    assert!(root.place("usbwan1").ends_with("1-3:1.0"));
    assert_eq!(root.configuration(), before);
}

#[test]
fn modems_that_are_alike_are_told_apart_by_their_sockets() {
    let root = Root::booted(|_| ());
    // Sticks of one make share the MAC address and have no serial number.
    let mac = "0c:5b:8f:27:9a:64";
    plug(&root, "1-2", "eth5", "", mac);
    plug(&root, "1-3", "eth6", "", mac);
    for name in ["usbwan1", "usbwan2"] {
        root.unplug(name);
    }
    plug(&root, "1-3", "eth5", "", mac);
    plug(&root, "1-2", "eth6", "", mac);
    assert!(root.place("usbwan1").ends_with("1-2:1.0"));
    assert!(root.place("usbwan2").ends_with("1-3:1.0"));
    assert_eq!(root.run("wc -l </etc/sennit/usb").trim(), "2");
}

#[test]
fn an_uplink_that_the_user_removed_does_not_come_back() {
    let root = Root::booted(|_| ());
    plug(&root, "1-2", "usb0", "R58M123", "02:11:22:33:44:55");
    root.run("uci delete network.usbwan1; uci commit");
    root.unplug("usbwan1");
    plug(&root, "1-2", "usb0", "R58M123", "02:11:22:33:44:55");
    assert_eq!(root.uci("network.usbwan1"), "");
}

#[test]
fn a_device_that_is_there_before_the_first_configuration_joins_with_it() {
    let root = Root::new(|_| ());
    plug(&root, "1-2", "usb0", "R58M123", "02:11:22:33:44:55");
    assert!(root.place("usbwan1").ends_with("1-2:1.0"), "named at once");
    root.boot();
    assert_eq!(root.uci("network.usbwan1.proto"), "dhcp");
    assert_eq!(
        root.uci("firewall.@zone[1].network"),
        "wan1 wan1_6 usbwan1 usbwan1_6"
    );
}

#[test]
fn what_is_not_a_plain_usb_network_device_is_left_alone() {
    let root = Root::booted(|_| ());
    root.plug("pci0000:00/0000:00:1c.0/0000:01:00.0", "eth0", &[]);
    event(&root, "eth0");
    let stick = format!("{BUS}/1-4/1-4:1.0");
    root.plug(&stick, "wlan0", &[]);
    root.run("mkdir /sys/class/net/wlan0/phy80211");
    event(&root, "wlan0");
    let modem = format!("{BUS}/1-5/1-5:1.8");
    root.plug(&modem, "wwan0", &[]);
    root.run(&format!(
        "mkdir -p /sys/bus/qmi_wwan; ln -s /sys/bus/qmi_wwan /sys/devices/{modem}/driver"
    ));
    event(&root, "wwan0");
    assert_eq!(root.run("ls /sys/class/net"), "eth0\nwlan0\nwwan0\n");
    assert!(!root.configuration().contains("usbwan"));
}
