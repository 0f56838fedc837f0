//! opkg's index: `Packages`, one paragraph of `Key: value` lines a package (OpenWrt up to 24.10).

use sha2::{Digest, Sha256};

use crate::{Malformed, control, hex, ipk, package::IndexEntry, unhex};

/// Reads an index. Unknown fields are skipped; the order is kept.
///
/// # Errors
/// Names the line: something that is no field, or an entry without name, version, architecture, file name or size.
pub fn parse(text: &str) -> Result<Vec<IndexEntry>, Malformed> {
    let entry = |paragraph: &control::Paragraph<'_>| {
        let line = paragraph.line;
        let sha256 = match paragraph.field("SHA256sum") {
            None => None,
            Some(value) => {
                let bytes = unhex(value).and_then(|bytes| bytes.try_into().ok());
                Some(bytes.ok_or_else(|| Malformed(format!("line {line}: {value:?} is no SHA-256")))?)
            }
        };
        let file = paragraph.required("Filename")?;
        let file = file.strip_prefix("./").unwrap_or(file);
        crate::package::check_path(file).map_err(|error| Malformed(format!("line {line}: {error}")))?;
        let size = paragraph.number("Size")?;
        Ok(IndexEntry {
            meta: paragraph.meta()?,
            file: file.to_owned(),
            size: size.ok_or_else(|| Malformed(format!("line {line}: this paragraph has no Size")))?,
            sha256,
            identity: None,
        })
    };
    control::paragraphs(text)?.iter().map(entry).collect()
}

/// Writes an index; entries come in the order of their names, then versions.
///
/// # Errors
/// An entry with a field that cannot be written (a line break in it).
pub fn write(entries: &[IndexEntry]) -> Result<String, Malformed> {
    let mut sorted: Vec<&IndexEntry> = entries.iter().collect();
    sorted.sort_by(|a, b| {
        (&a.meta.name, &a.meta.version, &a.file).cmp(&(&b.meta.name, &b.meta.version, &b.file))
    });
    let mut text = String::new();
    for entry in sorted {
        entry.meta.check()?;
        crate::package::check_path(&entry.file)?;
        let added = [
            ("Filename", entry.file.clone()),
            ("Size", entry.size.to_string()),
            (
                "SHA256sum",
                entry.sha256.map(|sha256| hex(&sha256)).unwrap_or_default(),
            ),
        ];
        text.push_str(&control::write(&entry.meta, &added));
        text.push('\n');
    }
    Ok(text)
}

/// The index entry of a package file, from its own control file.
pub fn entry(file: &str, ipk: &[u8]) -> Result<IndexEntry, Malformed> {
    Ok(IndexEntry {
        meta: ipk::read_meta(ipk)?,
        file: file.to_owned(),
        size: ipk.len() as u64,
        sha256: Some(Sha256::digest(ipk).into()),
        identity: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::tests::sample;

    #[test]
    fn an_entry_as_openwrt_writes_it_is_read() {
        // Double blanks, a field without value, fields nobody knows, a description of several lines.
        let text = "Package: libubox20240329\nVersion: 2024.03.29~eb9bcb64-r1\nDepends: libc, foo (>= 2)\n\
                    Provides: libubox\nABIVersion: 20240329\nAlternatives: 100:/bin/x:/bin/y\nConflicts: \n\
                    License: ISC\nSection: libs\nArchitecture: x86_64\nInstalled-Size: 23040\n\
                    Filename: ./libubox20240329_x86_64.ipk\nSize: 23456\n\
                    SHA256sum: 00000000000000000000000000000000000000000000000000000000000000ff\n\
                    Description:  Basic utility library\n  for OpenWrt\n\n\n";
        let [entry] = &parse(text).unwrap()[..] else {
            panic!("one entry")
        };
        assert_eq!(entry.meta.name, "libubox20240329");
        assert_eq!(entry.meta.depends, ["libc", "foo (>= 2)"]);
        assert_eq!(entry.meta.provides, ["libubox"]);
        assert!(entry.meta.conflicts.is_empty());
        assert_eq!(entry.file, "libubox20240329_x86_64.ipk");
        assert_eq!((entry.size, entry.sha256.unwrap()[31]), (23456, 0xff));
        assert_eq!(entry.meta.description, "Basic utility library for OpenWrt");
    }

    #[test]
    fn what_is_written_is_read_back_sorted() {
        let ipk = ipk::write(&sample(), 0).unwrap();
        let first = entry("sample_1.2.0-r1_x86_64.ipk", &ipk).unwrap();
        let mut second = first.clone();
        second.meta.name = "another".into();
        let text = write(&[first.clone(), second.clone()]).unwrap();
        assert_eq!(parse(&text).unwrap(), [second, first]);
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("\r\n").unwrap(), []);
    }

    #[test]
    fn an_entry_that_names_a_file_elsewhere_is_refused() {
        let good = write(&[entry("a.ipk", &ipk::write(&sample(), 0).unwrap()).unwrap()]).unwrap();
        for bad in ["../a.ipk", "/etc/a.ipk", "x/../../a.ipk"] {
            let text = good.replace("Filename: a.ipk", &format!("Filename: {bad}"));
            assert!(parse(&text).unwrap_err().0.starts_with("line 1:"), "{bad}");
        }
        assert!(parse(&good.replace("Size: ", "Size: x")).is_err());
        assert!(parse(&good.replace("SHA256sum: ", "SHA256sum: 0")).is_err());
    }

    #[test]
    fn damaged_indexes_never_panic() {
        let good = write(&[entry("a.ipk", &ipk::write(&sample(), 0).unwrap()).unwrap()]).unwrap();
        let parse_bytes = |bytes: &[u8]| {
            let _may_fail = parse(&String::from_utf8_lossy(bytes));
        };
        crate::hostile::mutations(good.as_bytes(), 1, parse_bytes);
        crate::hostile::splices(good.as_bytes(), 500, parse_bytes);
    }
}
