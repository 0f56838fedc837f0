"""OpenWrt's usign files, and Ed25519 (RFC 8032) in plain Python: an implementation of its own, used for a few
signatures a build, where speed does not matter."""

import base64
import hashlib
import os

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(a, b):
    left = (a[1] - a[0]) * (b[1] - b[0]) % P
    right = (a[1] + a[0]) * (b[1] + b[0]) % P
    c = 2 * a[3] * b[3] * D % P
    d = 2 * a[2] * b[2] % P
    e, f, g, h = right - left, d - c, d + c, right + left
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiply(scalar, point):
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


def recover_x(y, sign):
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P)
    if square % P == 0:
        return None if sign else 0
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P:
        return None
    return P - x if (x & 1) != sign else x


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = recover_x(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def compress(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decompress(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def number(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def expand(seed):
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | 1 << 254
    return scalar, digest[32:]


def public_of(seed):
    return compress(multiply(expand(seed)[0], BASE))


def ed25519_sign(seed, message):
    scalar, prefix = expand(seed)
    public = public_of(seed)
    r = number(prefix, message) % Q
    point = compress(multiply(r, BASE))
    s = (r + number(point, public, message) * scalar) % Q
    return point + s.to_bytes(32, "little")


def ed25519_verify(public, message, signature):
    a, r = decompress(public), decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= Q:
        return False
    h = number(signature[:32], public, message) % Q
    left, right = multiply(s, BASE), add(r, multiply(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


def body(text, size):
    """The second line of a usign file, decoded; None if it is not one."""
    lines = text.strip().split("\n")
    if len(lines) != 2 or not lines[0].startswith("untrusted comment:"):
        return None
    try:
        data = base64.b64decode(lines[1], validate=True)
    except ValueError:
        return None
    return data if len(data) == size and data[:2] == b"Ed" else None


def public_key_text(seed, key_id, comment):
    data = base64.b64encode(b"Ed" + key_id + public_of(seed)).decode("ascii")
    return f"untrusted comment: {comment}\n{data}\n"


def sign(message, seed, key_id):
    data = base64.b64encode(b"Ed" + key_id + ed25519_sign(seed, message)).decode("ascii")
    return f"untrusted comment: signed by key {key_id.hex()}\n{data}\n"


def verify_with_folder(message, signature_text, folder):
    """True if a key of the folder, whose files are named by key ids, made the signature."""
    signature = body(signature_text, 74)
    if signature is None:
        return False
    path = os.path.join(folder, signature[2:10].hex())
    try:
        with open(path, encoding="ascii") as file:
            key = body(file.read(), 42)
    except OSError:
        return False
    return key is not None and key[2:10] == signature[2:10] and ed25519_verify(key[10:], message, signature[10:])
