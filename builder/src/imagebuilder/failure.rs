//! Says why `make` failed: finds the lines of its log that a person would look for.
//!
//! It only reads; what it does not know it leaves to the log, whose path every error names.

use std::collections::BTreeSet;

/// What a log says of a failure, worst first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Diagnosis {
    /// One fragment each: `package foo: nothing provides bar`.
    pub(super) causes: Vec<String>,
    /// Images that `make` deleted because they were too big; it ends well nevertheless.
    pub(super) too_big: Vec<TooBig>,
}

/// One image over its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TooBig {
    /// File name without folder.
    pub(super) file: String,
    /// Bytes it had.
    pub(super) size: u64,
    /// Bytes it may have.
    pub(super) limit: u64,
}

/// Reads the log of a run of `make`.
pub(super) fn diagnose(log: &str) -> Diagnosis {
    let mut causes = Vec::new();
    let mut too_big = Vec::new();
    let lines: Vec<String> = log.lines().map(without_colours).collect();
    for (number, line) in lines.iter().enumerate() {
        let following = || lines[number + 1..].iter().map(|line| line.trim());
        if let Some(found) = line
            .split_once("Image file ")
            .and_then(|(_, rest)| parse_too_big(rest))
        {
            too_big.push(found);
        } else {
            causes.extend(
                opkg(line, following())
                    .or_else(|| apk(line, following()))
                    .or_else(|| other(line)),
            );
        }
    }
    // opkg says which package it gave up on, and only sometimes why.
    let given_up: Vec<String> = lines
        .iter()
        .filter_map(|line| quoted(line, "opkg_install_cmd: Cannot install package "))
        .map(|name| format!("package {name}: "))
        .filter(|start| !causes.iter().any(|cause: &String| cause.starts_with(start)))
        .collect();
    causes.extend(
        given_up
            .into_iter()
            .map(|start| start + "not in the feed, or something that it needs is not"),
    );
    let mut seen = BTreeSet::new();
    causes.retain(|cause| seen.insert(cause.clone()));
    Diagnosis { causes, too_big }
}

fn without_colours(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        text.push_str(before);
        rest = after
            .find(|c: char| c.is_ascii_alphabetic())
            .map_or("", |end| &after[end + 1..]);
    }
    text.push_str(rest);
    text
}

/// `/path/x.bin is too big: 123 > 100`
fn parse_too_big(rest: &str) -> Option<TooBig> {
    let (path, numbers) = rest.split_once(" is too big: ")?;
    let (size, limit) = numbers.split_once(" > ")?;
    Some(TooBig {
        file: path.rsplit('/').next().unwrap_or(path).to_owned(),
        size: size.trim().parse().ok()?,
        limit: limit.split_whitespace().next()?.parse().ok()?,
    })
}

fn quoted<'a>(line: &'a str, after: &str) -> Option<&'a str> {
    let rest = line.split_once(after)?.1.trim_start();
    let name = rest.trim_start_matches(['\'', '`', '"']);
    name.split(['\'', '"', ' ', ','])
        .next()
        .map(|name| name.trim_end_matches(['.', ':']))
        .filter(|name| !name.is_empty())
}

fn opkg<'a>(line: &str, mut following: impl Iterator<Item = &'a str>) -> Option<String> {
    if let Some(name) = quoted(line, "Unknown package ") {
        return Some(format!("package {name}: not in the feed"));
    }
    if let Some(name) = quoted(line, "Couldn't find anything to satisfy ") {
        return Some(format!("package {name}: not in the feed"));
    }
    if let Some(name) = quoted(line, "Cannot satisfy the following dependencies for ") {
        let missing: Vec<&str> = following
            // The list ends where opkg's next message begins: `* opkg_install_cmd: …`.
            .take_while(|line| line.starts_with('*') && !line.contains(": "))
            .flat_map(str::split_whitespace)
            .filter(|word| !word.starts_with(['*', '(']) && !word.ends_with(')'))
            .collect();
        return Some(if missing.is_empty() {
            format!("package {name}: a dependency is not in the feed")
        } else {
            format!(
                "package {name}: it needs {}, not in the feed",
                missing.join(" and ")
            )
        });
    }
    if line.contains("pkg_hash_check_unresolved:") {
        let missing = quoted(line, "cannot find dependency ")?;
        let name = line.rsplit(" for ").next()?.trim();
        return Some(format!("package {name}: it needs {missing}, not in the feed"));
    }
    if line.contains("check_data_file_clashes:") {
        let name = quoted(line, "Package ")?;
        let file = quoted(line, "wants to install file ")?;
        let other = following.next()?.split_whitespace().last()?.to_owned();
        return Some(format!(
            "package {name}: its file {file} is also in package {other}"
        ));
    }
    if line.contains("checksum mismatch")
        || line.contains("sha256sum mismatch")
        || line.contains("size mismatch")
    {
        let name = quoted(line, "Package ").or_else(|| quoted(line, "Size mismatch for "))?;
        return Some(format!(
            "package {name}: its bytes are not those of the feed's index"
        ));
    }
    None
}

