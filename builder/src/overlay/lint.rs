//! Judges a rendered tree before an image is made of it: what would break, leak or be ignored on the router.

use std::fmt;
use std::io::Write as _;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};

use super::{Content, Entry, Tree, secrets, uci};
use crate::{Error, Result};

/// One thing that is wrong with a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The overlay that brought the file.
    pub overlay: String,
    /// The file, relative to the router's root.
    pub path: Utf8PathBuf,
    /// Line in the rendered file, from 1; absent where the file as a whole is at fault.
    pub line: Option<usize>,
    /// What is wrong: a lowercase fragment.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "overlay {}: {}", self.overlay, self.path)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Fails with everything that [`findings`] finds.
pub fn lint(tree: &Tree) -> Result<()> {
    let findings = findings(tree)?;
    let Some((first, others)) = findings.split_first() else {
        return Ok(());
    };
    let mut message = first.to_string();
    for finding in others {
        message.push_str("\n       ");
        message.push_str(&finding.to_string());
    }
    let mut remedies: Vec<&str> = Vec::new();
    for finding in &findings {
        if !remedies.contains(&finding.remedy.as_str()) {
            remedies.push(&finding.remedy);
        }
    }
    Err(remedies
        .into_iter()
        .fold(Error::user(message), |error, remedy| error.hint(remedy)))
}

/// All that is wrong with a tree, in path order.
pub fn findings(tree: &Tree) -> Result<Vec<Finding>> {
    let mut all = Vec::new();
    for (path, entry) in tree {
        let mut report = |line: Option<usize>, message: String, remedy: &str| {
            let (overlay, path) = (entry.overlay.clone(), path.clone());
            all.push(Finding {
                overlay,
                path,
                line,
                message,
                remedy: remedy.to_owned(),
            });
        };
        check_name(path, &mut report);
        check_mode(path, entry, &mut report);
        if let Content::File(bytes) = &entry.content {
            check_text(path, bytes, &mut report);
            if is_shell(path, bytes)
                && let Some((line, message)) = shell_mistake(bytes)?
            {
                report(
                    line,
                    message,
                    "the router's shell is busybox ash; try the script with `sh -n FILE`",
                );
            }
        }
    }
    Ok(all)
}

/// Takes line, message and remedy.
type Report<'a> = dyn FnMut(Option<usize>, String, &str) + 'a;

fn check_name(path: &Utf8Path, report: &mut Report<'_>) {
    if !path.as_str().bytes().all(|byte| byte.is_ascii_graphic()) {
        let remedy = "sysupgrade cannot keep names with spaces or letters beyond ASCII: rename the file";
        report(None, "the name has spaces or letters beyond ASCII".into(), remedy);
    }
    // /var is a link to /tmp; the others are mounted at boot. What an image has there is hidden or breaks the link.
    if let Some(folder) = ["var", "tmp", "run", "proc", "sys", "dev"]
        .iter()
        .find(|folder| path.starts_with(folder))
    {
        let remedy = "make such files at boot, from an init script or /etc/uci-defaults";
        report(
            None,
            format!("/{folder} is not part of the image but mounted at boot"),
            remedy,
        );
    }
    let name = path.file_name().unwrap_or_default();
    if name.ends_with('~')
        || [".orig", ".rej", ".bak", ".swp"]
            .iter()
            .any(|end| name.ends_with(end))
    {
        report(
            None,
            "looks like a leftover of an editor or of patch".into(),
            "delete the file from the overlay",
        );
    }
}

fn check_mode(path: &Utf8Path, entry: &Entry, report: &mut Report<'_>) {
    let Content::File(bytes) = &entry.content else {
        return;
    };
    let mode = entry.mode;
    if mode & 0o022 != 0 {
        report(
            None,
            format!("mode {mode:04o} lets others write it"),
            "give it 0644, 0755 or less in overlay.toml",
        );
    }
    if mode & 0o7000 != 0 {
        report(
            None,
            format!("mode {mode:04o} has set-user-id, set-group-id or sticky bits"),
            "nothing on the router needs them",
        );
    }
    if path.starts_with("etc/init.d") {
        if mode & 0o111 == 0 {
            report(
                None,
                format!("an init script of mode {mode:04o} never starts"),
                "give it 0755 in overlay.toml",
            );
        }
        if !bytes.starts_with(b"#!/bin/sh /etc/rc.common") {
            let remedy = "begin it with `#!/bin/sh /etc/rc.common`, else the image does not enable it";
            report(Some(1), "an init script without rc.common".into(), remedy);
        }
    }
}

fn check_text(path: &Utf8Path, bytes: &[u8], report: &mut Report<'_>) {
    if let Some((line, kind)) = secrets::find(bytes) {
        let remedy = "everybody who has the image could read it: make keys on the router at first boot";
        report(Some(line), kind.to_owned(), remedy);
    }
    if path.starts_with("etc/dropbear") && path.as_str().ends_with("_host_key") {
        report(
            None,
            "a host key for SSH".into(),
            "every image would answer with it: the router makes its own at first boot",
        );
    }
    let is_text = !bytes.contains(&0);
    if is_text
        && let Some(line) = bytes
            .split(|&byte| byte == b'\n')
            .position(|line| line.ends_with(b"\r"))
    {
        report(
            Some(line + 1),
            "line ends in CR LF, which shells and uci take as part of the value".into(),
            "convert it: sed -i 's/\\r$//' FILE",
        );
    }
    if path.starts_with("etc/config") {
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                if let Err(uci::Mistake { line, message }) = uci::check(text) {
                    report(
                        Some(line),
                        message,
                        "write `config TYPE ['NAME']`, below it `option NAME 'VALUE'` or `list NAME 'VALUE'`",
                    );
                }
            }
            Err(_) => report(None, "not UTF-8".into(), "UCI files are text"),
        }
    }
}

