//! What is asked of the router on its console, and how the answers read.

use serde::Serialize;

/// Begins every line of an answer. The script spells it in two pieces, so that its own echo is no answer.
const MARK: &str = "@sennit:";
/// Ends every answer: a line that a kernel message cut short lacks it.
const END: &str = ":@";

/// What a router said about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// `6.6.144`
    pub kernel: String,
    /// `x86_64`
    pub machine: String,
    /// Name of process 1: `procd`.
    pub init: String,
    /// `OpenWrt 24.10.8 r29169-0123456789`
    pub system: String,
    /// Seconds since its kernel started.
    pub uptime: u64,
    /// Whether the init system says that the `sennit` service runs.
    pub service_running: bool,
    /// Process number of `sennit`.
    pub service_pid: Option<u32>,
    /// Whether the tunnel interface `sennit0` is there.
    pub interface: bool,
}

impl Findings {
    /// True if the router does what it is for.
    pub fn is_up(&self) -> bool {
        self.service_running && self.service_pid.is_some() && self.interface
    }
}

/// Commands as they are typed: a here-document, so that nothing runs before all of it has arrived. In it `p KEY VALUE`
/// says a value; the answer's last line names the round.
pub(super) fn typed(round: u32, commands: &str) -> String {
    format!(
        r#"sh <<'END' 2>/dev/null
p() {{ echo "@s""ennit:$1=$2:@"; }}
{}
p done {round}
END
"#,
        commands.trim_end()
    )
}

/// The script of one round, in lines that a terminal of 80 columns does not wrap.
pub(super) fn script(round: u32) -> String {
    typed(
        round,
        r#"dmesg -n 1
p kernel "$(uname -r)"
p machine "$(uname -m)"
p init "$(cat /proc/1/comm)"
[ -f /etc/openwrt_release ] && . /etc/openwrt_release
p system "$DISTRIB_DESCRIPTION"
p uptime "$(cut -d. -f1 /proc/uptime)"
r=no
if command -v ubus >/dev/null; then
s="$(ubus call service list '{"name":"sennit"}')"
echo "$s" | grep -q '"running": true' && r=yes
d="$(echo "$s" | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')"
else
/etc/init.d/sennit running && r=yes
d="$(pidof sennit)"
fi
p running $r
set -- $d
p pid "$1"
i=no
[ -e /sys/class/net/sennit0 ] && i=yes
p interface $i"#,
    )
}

/// True for a line by which the console echoes the script.
pub(super) fn is_echo(line: &str) -> bool {
    line.starts_with("> ") || line.contains("<<'END'")
}

/// What a router answered.
#[derive(Clone, Debug)]
pub(super) struct Answer(String);

impl Answer {
    /// The answer to round `round` in `text`; `None` while it is not whole.
    pub(super) fn of(text: &str, round: u32) -> Option<Self> {
        let answer = Self(text.to_owned());
        (answer.value("done")?.parse() == Ok(round)).then_some(answer)
    }

    /// The value that was said under a key.
    pub(super) fn value(&self, key: &str) -> Option<String> {
        // The last one counts: an older round's late answer may stand before it.
        let start = self.0.rfind(&format!("{MARK}{key}="))? + MARK.len() + key.len() + 1;
        let line = self.0[start..].lines().next()?;
        line.find(END).map(|end| line[..end].trim().to_owned())
    }
}

/// Reads the answer to round `round`; `None` while it is not whole.
pub(super) fn parse(text: &str, round: u32) -> Option<Findings> {
    let answer = Answer::of(text, round)?;
    Some(Findings {
        kernel: answer.value("kernel")?,
        machine: answer.value("machine")?,
        init: answer.value("init")?,
        system: answer.value("system")?,
        uptime: answer.value("uptime")?.parse().ok()?,
        service_running: answer.value("running")? == "yes",
        service_pid: answer.value("pid")?.parse().ok(),
        interface: answer.value("interface")? == "yes",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "root@OpenWrt:/# sh <<'END'\n> p done 2\n\
        @sennit:kernel=4.14.195:@\n@sennit:machine=x86_64:@\n@sennit:init=procd:@\n\
        @sennit:system=OpenWrt 19.07.4 r11208-ce6496d796:@\n@sennit:uptime=31:@\n@sennit:running=yes:@\n\
        @sennit:pid=1403:@\n@sennit:interface=yes:@\n@sennit:done=2:@\n";

    #[test]
    fn an_answer_becomes_findings() {
        let findings = parse(ANSWER, 2).expect("whole");
        assert_eq!(findings.system, "OpenWrt 19.07.4 r11208-ce6496d796");
        assert_eq!(findings.service_pid, Some(1403));
        assert!(findings.is_up());
    }

    #[test]
    fn an_unfinished_older_or_garbled_answer_is_none() {
        assert_eq!(parse(ANSWER, 3), None);
        assert_eq!(parse(ANSWER.trim_end_matches("@sennit:done=2:@\n"), 2), None);
        assert_eq!(
            parse(&ANSWER.replace("uptime=31:@", "upt[ 31.2] eth0: link up"), 2),
            None
        );
    }

    #[test]
    fn a_service_without_process_or_interface_is_not_up() {
        let without_pid = parse(&ANSWER.replace("pid=1403", "pid="), 2).expect("whole");
        assert!(!without_pid.is_up());
        let without_interface = parse(&ANSWER.replace("interface=yes", "interface=no"), 2).expect("whole");
        assert!(!without_interface.is_up());
    }

    #[test]
    fn the_script_never_spells_the_mark_and_fits_a_terminal() {
        let script = script(7);
        assert!(!script.contains(MARK));
        assert!(script.lines().all(|line| line.len() < 76), "{script}");
    }

    #[test]
    fn a_real_shell_runs_the_script_and_its_answer_parses() {
        // Without its first command, which would silence this machine's kernel.
        let script = script(4).replace("dmesg -n 1\n", "");
        let output = std::process::Command::new("sh")
            .arg("-c")
            .arg(script)
            .output()
            .expect("sh runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let findings = parse(&text, 4).unwrap_or_else(|| panic!("not whole: {text}"));
        assert!(
            !findings.kernel.is_empty() && !findings.service_running,
            "{findings:?}"
        );
    }
}