fn apk<'a>(line: &str, following: impl Iterator<Item = &'a str>) -> Option<String> {
    let said = line.strip_prefix("ERROR: ")?;
    if said.starts_with("unable to select packages") {
        let mut causes = Vec::new();
        for line in following.take_while(|line| !line.starts_with("make")) {
            if let Some(name) = line.strip_suffix(" (no such package):") {
                causes.push(format!("package {name}: not in the feed"));
            } else if let Some(by) = line.strip_prefix("required by: ")
                && let Some(last) = causes.last_mut()
                && !by.starts_with("world")
            {
                last.push_str(&format!(", needed by {}", by.split('[').next().unwrap_or(by)));
            } else if let Some((name, others)) = line
                .split_once(" conflicts: ")
                .or_else(|| line.split_once(" breaks: "))
            {
                causes.push(format!("package {name}: it conflicts with {others}"));
            }
        }
        return (!causes.is_empty()).then(|| causes.join("; "));
    }
    let (name, what) = said.split_once(": ")?;
    // `ERROR: 2 errors; …` and `ERROR: Unable to …` name no package.
    let is_package = name.contains('-') && !name.contains(' ');
    Some(if is_package {
        format!("package {name}: {what}")
    } else {
        said.to_owned()
    })
}

fn other(line: &str) -> Option<String> {
    if let Some((_, script)) = line.split_once("postinst script ") {
        let name = script.split_whitespace().next()?.rsplit('/').next()?;
        let name = name
            .trim_end_matches(".postinst")
            .trim_end_matches(".post-install");
        let code = script.rsplit(' ').next()?;
        return Some(format!(
            "package {name}: its post-install script failed with exit code {code}"
        ));
    }
    if line.contains("No space left on device") {
        return Some("no space left on the disk".into());
    }
    if let Some((_, what)) = line.split_once("Build dependency: ") {
        return Some(format!("a host tool is missing: {}", what.trim()));
    }
    if line.starts_with("Profile \"") && line.contains("does not exist") {
        return Some(
            line.trim_end_matches('!')
                .replace("Profile", "profile")
                .replace("does not exist", "is not in this ImageBuilder"),
        );
    }
    if line.contains("non-posix shell") || line.contains("must not include any spaces") {
        return Some(line.trim().to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(log: &str, causes: &[&str]) {
        assert_eq!(diagnose(log).causes, causes);
    }

    #[test]
    fn opkg_names_the_package() {
        check(
            "Unknown package 'libfoo'.\nCollected errors:\n * opkg_install_cmd: Cannot install package libfoo.\n",
            &["package libfoo: not in the feed"],
        );
        check(
            "Collected errors:\n * satisfy_dependencies_for: Cannot satisfy the following dependencies for sennit:\n * \tkmod-tun (>= 6) *  libfoo * \n * opkg_install_cmd: Cannot install package sennit.\n",
            &["package sennit: it needs kmod-tun and libfoo, not in the feed"],
        );
        check(
            "Collected errors:\n * opkg_install_cmd: Cannot install package libfoo.\n",
            &["package libfoo: not in the feed, or something that it needs is not"],
        );
        check(
            " * pkg_hash_check_unresolved: cannot find dependency kmod-tun for sennit\n",
            &["package sennit: it needs kmod-tun, not in the feed"],
        );
        check(
            " * check_data_file_clashes: Package dnsmasq-full wants to install file /root/etc/init.d/dnsmasq\n\tBut that file is already provided by package  * dnsmasq\n",
            &["package dnsmasq-full: its file /root/etc/init.d/dnsmasq is also in package dnsmasq"],
        );
        check(
            " * opkg_install_pkg: Package ip-full sha256sum mismatch. Either the opkg or the package index are corrupt. Try 'opkg update'.\n",
            &["package ip-full: its bytes are not those of the feed's index"],
        );
    }

    #[test]
    fn apk_names_the_package() {
        check(
            "ERROR: unable to select packages:\n  libfoo (no such package):\n    required by: sennit-0.1.0-r1[libfoo]\nmake[2]: *** [Makefile:226: package_install] Error 1\n",
            &["package libfoo: not in the feed, needed by sennit-0.1.0-r1"],
        );
        check(
            "ERROR: dnsmasq-full-2.90-r3: trying to overwrite etc/init.d/dnsmasq owned by dnsmasq-2.90-r3.\n",
            &[
                "package dnsmasq-full-2.90-r3: trying to overwrite etc/init.d/dnsmasq owned by dnsmasq-2.90-r3.",
            ],
        );
    }

    #[test]
    fn scripts_disks_tools_and_profiles() {
        check(
            "postinst script ./usr/lib/opkg/info/sennit.postinst has failed with exit code 3\n",
            &["package sennit: its post-install script failed with exit code 3"],
        );
        check(
            "cp: error writing 'x': No space left on device\n",
            &["no space left on the disk"],
        );
        check(
            "Build dependency: Please install GNU 'getopt'\n",
            &["a host tool is missing: Please install GNU 'getopt'"],
        );
        check(
            "Profile \"rpi4\" does not exist!\n",
            &["profile \"rpi4\" is not in this ImageBuilder"],
        );
    }

    #[test]
    fn an_image_too_big_is_found_behind_colours() {
        let log = "\u{1b}[33m    WARNING: Image file /b/openwrt-x-squashfs-factory.bin is too big: 120000000 > 119537664\u{1b}[m\n";
        assert_eq!(
            diagnose(log).too_big,
            [TooBig {
                file: "openwrt-x-squashfs-factory.bin".into(),
                size: 120_000_000,
                limit: 119_537_664
            }]
        );
    }

    #[test]
    fn a_good_log_has_no_cause() {
        check(
            "Installing sennit (0.1.0-r1) to root...\nConfiguring sennit.\nEnabling sennit\n",
            &[],
        );
    }
}
