"""Makes the file systems of images with the bundled tools: the same bytes for the same tree, whoever builds it."""

import os
import stat
import subprocess
import sys

UUID = "ff313567-e9f1-5a5d-9895-3ba130b4a864"


def tool(tree, name):
    return tree.path("staging_dir", "host", "bin", name)


def run(command, environment, stdin=None):
    result = subprocess.run(command, env=environment, input=stdin, capture_output=True, check=False)
    if result.returncode != 0:
        sys.stderr.write(result.stderr.decode("utf-8", "replace"))
    return result


def environment(tree):
    return {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C",
        "TZ": "UTC",
        "E2FSPROGS_FAKE_TIME": str(tree.epoch),
        # The user's own configuration of mke2fs must not change the image.
        "MKE2FS_CONFIG": "/dev/null",
    }


def ext4(tree, path, megabytes):
    """An ext4 file system of exactly that size. An error if the tree does not fit, as OpenWrt's make_ext4fs has it."""
    remove(path)
    made = run(
        [tool(tree, "mke2fs"), "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-L", "rootfs", "-U", UUID]
        + ["-O", "has_journal,extent,huge_file,flex_bg,uninit_bg,64bit,dir_nlink,extra_isize,dir_index,filetype,sparse_super"]
        + ["-J", "size=4", "-E", f"hash_seed={UUID},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0"]
        + ["-d", tree.root, path, f"{megabytes}M"],
        environment(tree),
    )
    if made.returncode != 0:
        sys.exit(f"error: ext4_allocate_best_fit_partial: the root file system does not fit in {megabytes} MiB (ROOTFS_PARTSIZE)")
    # mke2fs copies the owner and change time of the build's own files: both become root and the epoch.
    lines = []
    for entry in entries(tree.root):
        name = quoted("/" + entry)
        lines += [f"sif {name} uid 0", f"sif {name} gid 0"]
        lines += [f"sif {name} {field} @{tree.epoch}" for field in ("atime", "ctime", "mtime", "crtime")]
        lines += [f"sif {name} {field} 0" for field in ("atime_extra", "ctime_extra", "mtime_extra", "crtime_extra")]
    for name in ("/", "/lost+found"):
        lines += [f"sif {name} {field} @{tree.epoch}" for field in ("atime", "ctime", "mtime", "crtime")]
        lines += [f"sif {name} {field} 0" for field in ("atime_extra", "ctime_extra", "mtime_extra", "crtime_extra")]
    changed = run([tool(tree, "debugfs"), "-w", "-f", "-", path], environment(tree), "\n".join(lines).encode() + b"\n")
    # debugfs echoes each command and says nothing more when it worked.
    complaints = [line for line in changed.stdout.decode().split("\n") if line and not line.startswith("debugfs")]
    if changed.returncode != 0 or complaints:
        sys.exit("debugfs: " + "\n".join(complaints[:5]))


def entries(root):
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(folders + names):
            yield os.path.relpath(os.path.join(folder, name), root)


def quoted(path):
    return '"' + path.replace('"', '""') + '"'


def squashfs(tree, path):
    remove(path)
    made = run(
        [tool(tree, "mksquashfs"), tree.root, path, "-noappend", "-all-root", "-no-xattrs", "-no-progress", "-quiet"]
        + ["-comp", "xz", "-b", "256k", "-processors", "1", "-no-exports"]
        + ["-mkfs-time", str(tree.epoch), "-all-time", str(tree.epoch)],
        environment(tree),
    )
    if made.returncode != 0:
        sys.exit("mksquashfs failed")
    pad(path, 64 * 1024)


def pad(path, block):
    size = os.path.getsize(path)
    os.truncate(path, (size + block - 1) // block * block)


def remove(path):
    if os.path.lexists(path):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            sys.exit(f"{path} is not a regular file")
        os.unlink(path)
