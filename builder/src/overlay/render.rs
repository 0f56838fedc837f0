//! From overlay folders to a [`Tree`]: lays them over one another and renders their templates.
//!
//! A file `etc/banner.j2` becomes `etc/banner`; a template that renders to nothing but white space makes no file,
//! which is how an overlay leaves a file out for some devices.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value, context};
use walkdir::WalkDir;

use super::manifest::{Manifest, default_mode};
use super::{Content, Entry, Tree, link_stays_inside, timezone};
use crate::profile::{PackageFormat, Port, Profile};
use crate::project::Project;
use crate::{Error, Result, nearest};

/// What templates may know beyond the profile.
#[derive(Clone, Copy, Debug)]
pub struct RenderContext<'a> {
    /// Label of the source, shown in the login banner; empty for `openwrt`.
    pub source_label: &'a str,
    /// Version of Sennit that the image carries.
    pub version: &'a str,
}

/// Renders all overlays of a profile, the later ones over the earlier ones.
///
/// Fails on a missing overlay, an undefined variable, and on two overlays that bring the same file, unless the
/// later one says `replaces` in its overlay.toml.
pub fn render(project: &Project, profile: &Profile, context: &RenderContext<'_>) -> Result<Tree> {
    let values = values(profile, context)?;
    let environment = environment();
    let mut tree = Tree::new();
    for name in &profile.overlays {
        let folder = folder(project, name)?;
        let manifest = Manifest::read(&folder)?;
        let mut own = Tree::new();
        let mut seen = BTreeSet::new();
        for source in files(&folder)? {
            let (path, content) = read(&environment, &values, &source)?;
            if !seen.insert(path.clone()) {
                return Err(Error::user(format!(
                    "overlay {name} has {path} twice, as a file and as a template"
                )));
            }
            let Some(content) = content else { continue };
            let mode = match content {
                Content::Link(_) => 0o777,
                Content::File(_) => manifest
                    .modes
                    .get(&path)
                    .copied()
                    .unwrap_or_else(|| default_mode(&path)),
            };
            own.insert(
                path,
                Entry {
                    mode,
                    content,
                    overlay: name.clone(),
                },
            );
        }
        manifest.check_names(&folder, &seen)?;
        lay_over(&mut tree, own, &manifest)?;
    }
    Ok(tree)
}

fn lay_over(tree: &mut Tree, upper: Tree, manifest: &Manifest) -> Result<()> {
    for (path, entry) in upper {
        if let Some(below) = tree.get(&path)
            && !manifest.replaces.contains(&path)
        {
            return Err(Error::user(format!(
                "overlays {} and {} both bring {path}",
                below.overlay, entry.overlay
            ))
            .hint(format!(
                "if {} means to replace it, write replaces = [\"{path}\"] in its overlay.toml",
                entry.overlay
            )));
        }
        tree.insert(path, entry);
    }
    let folder_of = |path: &Utf8PathBuf| {
        path.ancestors()
            .skip(1)
            .find_map(|folder| tree.get_key_value(folder))
            .map(|(folder, entry)| (folder.clone(), entry))
    };
    match tree
        .iter()
        .find_map(|(path, entry)| Some((path, entry, folder_of(path)?)))
    {
        None => Ok(()),
        Some((path, entry, (folder, other))) => Err(Error::user(format!(
            "overlay {} brings {path}, but in overlay {} {folder} is a file or link, not a folder",
            entry.overlay, other.overlay
        ))),
    }
}

/// A plain name is a folder of the project's `overlays/`; a name with a slash is a path from the project's root.
fn folder(project: &Project, name: &str) -> Result<Utf8PathBuf> {
    let folder = match name.contains('/') {
        true => project.root.join(name),
        false => project.overlays().join(name),
    };
    if folder.is_dir() {
        return Ok(folder);
    }
    let error = Error::user(format!("there is no overlay {name}: {folder} is not a folder"));
    let known: Vec<String> = project
        .overlays()
        .read_dir_utf8()
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.file_name().to_owned())
                .collect()
        })
        .unwrap_or_default();
    Err(
        match nearest::hint(name, "overlays", known.iter().map(String::as_str)) {
            Some(hint) => error.hint(hint),
            None => error,
        },
    )
}

/// One file of an overlay on disk.
struct Source {
    /// Where it lies.
    file: Utf8PathBuf,
    /// Relative to `files/`, as it is on disk.
    path: Utf8PathBuf,
    is_link: bool,
}

