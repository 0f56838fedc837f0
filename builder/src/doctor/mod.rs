//! What this machine lacks for building and booting images, each with the command that repairs it.
//!
//! Looks only; installs nothing and asks no server.

mod tools;

use camino::Utf8Path;
use serde::Serialize;

use crate::Result;
use crate::project::{Project, cache_dir};

pub use tools::{PackageManager, Tool, find_program};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing to do.
    Ok,
    /// Builds work, something else does not (booting, old releases).
    Limited,
    /// Builds do not work.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What: `awk`, `disk space`.
    pub name: String,
    /// How it came out.
    pub state: State,
    /// What was found, or who misses it.
    pub detail: String,
    /// The command that repairs it.
    pub remedy: Option<String>,
}

/// Free disk space that one device's build takes at its height: ImageBuilder archive, two unpacked trees, images.
const BUILD_BYTES: u64 = 4 << 30;

/// Looks at everything, in the order of a build.
pub fn examine(project: &Project) -> Result<Vec<Finding>> {
    let manager = PackageManager::of_this_machine();
    let mut findings: Vec<Finding> = tools::TOOLS.iter().map(|tool| look_for(tool, manager)).collect();
    findings.push(host());
    findings.push(user_namespaces());
    findings.push(space("work folder", &project.root));
    findings.push(space("cache", &cache_dir()?));
    Ok(findings)
}

fn look_for(tool: &Tool, manager: Option<PackageManager>) -> Finding {
    let found = tool.found();
    let state = match (&found, tool.needed_to_build) {
        (Some(_), _) => State::Ok,
        (None, true) => State::Missing,
        (None, false) => State::Limited,
    };
    Finding {
        name: tool.name.to_owned(),
        state,
        detail: found.map_or_else(
            || format!("not found; for {}", tool.reason),
            |path| path.to_string(),
        ),
        remedy: (state != State::Ok).then(|| match manager {
            Some(manager) => manager.install(tool),
            None => format!("install `{}` with this system's package manager", tool.name),
        }),
    }
}

fn host() -> Finding {
    let fits = cfg!(all(target_os = "linux", target_arch = "x86_64"));
    Finding {
        name: "Linux x86-64".to_owned(),
        state: if fits { State::Ok } else { State::Missing },
        detail: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        remedy: (!fits)
            .then(|| "OpenWrt's ImageBuilder runs on Linux x86-64 only: use such a machine".to_owned()),
    }
}

fn user_namespaces() -> Finding {
    let works = std::process::Command::new("unshare")
        .args(["--user", "--map-current-user", "--net", "true"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    Finding {
        name: "user namespaces".to_owned(),
        state: if works { State::Ok } else { State::Missing },
        detail: if works {
            "the ImageBuilder runs without network".to_owned()
        } else {
            "refused by this system".to_owned()
        },
        remedy: (!works).then(|| {
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0 kernel.unprivileged_userns_clone=1 \
             (or build with --allow-network)"
                .to_owned()
        }),
    }
}

/// `path` itself need not exist yet: its nearest parent that does is on the same file system.
fn space(name: &str, path: &Utf8Path) -> Finding {
    let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
    let free = rustix::fs::statvfs(existing.as_std_path())
        .map(|status| status.f_bavail.saturating_mul(status.f_frsize))
        .unwrap_or(0);
    let enough = free >= BUILD_BYTES;
    Finding {
        name: format!("disk space: {name}"),
        state: if enough { State::Ok } else { State::Missing },
        detail: format!("{} free at {path}", indicatif::HumanBytes(free)),
        remedy: (!enough).then(|| {
            format!(
                "free space: a build takes up to {}",
                indicatif::HumanBytes(BUILD_BYTES)
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_names_the_command_of_this_package_manager() {
        let tool = Tool {
            name: "no-such-program",
            programs: &["no-such-program"],
            ..tools::TOOLS[0]
        };
        let finding = look_for(&tool, Some(PackageManager::Apt));
        assert_eq!(finding.state, State::Missing);
        assert_eq!(finding.remedy.as_deref(), Some("sudo apt-get install make"));
    }

    #[test]
    fn space_of_a_folder_that_does_not_exist_yet_is_that_of_its_parent() {
        let finding = space("cache", Utf8Path::new("/tmp/no/such/folder"));
        assert!(!finding.detail.starts_with("0 B"), "{}", finding.detail);
    }
}