/// By shebang, or by lying where OpenWrt sources every file.
fn is_shell(path: &Utf8Path, bytes: &[u8]) -> bool {
    const SOURCED: [&str; 7] = [
        "etc/uci-defaults",
        "etc/hotplug.d",
        "etc/board.d",
        "etc/profile.d",
        "etc/rc.button",
        "lib/preinit",
        "lib/netifd/proto",
    ];
    let first_line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let interpreter = std::str::from_utf8(first_line)
        .ok()
        .and_then(|line| line.strip_prefix("#!"));
    match interpreter {
        Some(line) => {
            let mut words = line
                .split_ascii_whitespace()
                .map(|word| word.rsplit('/').next().unwrap_or(word));
            words
                .find(|word| *word != "env")
                .is_some_and(|word| ["sh", "ash"].contains(&word))
        }
        None => path.extension() == Some("sh") || SOURCED.iter().any(|folder| path.starts_with(folder)),
    }
}

/// Asks the host's `sh -n`; answers line and message.
fn shell_mistake(script: &[u8]) -> Result<Option<(Option<usize>, String)>> {
    let run = || -> std::io::Result<std::process::Output> {
        let mut shell = Command::new("sh")
            .args(["-n", "-s"])
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = shell.stdin.take() {
            // A shell that gave up early closes its end; what it said matters, not the broken pipe.
            let _ = stdin.write_all(script);
        }
        shell.wait_with_output()
    };
    let output = run().map_err(|error| Error::environment("failed to run sh -n").because(error))?;
    if output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or_default();
    // dash: `sh: 3: Syntax error: …`; bash: `sh: line 3: syntax error …`
    let mut parts = first.splitn(3, ": ");
    let (_, line, message) = (parts.next(), parts.next(), parts.next());
    let line = line.and_then(|text| text.trim_start_matches("line ").parse().ok());
    Ok(Some((line, message.unwrap_or(first).to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, mode: u32, content: &str) -> Vec<String> {
        let content = Content::File(content.as_bytes().to_vec());
        let tree = Tree::from([(
            path.into(),
            Entry {
                mode,
                content,
                overlay: "mine".into(),
            },
        )]);
        findings(&tree)
            .expect("sh runs")
            .iter()
            .map(Finding::to_string)
            .collect()
    }

    #[test]
    fn a_good_tree_passes() {
        assert!(found("etc/uci-defaults/20-x", 0o644, "uci -q get a.b.c || exit 0\n").is_empty());
        assert!(found("etc/init.d/x", 0o755, "#!/bin/sh /etc/rc.common\nSTART=20\n").is_empty());
        assert!(found("etc/config/x", 0o600, "config a 'b'\n\toption c 'd'\n").is_empty());
        assert!(found("usr/bin/x", 0o755, "#!/usr/bin/lua\nlocal function ( end\n").is_empty());
    }

    #[test]
    fn shell_syntax_is_checked_by_shebang_and_by_folder() {
        let script = "true\nif true; then\n\techo x\ndone\n";
        for path in [
            "etc/uci-defaults/20-x",
            "etc/hotplug.d/net/05-x",
            "lib/functions/x.sh",
        ] {
            let found = found(path, 0o644, script);
            assert_eq!(found.len(), 1, "{path}");
            assert!(
                found[0].starts_with(&format!("overlay mine: {path}:4: ")),
                "{found:?}"
            );
        }
        assert_eq!(
            found("usr/bin/x", 0o755, &format!("#!/bin/sh\n{script}")).len(),
            1
        );
    }

    #[test]
    fn uci_mistakes_carry_the_line() {
        assert_eq!(
            found("etc/config/x", 0o644, "config a\n\toptoin c 'd'\n"),
            ["overlay mine: etc/config/x:2: a line begins with `optoin`, not config, option or list"]
        );
    }

    #[test]
    fn modes_names_places_and_line_ends_are_checked() {
        let cases = [
            ("etc/x", 0o666, "", "mode 0666 lets others write it"),
            ("etc/x", 0o4755, "", "mode 4755 has set-user-id"),
            (
                "etc/init.d/x",
                0o644,
                "#!/bin/sh /etc/rc.common\n",
                "an init script of mode 0644 never starts",
            ),
            (
                "etc/init.d/x",
                0o755,
                "#!/bin/sh\n",
                "1: an init script without rc.common",
            ),
            ("etc/a b", 0o644, "", "the name has spaces"),
            ("etc/größe", 0o644, "", "letters beyond ASCII"),
            ("var/lib/x", 0o644, "", "/var is not part of the image"),
            ("etc/uci-defaults/20-x~", 0o644, "", "leftover of an editor"),
            ("etc/x", 0o644, "a\nb\r\n", "2: line ends in CR LF"),
            (
                "etc/dropbear/dropbear_rsa_host_key",
                0o600,
                "",
                "a host key for SSH",
            ),
        ];
        for (path, mode, content, expected) in cases {
            let found = found(path, mode, content);
            assert!(
                found.iter().any(|finding| finding.contains(expected)),
                "{path}: {found:?}"
            );
        }
    }

    #[test]
    fn a_private_key_stops_the_build_with_a_remedy() {
        let pem = ["-----BEGIN ", "PRIVATE KEY-----\n"].concat();
        let entry = Entry {
            mode: 0o600,
            content: Content::File(pem.into_bytes()),
            overlay: "mine".into(),
        };
        let error = lint(&Tree::from([("etc/key.pem".into(), entry)])).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "overlay mine: etc/key.pem:1: a PEM private key"
        );
        assert!(error.hints()[0].contains("make keys on the router"));
    }
}