fn files(overlay: &Utf8Path) -> Result<Vec<Source>> {
    let root = overlay.join("files");
    if !root.is_dir() {
        return Err(Error::user(format!("overlay {overlay} has no folder files/"))
            .hint("put what goes to /etc/… on the router into files/etc/…"));
    }
    let mut sources = Vec::new();
    for item in WalkDir::new(&root).sort_by_file_name().min_depth(1) {
        let item =
            item.map_err(|error| Error::environment(format!("failed to read {root}")).because(error))?;
        let file = Utf8PathBuf::from_path_buf(item.path().to_owned())
            .map_err(|path| Error::user(format!("{} is not UTF-8", path.display())))?;
        let kind = item.file_type();
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() && !kind.is_symlink() {
            return Err(Error::user(format!("{file} is neither a file nor a link"))
                .hint("make device nodes and sockets on the router, from a script"));
        }
        let path = file
            .strip_prefix(&root)
            .map_err(|error| Error::bug("walked out of an overlay").because(error))?;
        sources.push(Source {
            path: path.to_owned(),
            is_link: kind.is_symlink(),
            file,
        });
    }
    Ok(sources)
}

/// Path and content on the router; no content where a template rendered to nothing.
fn read(
    environment: &Environment<'_>,
    values: &Value,
    source: &Source,
) -> Result<(Utf8PathBuf, Option<Content>)> {
    let Source { file, path, is_link } = source;
    if *is_link {
        let target = file
            .read_link_utf8()
            .map_err(|error| Error::io("read", file, error))?;
        if !link_stays_inside(path, target.as_str()) {
            return Err(
                Error::user(format!("{file} is a link to {target}, outside the image"))
                    .hint("links are read on the router: /etc/x means the router's /etc/x"),
            );
        }
        return Ok((path.clone(), Some(Content::Link(target.into_string()))));
    }
    let bytes = std::fs::read(file).map_err(|error| Error::io("read", file, error))?;
    if path.extension() != Some("j2") {
        return Ok((path.clone(), Some(Content::File(bytes))));
    }
    let template =
        String::from_utf8(bytes).map_err(|_| Error::user(format!("template {file} is not UTF-8")))?;
    let text = environment
        .render_named_str(file.as_str(), &template, values)
        .map_err(|error| template_error(file, &template, values, &error))?;
    let content = (!text.trim().is_empty()).then(|| Content::File(text.into_bytes()));
    Ok((path.with_extension(""), content))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    let mut syntax = SyntaxConfig::builder();
    syntax
        .keep_trailing_newline(true)
        .trim_blocks(true)
        .lstrip_blocks(true);
    if let Ok(syntax) = syntax.build() {
        environment.set_syntax(syntax);
    }
    // Error ranges, from which the name of an undefined variable is read.
    environment.set_debug(true);
    environment.add_filter("shell", |text: String| shell_quoted(&text));
    environment
}

/// One word for a POSIX shell, whatever the text holds.
fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What templates see. docs/OVERLAYS.md lists it for people who write their own.
fn values(profile: &Profile, render: &RenderContext<'_>) -> Result<Value> {
    let openwrt = &profile.openwrt;
    let settings = &profile.settings;
    let host_bits = 32 - u32::from(settings.lan_prefix.min(32));
    let netmask = std::net::Ipv4Addr::from(u32::MAX.checked_shl(host_bits).unwrap_or(0));
    Ok(context! {
        device => context! { name => profile.name.clone(), title => profile.title.clone() },
        features => profile.features.clone(),
        ports => context! { lan => ports(&profile.ports.lan), wan => ports(&profile.ports.wan) },
        feed => context! { url => profile.feed.url.trim_end_matches('/'), key => profile.feed.key.clone() },
        openwrt => context! {
            release => openwrt.release.clone(),
            series => openwrt.release.rsplit_once('.').map_or(openwrt.release.as_str(), |(series, _)| series),
            target => openwrt.target.clone(),
            profile => openwrt.profile.clone(),
            arch => openwrt.arch.clone(),
            format => match openwrt.format() { PackageFormat::Ipk => "ipk", PackageFormat::Apk => "apk" },
        },
        settings => context! {
            hostname => settings.hostname.clone(),
            lan_address => settings.lan_address.to_string(),
            lan_prefix => settings.lan_prefix,
            lan_netmask => netmask.to_string(),
            timezone => settings.timezone.clone(),
            timezone_posix => timezone::posix(&settings.timezone)?,
            wifi_country => settings.wifi_country.clone(),
            ntp => settings.ntp.clone(),
        },
        variables => settings.variables.clone(),
        image => context! { label => render.source_label, version => render.version },
    })
}

fn ports(ports: &[Port]) -> Vec<Value> {
    ports
        .iter()
        .map(|port| context! { name => port.name.clone(), device_path => port.device_path.clone() })
        .collect()
}

