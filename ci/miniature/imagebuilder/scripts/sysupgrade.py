"""Containers that OpenWrt's sysupgrade takes: the tar with kernel and root, and the metadata at the end of an image."""

import binascii
import io
import json
import struct
import tarfile


def tar(board, kernel, root, epoch):
    out = io.BytesIO()
    folder = f"sysupgrade-{board}"
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        add(archive, folder, None, epoch)
        for name, content in (("CONTROL", f"BOARD={board}\n".encode()), ("kernel", kernel), ("root", root)):
            add(archive, f"{folder}/{name}", content, epoch)
    return out.getvalue()


def add(archive, name, content, epoch):
    member = tarfile.TarInfo(name)
    member.mtime = epoch
    member.mode = 0o755 if content is None else 0o644
    member.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
    member.size = len(content or b"")
    archive.addfile(member, io.BytesIO(content or b""))


def with_metadata(image, tree):
    """The image with what sysupgrade checks before it writes: for which devices it is, and which version."""
    board, _, subtarget = tree.target["name"].partition("/")
    facts = {
        "metadata_version": "1.1",
        "compat_version": "1.0",
        "supported_devices": tree.device["supported_devices"],
        "version": {
            "dist": "OpenWrt",
            "version": tree.target["release"],
            "revision": tree.revision,
            "target": f"{board}/{subtarget}",
            "board": tree.device["name"],
        },
    }
    data = image + struct.pack(">II", 0, 0) + json.dumps(facts).encode()
    size = len(data) - len(image) + 16
    checksum = binascii.crc32(data) ^ 0xFFFFFFFF
    return data + struct.pack(">IIB3xI", 0x46577830, checksum, 1, size)
