"""Resolves dependencies and unpacks packages into the root file system, with the records that the router's package
manager would keep."""

import hashlib
import os
import re
import sys

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
    info = os.path.join(tree.root, "usr/lib/opkg/info")
    os.makedirs(info)
    status, owners = [], {}
    for package in packages:
        say(f"Installing {package.name} ({package.version}) to root...")
        try:
            with open(package.path, "rb") as file:
                data = file.read()
        except OSError as error:
            sys.exit(f"Collected errors:\n * opkg_install_pkg: {package.name}: cannot read {package.path}: {error.strerror}")
        if len(data) != package.size or hashlib.sha256(data).hexdigest() != package.sha256:
            sys.exit(
                "Collected errors:\n"
                f" * pkg_verify: Checksum or size mismatch for package {package.name}. Either the opkg or the index are corrupt."
            )
        listed = unpack_ipk(tree, package, data, info, owners)
        with open(os.path.join(info, f"{package.name}.list"), "w", encoding="utf-8") as file:
            file.write("".join(f"/{path}\n" for path in listed))
        status.append(status_of(package, data, tree))
    with open(os.path.join(tree.root, "usr/lib/opkg/status"), "w", encoding="utf-8") as file:
        file.write("\n".join(status))


def status_of(package, data, tree):
    fields = next(ipk.stanzas(ipk.control_of(data, package.path)))
    kept = [f"{key}: {fields[key]}" for key in ("Package", "Version", "Depends", "Provides", "Conflicts", "Architecture") if key in fields]
    conffiles = ipk.control_files(data, package.path).get("conffiles")
    if conffiles:
        kept.append("Conffiles:")
        for path in conffiles[0].decode("utf-8").split():
            with open(os.path.join(tree.root, path.lstrip("/")), "rb") as file:
                kept.append(f" {path} {hashlib.sha256(file.read()).hexdigest()}")
    kept.insert(2, "Status: install user installed")
    return "\n".join([*kept, f"Installed-Time: {tree.epoch}"]) + "\n"


def unpack_ipk(tree, package, data, info, owners):
    for name, (content, mode) in sorted(ipk.control_files(data, package.path).items()):
        path = os.path.join(info, f"{package.name}.{name}")
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, mode & 0o777)
    _, files = ipk.members(data, package.path)
    listed = []
    for member in files:
        path = member.name.removeprefix("./").rstrip("/")
        if not path or path == ".":
            continue
        if path.startswith("/") or ".." in path.split("/"):
            sys.exit(f"Collected errors:\n * {package.name}: unsafe path {member.name}")
        if member.isdir():
            place_folder(tree, path, member.mode)
            continue
        claim(owners, path, package)
        if member.issym():
            place_link(tree, path, member.linkname)
        elif member.isfile():
            place_file(tree, path, member.mode, files.extractfile(member).read())
        else:
            sys.exit(f"Collected errors:\n * {package.name}: {path} is neither file, folder nor link")
        listed.append(path)
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
