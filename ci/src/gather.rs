//! `ci gather`: the files of a release in one flat folder: images and notes of every device, their locked inputs, one
//! SHA256SUMS over all. Locked inputs are called by their SHA-256, which is how `archives` of a source are asked.

use camino::{Utf8Path, Utf8PathBuf};

use crate::host::say;
use crate::{Failure, Result, daemon};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder with one folder a device, as `images/` has
    #[arg(long, value_name = "DIR", default_value = "images")]
    from: Utf8PathBuf,
    /// Folder of locked inputs, as `builder lock --export` writes it
    #[arg(long, value_name = "DIR")]
    inputs: Option<Utf8PathBuf>,
    /// Folder that `ci daemon` wrote, which has what new servers download
    #[arg(long, value_name = "DIR")]
    servers: Option<Utf8PathBuf>,
    /// New folder for the release
    #[arg(long, value_name = "DIR", default_value = "dist/release")]
    to: Utf8PathBuf,
}

/// Refuses a folder that has files already, and two files of one name.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let to = &arguments.to;
    std::fs::create_dir_all(to).map_err(|error| failed("make", to, error))?;
    if folder(to)?.next().is_some() {
        return Err(Failure::user(format!("{to} is not empty: name a new folder")));
    }
    let mut names = Vec::new();
    for device in folder(&arguments.from)?.filter(|path| path.join("provenance.json").is_file()) {
        let name = device.file_name().unwrap_or_default();
        for file in folder(&device)? {
            let own = file.file_name().unwrap_or_default();
            // Notes and lists are called the same in every device's folder.
            let release_name = if own.contains(name) {
                own.to_owned()
            } else {
                format!("{name}-{own}")
            };
            copy(&file, &to.join(&release_name))?;
            names.push(release_name);
        }
    }
    if names.is_empty() {
        return Err(Failure::user(format!("no device's folder in {}", arguments.from)));
    }
    if let Some(inputs) = &arguments.inputs {
        for file in folder(inputs)? {
            let name = file.file_name().unwrap_or_default().to_owned();
            copy(&file, &to.join(&name))?;
            names.push(name);
        }
    }
    if let Some(servers) = &arguments.servers {
        for file in folder(servers)? {
            let name = file.file_name().unwrap_or_default().to_owned();
            if name.starts_with(daemon::SERVER) {
                copy(&file, &to.join(&name))?;
                names.push(name);
            }
        }
    }
    names.sort();
    let mut sums = String::new();
    for name in &names {
        sums.push_str(&format!("{} *{name}\n", daemon::sha256(&to.join(name))?));
    }
    let list = to.join("SHA256SUMS");
    std::fs::write(&list, sums).map_err(|error| failed("write", &list, error))?;
    say(&format!("{} files in {to}", names.len() + 1));
    Ok(())
}

/// Entries of a folder, sorted.
fn folder(path: &Utf8Path) -> Result<impl Iterator<Item = Utf8PathBuf>> {
    let mut entries = path
        .read_dir_utf8()
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.into_path()))
                .collect::<Result<Vec<_>, _>>()
        })
        .map_err(|error| failed("read", path, error))?;
    entries.sort();
    Ok(entries.into_iter())
}

fn copy(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    if to.exists() {
        return Err(Failure::user(format!(
            "{from} and another file would both be {to}"
        )));
    }
    std::fs::copy(from, to)
        .map(drop)
        .map_err(|error| failed("copy", from, error))
}

fn failed(action: &str, path: &Utf8Path, error: std::io::Error) -> Failure {
    Failure::environment(format!("failed to {action} {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_two_devices_do_not_collide() {
        let scratch = tempfile::tempdir().expect("a folder");
        let root = Utf8PathBuf::from(scratch.path().to_str().expect("UTF-8"));
        for device in ["pc", "rpi4"] {
            let folder = root.join("images").join(device);
            std::fs::create_dir_all(&folder).expect("made");
            for name in [
                "provenance.json".to_owned(),
                "FLASH.md".to_owned(),
                format!("sennit-0.1.0-{device}-a.img.gz"),
            ] {
                std::fs::write(folder.join(name), device).expect("written");
            }
        }
        let daemon = root.join("daemon");
        std::fs::create_dir_all(&daemon).expect("made");
        for name in [
            "sennit-server-x86_64-unknown-linux-musl",
            "sennit-x86_64-unknown-linux-musl",
            "SHA256SUMS",
        ] {
            std::fs::write(daemon.join(name), name).expect("written");
        }
        let arguments = Arguments {
            from: root.join("images"),
            inputs: None,
            servers: Some(root.join("daemon")),
            to: root.join("release"),
        };
        run(&arguments).expect("gathered");
        let sums = std::fs::read_to_string(root.join("release/SHA256SUMS")).expect("there");
        let names: Vec<&str> = sums
            .lines()
            .filter_map(|line| Some(line.split_once(" *")?.1))
            .collect();
        assert_eq!(
            names,
            [
                "pc-FLASH.md",
                "pc-provenance.json",
                "rpi4-FLASH.md",
                "rpi4-provenance.json",
                "sennit-0.1.0-pc-a.img.gz",
                "sennit-0.1.0-rpi4-a.img.gz",
                "sennit-server-x86_64-unknown-linux-musl",
            ]
        );
        assert!(run(&arguments).is_err(), "a release folder is written once");
    }
}
