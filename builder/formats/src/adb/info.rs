//! What a package says of itself and an index repeats: names, versions, dependencies.

use std::cmp::Ordering;

use super::{Object, Reader, Value, Writer};
use crate::{Malformed, apk_version, package::Meta};

/// Numbers of the slots; those between that are not here hold what [`Meta`] has no place for.
const NAME: usize = 1;
const VERSION: usize = 2;
pub(crate) const HASHES: usize = 3;
const DESCRIPTION: usize = 4;
pub(crate) const ARCH: usize = 5;
const LICENSE: usize = 6;
const ORIGIN: usize = 7;
const MAINTAINER: usize = 8;
const URL: usize = 9;
const INSTALLED_SIZE: usize = 12;
pub(crate) const FILE_SIZE: usize = 13;
const DEPENDS: usize = 15;
const PROVIDES: usize = 16;
const SLOTS: usize = 16;

/// Relations of a dependency, as bits.
const EQUAL: u64 = 1;
const LESS: u64 = 2;
const GREATER: u64 = 4;
const FUZZY: u64 = 8;
const CONFLICT: u64 = 16;
const ANY: u64 = EQUAL | LESS | GREATER;

/// The slots of an info object; a slot of number n is at n - 1.
pub(crate) struct Slots(pub(crate) [u32; SLOTS]);

impl Slots {
    /// Everything but hashes and sizes, which the caller adds in the order that its format wants.
    pub(crate) fn of(meta: &Meta, writer: &mut Writer) -> Result<Self, Malformed> {
        let mut slots = [0; SLOTS];
        // OpenWrt's "all" has another name in apk.
        let arch = if meta.arch == "all" { "noarch" } else { &meta.arch };
        let texts = [
            (NAME, meta.name.as_str()),
            (VERSION, &meta.version),
            (DESCRIPTION, &meta.description),
            (ARCH, arch),
            (LICENSE, &meta.license),
            (ORIGIN, &meta.origin),
            (MAINTAINER, &meta.maintainer),
            (URL, &meta.url),
        ];
        for (slot, text) in texts {
            slots[slot - 1] = writer.blob(text.as_bytes());
        }
        let conflicts: Vec<String> = meta.conflicts.iter().map(|name| format!("!{name}")).collect();
        slots[DEPENDS - 1] = dependencies(meta.depends.iter().chain(&conflicts), writer)?;
        slots[PROVIDES - 1] = dependencies(meta.provides.iter(), writer)?;
        Ok(Self(slots))
    }

    pub(crate) fn installed_size(&mut self, bytes: u64, writer: &mut Writer) {
        self.0[INSTALLED_SIZE - 1] = writer.int(bytes);
    }
}

/// Refuses what apk would refuse: a name or version of another form.
pub(crate) fn check(meta: &Meta) -> Result<(), Malformed> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
    if !meta.name.starts_with(|first: char| first.is_ascii_alphanumeric()) || !meta.name.bytes().all(plain) {
        return Err(Malformed(format!("{:?} is no package name for apk", meta.name)));
    }
    if !apk_version::is_valid(&meta.version) {
        return Err(Malformed(format!("{:?} is no version for apk", meta.version)));
    }
    Ok(())
}

pub(crate) fn read(reader: &Reader<'_>, info: Object<'_>) -> Result<Meta, Malformed> {
    let text = |slot| reader.text(info.slot(slot)).map(str::to_owned);
    let all = read_dependencies(reader, info.slot(DEPENDS))?;
    let (conflicts, depends): (Vec<String>, Vec<String>) =
        all.into_iter().partition(|word| word.starts_with('!'));
    let arch = text(ARCH)?;
    let meta = Meta {
        name: text(NAME)?,
        version: text(VERSION)?,
        arch: if arch == "noarch" { "all".into() } else { arch },
        description: text(DESCRIPTION)?,
        license: text(LICENSE)?,
        url: text(URL)?,
        maintainer: text(MAINTAINER)?,
        origin: text(ORIGIN)?,
        depends,
        provides: read_dependencies(reader, info.slot(PROVIDES))?,
        conflicts: conflicts.into_iter().map(|word| word[1..].to_owned()).collect(),
        installed_size: reader.int(info.slot(INSTALLED_SIZE))?,
    };
    // A name goes into paths and messages.
    check(&meta)?;
    Ok(meta)
}

