"""Partition tables: writes disk images with an MBR or a GPT from the bytes of their partitions."""

import binascii
import hashlib
import struct
import uuid

SECTOR = 512
MEGABYTE = 1024 * 1024
ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


def signature(text):
    """The 32-bit disk signature of an MBR, from a text that is the same for the same image."""
    return struct.unpack("<I", hashlib.sha256(text.encode()).digest()[:4])[0]


def guid(text):
    return uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16], version=4)


class Content:
    """What a partition holds: bytes at its start, and its size."""

    def __init__(self, data, size=None):
        self.data = data
        self.size = len(data) if size is None else size


def mbr(path, partitions, disk_signature, boot_sector=b"", core=b""):
    """`partitions`: (type, Content), each starting at a whole megabyte; the core of the boot loader lies before the first."""
    if len(core) > MEGABYTE - SECTOR:
        raise ValueError("the boot loader does not fit before the first partition")
    start, rows, places = MEGABYTE, b"", []
    for index, (kind, content) in enumerate(partitions):
        active = 0x80 if index == 0 else 0
        rows += struct.pack("<B3sB3sII", active, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", start // SECTOR, content.size // SECTOR)
        places.append((start, content.data))
        start = round_up(start + content.size)
    first = boot_sector[:440].ljust(440, b"\0") + struct.pack("<IH", disk_signature, 0) + rows.ljust(64, b"\0") + b"\x55\xaa"
    write(path, start, [(0, first), (SECTOR, core), *places])


def gpt(path, partitions, disk_guid):
    """`partitions`: (type, identity, name, Content)."""
    start, rows, places = MEGABYTE, b"", []
    for kind, identity, name, content in partitions:
        last = (start + content.size) // SECTOR - 1
        rows += struct.pack("<16s16sQQQ72s", kind.bytes_le, identity.bytes_le, start // SECTOR, last, 0, name.encode("utf-16-le"))
        places.append((start, content.data))
        start = round_up(start + content.size)
    rows = rows.ljust(128 * 128, b"\0")
    size = start + MEGABYTE
    sectors = size // SECTOR
    protective = struct.pack("<B3sB3sII", 0, b"\0\x02\0", 0xEE, b"\xff\xff\xff", 1, min(sectors - 1, 0xFFFFFFFF))
    first = bytes(440) + bytes(6) + protective.ljust(64, b"\0") + b"\x55\xaa"
    backup_rows = sectors - 33
    write(
        path,
        size,
        [
            (0, first),
            (SECTOR, header(1, sectors - 1, sectors, 2, rows, disk_guid)),
            (2 * SECTOR, rows),
            *places,
            (backup_rows * SECTOR, rows),
            ((sectors - 1) * SECTOR, header(sectors - 1, 1, sectors, backup_rows, rows, disk_guid)),
        ],
    )


def header(own, other, sectors, table, rows, disk_guid):
    def pack(checksum):
        return struct.pack(
            "<8sIIIIQQQQ16sQIII",
            b"EFI PART", 0x10000, 92, checksum, 0, own, other, 34, sectors - 34,
            disk_guid.bytes_le, table, 128, 128, binascii.crc32(rows),
        )  # fmt: skip

    return pack(binascii.crc32(pack(0))).ljust(SECTOR, b"\0")


def round_up(size):
    return -(-size // MEGABYTE) * MEGABYTE


def write(path, size, pieces):
    with open(path, "wb") as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
        file.truncate(size)