/// The error with file, line, and for an undefined variable its name and the nearest that exists.
fn template_error(file: &Utf8Path, template: &str, values: &Value, error: &minijinja::Error) -> Error {
    let place = match error.line() {
        Some(line) => format!("{file}:{line}"),
        None => file.to_string(),
    };
    let known = names(values);
    let Some(unknown) = undefined_name(template, error, &known) else {
        return Error::user(match error.detail() {
            Some(detail) => format!("{place}: {}: {detail}", error.kind()),
            None => format!("{place}: {}", error.kind()),
        });
    };
    let error = Error::user(format!("{place}: `{unknown}` is not defined"));
    let hint = match unknown.strip_prefix("variables.") {
        Some(own) => Some(format!(
            "set it in the profile: [settings.variables] {own} = \"…\""
        )),
        None => nearest::hint(&unknown, "defined", known.iter().map(String::as_str)),
    };
    match hint {
        Some(hint) => error.hint(hint),
        None => error.hint("docs/OVERLAYS.md lists what templates can use"),
    }
}

/// The variable that an error is about, if it is about an undefined one.
fn undefined_name(template: &str, error: &minijinja::Error, known: &[String]) -> Option<String> {
    // A filter or operator that was given an undefined value says so only in its text: "… (`a.b` is undefined)".
    let detail = error.detail().unwrap_or_default();
    if let Some(name) = detail
        .split("` is undefined")
        .next()
        .filter(|before| before.len() < detail.len())
    {
        return name.rsplit('`').next().map(str::to_owned);
    }
    if error.kind() != ErrorKind::UndefinedError {
        return None;
    }
    // The expression at fault may be `settings.hostnam`, or a whole condition with defined names beside it.
    let expression = template.get(error.range()?)?;
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.')
        .find(|word| {
            word.starts_with(|c: char| c.is_ascii_alphabetic()) && !known.iter().any(|name| name == word)
        })
        .map(str::to_owned)
}

