//! Merges the layers of a profile and checks every value.
//!
//! Nearness: bases come first in the order of `extends`, then the features, then the device's own file.
//! * Single values: the nearest wins.
//! * `packages`, `features`, `overlays`, `disabled_services`: appended, each name once; the nearest word on a name
//!   wins, and `-NAME` takes it away. A package taken away is also left out of OpenWrt's defaults.
//! * `ports.lan`, `ports.wan`, `images`, `flash.steps`, `settings.ntp`: the nearest list replaces the others.
//! * Tables are merged key by key.
//! * `aliases` are the device's own.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;

use super::checks;
use super::diagnostic::SourceFile;
use super::layers::{self, Features, Layer};
use super::raw::{RawFeature, RawPort, RawProfile, Text};
use super::{
    Feed, Flash, Image, Limits, OpenWrt, Origin, Packages, Port, Ports, Profile, Resolved, Settings,
};
use crate::project::Project;
use crate::{Error, Result, nearest};

/// Reads and resolves the profile whose file is `profiles/NAME.toml`.
pub(super) fn resolve(project: &Project, name: &str) -> Result<Resolved> {
    let layers = layers::chain(project, name)?;
    let features = Features::read(project)?;
    Resolver {
        project,
        name,
        layers: &layers,
        features: &features,
        origins: BTreeMap::new(),
    }
    .run()
}

struct Resolver<'a> {
    project: &'a Project,
    name: &'a str,
    /// Bases first, the device's own file last.
    layers: &'a [Layer],
    features: &'a Features,
    origins: BTreeMap<String, Origin>,
}

/// A value with the place where it was written.
struct Placed<'a, T> {
    value: &'a T,
    span: Range<usize>,
    file: &'a SourceFile,
}

impl<T> Placed<'_, T> {
    fn wrong(&self, key: &str, reason: &str) -> Error {
        self.file.error(
            self.span.clone(),
            format!("malformed value of `{key}` in {}", self.file.path),
            reason,
        )
    }
}

/// One name of a list, before names are sorted out.
struct Word<'a> {
    name: &'a str,
    wanted: bool,
    place: Placed<'a, String>,
    feature: Option<&'a str>,
}

type Pick<T> = fn(&RawProfile) -> Option<&Spanned<T>>;
type Check = fn(&str) -> Result<(), String>;

impl<'a> Resolver<'a> {
    fn run(mut self) -> Result<Resolved> {
        let title = self.text("title", |raw| raw.title.as_ref(), no_check)?;
        let aliases = self.aliases()?;
        let openwrt = OpenWrt {
            release: self.text(
                "openwrt.release",
                |raw| raw.openwrt.release.as_ref(),
                checks::release,
            )?,
            target: self.text(
                "openwrt.target",
                |raw| raw.openwrt.target.as_ref(),
                checks::target,
            )?,
            profile: self.text(
                "openwrt.profile",
                |raw| raw.openwrt.profile.as_ref(),
                checks::word,
            )?,
            arch: self.text("openwrt.arch", |raw| raw.openwrt.arch.as_ref(), checks::word)?,
        };
        let rust_target = self.text("rust_target", |raw| raw.rust_target.as_ref(), checks::rust_target)?;
        let ram_mib = self.number("limits.ram_mib", |raw| raw.limits.ram_mib.as_ref())?;
        let limits = Limits {
            image_bytes: self.number("limits.image_bytes", |raw| raw.limits.image_bytes.as_ref())?,
            ram_mib,
        };
        let titles = self.features_on(ram_mib)?;
        let features: Vec<String> = titles.keys().cloned().collect();
        let profile = Profile {
            name: self.name.to_owned(),
            title,
            aliases,
            openwrt,
            rust_target,
            packages: self.packages(&features)?,
            overlays: self.overlays(&features)?,
            disabled_services: self.disabled_services(&features)?,
            features,
            ports: self.ports()?,
            rootfs_partsize: self.number("rootfs_partsize", |raw| raw.rootfs_partsize.as_ref())?,
            images: self.images()?,
            flash: self.flash(),
            limits,
            feed: Feed {
                url: self.text_or("feed.url", |raw| raw.feed.url.as_ref(), checks::feed_url, "")?,
                key: self.text_or("feed.key", |raw| raw.feed.key.as_ref(), no_check, "")?,
            },
            settings: self.settings()?,
        };
        Ok(Resolved {
            profile,
            origins: self.origins,
            features: titles,
        })
    }

