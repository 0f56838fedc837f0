//! `builder list`: the devices that can be built.

use serde_json::json;

use super::Context;
use crate::error::Exit;
use crate::{Result, profile};

/// Prints one line a device; with `--json` one `device` event each.
pub(super) fn run(context: &Context) -> Result<Exit> {
    let devices = profile::list(&context.project()?)?;
    for device in &devices {
        context.report.event("device", json!(device));
    }
    context.report.data(table(&devices));
    Ok(Exit::Ok)
}

fn table(devices: &[profile::Summary]) -> String {
    let mut rows = vec![["DEVICE", "TITLE", "OPENWRT", "TARGET", "ALIASES"].map(str::to_owned)];
    rows.extend(devices.iter().map(|device| {
        [
            device.name.clone(),
            device.title.clone(),
            device.release.clone(),
            device.target.clone(),
            device.aliases.join(", "),
        ]
    }));
    columns(&rows)
}

/// Columns as wide as their widest cell; no blanks at the ends of lines.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    });
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_table_without_trailing_blanks() {
        let device = |name: &str, title: &str, aliases: &[&str]| profile::Summary {
            name: name.into(),
            title: title.into(),
            release: "25.12.5".into(),
            target: "x86/64".into(),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        };
        let devices = [
            device("pc", "A PC", &["x86", "vm"]),
            device("flint2", "GL.iNet Flint 2", &[]),
        ];
        assert_eq!(
            table(&devices),
            "DEVICE  TITLE            OPENWRT  TARGET  ALIASES\n\
             pc      A PC             25.12.5  x86/64  x86, vm\n\
             flint2  GL.iNet Flint 2  25.12.5  x86/64"
        );
    }
}
