//! /etc/uci-defaults: what a new router is configured to, and what it leaves alone.

use builder::profile::Port;

use crate::root::Root;

fn port(name: &str) -> Port {
    Port {
        name: name.into(),
        device_path: None,
    }
}

#[test]
fn a_new_router_has_its_lan_its_uplinks_and_its_zones() {
    let root = Root::booted(|profile| {
        profile.ports.lan = vec![port("eth0"), port("eth2")];
        profile.ports.wan = vec![port("eth1"), port("eth3")];
        profile.settings.lan_address = [192, 168, 77, 1].into();
        profile.settings.timezone = "Europe/Berlin".into();
    });
    let configuration = root.configuration();
    for line in [
        "system.@system[0].hostname='sennit'",
        "system.@system[0].timezone='CET-1CEST,M3.5.0,M10.5.0/3'",
        "network.@device[0].ports='eth0' 'eth2'",
        "network.lan.device='br-lan'",
        "network.lan.ipaddr='192.168.77.1'",
        "network.lan.netmask='255.255.255.0'",
        "network.wan1.device='eth1'",
        "network.wan1.metric='10'",
        "network.wan2_6.device='eth3'",
        "network.wan2_6.reqprefix='no'",
        "firewall.@defaults[0].input='REJECT'",
        "firewall.@zone[1].name='wan'",
        "firewall.@zone[1].input='REJECT'",
        "firewall.@zone[1].network='wan1' 'wan1_6' 'wan2' 'wan2_6'",
        "firewall.bond.device='sennit0'",
        "firewall.bond.input='REJECT'",
        "firewall.lan_bond.dest='bond'",
        "dhcp.wan2.ignore='1'",
        "dropbear.@dropbear[0].Interface='lan'",
    ] {
        assert!(
            configuration.lines().any(|have| have == line),
            "{line} is not in:\n{configuration}"
        );
    }
    for absent in ["network.wan=", "network.wan6=", "dhcp.wan=", "bond.masq="] {
        assert!(
            !configuration.contains(absent),
            "{absent} is in:\n{configuration}"
        );
    }
    // The only way from the LAN to an uplink is the one with a name and a switch.
    let to_uplinks: Vec<&str> = configuration
        .lines()
        .filter(|line| line.ends_with(".dest='wan'"))
        .collect();
    assert_eq!(to_uplinks, ["firewall.sennit_direct.dest='wan'"]);
}

#[test]
fn running_twice_changes_nothing() {
    let root = Root::booted(|_| ());
    let before = root.configuration();
    root.upgrade();
    assert_eq!(root.configuration(), before);
}

#[test]
fn an_upgrade_keeps_what_the_user_changed() {
    let root = Root::booted(|_| ());
    root.run(
        "uci set system.@system[0].hostname=OpenWrt\n\
         uci set network.lan.ipaddr=10.9.8.1\n\
         uci delete network.wan1\n\
         uci set firewall.sennit_direct.enabled=0\n\
         uci commit",
    );
    let before = root.configuration();
    root.upgrade();
    assert_eq!(root.configuration(), before);
}

#[test]
fn settings_that_come_from_plain_openwrt_stay() {
    let root = Root::new(|profile| profile.ports.wan = vec![port("eth1"), port("eth2")]);
    root.run(
        "/bin/board_detect; /bin/config_generate\n\
         uci set system.@system[0].hostname=attic\n\
         uci set network.lan.ipaddr=10.9.8.1\n\
         uci set network.wan=interface\n\
         uci set network.wan.proto=pppoe\n\
         uci set network.wan.device=eth1\n\
         uci set network.wan.username=me\n\
         uci commit",
    );
    root.boot();
    assert_eq!(root.uci("system.@system[0].hostname"), "attic");
    assert_eq!(root.uci("network.lan.ipaddr"), "10.9.8.1");
    assert_eq!(root.uci("network.wan.username"), "me");
    assert_eq!(
        root.uci("network.wan1"),
        "",
        "the port of the PPPoE uplink has one interface"
    );
    assert_eq!(root.uci("network.wan2.device"), "eth2");
    assert_eq!(root.uci("firewall.@zone[1].network"), "wan wan2 wan2_6");
}

#[test]
fn openwrt_19_names_devices_by_ifname() {
    let root = Root::new(|profile| profile.ports.lan = vec![port("eth0"), port("eth2")]);
    root.write(
        "etc/config/network",
        "config interface 'loopback'\n\toption ifname 'lo'\n\toption proto 'static'\n\n\
         config interface 'lan'\n\toption type 'bridge'\n\toption ifname 'eth0'\n\toption proto 'static'\n\
         \toption ipaddr '192.168.1.1'\n\toption netmask '255.255.255.0'\n",
    );
    root.boot();
    assert_eq!(root.uci("network.lan.ifname"), "eth0 eth2");
    assert_eq!(root.uci("network.lan.device"), "");
    assert_eq!(root.uci("network.wan1.ifname"), "eth1");
    assert!(!root.configuration().contains("br-lan"));
}

#[test]
fn radios_stay_off_until_a_user_sets_them_up() {
    let root = Root::booted(|profile| profile.settings.wifi_country = "NZ".into());
    root.write(
        "etc/config/wireless",
        "config wifi-device 'radio0'\n\toption type 'mac80211'\n\nconfig wifi-device 'radio1'\n\toption country 'DE'\n",
    );
    root.run("ACTION=add; . /etc/hotplug.d/ieee80211/20-sennit-wireless");
    assert_eq!(
        (
            root.uci("wireless.radio0.disabled"),
            root.uci("wireless.radio0.country")
        ),
        ("1".into(), "NZ".into())
    );
    assert_eq!(
        (
            root.uci("wireless.radio1.disabled"),
            root.uci("wireless.radio1.country")
        ),
        ("".into(), "DE".into())
    );
    // Once somebody switched a radio on, the next boot's hotplug events leave it on.
    root.run("uci set wireless.radio0.disabled=0; uci commit; ACTION=add; . /etc/hotplug.d/ieee80211/20-sennit-wireless");
    assert_eq!(root.uci("wireless.radio0.disabled"), "0");
}

/// Runs /etc/init.d/sennit-password up to where procd would start what it declares.
const START: &str = "procd_open_instance() { :; }; procd_set_param() { echo \"$*\" >/tmp/command; }; \
                     procd_close_instance() { :; }; . /etc/init.d/sennit-password; ";

#[test]
fn ssh_takes_passwords_only_once_there_is_one() {
    let root = Root::booted(|_| ());
    let setting = || root.uci("dropbear.@dropbear[0].RootPasswordAuth");
    root.write("etc/shadow", "root::0:0:99999:7:::\n");
    root.run(&format!("{START} start_service"));
    assert_eq!(setting(), "off");
    assert!(
        root.run("cat /tmp/command").contains("until grep"),
        "it waits for the first password"
    );

    root.write("etc/shadow", "root:$1$abc$def:0:0:99999:7:::\n");
    root.write("etc/init.d/dropbear", "#!/bin/sh\ntouch /tmp/reloaded\n");
    root.run(&format!(
        "chmod 755 /etc/init.d/dropbear; {START} accept; [ -e /tmp/reloaded ]"
    ));
    assert_eq!(setting(), "on");

    // A user's own choice stays, at every boot.
    root.run("uci set dropbear.@dropbear[0].RootPasswordAuth=off; uci commit");
    root.run(&format!("{START} start_service"));
    assert_eq!(setting(), "off");
}
