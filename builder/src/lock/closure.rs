//! Which packages an installation may need: everything reachable by dependencies, a little more than will be taken.
//!
//! The ImageBuilder's own package manager decides what is installed; it gets to choose among these. So this must never
//! leave out what it might choose, and need not be exact.

use std::collections::{BTreeMap, BTreeSet};

use openwrt_formats::package::IndexEntry;

/// What there is, by every name it answers to.
pub(super) struct Available<'i> {
    named: BTreeMap<&'i str, Vec<usize>>,
    provided: BTreeMap<&'i str, Vec<usize>>,
    entries: Vec<&'i IndexEntry>,
}

impl<'i> Available<'i> {
    pub(super) fn new(entries: Vec<&'i IndexEntry>) -> Self {
        let mut named: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut provided: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, entry) in entries.iter().enumerate() {
            named.entry(&entry.meta.name).or_default().push(index);
            for provide in &entry.meta.provides {
                provided.entry(bare(provide)).or_default().push(index);
            }
        }
        Self {
            named,
            provided,
            entries,
        }
    }

    /// True if some package has this name or answers to it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.named.contains_key(name) || self.provided.contains_key(name)
    }

    /// Every name that a package has or answers to.
    pub(super) fn names(&self) -> impl Iterator<Item = &'i str> {
        self.named.keys().chain(self.provided.keys()).copied()
    }

    /// Indices of everything that `wanted` may pull in. Where a package has the very name that is asked for, others that
    /// merely answer to it count only if they are wanted themselves, as opkg and apk do.
    pub(super) fn reachable<'w>(&self, wanted: impl IntoIterator<Item = &'w str>) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut open: Vec<usize> = wanted
            .into_iter()
            .flat_map(|name| self.candidates(name))
            .copied()
            .collect();
        while let Some(index) = open.pop() {
            if !found.insert(index) {
                continue;
            }
            let depends = self.entries[index]
                .meta
                .depends
                .iter()
                .flat_map(|depend| depend.split('|'));
            open.extend(depends.flat_map(|depend| self.candidates(bare(depend))));
        }
        found
    }

    fn candidates(&self, name: &str) -> &[usize] {
        self.named
            .get(name)
            .or_else(|| self.provided.get(name))
            .map_or(&[], Vec::as_slice)
    }
}

/// The name of `libubox (>= 2)`, `libubox>=2` and `libubox~2`.
pub(super) fn bare(relation: &str) -> &str {
    let relation = relation.trim();
    relation
        .find([' ', '(', '<', '>', '=', '~'])
        .map_or(relation, |end| &relation[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use openwrt_formats::package::Meta;

    fn entry(name: &str, depends: &[&str], provides: &[&str]) -> IndexEntry {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let meta = Meta {
            name: name.into(),
            depends: owned(depends),
            provides: owned(provides),
            ..Meta::default()
        };
        IndexEntry {
            meta,
            file: format!("{name}.ipk"),
            ..IndexEntry::default()
        }
    }

    fn reached(entries: &[IndexEntry], wanted: &[&str]) -> Vec<String> {
        let found = Available::new(entries.iter().collect()).reachable(wanted.iter().copied());
        found
            .into_iter()
            .map(|index| entries[index].meta.name.clone())
            .collect()
    }

    #[test]
    fn dependencies_are_followed_through_versions_provides_and_circles() {
        let entries = [
            entry("ubus", &["libubus2023", "libubox (>= 2)"], &[]),
            entry("libubus2023", &["libubox"], &["libubus"]),
            entry("libubox2024", &["ubus"], &["libubox=2024"]),
            entry("unrelated", &[], &[]),
        ];
        assert_eq!(
            reached(&entries, &["ubus"]),
            ["ubus", "libubus2023", "libubox2024"]
        );
        assert_eq!(reached(&entries, &["libubus", "nowhere"]).len(), 3);
    }

    #[test]
    fn all_providers_of_a_virtual_name_are_offered_but_not_rivals_of_a_real_one() {
        let entries = [
            entry("hostapd", &[], &["wpad"]),
            entry("wpad-mini", &[], &["wpad"]),
            entry("dnsmasq", &[], &[]),
            entry("dnsmasq-full", &[], &["dnsmasq"]),
        ];
        assert_eq!(reached(&entries, &["wpad"]), ["hostapd", "wpad-mini"]);
        assert_eq!(reached(&entries, &["dnsmasq"]), ["dnsmasq"]);
        assert_eq!(reached(&entries, &["dnsmasq-full"]), ["dnsmasq-full"]);
    }
}
