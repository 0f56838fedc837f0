"""Writes flattened image trees (U-Boot's FIT): a device tree whose nodes carry the parts of an image and their hashes."""

import hashlib
import struct


def image(description, parts, epoch):
    """`parts`: (name, properties, bytes). The first is the kernel of the only configuration."""
    tree = Tree()
    tree.begin("")
    tree.property("description", text(description))
    tree.property("timestamp", struct.pack(">I", epoch))
    tree.property("#address-cells", struct.pack(">I", 1))
    tree.begin("images")
    for name, properties, data in parts:
        tree.begin(name)
        for key, value in properties.items():
            tree.property(key, struct.pack(">I", value) if isinstance(value, int) else text(value))
        tree.property("data", data)
        tree.begin("hash-1")
        tree.property("algo", text("sha256"))
        tree.property("value", hashlib.sha256(data).digest())
        tree.end()
        tree.end()
    tree.end()
    tree.begin("configurations")
    tree.property("default", text("config-1"))
    tree.begin("config-1")
    tree.property("description", text(description))
    tree.property("kernel", text(parts[0][0]))
    if len(parts) > 1:
        tree.property("loadables", b"".join(text(name) for name, _, _ in parts[1:]))
    tree.end()
    tree.end()
    tree.end()
    return tree.finish()


def text(value):
    return value.encode() + b"\0"


class Tree:
    """A flattened device tree (version 17) while it is written."""

    def __init__(self):
        self.structure, self.names, self.offsets = bytearray(), bytearray(), {}

    def begin(self, name):
        self.structure += struct.pack(">I", 1) + padded(text(name))

    def end(self):
        self.structure += struct.pack(">I", 2)

    def property(self, name, value):
        if name not in self.offsets:
            self.offsets[name] = len(self.names)
            self.names += text(name)
        self.structure += struct.pack(">III", 3, len(value), self.offsets[name]) + padded(value)

    def finish(self):
        self.structure += struct.pack(">I", 9)
        reserved = bytes(16)
        structure_at = 40 + len(reserved)
        names_at = structure_at + len(self.structure)
        size = names_at + len(self.names)
        head = struct.pack(
            ">IIIIIIIIII", 0xD00DFEED, size, structure_at, names_at, 40, 17, 16, 0, len(self.names), len(self.structure)
        )
        return head + reserved + bytes(self.structure) + bytes(self.names)


def padded(data):
    return data + bytes(-len(data) % 4)
