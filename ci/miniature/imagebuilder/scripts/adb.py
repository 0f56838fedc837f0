"""Reads ADB, the container of apk-tools 3: values, blocks and signatures. Written apart from the project's own codec, from
the format's documentation (apk-v3(5)), so that each proves the other."""

import hashlib
import struct
import zlib

import ecdsa

PACKAGE = b"pckg"
INDEX = b"indx"


class Malformed(Exception):
    """The bytes are no ADB file."""


class File:
    """An unpacked file: its values, its signatures, its data blocks."""

    def __init__(self, data, schema):
        data = unpacked(data)
        if data[:4] != b"ADB." or data[4:8] != schema:
            raise Malformed(f"not an ADB file of the kind {schema.decode()}")
        self.schema = schema
        self.adb, self.signatures, self.data = None, [], []
        at = 8
        while at < len(data):
            (word,) = struct.unpack_from("<I", data, at)
            kind, size = word >> 30, word & 0x3FFFFFFF
            if size < 4 or at + size > len(data):
                raise Malformed("a block reaches past the end")
            payload = data[at + 4 : at + size]
            if kind == 0 and self.adb is None:
                self.adb = payload
            elif kind == 1 and self.adb is not None:
                self.signatures.append(payload)
            elif kind == 2 and self.adb is not None:
                self.data.append(payload)
            else:
                raise Malformed(f"a block of type {kind} where it cannot be")
            at += (size + 7) // 8 * 8
        if self.adb is None or len(self.adb) < 8:
            raise Malformed("no content")

    @property
    def root(self):
        return Object(self.adb, struct.unpack_from("<I", self.adb, 4)[0])

    @property
    def identity(self):
        return hashlib.sha256(self.adb).digest()

    def signed_by(self, points):
        """True if one of the keys, given as points, made one of the signatures."""
        digest = hashlib.sha512(self.adb).digest()
        for signature in self.signatures:
            head, value = signature[:18], signature[18:]
            if head[:2] != b"\x00\x04":
                continue
            for point in points:
                if ecdsa.key_id(point) == head[2:] and ecdsa.verify(point, self.schema + head + digest, value):
                    return True
        return False


def unpacked(data):
    try:
        if data[:4] == b"ADBd":
            return zlib.decompress(data[4:], -15)
        if data[:4] == b"ADBc" and data[4] == 1:
            return zlib.decompress(data[6:], -15)
    except (zlib.error, IndexError) as error:
        raise Malformed(str(error)) from error
    return data


class Object:
    """An object or an array; slots are numbered from 1."""

    def __init__(self, adb, value):
        self.adb, self.slots = adb, []
        if value >> 28 in (0xD, 0xE):
            at = value & 0x0FFFFFFF
            try:
                (count,) = struct.unpack_from("<I", adb, at)
                self.slots = struct.unpack_from(f"<{count}I", adb, at)
            except struct.error as error:
                raise Malformed(str(error)) from error

    def value(self, slot):
        return self.slots[slot] if slot < len(self.slots) else 0

    def object(self, slot):
        return Object(self.adb, self.value(slot))

    def objects(self, slot):
        """The objects of the array in that slot."""
        array = self.object(slot)
        return [Object(self.adb, value) for value in array.slots[1:]]

    def number(self, slot):
        value = self.value(slot)
        at = value & 0x0FFFFFFF
        kind = value >> 28
        if kind in (0, 1):
            return at
        return struct.unpack_from("<I" if kind == 2 else "<Q", self.adb, at)[0]

    def blob(self, slot):
        return blob(self.adb, self.value(slot))

    def text(self, slot):
        return self.blob(slot).decode("utf-8")


def blob(adb, value):
    at = value & 0x0FFFFFFF
    kinds = {8: "<B", 9: "<H", 10: "<I"}
    if value == 0:
        return b""
    try:
        shape = kinds[value >> 28]
        (size,) = struct.unpack_from(shape, adb, at)
    except (KeyError, struct.error) as error:
        raise Malformed("a value that is no text") from error
    start = at + struct.calcsize(shape)
    if start + size > len(adb):
        raise Malformed("a text reaches past the end")
    return adb[start : start + size]