struct Dependency<'a> {
    name: &'a str,
    version: &'a str,
    relation: u64,
}

impl<'a> Dependency<'a> {
    fn parse(text: &'a str) -> Result<Self, Malformed> {
        let wrong = || {
            Malformed(format!(
                "{text:?} is no dependency for apk (like \"foo\" or \"foo>=1.2\")"
            ))
        };
        let (conflict, rest) = match text.strip_prefix('!') {
            Some(rest) => (CONFLICT, rest),
            None => (0, text),
        };
        let sign = |c: char| matches!(c, '<' | '=' | '>' | '~');
        let (name, rest) = rest.split_at(rest.find(sign).unwrap_or(rest.len()));
        let (signs, version) = rest.split_at(rest.find(|c| !sign(c)).unwrap_or(rest.len()));
        let bits = signs.chars().map(|sign| match sign {
            '<' => LESS,
            '>' => GREATER,
            '~' => FUZZY | EQUAL,
            _ => EQUAL,
        });
        let relation = if signs.is_empty() {
            ANY
        } else {
            bits.fold(0, |all, bit| all | bit)
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+,-.:/[]_".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) || (relation == ANY) != signs.is_empty() {
            return Err(wrong());
        }
        if !signs.is_empty() && !apk_version::is_valid(version) {
            return Err(wrong());
        }
        Ok(Self {
            name,
            version,
            relation: relation | conflict,
        })
    }

    /// As it is stored: the commonest relation is left out.
    fn stored_relation(&self) -> u64 {
        if matches!(self.relation, EQUAL | ANY) {
            0
        } else {
            self.relation
        }
    }

    fn write(&self, writer: &mut Writer) -> u32 {
        let name = writer.blob(self.name.as_bytes());
        let version = writer.blob(self.version.as_bytes());
        let relation = match self.stored_relation() {
            0 => 0,
            relation => writer.int(relation),
        };
        writer.object(&[name, version, relation])
    }

    /// apk's order: by name, then version where both have one, then relation.
    fn order(&self, other: &Self) -> Ordering {
        let versions = apk_version::compare(self.version, other.version).unwrap_or(Ordering::Equal);
        let relations = self.stored_relation().cmp(&other.stored_relation());
        self.name.cmp(other.name).then(versions).then(relations)
    }

    fn text(&self) -> Result<String, Malformed> {
        let sign = match self.relation & !CONFLICT {
            ANY => "",
            EQUAL => "=",
            LESS => "<",
            GREATER => ">",
            0b0_0011 => "<=",
            0b0_0101 => ">=",
            0b0_0110 => "><",
            0b0_1000 | 0b0_1001 => "~",
            0b0_1011 => "<~",
            0b0_1101 => ">~",
            other => {
                return Err(Malformed(format!(
                    "a dependency with the unknown relation {other}"
                )));
            }
        };
        let not = if self.relation & CONFLICT == 0 { "" } else { "!" };
        Ok(format!("{not}{}{sign}{}", self.name, self.version))
    }
}

fn dependencies<'a>(words: impl Iterator<Item = &'a String>, writer: &mut Writer) -> Result<u32, Malformed> {
    let mut all = Vec::new();
    for word in words {
        let dependency = Dependency::parse(word)?;
        let value = dependency.write(writer);
        all.push((dependency, value));
    }
    all.sort_by(|(a, _), (b, _)| a.order(b));
    all.dedup_by_key(|(_, value)| *value);
    let values: Vec<u32> = all.into_iter().map(|(_, value)| value).collect();
    Ok(writer.object(&values))
}

fn read_dependencies(reader: &Reader<'_>, value: Value) -> Result<Vec<String>, Malformed> {
    let one = |value| {
        let slots = reader.object(value)?;
        let (name, version) = (reader.text(slots.slot(1))?, reader.text(slots.slot(2))?);
        let relation = match reader.int(slots.slot(3))? {
            0 if version.is_empty() => ANY,
            0 => EQUAL,
            // A conflict with any version at all.
            relation if version.is_empty() => relation | ANY,
            relation => relation,
        };
        let text = Dependency {
            name,
            version,
            relation,
        }
        .text()?;
        if name.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Malformed(format!("{text:?} is no dependency")));
        }
        Ok(text)
    };
    reader.object(value)?.slots().map(one).collect()
}
