//! Reads and writes `images/NAME.lock`: TOML, sorted, a line a file, so that a version control shows what changed.

use std::fmt::Write as _;

use camino::Utf8Path;
use serde::Deserialize;

use super::{Lock, PackagePin, Pin, TargetLock, VERSION};
use crate::{Error, Result, atomic, toml_file};

impl Lock {
    /// Reads a lock; an empty one where there is no file.
    pub fn read(path: &Utf8Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path.as_str(), &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::io("read", path, error)),
        }
    }

    /// Writes the lock; the same content gives the same bytes.
    pub fn write(&self, path: &Utf8Path) -> Result<()> {
        atomic::write(path, self.to_text().as_bytes(), 0o644)
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        /// Only the version: what else is there is that version's business.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = toml_file::parse(name, text)?;
        if version > VERSION {
            return Err(Error::user(format!(
                "{name} has version {version}, this builder knows {VERSION}"
            ))
            .hint("a newer builder wrote it: cargo install --locked --path builder"));
        }
        let lock: Self = toml_file::parse(name, text)?;
        for (key, target) in &lock.targets {
            check(target).map_err(|error| error.context(format!("{name}: {key}")))?;
        }
        Ok(lock)
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "# Made by `builder lock --update`: do not edit. docs/sources.md says what it is.\nversion = {}\n",
            self.version
        );
        for (key, target) in &self.targets {
            let table = format!("targets.{}", quoted(key));
            push(
                &mut text,
                format_args!("\n[{table}]\narch = {}", quoted(&target.arch)),
            );
            push(
                &mut text,
                format_args!("imagebuilder = {}", pin(&target.imagebuilder)),
            );
            push(&mut text, format_args!("profiles = {}", pin(&target.profiles)));
            push(
                &mut text,
                format_args!("sha256sums = {}", pin(&target.sha256sums)),
            );
            if !target.indexes.is_empty() {
                push(&mut text, format_args!("\n[{table}.indexes]"));
            }
            for (name, index) in &target.indexes {
                push(&mut text, format_args!("{} = {}", quoted(name), pin(index)));
            }
            if !target.packages.is_empty() {
                push(&mut text, format_args!("\n[{table}.packages]"));
            }
            for (file, package) in &target.packages {
                push(
                    &mut text,
                    format_args!("{} = {}", quoted(file), package_pin(package)),
                );
            }
            for (name, device) in &target.devices {
                push(&mut text, format_args!("\n[{table}.devices.{}]", quoted(name)));
                push(
                    &mut text,
                    format_args!("request = \"{}\"\npackages = [", device.request),
                );
                for file in &device.packages {
                    push(&mut text, format_args!("    {},", quoted(file)));
                }
                push(&mut text, format_args!("]"));
            }
        }
        text
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn pin(pin: &Pin) -> String {
    let size = pin
        .size
        .map(|size| format!(", size = {size}"))
        .unwrap_or_default();
    format!(
        "{{ path = {}, sha256 = \"{}\"{size} }}",
        quoted(&pin.path),
        pin.sha256
    )
}

fn package_pin(pin: &PackagePin) -> String {
    let path = pin
        .path
        .as_ref()
        .map(|path| format!(", path = {}", quoted(path)))
        .unwrap_or_default();
    let identity = pin
        .identity
        .map(|identity| format!(", identity = \"{identity}\""))
        .unwrap_or_default();
    let (name, version) = (quoted(&pin.name), quoted(&pin.version));
    let (sha256, size) = (pin.sha256, pin.size);
    format!("{{ name = {name}, version = {version}{path}, sha256 = \"{sha256}\", size = {size}{identity} }}")
}

