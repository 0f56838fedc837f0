"""Resolves dependencies and unpacks packages into the root file system, with the records that the router's package
manager would keep."""

import hashlib
import os
import re
import shutil
import sys

import apk
import ipk


def resolve(feed, names):
    """The packages that satisfy the names and all that they need, in the order of installation."""
    chosen, problems = {}, []

    def choose(name, needed_by):
        package = already_provided(chosen, name) or feed.provider(name)
        if package is None:
            if needed_by:
                problems.append(f" * Solver: {needed_by}: cannot find dependency {name}")
            else:
                problems.append(f" * opkg_install_cmd: Cannot install package {name}.\nUnknown package '{name}'.")
            return
        if package.name in chosen:
            return
        chosen[package.name] = None
        for dependency in package.depends:
            choose_any(dependency, package.name)
        # Taken out and put back, so that what it needs stands before it.
        del chosen[package.name]
        chosen[package.name] = package

    def choose_any(dependency, needed_by):
        names = [bare(part) for part in dependency.split("|")]
        for name in names:
            if already_provided(chosen, name):
                return
        choose(next((name for name in names if feed.provider(name)), names[0]), needed_by)

    for name in names:
        choose(name.split("=")[0], "")
    packages = [package for package in chosen.values() if package]
    for package in packages:
        for name in map(bare, package.conflicts):
            other = chosen.get(name)
            if other is not None and other is not package:
                problems.append(f" * Solver: {package.name} conflicts with {other.name}")
    if problems:
        sys.exit("Collected errors:\n" + "\n".join(dict.fromkeys(problems)))
    return packages


def bare(dependency):
    return re.split(r"[ (=<>~]", dependency.strip(), maxsplit=1)[0]


def already_provided(chosen, name):
    if chosen.get(name):
        return chosen[name]
    return next((p for p in chosen.values() if p and name in map(bare, p.provides)), None)


def unpack(tree, packages, say):
    database = (Apk if tree.format == "apk" else Opkg)(tree)
    owners = {}
    for package in packages:
        say(f"Installing {package.name} ({package.version}) to root...")
        try:
            with open(package.path, "rb") as file:
                data = file.read()
        except OSError as error:
            sys.exit(f"Collected errors:\n * opkg_install_pkg: {package.name}: cannot read {package.path}: {error.strerror}")
        contents = database.reader.read(data, package.path)
        wrong = package.sha256 and hashlib.sha256(data).hexdigest() != package.sha256
        wrong = wrong or (package.identity and contents.identity[: len(package.identity)] != package.identity)
        if wrong or len(data) != package.size:
            sys.exit(
                "Collected errors:\n"
                f" * pkg_verify: Checksum or size mismatch for package {package.name}. Either the package or the index are corrupt."
            )
        database.record(package, contents, place_entries(tree, package, contents.entries, owners))
    database.close()


class Opkg:
    """What opkg keeps of the packages it installed."""

    reader = ipk

    def __init__(self, tree):
        self.tree = tree
        self.info = os.path.join(tree.root, "usr/lib/opkg/info")
        os.makedirs(self.info)
        self.status = []

    def record(self, package, contents, listed):
        for name, content in sorted(contents.scripts.items()):
            path = os.path.join(self.info, f"{package.name}.{name}")
            write(path, content)
            os.chmod(path, 0o644 if name in ("control", "conffiles") else 0o755)
            if name == "postinst":
                self.tree.scripts[package.name] = path
        write(os.path.join(self.info, f"{package.name}.list"), "".join(f"/{path}\n" for path in listed).encode())
        fields = contents.row
        kept = ("Package", "Version", "Depends", "Provides", "Conflicts", "Architecture")
        lines = [f"{key}: {fields[key]}" for key in kept if key in fields]
        lines.insert(2, "Status: install user installed")
        if "conffiles" in contents.scripts:
            lines.append("Conffiles:")
            for path in contents.scripts["conffiles"].decode("utf-8").split():
                with open(os.path.join(self.tree.root, path.lstrip("/")), "rb") as file:
                    lines.append(f" {path} {hashlib.sha256(file.read()).hexdigest()}")
        self.status.append("\n".join([*lines, f"Installed-Time: {self.tree.epoch}"]) + "\n")

    def close(self):
        write(os.path.join(self.tree.root, "usr/lib/opkg/status"), "\n".join(self.status).encode())


