//! `builder check [DEVICE…]`: profiles against what their targets publish, without building.

use std::collections::BTreeMap;

use serde_json::json;

use super::Context;
use super::source_options::SourceOptions;
use crate::error::Exit;
use crate::fetch::Fetcher;
use crate::lock::{self, Lock, target_key};
use crate::profile::check::{self, Finding, PackageNames, Published, State};
use crate::profile::{self, Resolved, published};
use crate::project::Project;
use crate::source::Source;
use crate::{Error, Result};

/// Check profiles without building: schema, board, images and packages
///
/// Boards come from the target's profiles.json, packages from the verified indexes that the lock pins. What has no
/// such list is reported as unchecked, never as ok.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Names or aliases of devices [default: all]
    #[arg(value_name = "DEVICE")]
    devices: Vec<String>,
    #[command(flatten)]
    source: SourceOptions,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Exit> {
    let project = context.project()?;
    let devices = match arguments.devices.as_slice() {
        [] => profile::load_all(&project)?,
        names => names
            .iter()
            .map(|name| profile::load(&project, name))
            .collect::<Result<_>>()?,
    };
    let findings = super::block_on(async {
        let (source, fetcher) = arguments.source.open(&project, &context.report).await?;
        judge(&project, &source, &fetcher, &devices).await
    })?;
    let mut worst = State::Ok;
    for (device, findings) in &findings {
        for finding in findings {
            worst = worst.max(finding.state);
            context
                .report
                .event("check", json!({ "device": device, "finding": finding }));
        }
        for line in lines(device, findings) {
            context.report.data(line);
        }
    }
    Ok(if worst == State::Wrong {
        Exit::User
    } else {
        Exit::Ok
    })
}

async fn judge(
    project: &Project,
    source: &Source,
    fetcher: &Fetcher,
    devices: &[Resolved],
) -> Result<Vec<(String, Vec<Finding>)>> {
    let lock_path = source.lock_path(project);
    let lock = Lock::read(&lock_path)?;
    let mut known: BTreeMap<String, (Published<published::Target>, Published<PackageNames>)> =
        BTreeMap::new();
    let mut judged = Vec::new();
    for device in devices {
        let key = target_key(&device.profile);
        if !known.contains_key(&key) {
            let published = match lock.targets.get(&key) {
                Some(target) => (
                    boards(source, fetcher, target).await,
                    packages(source, fetcher, target, &device.profile.name).await,
                ),
                None => {
                    let name = lock_path.file_name().unwrap_or_default();
                    let reason = format!(
                        "images/{name} has no {key}: builder lock --update {}",
                        device.profile.name
                    );
                    (Err(reason.clone()), Err(reason))
                }
            };
            known.insert(key.clone(), published);
        }
        if let Some((target, packages)) = known.get(&key) {
            judged.push((
                device.profile.name.clone(),
                check::check(device, target, packages),
            ));
        }
    }
    Ok(judged)
}

async fn boards(
    source: &Source,
    fetcher: &Fetcher,
    target: &lock::TargetLock,
) -> Published<published::Target> {
    let read = async {
        let file = fetcher
            .pinned(source, &[target.profiles.wanted()])
            .await?
            .remove(0);
        let bytes = std::fs::read(&file).map_err(|error| Error::io("read", &file, error))?;
        published::Target::parse(&target.profiles.path, &bytes)
    };
    read.await.map_err(|error| error.to_string())
}

async fn packages(
    source: &Source,
    fetcher: &Fetcher,
    target: &lock::TargetLock,
    device: &str,
) -> Published<PackageNames> {
    if target.indexes.is_empty() {
        return Err(format!(
            "the lock has no package indexes of this target: builder lock --update {device}"
        ));
    }
    let indexes = lock::indexes(source, fetcher, target)
        .await
        .map_err(|error| error.to_string())?;
    let mut names = PackageNames::of(indexes.iter().flat_map(|(_, entries)| entries));
    // Packages inside the ImageBuilder itself are in no feed.
    for package in target.packages.values().filter(|package| package.path.is_none()) {
        names.insert(&package.name, &[]);
    }
    Ok(names)
}

/// A line for what is fine, one for each reason why something is unchecked, and one for each fault.
fn lines(device: &str, findings: &[Finding]) -> Vec<String> {
    let mut lines = Vec::new();
    let fine: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.state == State::Ok)
        .collect();
    if !fine.is_empty() {
        lines.push(format!("{device}: ok: {}", counted(&fine)));
    }
    let mut unchecked: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in findings
        .iter()
        .filter(|finding| finding.state == State::Unchecked)
    {
        unchecked.entry(&finding.reason).or_default().push(finding);
    }
    for (reason, findings) in unchecked {
        lines.push(format!("{device}: unchecked: {} ({reason})", counted(&findings)));
    }
    for finding in findings.iter().filter(|finding| finding.state == State::Wrong) {
        let place = finding
            .origin
            .as_ref()
            .map(|origin| format!(" at {}:{}", origin.file, origin.line));
        let place = place.unwrap_or_default();
        lines.push(format!(
            "{device}: wrong: {} `{}`{place}: {}",
            finding.subject, finding.value, finding.reason
        ));
    }
    lines
}

/// `board, architecture, 4 images, 41 packages`
fn counted(findings: &[&Finding]) -> String {
    let mut subjects: Vec<(&str, usize)> = Vec::new();
    for finding in findings {
        match subjects
            .iter_mut()
            .find(|(subject, _)| *subject == finding.subject)
        {
            Some((_, count)) => *count += 1,
            None => subjects.push((finding.subject, 1)),
        }
    }
    let words = subjects
        .into_iter()
        .map(|(subject, count)| match (subject, count) {
            ("board" | "architecture", _) => subject.to_owned(),
            (_, 1) => format!("1 {subject}"),
            _ => format!("{count} {subject}s"),
        });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Origin;

    #[test]
    fn faults_stand_alone_and_the_rest_is_counted() {
        let finding = |subject, value: &str, state, reason: &str| Finding {
            subject,
            value: value.into(),
            state,
            reason: reason.into(),
            origin: Some(Origin {
                file: "profiles/pc.toml".into(),
                line: 14,
                feature: None,
            }),
        };
        let findings = [
            finding("board", "generic", State::Ok, ""),
            finding("image", "a", State::Ok, ""),
            finding("image", "b", State::Ok, ""),
            finding("package", "kmod-tun", State::Unchecked, "no index"),
            finding("package", "luci", State::Unchecked, "no index"),
            finding(
                "package",
                "kmod-tnu",
                State::Wrong,
                "no package of this name; did you mean `kmod-tun`?",
            ),
        ];
        assert_eq!(
            lines("pc", &findings),
            [
                "pc: ok: board, 2 images",
                "pc: unchecked: 2 packages (no index)",
                "pc: wrong: package `kmod-tnu` at profiles/pc.toml:14: no package of this name; did you mean `kmod-tun`?",
            ]
        );
    }
}
