"""Commands of the ImageBuilder: info, image, manifest, package_depends, clean. The Makefile calls it with make's
variables in the environment. It decides the order of the steps; how each is done stands in the modules beside it."""

import json
import os
import shutil
import sys

import images
import install
import repositories
import rootfs


class Tree:
    """The unpacked ImageBuilder and what make was called with."""

    def __init__(self):
        self.top = os.environ["TOPDIR"]
        self.epoch = int(os.environ["SOURCE_DATE_EPOCH"])
        self.revision = os.environ["REVISION"]
        with open(self.path("target.json"), encoding="utf-8") as file:
            self.target = json.load(file)
        self.format = self.target["format"]
        # Paths of the scripts that run when all packages are unpacked, by package.
        self.scripts = {}
        self.check_signature = bool(os.environ.get("CONFIG_SIGNATURE_CHECK"))
        name = os.environ.get("PROFILE", "")
        devices = self.target["devices"]
        if not name:
            name = devices[0]["name"]
        self.device = next((device for device in devices if device["name"] == name), None)
        if self.device is None:
            print(f'Profile "{name}" does not exist!')
            print('Use "make info" to get a list of available profile names.')
            sys.exit(1)

    def path(self, *parts):
        return os.path.join(self.top, *parts)

    @property
    def root(self):
        return self.path("build_dir", "root")

    @property
    def output(self):
        target = self.target["name"]
        return os.environ.get("BIN_DIR") or self.path("bin", "targets", *target.split("/"))

    @property
    def wanted(self):
        """Packages to install: the target's, the device's, the user's; `-name` takes one out again."""
        names = sorted(set(self.target["default_packages"] + self.device["packages"] + ["kernel"]))
        names = apply_removals(names)
        user = os.environ.get("PACKAGES", "").split()
        return list(dict.fromkeys(apply_removals(user + names)))

    @property
    def file_prefix(self):
        extra = "".join(c if c.isalnum() or c in "._" else "-" for c in os.environ.get("EXTRA_IMAGE_NAME", "")).strip("-")
        parts = ["openwrt", self.target["release"], extra, self.target["name"].replace("/", "-"), self.device["name"]]
        return "-".join(part for part in parts if part)


def apply_removals(names):
    removed = {name[1:] for name in names if name.startswith("-")}
    return [name for name in names if not name.startswith("-") and name not in removed]


def info(tree):
    print(f'Current Target: "{tree.target["name"]}"')
    print(f'Current Architecture: "{tree.target["machine"]}"')
    print(f'Current Revision: "{tree.revision}"')
    print(f'Default Packages: {" ".join(tree.target["default_packages"])}')
    print("Available Profiles:")
    print()
    for device in tree.target["devices"]:
        print(f'{device["name"]}:')
        print(f'    {device["title"]}')
        print(f'    Packages: {" ".join(device["packages"])}')
        print(f'    hasImageMetadata: {1 if device["supported_devices"] else 0}')
        if device["supported_devices"]:
            print(f'    SupportedDevices: {" ".join(device["supported_devices"])}')


def install_packages(tree, say):
    shutil.rmtree(tree.root, ignore_errors=True)
    os.makedirs(tree.root)
    feed = repositories.load(tree, say)
    say("")
    say("Installing packages...")
    chosen = install.resolve(feed, ["libc", "base-files", *tree.wanted])
    install.unpack(tree, chosen, say)
    return chosen


def manifest_lines(chosen, strip_abi):
    lines = []
    for package in chosen:
        name = package.name
        if strip_abi and package.abi and name.endswith(package.abi):
            name = name[: -len(package.abi)]
        lines.append(f"{name} - {package.version}")
    return sorted(lines)


def manifest(tree):
    chosen = install_packages(tree, lambda text: print(text, file=sys.stderr))
    print("\n".join(manifest_lines(chosen, bool(os.environ.get("STRIP_ABI")))))


def image(tree):
    print(f'Building images for {tree.target["name"].split("/")[0]} - {tree.device["title"]}')
    print(f'Packages: {" ".join(tree.wanted)}')
    print(flush=True)
    chosen = install_packages(tree, lambda text: print(text, flush=True))
    os.makedirs(tree.output, exist_ok=True)
    print("\nFinalizing root filesystem...", flush=True)
    rootfs.finish(tree, os.environ.get("FILES", ""), os.environ.get("DISABLED_SERVICES", "").split())
    with open(os.path.join(tree.output, f"{tree.file_prefix}.manifest"), "w", encoding="utf-8") as file:
        file.write("\n".join(manifest_lines(chosen, False)) + "\n")
    print("\nBuilding images...", flush=True)
    made = images.build(tree)
    images.write_overview(tree, made)
    print("\nCalculating checksums...", flush=True)
    images.write_checksums(tree.output)


def package_depends(tree):
    feed = repositories.load(tree, lambda text: print(text, file=sys.stderr))
    name = os.environ.get("PACKAGE", "")
    package = feed.provider(name)
    if package is None:
        sys.exit(f"Unknown package '{name}'.")
    print(f"{package.name} depends on:")
    for dependency in package.depends:
        print(f"\t{dependency}")


def clean(tree):
    for folder in (tree.path("build_dir"), tree.path("tmp"), tree.path("bin")):
        shutil.rmtree(folder, ignore_errors=True)


COMMANDS = {"info": info, "image": image, "manifest": manifest, "package_depends": package_depends, "clean": clean}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](Tree())