class Apk:
    """What apk keeps: the database and the list of what was asked for. Scripts wait outside of the root file system."""

    reader = apk

    def __init__(self, tree):
        self.tree = tree
        self.folder = tree.path("build_dir", "scripts")
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        self.rows, self.names = [], []

    def record(self, package, contents, listed):
        if "post-install" in contents.scripts:
            path = os.path.join(self.folder, f"{package.name}.post-install")
            write(path, contents.scripts["post-install"])
            self.tree.scripts[package.name] = path
        row = contents.row
        lines = [f"P:{package.name}", f"V:{package.version}", f'A:{row["arch"]}']
        lines += [f'D:{" ".join(row["depends"])}'] if row["depends"] else []
        lines += [f'p:{" ".join(row["provides"])}'] if row["provides"] else []
        folder = None
        for path in listed:
            here, _, name = path.rpartition("/")
            if here != folder:
                lines.append(f"F:{here}")
                folder = here
            lines.append(f"R:{name}")
        self.rows.append("\n".join(lines) + "\n\n")
        self.names.append(package.name)

    def close(self):
        root = self.tree.root
        for path, text in (
            ("lib/apk/db/installed", "".join(self.rows)),
            ("etc/apk/world", "\n".join(sorted(self.names)) + "\n"),
            ("etc/apk/arch", self.tree.target["arch"] + "\n"),
        ):
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            write(os.path.join(root, path), text.encode())


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def place_entries(tree, package, entries, owners):
    """Puts a package's entries into the root file system; the paths that belong to it."""
    listed = []
    for entry in entries:
        if entry.path.startswith("/") or ".." in entry.path.split("/"):
            sys.exit(f"Collected errors:\n * {package.name}: unsafe path {entry.path}")
        if entry.kind == "folder":
            place_folder(tree, entry.path, entry.mode)
            continue
        claim(owners, entry.path, package)
        if entry.kind == "link":
            place_link(tree, entry.path, entry.content.decode("utf-8"))
        else:
            place_file(tree, entry.path, entry.mode, entry.content)
        listed.append(entry.path)
    return listed


def claim(owners, path, package):
    other = owners.setdefault(path, package.name)
    if other != package.name:
        sys.exit(
            "Collected errors:\n"
            f" * check_data_file_clashes: Package {package.name} wants to install file /{path}\n"
            f"\tBut that file is already provided by package  * {other}"
        )


def inside(tree, path):
    """The place of a path in the root file system; its folder is made, and must not lie outside by way of links."""
    place = os.path.join(tree.root, path)
    folder = os.path.dirname(place)
    os.makedirs(folder, exist_ok=True)
    real = os.path.realpath(folder)
    root = os.path.realpath(tree.root)
    if real != root and not real.startswith(root + os.sep):
        sys.exit(f"Collected errors:\n * /{path} leads out of the root file system")
    return place


def place_folder(tree, path, mode):
    place = inside(tree, path)
    if not os.path.isdir(place):
        os.mkdir(place)
    os.chmod(place, mode & 0o7777)


def place_link(tree, path, target):
    place = inside(tree, path)
    if os.path.lexists(place):
        os.unlink(place)
    os.symlink(target, place)


def place_file(tree, path, mode, content):
    place = inside(tree, path)
    if os.path.lexists(place):
        os.unlink(place)
    with open(place, "wb") as file:
        file.write(content)
    os.chmod(place, mode & 0o7777)