/// What no lock of ours says: a path that leads out of the source, a device with a file that is not there.
fn check(target: &TargetLock) -> Result<()> {
    let packages = target
        .packages
        .values()
        .filter_map(|package| package.path.as_ref());
    let pins = [&target.imagebuilder, &target.profiles, &target.sha256sums];
    let paths = pins
        .into_iter()
        .chain(target.indexes.values())
        .map(|pin| &pin.path)
        .chain(packages);
    for path in paths {
        if path.starts_with('/') || path.split('/').any(|part| part == "..") || path.contains("://") {
            return Err(Error::user(format!(
                "the path `{path}` is not below the source's base"
            )));
        }
    }
    if let Some(file) = target
        .packages
        .keys()
        .find(|file| file.contains('/') || file.starts_with('.'))
    {
        return Err(Error::user(format!("`{file}` is not a file name")));
    }
    for (name, device) in &target.devices {
        if let Some(file) = device
            .packages
            .iter()
            .find(|file| !target.packages.contains_key(*file))
        {
            return Err(Error::user(format!(
                "device {name} takes {file}, which is not among the packages"
            ))
            .hint(format!("builder lock --update {name}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;
    use crate::lock::DeviceLock;

    pub(crate) fn sample() -> Lock {
        let pin = |name: &str| Pin {
            path: format!("releases/24.10.8/targets/x86/64/{name}"),
            sha256: Sha256::of(name),
            size: Some(name.len() as u64),
        };
        let package = |name: &str, path: Option<&str>| PackagePin {
            name: name.into(),
            version: "1.2-r3".into(),
            path: path.map(str::to_owned),
            sha256: Sha256::of(name),
            size: 7,
            identity: None,
        };
        let target = TargetLock {
            imagebuilder: Pin {
                size: None,
                ..pin("imagebuilder.tar.zst")
            },
            sha256sums: pin("sha256sums"),
            profiles: pin("profiles.json"),
            arch: "x86_64".into(),
            indexes: [("base".to_owned(), pin("Packages"))].into(),
            packages: [
                ("libc_1_x86_64.ipk".to_owned(), package("libc", None)),
                (
                    "uci_1_x86_64.ipk".to_owned(),
                    package("uci", Some("releases/24.10.8/packages/x86_64/base/uci.ipk")),
                ),
            ]
            .into(),
            devices: [(
                "pc".to_owned(),
                DeviceLock {
                    request: Sha256::of("request"),
                    packages: vec!["libc_1_x86_64.ipk".into(), "uci_1_x86_64.ipk".into()],
                },
            )]
            .into(),
        };
        Lock {
            version: 1,
            targets: [("24.10.8/x86/64".to_owned(), target)].into(),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let lock = sample();
        let text = lock.to_text();
        assert_eq!(Lock::parse("x.lock", &text).unwrap(), lock);
        assert_eq!(Lock::parse("x.lock", &text).unwrap().to_text(), text);
    }

    #[test]
    fn a_package_is_one_line() {
        let text = sample().to_text();
        let line = text.lines().find(|line| line.starts_with("\"uci_1")).unwrap();
        assert!(
            line.contains("path = \"releases/24.10.8/packages/x86_64/base/uci.ipk\""),
            "{line}"
        );
    }

    #[test]
    fn the_lock_of_openwrt_is_as_this_builder_writes_it() {
        let path = Utf8Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../images/openwrt.lock"));
        let lock = Lock::read(path).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), lock.to_text());
        assert!(
            lock.targets.len() >= 7,
            "every target with a published hash is pinned"
        );
    }

    #[test]
    fn no_file_is_an_empty_lock() {
        assert_eq!(
            Lock::read(Utf8Path::new("/nowhere/x.lock")).unwrap(),
            Lock::default()
        );
    }

    #[test]
    fn a_newer_lock_is_refused_before_its_content_is_judged() {
        let error = Lock::parse("x.lock", "version = 2\n[new-things]\n").unwrap_err();
        assert!(error.to_string().contains("version 2"), "{error}");
    }

    #[test]
    fn a_merge_conflict_is_named_with_its_line() {
        let text = sample()
            .to_text()
            .replace("\n[targets", "\n<<<<<<< HEAD\n[targets");
        let error = Lock::parse("x.lock", &text).unwrap_err();
        assert!(error.to_string().contains("unresolved merge conflict"), "{error}");
    }

    #[test]
    fn paths_out_of_the_source_and_missing_packages_are_refused() {
        let text = sample().to_text();
        for (from, to) in [
            ("releases/24.10.8/packages/x86_64", "../../etc"),
            ("releases/24.10.8/packages", "/releases"),
            ("releases/24.10.8/packages", "https://elsewhere"),
            ("    \"uci_1_x86_64.ipk\"", "    \"uci_2_x86_64.ipk\""),
        ] {
            assert!(
                Lock::parse("x.lock", &text.replace(from, to)).is_err(),
                "accepted {to}"
            );
        }
    }
}
