"""Reads opkg's packages: a gzipped tar with control.tar.gz and data.tar.gz in it. Written apart from the project's own
codec, so that each proves the other."""

import gzip
import io
import re
import sys
import tarfile
import zlib

from contents import Contents, Entry


def read(data, path):
    """A package's entries and scripts. `control` and `conffiles` are among the scripts: opkg keeps them side by side."""
    _, files = members(data, path)
    entries = []
    for member in files:
        name = member.name.removeprefix("./").rstrip("/")
        if not name or name == ".":
            continue
        if member.isdir():
            entries.append(Entry(name, "folder", member.mode, b""))
        elif member.issym():
            entries.append(Entry(name, "link", 0o777, member.linkname.encode("utf-8")))
        elif member.isfile():
            entries.append(Entry(name, "file", member.mode, files.extractfile(member).read()))
        else:
            sys.exit(f"Collected errors:\n * {path}: {name} is neither file, folder nor link")
    scripts = {name: content for name, (content, _) in control_files(data, path).items()}
    return Contents(entries, scripts, next(stanzas(scripts["control"].decode("utf-8"))))


def members(data, path):
    """The two inner tars by name, decompressed."""
    try:
        outer = tarfile.open(fileobj=io.BytesIO(gzip.decompress(data)))
        found = {}
        for member in outer:
            name = member.name.removeprefix("./")
            if name == "debian-binary" and outer.extractfile(member).read() != b"2.0\n":
                raise tarfile.TarError("wrong debian-binary")
            if name in ("control.tar.gz", "data.tar.gz"):
                found[name] = tarfile.open(fileobj=io.BytesIO(gzip.decompress(outer.extractfile(member).read())))
        return found["control.tar.gz"], found["data.tar.gz"]
    except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error) as error:
        sys.exit(f"Collected errors:\n * pkg_init_from_file: malformed package file {path}: {error}")


def control_files(data, path):
    control, _ = members(data, path)
    return {
        member.name.removeprefix("./"): (control.extractfile(member).read(), member.mode)
        for member in control
        if member.isfile()
    }


def control_of(data, path):
    files = control_files(data, path)
    if "control" not in files:
        sys.exit(f"Collected errors:\n * pkg_init_from_file: {path} has no control file")
    return files["control"][0].decode("utf-8")


def stanzas(text):
    """Paragraphs of `Field: value` lines, as dictionaries."""
    for paragraph in re.split(r"\n\s*\n", text):
        fields, last = {}, None
        for line in paragraph.split("\n"):
            if line[:1] in (" ", "\t") and last:
                fields[last] += "\n" + line
            elif ":" in line:
                last, _, value = line.partition(":")
                fields[last] = value.strip()
        if "Package" in fields:
            yield fields


def listed(value):
    return [item.strip() for item in value.split(",") if item.strip()]
