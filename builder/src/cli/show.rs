//! `builder show DEVICE`: one profile fully resolved, with where each value was written.

use super::Context;
use super::list::columns;
use crate::error::Exit;
use crate::profile::{self, Origin, Port, Resolved};
use crate::{Error, Result};

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Name or alias of a device (`builder list`)
    #[arg(value_name = "DEVICE")]
    device: String,
}

/// Prints a table of key, value and place; with `--json` one `profile` event with the same content.
pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Exit> {
    let resolved = profile::load(&context.project()?, &arguments.device)?;
    let value = serde_json::to_value(&resolved)
        .map_err(|error| Error::bug("a profile does not fit into JSON").because(error))?;
    context.report.event("profile", value);
    context.report.data(table(&resolved));
    Ok(Exit::Ok)
}

fn table(resolved: &Resolved) -> String {
    let Resolved {
        profile,
        origins,
        features,
    } = resolved;
    let mut rows: Vec<[String; 3]> = Vec::new();
    let place = |key: &str| origins.get(key).map_or_else(|| "default".to_owned(), shown);
    let mut single = |key: &str, value: String| rows.push([key.to_owned(), value, place(key)]);
    single("title", profile.title.clone());
    single("openwrt.release", profile.openwrt.release.clone());
    single("openwrt.target", profile.openwrt.target.clone());
    single("openwrt.profile", profile.openwrt.profile.clone());
    single("openwrt.arch", profile.openwrt.arch.clone());
    single("rust_target", profile.rust_target.clone());
    single("rootfs_partsize", with_unit(profile.rootfs_partsize, "MiB"));
    single(
        "limits.image_bytes",
        with_unit(profile.limits.image_bytes, "bytes"),
    );
    single("limits.ram_mib", with_unit(profile.limits.ram_mib, "MiB"));
    single("ports.lan", ports(&profile.ports.lan));
    single("ports.wan", ports(&profile.ports.wan));
    single("settings.hostname", profile.settings.hostname.clone());
    single("settings.lan_address", profile.settings.lan_address.to_string());
    single("settings.lan_prefix", profile.settings.lan_prefix.to_string());
    single("settings.timezone", profile.settings.timezone.clone());
    single("settings.wifi_country", or_dash(&profile.settings.wifi_country));
    single("feed.url", or_dash(&profile.feed.url));
    single(
        "feed.key",
        or_dash(profile.feed.key.lines().next().unwrap_or_default()),
    );
    for (name, value) in &profile.settings.variables {
        single(&format!("settings.variables.{name}"), value.clone());
    }
    let images: Vec<String> = profile.images.iter().map(|image| image.file.clone()).collect();
    // Lists that are replaced as a whole have one place.
    for (key, values) in [("settings.ntp", &profile.settings.ntp), ("images", &images)] {
        for (index, value) in values.iter().enumerate() {
            let (key, place) = if index == 0 {
                (key, place(key))
            } else {
                ("", String::new())
            };
            rows.push([key.to_owned(), value.clone(), place]);
        }
    }
    rows.push([
        "flash.steps".into(),
        format!("{} steps", profile.flash.steps.len()),
        place("flash.steps"),
    ]);
    for (index, (name, title)) in features.iter().enumerate() {
        let heading = if index == 0 { "features" } else { "" };
        rows.push([
            heading.to_owned(),
            format!("{name}: {title}"),
            place(&format!("features.{name}")),
        ]);
    }
    let mut members = |heading: &str, key: &str, sign: &str, names: &[String]| {
        for (index, name) in names.iter().enumerate() {
            let heading = if index == 0 { heading } else { "" };
            rows.push([
                heading.to_owned(),
                format!("{sign}{name}"),
                place(&format!("{key}.{name}")),
            ]);
        }
    };
    members("aliases", "aliases", "", &profile.aliases);
    members("overlays", "overlays", "", &profile.overlays);
    members("packages", "packages.add", "", &profile.packages.add);
    members(
        "packages left out",
        "packages.remove",
        "-",
        &profile.packages.remove,
    );
    members(
        "disabled_services",
        "disabled_services",
        "",
        &profile.disabled_services,
    );
    format!("{}\n\n{}", profile.name, columns(&rows))
}

fn shown(origin: &Origin) -> String {
    let feature = origin
        .feature
        .as_deref()
        .map(|name| format!(" (feature {name})"))
        .unwrap_or_default();
    format!("{}:{}{feature}", origin.file, origin.line)
}

fn with_unit<T: std::fmt::Display>(value: Option<T>, unit: &str) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value} {unit}"))
}

fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

fn ports(ports: &[Port]) -> String {
    let port = |port: &Port| match &port.device_path {
        Some(path) => format!("{} ({path})", port.name),
        None => port.name.clone(),
    };
    or_dash(&ports.iter().map(port).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Project;

    #[test]
    fn every_value_of_the_pc_stands_beside_its_place() {
        let root = camino::Utf8Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .to_owned();
        let text = table(&profile::load(&Project { root }, "pc").unwrap());
        let row = |start: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with(start))
                .unwrap_or_default();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(
            row("openwrt.target").starts_with("openwrt.target x86/64 profiles/pc.toml:"),
            "{text}"
        );
        assert!(
            row("settings.hostname").starts_with("settings.hostname sennit profiles/base.toml:"),
            "{text}"
        );
        assert!(
            row("ports.lan").starts_with("ports.lan eth0 profiles/pc.toml:"),
            "{text}"
        );
        assert_eq!(row("limits.image_bytes"), "limits.image_bytes - default");
        let feature = text
            .lines()
            .find(|line| line.contains(" luci-ssl "))
            .unwrap_or_default();
        assert!(
            feature.contains("profiles/features.toml:") && feature.ends_with("(feature luci)"),
            "{text}"
        );
    }

    #[test]
    fn a_place_names_file_line_and_feature() {
        let origin = Origin {
            file: "profiles/features.toml".into(),
            line: 7,
            feature: Some("luci".into()),
        };
        assert_eq!(shown(&origin), "profiles/features.toml:7 (feature luci)");
    }
}
