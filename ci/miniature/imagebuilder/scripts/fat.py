"""Writes a FAT16 file system with short (8.3) names: enough for a kernel and a boot loader. Times are the epoch's."""

import struct
import time

SECTOR = 512
SECTORS_PER_CLUSTER = 8
CLUSTER = SECTOR * SECTORS_PER_CLUSTER
ROOT_ENTRIES = 512
RESERVED = 1


def image(files, megabytes, epoch, label, serial):
    """The file system's bytes. `files`: path with `/` → content."""
    total = megabytes * 1024 * 1024 // SECTOR
    clusters = total // SECTORS_PER_CLUSTER
    if not 4085 <= clusters < 65525:
        raise ValueError(f"{megabytes} MiB is no size for FAT16 with clusters of {CLUSTER} bytes")
    fat_sectors = ((clusters + 2) * 2 + SECTOR - 1) // SECTOR
    writer = Writer(clusters - (RESERVED + 2 * fat_sectors + ROOT_ENTRIES * 32 // SECTOR) // SECTORS_PER_CLUSTER - 1, epoch)
    root = writer.folder(tree_of(files), 0, 0)
    label = label.ljust(11).encode("ascii")
    root = writer.entry(label, 0x08, 0, 0) + root
    if len(root) > ROOT_ENTRIES * 32:
        raise ValueError("too many files in the root folder")
    boot = struct.pack(
        "<3s8sHBHBHHBHHHIIBBBI11s8s",
        b"\xeb\x3c\x90", b"MSDOS5.0", SECTOR, SECTORS_PER_CLUSTER, RESERVED, 2, ROOT_ENTRIES,
        total if total < 65536 else 0, 0xF8, fat_sectors, 63, 255, 0, total if total >= 65536 else 0,
        0x80, 0, 0x29, serial, label, b"FAT16   ",
    )  # fmt: skip
    boot = boot.ljust(510, b"\0") + b"\x55\xaa"
    table = struct.pack(f"<{len(writer.table)}H", *writer.table).ljust(fat_sectors * SECTOR, b"\0")
    head = boot + table + table + root.ljust(ROOT_ENTRIES * 32, b"\0")
    return (head + b"".join(writer.clusters)).ljust(megabytes * 1024 * 1024, b"\0")


def tree_of(files):
    tree = {}
    for path, content in files.items():
        *folders, name = path.strip("/").split("/")
        here = tree
        for folder in folders:
            here = here.setdefault(folder, {})
        here[name] = content
    return tree


class Writer:
    def __init__(self, free, epoch):
        self.free = free
        self.table = [0xFFF8, 0xFFFF]
        self.clusters = []
        moment = time.gmtime(max(epoch, 315532800))
        self.date = (moment.tm_year - 1980) << 9 | moment.tm_mon << 5 | moment.tm_mday
        self.time = moment.tm_hour << 11 | moment.tm_min << 5 | moment.tm_sec // 2

    def entry(self, name, attributes, start, size):
        return struct.pack(
            "<11sBBBHHHHHHHI", name, attributes, 0, 0, self.time, self.date, self.date, 0, self.time, self.date, start, size
        )

    def reserve(self, count):
        """The first of so many clusters in a row, chained."""
        if count > self.free:
            raise ValueError("the files do not fit in the boot partition")
        self.free -= count
        first = len(self.table)
        self.table += [first + i + 1 for i in range(count - 1)] + [0xFFFF]
        self.clusters += [b""] * count
        return first

    def fill(self, first, data):
        count = -(-len(data) // CLUSTER)
        for i in range(count):
            self.clusters[first - 2 + i] = data[i * CLUSTER : (i + 1) * CLUSTER].ljust(CLUSTER, b"\0")

    def folder(self, tree, own, parent):
        """The entries of a folder, whose files and folders are written first."""
        entries = b""
        if own:
            entries = self.entry(b".".ljust(11), 0x10, own, 0) + self.entry(b"..".ljust(11), 0x10, parent, 0)
        for name in sorted(tree):
            content = tree[name]
            if isinstance(content, dict):
                start = self.reserve(1)
                data = self.folder(content, start, own)
                if len(data) > CLUSTER:
                    raise ValueError(f"too many files in the folder {name}")
                self.fill(start, data.ljust(CLUSTER, b"\0"))
                entries += self.entry(short(name), 0x10, start, 0)
            else:
                start = self.reserve(-(-len(content) // CLUSTER)) if content else 0
                self.fill(start, content)
                entries += self.entry(short(name), 0x20, start, len(content))
        return entries


def short(name):
    base, _, extension = name.upper().partition(".")
    if not 1 <= len(base) <= 8 or len(extension) > 3 or "." in extension:
        raise ValueError(f"{name} is not a short name")
    return base.ljust(8).encode("ascii") + extension.ljust(3).encode("ascii")