    fn own(&self) -> Result<&'a Layer> {
        self.layers
            .last()
            .ok_or_else(|| Error::bug("a profile without a file of its own"))
    }

    /// The nearest value of a key, its origin noted.
    fn nearest<T>(&mut self, key: &str, pick: Pick<T>) -> Option<Placed<'a, T>> {
        let (layer, value) = self
            .layers
            .iter()
            .rev()
            .find_map(|layer| Some((layer, pick(&layer.raw)?)))?;
        let span = value.span();
        self.origins.insert(key.to_owned(), layer.origin(span.start));
        Some(Placed {
            value: value.get_ref(),
            span,
            file: &layer.file,
        })
    }

    fn missing(&self, key: &str) -> Error {
        let path = format!("profiles/{}.toml", self.name);
        Error::user(format!(
            "missing key `{key}`: neither {path} nor a profile that it extends has it"
        ))
        .hint(format!("add it to {path}; profiles/pc.toml is an example"))
    }

    fn text(&mut self, key: &str, pick: Pick<String>, check: Check) -> Result<String> {
        let Some(text) = self.nearest(key, pick) else {
            return Err(self.missing(key));
        };
        if text.value.trim().is_empty() {
            return Err(text.wrong(key, "empty"));
        }
        check(text.value).map_err(|reason| text.wrong(key, &reason))?;
        Ok(text.value.clone())
    }

    fn text_or(&mut self, key: &str, pick: Pick<String>, check: Check, default: &str) -> Result<String> {
        let Some(text) = self.nearest(key, pick) else {
            return Ok(default.to_owned());
        };
        check(text.value).map_err(|reason| text.wrong(key, &reason))?;
        Ok(text.value.clone())
    }

    /// A size: zero is never meant.
    fn number<T: Copy + Default + PartialEq + 'a>(&mut self, key: &str, pick: Pick<T>) -> Result<Option<T>> {
        match self.nearest(key, pick) {
            None => Ok(None),
            Some(number) if *number.value == T::default() => Err(number
                .wrong(key, "zero")
                .hint(format!("leave `{key}` out where there is no such size"))),
            Some(number) => Ok(Some(*number.value)),
        }
    }

    fn aliases(&mut self) -> Result<Vec<String>> {
        let own = self.own()?;
        let mut aliases = Vec::new();
        for alias in &own.raw.aliases {
            let name = alias.get_ref();
            let refuse = |message: String, reason: &str| own.file.error(alias.span(), message, reason);
            checks::plain_name(name)
                .map_err(|reason| refuse(format!("malformed alias in {}", own.file.path), &reason))?;
            if name == self.name || aliases.contains(name) {
                let message = format!("alias `{name}` is used twice in {}", own.file.path);
                return Err(refuse(message, "again").hint("remove one of them"));
            }
            self.origins
                .insert(format!("aliases.{name}"), own.origin(alias.span().start));
            aliases.push(name.clone());
        }
        Ok(aliases)
    }

    fn features_on(&mut self, ram_mib: Option<u32>) -> Result<BTreeMap<String, String>> {
        let mut on = BTreeMap::new();
        for (name, word) in nearest_words(self.words(&[], |raw| &raw.features, |feature| &feature.packages)) {
            let Some((_, feature)) = self.features.find(name) else {
                let file = word.place.file;
                let message = format!("unknown feature `{name}` in {}", file.path);
                let label = format!("no [feature.{name}] in {}", self.features.file.path);
                let error = file.error(word.place.span.clone(), message, &label);
                return Err(nearest::hint(name, "features", self.features.names())
                    .into_iter()
                    .fold(error, Error::hint));
            };
            if !word.wanted {
                continue;
            }
            if let (Some(needs), Some(has)) = (feature.ram_mib, ram_mib)
                && needs > has
            {
                let message = format!(
                    "feature `{name}` needs {needs} MiB of RAM, {} has {has} MiB",
                    self.name
                );
                return Err(word
                    .place
                    .file
                    .error(word.place.span.clone(), message, "switched on here")
                    .hint(format!("take it away for this device: features = [\"-{name}\"]")));
            }
            self.note("features", name, &word);
            on.insert(name.to_owned(), feature.title.clone());
        }
        Ok(on)
    }

    fn packages(&mut self, features: &[String]) -> Result<Packages> {
        let words = self.words(features, |raw| &raw.packages, |feature| &feature.packages);
        let mut packages = Packages::default();
        for (name, word) in nearest_words(words) {
            checks::package_name(name).map_err(|reason| word.place.wrong("packages", &reason))?;
            let (list, key) = if word.wanted {
                (&mut packages.add, "packages.add")
            } else {
                (&mut packages.remove, "packages.remove")
            };
            list.push(name.to_owned());
            self.note(key, name, &word);
        }
        Ok(packages)
    }

    /// In the order in which they are laid over one another; what is nearer to the device lies on top.
    fn overlays(&mut self, features: &[String]) -> Result<Vec<String>> {
        let words = self.words(features, |raw| &raw.overlays, |feature| &feature.overlays);
        let order: Vec<&str> = words.iter().map(|word| word.name).collect();
        let mut chosen = nearest_words(words);
        let mut overlays = Vec::new();
        for name in order {
            let Some(word) = chosen.remove(name) else { continue };
            if !self.project.overlays().join(name).is_dir() {
                let file = word.place.file;
                let known = self.overlay_folders()?;
                let error = file.error(
                    word.place.span.clone(),
                    format!("unknown overlay `{name}` in {}", file.path),
                    &format!("there is no folder overlays/{name}"),
                );
                return Err(nearest::hint(name, "overlays", known.iter().map(String::as_str))
                    .into_iter()
                    .fold(error, Error::hint));
            }
            if word.wanted {
                self.note("overlays", name, &word);
                overlays.push(name.to_owned());
            }
        }
        Ok(overlays)
    }

    fn overlay_folders(&self) -> Result<Vec<String>> {
        let dir = self.project.overlays();
        let failed = |error| Error::io("read the folder", &dir, error);
        let mut names = Vec::new();
        for entry in dir.read_dir_utf8().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.path().is_dir() {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn disabled_services(&mut self, features: &[String]) -> Result<Vec<String>> {
        let words = self.words(
            features,
            |raw| &raw.disabled_services,
            |feature| &feature.disabled_services,
        );
        let mut services = Vec::new();
        for (name, word) in nearest_words(words) {
            checks::package_name(name).map_err(|reason| word.place.wrong("disabled_services", &reason))?;
            if word.wanted {
                self.note("disabled_services", name, &word);
                services.push(name.to_owned());
            }
        }
        Ok(services)
    }

    fn note(&mut self, list: &str, name: &str, word: &Word<'_>) {
        let origin = Origin {
            file: word.place.file.path.clone(),
            line: word.place.file.line(word.place.span.start),
            feature: word.feature.map(str::to_owned),
        };
        self.origins.insert(format!("{list}.{name}"), origin);
    }

    /// All that is said about a list: by the bases, then by the features, then by the device.
    fn words(&self, features: &[String], of_layer: OfLayer, of_feature: OfFeature) -> Vec<Word<'a>> {
        let word = |text: &'a Text, file: &'a SourceFile, feature: Option<&'a str>| {
            let value = text.get_ref();
            let (name, wanted) = value
                .strip_prefix('-')
                .map_or((value.as_str(), true), |name| (name, false));
            Word {
                name,
                wanted,
                place: Placed {
                    value,
                    span: text.span(),
                    file,
                },
                feature,
            }
        };
        let own = self.layers.len().saturating_sub(1);
        let (bases, device) = self.layers.split_at(own);
        let of_layers = |layers: &'a [Layer]| {
            layers
                .iter()
                .flat_map(|layer| of_layer(&layer.raw).iter().map(move |text| (text, &layer.file)))
        };
        let mut words: Vec<Word<'a>> = of_layers(bases)
            .map(|(text, file)| word(text, file, None))
            .collect();
        for (name, feature) in features.iter().filter_map(|name| self.features.find(name)) {
            words.extend(
                of_feature(feature)
                    .iter()
                    .map(|text| word(text, &self.features.file, Some(name))),
            );
        }
        words.extend(of_layers(device).map(|(text, file)| word(text, file, None)));
        words
    }

    fn ports(&mut self) -> Result<Ports> {
        let lan = self.nearest("ports.lan", |raw| raw.ports.lan.as_ref());
        let wan = self.nearest("ports.wan", |raw| raw.ports.wan.as_ref());
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        let mut checked = |role: &'static str, ports: &Option<Placed<'a, Vec<RawPort>>>| {
            let Some(ports) = ports else { return Ok(Vec::new()) };
            let mut list = Vec::new();
            for port in ports.value {
                list.push(check_port(role, port, ports.file, &mut seen)?);
            }
            Ok(list)
        };
        Ok(Ports {
            lan: checked("LAN", &lan)?,
            wan: checked("WAN", &wan)?,
        })
    }

    fn images(&mut self) -> Result<Vec<Image>> {
        let Some(images) = self.nearest("images", |raw| raw.images.as_ref()) else {
            return Err(self.missing("images"));
        };
        let mut list: Vec<Image> = Vec::new();
        for raw in images.value {
            let file = raw.file.get_ref();
            let refuse = |reason: &str| {
                let message = format!("malformed image in {}", images.file.path);
                images.file.error(raw.file.span(), message, reason)
            };
            checks::image_file(file).map_err(|reason| refuse(&reason))?;
            if list.iter().any(|image| image.file == *file) {
                return Err(refuse("listed twice").hint("remove one of them"));
            }
            list.push(Image {
                file: file.clone(),
                purpose: raw.purpose.clone(),
                disk: raw.disk,
            });
        }
        if list.is_empty() {
            return Err(images
                .wrong("images", "an empty list")
                .hint("a device hands out one image at least"));
        }
        Ok(list)
    }

    fn flash(&mut self) -> Flash {
        let steps = self.nearest("flash.steps", |raw| raw.flash.steps.as_ref());
        let recovery = self.nearest("flash.recovery", |raw| raw.flash.recovery.as_ref());
        Flash {
            steps: steps.map(|steps| steps.value.clone()).unwrap_or_default(),
            recovery: recovery.map(|text| text.value.clone()).unwrap_or_default(),
        }
    }

    fn settings(&mut self) -> Result<Settings> {
        let key = "settings.lan_address";
        let Some(address) = self.nearest(key, |raw| raw.settings.lan_address.as_ref()) else {
            return Err(self.missing(key));
        };
        let lan_address = checks::lan_address(address.value).map_err(|reason| address.wrong(key, &reason))?;
        let key = "settings.lan_prefix";
        let Some(prefix) = self.nearest(key, |raw| raw.settings.lan_prefix.as_ref()) else {
            return Err(self.missing(key));
        };
        checks::lan_prefix(*prefix.value, lan_address).map_err(|reason| prefix.wrong(key, &reason))?;
        Ok(Settings {
            hostname: self.text(
                "settings.hostname",
                |raw| raw.settings.hostname.as_ref(),
                checks::hostname,
            )?,
            lan_address,
            lan_prefix: *prefix.value,
            timezone: self.text_or(
                "settings.timezone",
                |raw| raw.settings.timezone.as_ref(),
                checks::timezone,
                "UTC",
            )?,
            wifi_country: self.text_or(
                "settings.wifi_country",
                |raw| raw.settings.wifi_country.as_ref(),
                checks::wifi_country,
                "",
            )?,
            ntp: self.ntp()?,
            variables: self.variables()?,
        })
    }

    fn ntp(&mut self) -> Result<Vec<String>> {
        let Some(servers) = self.nearest("settings.ntp", |raw| raw.settings.ntp.as_ref()) else {
            return Ok(Vec::new());
        };
        for server in servers.value {
            checks::server(server.get_ref()).map_err(|reason| {
                let message = format!("malformed value of `settings.ntp` in {}", servers.file.path);
                servers.file.error(server.span(), message, &reason)
            })?;
        }
        Ok(servers
            .value
            .iter()
            .map(|server| server.get_ref().clone())
            .collect())
    }

    fn variables(&mut self) -> Result<BTreeMap<String, String>> {
        let mut variables = BTreeMap::new();
        for layer in self.layers {
            for (name, value) in &layer.raw.settings.variables {
                checks::variable(name).map_err(|reason| {
                    let message = format!("malformed name `{name}` of a variable in {}", layer.file.path);
                    layer.file.error(value.span(), message, &reason)
                })?;
                self.origins.insert(
                    format!("settings.variables.{name}"),
                    layer.origin(value.span().start),
                );
                variables.insert(name.clone(), value.get_ref().clone());
            }
        }
        Ok(variables)
    }
}

