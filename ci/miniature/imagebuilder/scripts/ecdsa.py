"""Checks ECDSA signatures on the curve P-256 (FIPS 186-5) in plain Python: an implementation of its own, used once a build."""

import base64
import hashlib

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
GENERATOR = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
# What stands before the point in a public key of this curve (SubjectPublicKeyInfo).
PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")


def add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P) % P
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P) % P
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def multiply(scalar, point):
    total = None
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


def public_point(pem):
    """The uncompressed point (65 bytes) of a PEM file; None if it is no P-256 public key."""
    lines = [line.strip() for line in pem.split("\n")]
    try:
        start = lines.index("-----BEGIN PUBLIC KEY-----")
        end = lines.index("-----END PUBLIC KEY-----")
        data = base64.b64decode("".join(lines[start + 1 : end]), validate=True)
    except ValueError:
        return None
    if len(data) != len(PREFIX) + 65 or not data.startswith(PREFIX) or data[len(PREFIX)] != 4:
        return None
    return data[len(PREFIX) :]


def key_id(point):
    """The name that apk-tools give to a key."""
    return hashlib.sha512(point).digest()[:16]


def der_numbers(signature):
    """The two numbers of a DER signature, or None."""
    if len(signature) < 8 or signature[0] != 0x30 or signature[1] != len(signature) - 2:
        return None
    numbers, rest = [], signature[2:]
    while rest:
        if len(rest) < 3 or rest[0] != 2 or rest[1] > len(rest) - 2:
            return None
        numbers.append(int.from_bytes(rest[2 : 2 + rest[1]], "big", signed=True))
        rest = rest[2 + rest[1] :]
    return numbers if len(numbers) == 2 else None


def verify(point, message, signature):
    """True if the key of that point signed the message (with SHA-512)."""
    numbers = der_numbers(signature)
    key = int.from_bytes(point[1:33], "big"), int.from_bytes(point[33:], "big")
    on_curve = (key[1] * key[1] - key[0] ** 3 + 3 * key[0] - B) % P == 0
    if numbers is None or not on_curve or not all(0 < number < N for number in numbers):
        return False
    r, s = numbers
    digest = int.from_bytes(hashlib.sha512(message).digest()[:32], "big")
    inverse = pow(s, -1, N)
    found = add(multiply(digest * inverse % N, GENERATOR), multiply(r * inverse % N, key))
    return found is not None and found[0] % N == r
