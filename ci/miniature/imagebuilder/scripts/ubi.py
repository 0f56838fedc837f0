"""Writes UBI images for NAND flash with pages of 2048 bytes and erase blocks of 128 KiB, as our devices have."""

import binascii
import struct

BLOCK = 128 * 1024
PAGE = 2048
DATA = 2 * PAGE
LOGICAL = BLOCK - DATA
LAYOUT = 0x7FFFEFFF
DYNAMIC = 1
AUTORESIZE = 1
MOST_VOLUMES = 128


def image(volumes, sequence):
    """`volumes`: (name, bytes), and a last one of None for the volume that takes the rest of the flash."""
    records = b""
    for name, data in volumes:
        blocks = 1 if data is None else -(-len(data) // LOGICAL)
        flags = AUTORESIZE if data is None else 0
        record = struct.pack(">IIIBBH128sB23x", blocks, 1, 0, DYNAMIC, 0, len(name), name.encode(), flags)
        records += record + struct.pack(">I", crc(record))
    empty = bytes(168)
    records += (empty + struct.pack(">I", crc(empty))) * (MOST_VOLUMES - len(volumes))
    out = [block(sequence, LAYOUT, number, records, compatible=5) for number in range(2)]
    for number, (_, data) in enumerate(volumes):
        if data is not None:
            for index in range(-(-len(data) // LOGICAL)):
                out.append(block(sequence, number, index, data[index * LOGICAL : (index + 1) * LOGICAL]))
    return b"".join(out)


def block(sequence, volume, number, data, compatible=0):
    erase = struct.pack(">4sB3xQIII32x", b"UBI#", 1, 0, PAGE, DATA, sequence)
    erase += struct.pack(">I", crc(erase))
    identity = struct.pack(">4sBBBBII4xIIII4xQ12x", b"UBI!", 1, DYNAMIC, 0, compatible, volume, number, 0, 0, 0, 0, 0)
    identity += struct.pack(">I", crc(identity))
    return (erase.ljust(PAGE, b"\xff") + identity.ljust(PAGE, b"\xff") + data).ljust(BLOCK, b"\xff")


def crc(data):
    return binascii.crc32(data) ^ 0xFFFFFFFF
