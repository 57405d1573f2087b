#!/usr/bin/env python3
"""Reads a Backstay repository with nothing but docs/reference/format.md, Python and libzstd.

usage: reader.py REPOSITORY KEYFILE ENVIRONMENT SNAPSHOT [PART STREAM]
With PART and STREAM the stream's bytes go to stdout, else the manifest as JSON.
"""
import ctypes, ctypes.util, hashlib, hmac, json, struct, sys
from pathlib import Path


def rotate(value, bits):
    return ((value << bits) | (value >> (32 - bits))) & 0xFFFFFFFF


def rounds(state):
    s = list(state)
    for _ in range(10):
        for a, b, c, d in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                           (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            s[a] = (s[a] + s[b]) & 0xFFFFFFFF; s[d] = rotate(s[d] ^ s[a], 16)
            s[c] = (s[c] + s[d]) & 0xFFFFFFFF; s[b] = rotate(s[b] ^ s[c], 12)
            s[a] = (s[a] + s[b]) & 0xFFFFFFFF; s[d] = rotate(s[d] ^ s[a], 8)
            s[c] = (s[c] + s[d]) & 0xFFFFFFFF; s[b] = rotate(s[b] ^ s[c], 7)
    return s


CONSTANT = struct.unpack("<4I", b"expand 32-byte k")


def block(key, counter, nonce):
    state = CONSTANT + struct.unpack("<8I", key) + (counter,) + struct.unpack("<3I", nonce)
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(rounds(state), state)))


def hchacha(key, nonce):
    s = rounds(CONSTANT + struct.unpack("<8I", key) + struct.unpack("<4I", nonce))
    return struct.pack("<8I", *s[:4], *s[12:])


def poly1305(key, message):
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(message), 16):
        total = (total + int.from_bytes(message[at:at + 16] + b"\x01", "little")) * r % ((1 << 130) - 5)
    return ((total + int.from_bytes(key[16:], "little")) & ((1 << 128) - 1)).to_bytes(16, "little")


def unseal(key, bound_to, body):
    nonce, sealed, tag = body[:24], body[24:-16], body[-16:]
    key, nonce = hchacha(key, nonce[:16]), b"\0\0\0\0" + nonce[16:]
    pad = lambda data: data + b"\0" * (-len(data) % 16)
    message = pad(bound_to) + pad(sealed) + struct.pack("<QQ", len(bound_to), len(sealed))
    if not hmac.compare_digest(poly1305(block(key, 0, nonce)[:32], message), tag):
        sys.exit("not sealed with this key")
    stream = b"".join(block(key, 1 + at, nonce) for at in range((len(sealed) + 63) // 64))[:len(sealed)]
    return (int.from_bytes(sealed, "little") ^ int.from_bytes(stream, "little")).to_bytes(len(sealed), "little")


def unpack(packed):
    if packed[0] == 0:
        return packed[1:]
    zstd = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
    zstd.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong
    zstd.ZSTD_decompress.restype = ctypes.c_size_t
    frame = packed[1:]
    size = zstd.ZSTD_getFrameContentSize(frame, ctypes.c_size_t(len(frame)))
    out = ctypes.create_string_buffer(size or 1)
    if zstd.ZSTD_decompress(out, ctypes.c_size_t(size), frame, ctypes.c_size_t(len(frame))) != size:
        sys.exit("does not unpack")
    return out.raw[:size]


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def without_digest(name, stored):
    if hashlib.sha256(name + stored[:-32]).digest() != stored[-32:]:
        sys.exit("damaged: " + repr(name))
    return stored[:-32]


class Repository:
    def __init__(self, root, key_file):
        self.root = Path(root)
        self.about = json.loads((self.root / "backstay.json").read_text())
        if self.about["format"] != 1:
            sys.exit("another format")
        self.sealed = self.about["cipher"] != "none"
        master = self.master(key_file) if self.sealed else \
            hashlib.sha256(b"backstay 1 open " + self.about["id"].encode()).digest()
        self.objects, self.records, self.identity = (
            mac(master, b"backstay 1 " + purpose) for purpose in (b"seal objects", b"seal records", b"identity"))

    def master(self, key_file):
        secret = Path(key_file).read_bytes().strip()
        for path in (self.root / "keys").iterdir():
            name = "keys/" + path.name
            record = json.loads(without_digest(name.encode(), path.read_bytes()))
            if record["kind"] == "key_file" and record["derivation"] == "hmac":
                bound_to = f"backstay 1 key {self.about['id']} 1 {name}".encode()
                return unseal(mac(secret, b"backstay 1 wrap"), bound_to, bytes.fromhex(record["wrapped"]))
        sys.exit("no key for a key file")

    def open(self, key, name, stored):
        body = without_digest(name, stored)
        return unpack(unseal(key, name, body) if self.sealed else body)

    def record(self, path):
        return json.loads(self.open(self.records, path.encode(), (self.root / path).read_bytes()))

    def object(self, kind, name):
        stored = (self.root / "objects" / name[:2] / name).read_bytes()
        plaintext = self.open(self.objects, bytes.fromhex(name), stored)
        covered = plaintext[:32] if kind == 4 else plaintext
        if mac(self.identity, bytes([kind]) + covered).hex() != name:
            sys.exit("holds other bytes than its name says: " + name)
        return plaintext

    def stream(self, root):
        place, named_by = root["place"], None
        if place == "empty":
            whole = b""
        elif "chunk" in place:
            named_by = place["chunk"]
            whole = self.object(1, named_by)
        elif "shared" in place:
            start = place["shared"]["offset"]
            whole = self.object(4, place["shared"]["chunk"])[start:start + root["bytes"]]
        else:
            named_by = place["list"] if "list" in place else place["long_list"]["digest"]
            entries = self.object(2, named_by) if "list" in place else self.stream(place["long_list"])
            whole = b"".join(self.object(1, entries[at:at + 32].hex()) for at in range(0, len(entries), 36))
        if len(whole) != root["bytes"] or root["digest"] not in (named_by, mac(self.identity, b"\x03" + whole).hex()):
            sys.exit("not the stream that was recorded")
        return whole


def main():
    if len(sys.argv) not in (5, 7):
        sys.exit(__doc__)
    repository = Repository(sys.argv[1], sys.argv[2])
    manifest = repository.record(f"manifests/{sys.argv[3]}/{sys.argv[4]}")["manifest"]
    if len(sys.argv) == 5:
        return print(json.dumps(manifest, indent=2))
    part = next(part for part in manifest["parts"] if part["name"] == sys.argv[5])
    contents = json.loads(repository.stream(part["contents"]))
    sys.stdout.buffer.write(repository.stream(contents[sys.argv[6]]))


main()