type OfLayer = fn(&RawProfile) -> &Vec<Text>;
type OfFeature = fn(&RawFeature) -> &Vec<Text>;

/// The last word on each name, names sorted.
fn nearest_words(words: Vec<Word<'_>>) -> BTreeMap<&str, Word<'_>> {
    words.into_iter().map(|word| (word.name, word)).collect()
}

/// `seen` holds names and device paths of the ports before this one, with their roles.
fn check_port<'a>(
    role: &'static str,
    port: &'a RawPort,
    file: &SourceFile,
    seen: &mut BTreeMap<&'a str, &'static str>,
) -> Result<Port> {
    let malformed = || format!("malformed port in {}", file.path);
    checks::interface(port.name.get_ref())
        .map_err(|reason| file.error(port.name.span(), malformed(), &reason))?;
    if let Some(path) = &port.device_path {
        checks::device_path(path.get_ref())
            .map_err(|reason| file.error(path.span(), malformed(), &reason))?;
    }
    for text in [Some(&port.name), port.device_path.as_ref()]
        .into_iter()
        .flatten()
    {
        if let Some(before) = seen.insert(text.get_ref(), role) {
            let message = format!("port `{}` is used twice in {}", text.get_ref(), file.path);
            return Err(file
                .error(text.span(), message, &format!("is a {before} port already"))
                .hint("a port is either LAN or WAN, once"));
        }
    }
    Ok(Port {
        name: port.name.get_ref().clone(),
        device_path: port.device_path.as_ref().map(|path| path.get_ref().clone()),
    })
}

fn no_check(_: &str) -> Result<(), String> {
    Ok(())
}
