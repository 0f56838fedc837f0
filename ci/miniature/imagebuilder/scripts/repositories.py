"""Reads the package indexes that the ImageBuilder is configured with and checks their signatures. The local `packages`
folder is indexed anew each time, signed with a key of this tree's own."""

import gzip
import hashlib
import os
import secrets
import sys

import apk
import ipk
import usign


class Package:
    """One row of an index, and where its file lies."""

    def __init__(self, name, version, relations, path, size, sha256=None, identity=None):
        self.name = name
        self.version = version
        self.depends = relations["depends"]
        self.provides = relations["provides"]
        self.conflicts = relations["conflicts"]
        self.path = path
        self.size = size
        # What tells that the file is the one that the index means: its hash (opkg), or that of its ADB block (apk).
        self.sha256 = sha256
        self.identity = identity

    @property
    def abi(self):
        """The ABI version at the end of the name, known by the name without it being provided."""
        for name in self.provides:
            suffix = self.name.removeprefix(name)
            if suffix != self.name and suffix and not suffix.strip("0123456789.-"):
                return suffix
        return ""


class Feed:
    """All packages of all repositories. The first repository that has a name decides."""

    def __init__(self):
        self.by_name = {}
        self.providers = {}

    def add(self, package):
        if package.name in self.by_name:
            return
        self.by_name[package.name] = package
        for name in package.provides:
            self.providers.setdefault(name.split("=")[0].split(" ")[0].split("@")[0], []).append(package)

    def provider(self, name):
        """The package of that name, or the first by name of those that provide it."""
        if name in self.by_name:
            return self.by_name[name]
        found = sorted(self.providers.get(name, []), key=lambda package: package.name)
        return found[0] if found else None


def load(tree, say):
    return load_apk(tree, say) if tree.format == "apk" else load_opkg(tree, say)


def load_apk(tree, say):
    feed = Feed()
    # The local folder first, as its packages come before those of the repositories.
    folder = tree.path("packages")
    for name in sorted(os.listdir(folder)):
        if name.endswith(".apk"):
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                data = file.read()
            contents = apk.read(data, path)
            add_apk(feed, {**contents.row, "identity": contents.identity, "size": len(data)}, path)
    for url in lines(tree.path("repositories")):
        index = local_folder(tree, url)
        if index is None:
            say(f"fetch {url}")
            say(f"WARNING: updating and opening {url}: network error (check Internet connection and firewall)")
            continue
        for row in apk.index(index, tree.path("keys") if tree.check_signature else None):
            add_apk(feed, row, os.path.join(os.path.dirname(index), f'{row["name"]}-{row["version"]}.apk'))
    return feed


def add_apk(feed, row, path):
    feed.add(Package(row["name"], row["version"], row, path, row["size"], identity=row["identity"]))


def load_opkg(tree, say):
    say("Package list missing or not up-to-date, generating it.")
    say("")
    say("Building package index...")
    secret = local_key(tree, say)
    index_local(tree, secret)
    feed = Feed()
    for line in lines(tree.path("repositories.conf")):
        words = line.split()
        if words[0] == "option":
            if words[1:2] == ["check_signature"]:
                tree.check_signature = True
    for line in lines(tree.path("repositories.conf")):
        words = line.split()
        if words[0] not in ("src", "src/gz"):
            continue
        if len(words) != 3:
            sys.exit(f"Collected errors:\n * opkg_conf_parse_file: cannot read `{line}` in repositories.conf")
        kind, name, url = words
        folder = local_folder(tree, url)
        if folder is None:
            say(f"Downloading {url}/Packages")
            say(f"*** Failed to download the package list from {url}/Packages")
            continue
        read_opkg_index(tree, feed, name, folder, kind == "src/gz")
        say(f"Updated list of available packages in {folder}")
    return feed


def lines(path):
    with open(path, encoding="utf-8") as file:
        for line in file:
            line = line.strip()
            if line and not line.startswith("#"):
                yield line


def local_folder(tree, url):
    """The folder that a `file:` URL or a path names; None for what would need the network."""
    if url.startswith("file://"):
        return url[len("file://") :]
    if url.startswith("file:"):
        return os.path.join(tree.top, url[len("file:") :])
    return url if url.startswith("/") else None


def read_opkg_index(tree, feed, name, folder, compressed):
    path = os.path.join(folder, "Packages.gz" if compressed else "Packages")
    try:
        with open(path, "rb") as file:
            data = file.read()
        text = gzip.decompress(data) if compressed else data
    except OSError as error:
        sys.exit(f"Collected errors:\n * opkg_download: {name}: cannot read {path}: {error.strerror or error}")
    if tree.check_signature:
        try:
            with open(os.path.join(folder, "Packages.sig"), encoding="ascii") as file:
                signature = file.read()
        except OSError:
            sys.exit(f"Collected errors:\n * opkg_verify_file: {name}: {folder} has no Packages.sig")
        if not usign.verify_with_folder(text, signature, tree.path("keys")):
            sys.exit(f"Signature check failed.\nCollected errors:\n * {name}: the signature of {path} is wrong or of an unknown key")
    for fields in ipk.stanzas(text.decode("utf-8")):
        feed.add(
            Package(
                fields["Package"],
                fields["Version"],
                {
                    "depends": ipk.listed(fields.get("Depends", "")),
                    "provides": ipk.listed(fields.get("Provides", "")),
                    "conflicts": ipk.listed(fields.get("Conflicts", "")),
                },
                os.path.join(folder, fields["Filename"]),
                int(fields["Size"]),
                sha256=fields["SHA256sum"],
            )
        )


def local_key(tree, say):
    """The secret key of this tree, made at its first use."""
    path = tree.path("key-build")
    if not os.path.exists(path):
        say("Generate local signing keys...")
        seed, key_id = secrets.token_bytes(32), secrets.token_bytes(8)
        with open(path, "w", encoding="ascii") as file:
            os.chmod(path, 0o600)
            file.write(f"local key of this ImageBuilder\n{key_id.hex()} {seed.hex()}\n")
        public = usign.public_key_text(seed, key_id, "Local build key")
        os.makedirs(tree.path("keys"), exist_ok=True)
        for place in (tree.path("key-build.pub"), tree.path("keys", key_id.hex())):
            with open(place, "w", encoding="ascii") as file:
                file.write(public)
    with open(path, encoding="ascii") as file:
        key_id, seed = file.read().split("\n")[1].split()
    return bytes.fromhex(seed), bytes.fromhex(key_id)


def index_local(tree, secret):
    folder = tree.path("packages")
    rows = []
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".ipk"):
            continue
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            data = file.read()
        control = ipk.control_of(data, path).rstrip("\n")
        head, _, tail = control.partition("\nDescription:")
        rows.append(
            f"{head}\nFilename: {name}\nSize: {len(data)}\nSHA256sum: {hashlib.sha256(data).hexdigest()}\n"
            + (f"Description:{tail}\n" if tail else "")
        )
    text = "\n".join(rows).encode("utf-8")
    write(os.path.join(folder, "Packages"), text)
    write(os.path.join(folder, "Packages.gz"), gzip.compress(text, 9, mtime=0))
    seed, key_id = secret
    write(os.path.join(folder, "Packages.sig"), usign.sign(text, seed, key_id).encode("ascii"))


def write(path, data):
    with open(path + ".new", "wb") as file:
        file.write(data)
    os.replace(path + ".new", path)
