"""Reads apk packages and their index (`packages.adb`)."""

import hashlib
import os
import struct
import sys

import adb
import ecdsa
from contents import Contents, Entry

CONFLICT = 16
SCRIPTS = {2: "pre-install", 3: "post-install", 4: "pre-deinstall", 5: "post-deinstall", 6: "pre-upgrade", 7: "post-upgrade"}


def read(data, path):
    """A package's entries and scripts; every file's hash is checked."""
    try:
        return contents(adb.File(data, adb.PACKAGE))
    except (adb.Malformed, struct.error, UnicodeDecodeError) as error:
        sys.exit(f"ERROR: {path}: v3 package format error: {error}")


def contents(file):
    root = file.root
    blocks = {}
    for block in file.data:
        folder, number = struct.unpack_from("<II", block)
        blocks[folder, number] = block[8:]
    entries = []
    for i, folder in enumerate(root.objects(2), 1):
        name = folder.text(1)
        if name:
            entries.append(Entry(name, "folder", folder.object(2).number(1), b""))
        for j, item in enumerate(folder.objects(3), 1):
            path = f"{name}/{item.text(1)}" if name else item.text(1)
            target = item.blob(6)
            if target:
                (kind,) = struct.unpack_from("<H", target)
                if kind & 0o170000 != 0o120000:
                    raise adb.Malformed(f"{path} is neither file, folder nor link")
                entries.append(Entry(path, "link", 0o777, target[2:]))
                continue
            content = blocks.get((i, j), b"")
            if len(content) != item.number(3) or hashlib.sha256(content).digest() != item.blob(5):
                raise adb.Malformed(f"the content of {path} is not what its hash says")
            entries.append(Entry(path, "file", item.object(2).number(1), content))
    written = root.object(3)
    scripts = {name: written.blob(slot) for slot, name in SCRIPTS.items() if written.blob(slot)}
    return Contents(entries, scripts, package_row(root.object(1)), file.identity)


def package_row(info):
    """A package's description as a dictionary."""
    conflicts, depends = [], []
    for dependency in info.objects(15):
        (conflicts if dependency.number(3) & CONFLICT else depends).append(dependency.text(1))
    return {
        "name": info.text(1),
        "version": info.text(2),
        "identity": info.blob(3),
        "arch": info.text(5),
        "size": info.number(13),
        "depends": depends,
        "conflicts": conflicts,
        "provides": [item.text(1) for item in info.objects(16)],
    }


def index(path, keys):
    """The rows of an index. `keys`: folder of public keys that are trusted, or None to trust anybody."""
    try:
        with open(path, "rb") as file:
            found = adb.File(file.read(), adb.INDEX)
        if keys is not None and not found.signed_by(points(keys)):
            sys.exit(f"ERROR: {path}: UNTRUSTED signature")
        return [package_row(row) for row in found.root.objects(2)]
    except OSError as error:
        sys.exit(f"ERROR: unable to read {path}: {error.strerror}")
    except (adb.Malformed, struct.error, UnicodeDecodeError) as error:
        sys.exit(f"ERROR: {path}: v3 index format error: {error}")


def points(folder):
    found = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".pem"):
            with open(os.path.join(folder, name), encoding="ascii") as file:
                found.append(ecdsa.public_point(file.read()))
    return [point for point in found if point]
