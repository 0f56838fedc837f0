"""Turns the unpacked packages into the image's root file system: the user's files, maintainer scripts, services,
modes and times."""

import os
import shutil
import stat
import subprocess
import sys


def finish(tree, files, disabled):
    if files:
        if not os.path.isdir(files):
            sys.exit(f"FILES: {files} is not a folder")
        copy_over(files, tree.root)
    run_postinst(tree)
    enable_services(tree, disabled)
    for name in os.listdir(os.path.join(tree.root, "tmp")):
        remove(os.path.join(tree.root, "tmp", name))
    set_times(tree.root, tree.epoch)


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def copy_over(source, target):
    """As `cp -fpR source/. target` does: modes are kept, links stay links, existing folders are merged."""
    for folder, folders, names in os.walk(source):
        folders.sort()
        here = os.path.join(target, os.path.relpath(folder, source))
        os.makedirs(here, exist_ok=True)
        if folder != source:
            os.chmod(here, stat.S_IMODE(os.stat(folder).st_mode))
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted(names + links):
            place = os.path.join(here, name)
            if os.path.lexists(place):
                if os.path.isdir(place) and not os.path.islink(place):
                    sys.exit(f"FILES: {os.path.join(folder, name)} would replace a folder")
                os.unlink(place)
            shutil.copy2(os.path.join(folder, name), place, follow_symlinks=False)


def run_postinst(tree):
    for name, path in sorted(tree.scripts.items()):
        result = run_in_root(tree, ["bash", path])
        if result != 0:
            print(f"postinst script of {name} has failed with exit code {result}", file=sys.stderr)
            sys.exit(1)


def enable_services(tree, disabled):
    folder = os.path.join(tree.root, "etc/init.d")
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            if not file.readline().startswith(b"#!/bin/sh /etc/rc.common"):
                continue
        action = "disable" if name in disabled else "enable"
        print(("Disabling " if name in disabled else "Enabling ") + name, flush=True)
        # A service without START is not one to enable: rc.common says so with its exit code, which is no error here.
        run_in_root(tree, ["bash", os.path.join(tree.root, "etc/rc.common"), path, action])


def run_in_root(tree, command):
    environment = {"IPKG_INSTROOT": tree.root, "PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
    return subprocess.run(command, env=environment, cwd=tree.root, stdin=subprocess.DEVNULL, check=False).returncode


def set_times(root, epoch):
    for folder, folders, names in os.walk(root, topdown=False):
        for name in folders + names:
            os.utime(os.path.join(folder, name), (epoch, epoch), follow_symlinks=False)
    os.utime(root, (epoch, epoch))
