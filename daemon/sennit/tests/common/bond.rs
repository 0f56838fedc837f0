//! A client with two WANs and a LAN host behind it, a server, and the Internet between them, each in a namespace.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use super::{Home, Namespace, Running, has, text};

/// Where the server is reached.
pub const SERVER: &str = "203.0.113.5";
/// The same by IPv6, after [`Bond::add_ipv6`].
pub const SERVER_V6: &str = "2001:db8:5::5";
/// A host of the Internet: what the LAN host talks to.
pub const INTERNET: &str = "198.51.100.9";
/// The same host, by IPv6.
pub const INTERNET_V6: &str = "2001:db8:9::9";

/// The namespaces, and the homes of both daemons.
pub struct Bond {
    pub client: Namespace,
    pub server: Namespace,
    pub internet: Namespace,
    pub host: Namespace,
    pub client_home: Home,
    pub server_home: Home,
}

impl Bond {
    /// `None` where this user may not make namespaces.
    pub fn new() -> Option<Self> {
        if !has("nft") {
            return None;
        }
        let bond = Self {
            client: Namespace::new()?,
            server: Namespace::new()?,
            internet: Namespace::new()?,
            host: Namespace::new()?,
            client_home: Home::new(),
            server_home: Home::new(),
        };
        for number in [1, 2] {
            bond.add_wan(number);
        }
        bond.server
            .connect("s0", &format!("{SERVER}/24"), &bond.internet, "203.0.113.1/24");
        bond.server.run("ip route add default via 203.0.113.1");
        bond.client
            .connect("lan", "192.168.7.1/24", &bond.host, "192.168.7.2/24");
        bond.host.run("ip route add default via 192.168.7.1");
        bond.internet.run(&format!("ip addr add {INTERNET}/32 dev lo"));
        bond.internet.run("sysctl -qw net.ipv4.ip_forward=1");
        // Counts what comes out of the client's WANs and is not the tunnel's.
        let watch = "add table inet watch; add chain inet watch in { type filter hook prerouting priority -400; }; \
                     add rule inet watch in iifname \"w*\" ip daddr 203.0.113.5 udp dport 7300 accept; \
                     add rule inet watch in ip6 saddr { ::, fe80::/10 } meta l4proto icmpv6 accept; \
                     add rule inet watch in iifname \"w*\" counter";
        bond.internet.nft(watch);
        Some(bond)
    }

    /// Connects WAN `number` (1 to 9) of the client.
    pub fn add_wan(&self, number: u8) {
        let name = format!("w{number}");
        let (own, gateway) = (format!("192.0.{number}.2/24"), format!("192.0.{number}.1"));
        self.client
            .connect(&name, &own, &self.internet, &format!("{gateway}/24"));
        self.client.run(&format!(
            "ip route add default via {gateway} dev {name} metric {number}"
        ));
    }

    /// Gives every machine IPv6 as well, on the WANs too, where nothing of it may be seen. The tunnel itself uses IPv4.
    pub fn add_ipv6(&self) {
        for (namespace, device, address) in [
            (&self.client, "w1", "2001:db8:1::2/64"),
            (&self.internet, "w1", "2001:db8:1::1/64"),
            (&self.client, "w2", "2001:db8:2::2/64"),
            (&self.internet, "w2", "2001:db8:2::1/64"),
            (&self.server, "s0", "2001:db8:5::5/64"),
            (&self.internet, "s0", "2001:db8:5::1/64"),
            (&self.client, "lan", "2001:db8:7::1/64"),
            (&self.host, "lan", "2001:db8:7::2/64"),
            (&self.internet, "lo", &format!("{INTERNET_V6}/128")),
        ] {
            namespace.run(&format!("ip addr add {address} dev {device} nodad"));
        }
        self.client
            .run("ip route add default via 2001:db8:1::1 dev w1 metric 1");
        self.client
            .run("ip route add default via 2001:db8:2::1 dev w2 metric 2");
        self.server.run("ip route add default via 2001:db8:5::1");
        self.host.run("ip route add default via 2001:db8:7::1");
        self.internet.run("sysctl -qw net.ipv6.conf.all.forwarding=1");
        // What leaked would find its way back.
        self.internet
            .run("ip route add 2001:db8:7::/64 via 2001:db8:1::2");
        self.internet.run("ip route add 192.168.7.0/24 via 192.0.1.2");
    }

    /// Writes both configurations, with these lines in the client's.
    pub fn configure(&self, client_lines: &str) {
        self.configure_both(SERVER, client_lines, "");
    }

    /// Writes both configurations; the client finds the server at `address`.
    pub fn configure_both(&self, address: &str, client_lines: &str, server_lines: &str) {
        if !self.client_home.path("key").exists() {
            self.client_home.key();
            self.server_home.key();
        }
        let public = |home: &Home| {
            let file = home.path("key");
            let output = std::process::Command::new(super::SENNIT)
                .args(["pubkey", text(&file)])
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        self.server_home.configure(&format!(
            "private_key_file = {:?}\n{server_lines}\n[[client]]\nname = \"boat\"\npublic_key = \"{}\"\n\
             address = [\"10.73.0.2\", \"fd73:656e:6e69:7400::2\"]\n",
            self.server_home.path("key"),
            public(&self.client_home)
        ));
        self.client_home.configure(&format!(
            "private_key_file = {:?}\n{client_lines}\n[server]\naddress = \"{address}\"\npublic_key = \"{}\"\n",
            self.client_home.path("key"),
            public(&self.server_home)
        ));
    }

    pub fn start_client(&self) -> Running {
        let config = self.client_home.path("sennit.toml");
        self.client.sennit(&["run", "client", "--config", text(&config)])
    }

    pub fn start_server(&self) -> Running {
        let config = self.server_home.path("sennit.toml");
        self.server.sennit(&["run", "server", "--config", text(&config)])
    }

    /// Starts both and waits until this number of paths is active.
    pub fn start(&self, paths: usize) -> (Running, Running) {
        self.configure("lan = [\"lan\"]");
        let both = (self.start_client(), self.start_server());
        self.wait_paths(paths);
        both
    }

    pub fn wait_paths(&self, paths: usize) {
        self.client_home
            .wait_status(&format!("{paths} paths are active"), |status| {
                status["state"] == "connected" && active_paths(status).len() == paths
            });
    }

    /// Packets that left by a WAN and are not the tunnel's.
    pub fn leaked(&self) -> u64 {
        let rules = self.internet.run("nft list table inet watch");
        let count = rules.split("counter packets ").nth(1).unwrap();
        count.split_whitespace().next().unwrap().parse().unwrap()
    }
}

/// The WANs whose paths are active.
pub fn active_paths(status: &serde_json::Value) -> Vec<String> {
    let wans = status["wans"].as_array().cloned().unwrap_or_default();
    let is_active = |wan: &serde_json::Value| {
        let paths = wan["paths"].as_array().cloned().unwrap_or_default();
        paths.iter().any(|path| path["state"] == "active")
    };
    wans.iter()
        .filter(|wan| is_active(wan))
        .map(|wan| wan["name"].as_str().unwrap().to_owned())
        .collect()
}