/// Every dotted name that templates can use, two levels deep as `values` is.
fn names(values: &Value) -> Vec<String> {
    let keys = |value: &Value| -> Vec<String> {
        let keys = value
            .try_iter()
            .map(|keys| keys.filter_map(|key| key.as_str().map(str::to_owned)).collect());
        keys.unwrap_or_default()
    };
    let mut all = Vec::new();
    for outer in keys(values) {
        if let Ok(value) = values.get_attr(&outer)
            && value.kind() == minijinja::value::ValueKind::Map
        {
            all.extend(keys(&value).into_iter().map(|inner| format!("{outer}.{inner}")));
        }
        all.push(outer);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// A project with one file a pair: path below `overlays/`, text.
    struct Overlays(tempfile::TempDir);

    impl Overlays {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().expect("temporary folder");
            for (path, text) in files {
                let file = dir.path().join("overlays").join(path);
                std::fs::create_dir_all(file.parent().expect("has a folder")).expect("made");
                std::fs::write(file, text).expect("written");
            }
            Self(dir)
        }

        fn render(&self, overlays: &[&str]) -> Result<Tree> {
            let root = Utf8PathBuf::from_path_buf(self.0.path().to_owned()).expect("UTF-8");
            let mut profile = testing::profile();
            profile.overlays = overlays.iter().map(|&name| name.to_owned()).collect();
            render(
                &Project { root },
                &profile,
                &RenderContext {
                    source_label: "",
                    version: "0.1.0",
                },
            )
        }
    }

    fn text(tree: &Tree, path: &str) -> String {
        match &tree[Utf8Path::new(path)].content {
            Content::File(bytes) => String::from_utf8(bytes.clone()).expect("UTF-8"),
            Content::Link(target) => format!("-> {target}"),
        }
    }

    #[test]
    fn templates_lose_their_suffix_and_files_stay_as_they_are() {
        let overlays = Overlays::new(&[
            (
                "a/files/etc/x.j2",
                "host {{ settings.hostname }}\n{% if image.label %}\nno\n{% endif %}\n",
            ),
            ("a/files/etc/raw", "{{ settings.hostname }}\n"),
            ("a/files/usr/bin/run", "#!/bin/sh\n"),
        ]);
        let tree = overlays.render(&["a"]).expect("rendered");
        assert_eq!(text(&tree, "etc/x"), "host sennit\n");
        assert_eq!(text(&tree, "etc/raw"), "{{ settings.hostname }}\n");
        assert_eq!(tree[Utf8Path::new("usr/bin/run")].mode, 0o755);
        assert_eq!(tree[Utf8Path::new("etc/raw")].mode, 0o644);
    }

    #[test]
    fn a_template_that_renders_to_nothing_makes_no_file() {
        let overlays = Overlays::new(&[("a/files/etc/x.j2", "{% if feed.url %}\nfeed\n{% endif %}\n")]);
        assert!(overlays.render(&["a"]).expect("rendered").is_empty());
    }

    #[test]
    fn values_are_quoted_for_the_shell() {
        let overlays = Overlays::new(&[("a/files/etc/x.j2", "{{ \"it's $HOME\"|shell }}")]);
        assert_eq!(
            text(&overlays.render(&["a"]).expect("rendered"), "etc/x"),
            r"'it'\''s $HOME'"
        );
    }

    #[test]
    fn an_undefined_variable_is_named_with_file_line_and_the_nearest() {
        let overlays = Overlays::new(&[("a/files/etc/x.j2", "first\n{{ settings.hostnam }}\n")]);
        let error = overlays.render(&["a"]).expect_err("undefined");
        assert!(
            error
                .to_string()
                .ends_with("a/files/etc/x.j2:2: `settings.hostnam` is not defined"),
            "{error}"
        );
        assert_eq!(error.hints(), ["did you mean `settings.hostname`?"]);

        let overlays = Overlays::new(&[(
            "a/files/etc/x.j2",
            "{% if variables.apn|length > 3 %}x{% endif %}",
        )]);
        let error = overlays.render(&["a"]).expect_err("undefined");
        assert!(
            error
                .to_string()
                .ends_with("x.j2:1: `variables.apn` is not defined"),
            "{error}"
        );
        assert!(
            error.hints()[0].contains("[settings.variables] apn"),
            "{:?}",
            error.hints()
        );
    }

    #[test]
    fn a_template_with_wrong_syntax_is_named_with_its_line() {
        let overlays = Overlays::new(&[("a/files/etc/x.j2", "first\n{% if %}\n")]);
        let error = overlays.render(&["a"]).expect_err("syntax");
        assert!(
            error.to_string().contains("a/files/etc/x.j2:2: syntax error"),
            "{error}"
        );
    }

    #[test]
    fn two_overlays_with_one_file_collide_unless_the_later_replaces_it() {
        let mut files = vec![("a/files/etc/x", "a"), ("b/files/etc/x", "b")];
        let error = Overlays::new(&files).render(&["a", "b"]).expect_err("collision");
        assert_eq!(error.to_string(), "overlays a and b both bring etc/x");
        files.push(("b/overlay.toml", "replaces = ['etc/x']"));
        assert_eq!(
            text(
                &Overlays::new(&files).render(&["a", "b"]).expect("replaced"),
                "etc/x"
            ),
            "b"
        );
    }

    #[test]
    fn a_file_where_another_overlay_has_a_folder_is_a_collision() {
        let overlays = Overlays::new(&[("a/files/etc/x", "a"), ("b/files/etc/x/y", "b")]);
        let error = overlays.render(&["a", "b"]).expect_err("collision");
        assert!(
            error.to_string().contains("in overlay a etc/x is a file or link"),
            "{error}"
        );
    }

    #[test]
    fn links_stay_links_and_may_not_leave_the_image() {
        let overlays = Overlays::new(&[("a/files/etc/x", "x")]);
        let folder = overlays.0.path().join("overlays/a/files/etc");
        std::os::unix::fs::symlink("/tmp/y", folder.join("y")).expect("linked");
        assert_eq!(
            text(&overlays.render(&["a"]).expect("rendered"), "etc/y"),
            "-> /tmp/y"
        );
        std::os::unix::fs::symlink("../../../secret", folder.join("z")).expect("linked");
        let error = overlays.render(&["a"]).expect_err("outside");
        assert!(error.to_string().contains("outside the image"), "{error}");
    }

    #[test]
    fn a_users_overlay_may_be_a_path_and_a_misspelt_name_gets_a_hint() {
        let overlays = Overlays::new(&[("bonding/files/etc/x", "x"), ("../mine/files/etc/y", "y")]);
        assert_eq!(
            overlays.render(&["bonding", "./mine"]).expect("rendered").len(),
            2
        );
        let error = overlays.render(&["bondnig"]).expect_err("unknown");
        assert_eq!(error.hints(), ["did you mean `bonding`?"]);
    }

    #[test]
    fn modes_of_overlay_toml_hold_and_must_name_files() {
        let overlays = Overlays::new(&[
            ("a/files/etc/x", ""),
            ("a/overlay.toml", "[modes]\n'etc/x' = '0600'"),
        ]);
        assert_eq!(
            overlays.render(&["a"]).expect("rendered")[Utf8Path::new("etc/x")].mode,
            0o600
        );
        let overlays = Overlays::new(&[
            ("a/files/etc/x", ""),
            ("a/overlay.toml", "[modes]\n'etc/z' = '0600'"),
        ]);
        assert!(overlays.render(&["a"]).is_err());
    }
}
