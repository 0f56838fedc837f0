//! The service that keeps the server running: its file for systemd and for OpenRC, and how each is told.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::run;
use crate::Result;

/// Name of the service.
const NAME: &str = "sennit-server";

/// What starts services on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Supervisor {
    /// Debian, Ubuntu, Fedora and others.
    Systemd,
    /// Alpine.
    OpenRc,
}

impl Supervisor {
    /// That of this machine.
    pub fn find() -> Option<Self> {
        if Path::new("/run/systemd/system").is_dir() {
            Some(Self::Systemd)
        } else if Path::new("/sbin/openrc-run").exists() {
            Some(Self::OpenRc)
        } else {
            None
        }
    }

    /// Where it wants the service's file.
    pub fn file(self) -> &'static Path {
        Path::new(match self {
            Self::Systemd => "/etc/systemd/system/sennit-server.service",
            Self::OpenRc => "/etc/init.d/sennit-server",
        })
    }

    /// The mode of that file.
    pub fn mode(self) -> u32 {
        match self {
            Self::Systemd => 0o644,
            Self::OpenRc => 0o755,
        }
    }

    /// The service's file, for this program.
    pub fn text(self, program: &Path) -> String {
        let template = match self {
            Self::Systemd => SYSTEMD,
            Self::OpenRc => OPENRC,
        };
        template.replace("PROGRAM", &program.display().to_string())
    }

    /// Whether the service runs.
    pub fn is_running(self) -> bool {
        match self {
            Self::Systemd => run(&["systemctl", "is-active", "--quiet", NAME]),
            Self::OpenRc => run(&["rc-service", "--quiet", NAME, "status"]),
        }
        .is_ok()
    }

    /// Whether the service starts with the machine.
    pub fn is_enabled(self) -> bool {
        match self {
            Self::Systemd => run(&["systemctl", "is-enabled", "--quiet", NAME]).is_ok(),
            Self::OpenRc => run(&["rc-update", "show", "default"]).is_ok_and(|shown| shown.contains(NAME)),
        }
    }

    /// Has it start with the machine.
    pub fn enable(self) -> Result<()> {
        match self {
            Self::Systemd => run(&["systemctl", "daemon-reload"])
                .and_then(|_| run(&["systemctl", "enable", "--quiet", NAME])),
            Self::OpenRc => run(&["rc-update", "--quiet", "add", NAME, "default"]),
        }
        .map(|_| ())
    }

    /// Starts it with its present file and program, whether it runs already or not.
    pub fn restart(self) -> Result<()> {
        match self {
            Self::Systemd => {
                run(&["systemctl", "daemon-reload"]).and_then(|_| run(&["systemctl", "restart", NAME]))
            }
            Self::OpenRc => run(&["rc-service", "--quiet", NAME, "restart"]),
        }
        .map(|_| ())
    }

    /// Stops it for now and for the machine's next start.
    pub fn disable(self) -> Result<()> {
        match self {
            Self::Systemd => run(&["systemctl", "disable", "--quiet", "--now", NAME]),
            Self::OpenRc => {
                // One that is not running is no error of ours.
                let _ = run(&["rc-service", "--quiet", NAME, "stop"]);
                run(&["rc-update", "--quiet", "delete", NAME, "default"])
            }
        }
        .map(|_| ())
    }

    /// Has it forget a file that was removed.
    pub fn forget(self) {
        if self == Self::Systemd {
            // Without effect on anything that is left.
            let _ = run(&["systemctl", "daemon-reload"]);
        }
    }

    /// A file that the service writes its log to, where the supervisor keeps none.
    pub fn log_file(self) -> Option<&'static Path> {
        match self {
            Self::Systemd => None,
            Self::OpenRc => Some(Path::new("/var/log/sennit-server.log")),
        }
    }

    /// The command that shows why the service does not run.
    pub fn log(self) -> &'static str {
        match self {
            Self::Systemd => "journalctl -u sennit-server -n 20 --no-pager",
            Self::OpenRc => "tail /var/log/sennit-server.log",
        }
    }
}

/// `ProtectKernelTunables` is missing: the server sets `ip_forward` and the like.
const SYSTEMD: &str = "\
# Written by `sennit server init`, removed by `sennit server uninstall`.
# Settings of your own: systemctl edit sennit-server
[Unit]
Description=Sennit server: several internet links become one
Wants=network-online.target
# The rules of others first, so that the server's own find their place among them.
After=network-online.target nftables.service iptables.service netfilter-persistent.service ufw.service firewalld.service docker.service
# Never give up: whoever could start it again by hand may be at the other end of the tunnel.
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=PROGRAM run server
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=500ms
ConfigurationDirectory=sennit
ConfigurationDirectoryMode=0700
StateDirectory=sennit
StateDirectoryMode=0700
RuntimeDirectory=sennit
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
UMask=0077
LimitNOFILE=65536

CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
# The lock that all users of iptables share.
ReadWritePaths=-/run/xtables.lock
ProtectHome=yes
PrivateTmp=yes
DevicePolicy=closed
DeviceAllow=/dev/net/tun rw
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
";

const OPENRC: &str = "\
#!/sbin/openrc-run
# Written by `sennit server init`, removed by `sennit server uninstall`.
# Settings of your own: /etc/conf.d/sennit-server

name=\"Sennit server\"
description=\"Several internet links become one\"
extra_started_commands=\"reload\"
supervisor=supervise-daemon
command=\"PROGRAM\"
command_args=\"run server\"
respawn_delay=1
respawn_max=0
output_log=/var/log/sennit-server.log
error_log=/var/log/sennit-server.log

depend() {
\tneed net
\tafter firewall iptables ip6tables nftables ufw firewalld docker
}

start_pre() {
\tmodprobe -q tun
\tcheckpath --directory --mode 0700 /run/sennit /var/lib/sennit
}

reload() {
\tebegin \"Reading the configuration again\"
\tsupervise-daemon \"$RC_SVCNAME\" --signal HUP
\teend $?
}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_file_names_the_program() {
        for supervisor in [Supervisor::Systemd, Supervisor::OpenRc] {
            let text = supervisor.text(Path::new("/opt/sennit"));
            assert!(
                text.contains("/opt/sennit") && !text.contains("PROGRAM"),
                "{text}"
            );
        }
    }
}
