"""Hostile variants of files, each a function of a seeded generator: bytes, and the structure of each format."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.mutated_files.hostile_values import RAW, VALUES, WORDS


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flipped, cut, doubled, filled."""
    kind, at = rng.randrange(9), rng.randrange(max(1, len(data)))
    if kind <= 2:
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            if changed:
                changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    if kind == 3:
        return data[:at]
    if kind == 4:
        return data[:at] + data[at + rng.randrange(1, 50) :]
    if kind == 5:
        return data[:at] + data[at : at + 200] + data[at:]
    if kind == 6:
        return data[:at] + rng.choice((b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"[" * 5000, b"\n", b"\x1b[2J")) + data[at:]
    if kind == 7:
        return rng.choice(
            (b"", b"\0" * 1000, b"\xff" * 50, b"{}", b"[]", b"null", b'"x"', b"[" * 100_000, b"\xef\xbb\xbf")
        )
    return data[at:]


def mutated_json(document: Any, rng: random.Random) -> bytes:
    """One to three values replaced, removed or added; or bytes of the text."""
    text = json.dumps(document)
    if rng.random() < 0.2:
        return mutated_bytes(text.encode(), rng)
    document = json.loads(text)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        mutate_tree(document, rng)
    text = json.dumps(document)
    for index, raw in enumerate(RAW):
        text = text.replace(f'"@raw{index}@"', raw)
    return text.encode()


def mutate_tree(document: Any, rng: random.Random, values: tuple[Any, ...] = ()) -> None:
    """Change one entry of nested dictionaries and lists in place."""
    places: list[tuple[Any, Any]] = []
    pending = [document]
    while pending:
        inner = pending.pop()
        if isinstance(inner, (dict, list)):
            for key in list(inner) if isinstance(inner, dict) else range(len(inner)):
                places.append((inner, key))
                pending.append(inner[key])
    if not places:
        return
    inner, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.4 and not values and isinstance(inner[key], (int, float, str)):
        inner[key] = _gentle(inner[key], rng)
    elif kind < 0.5:
        del inner[key]
    elif kind < 0.55 and isinstance(inner, dict):
        inner[rng.choice(("x", "", "kind", "../x", "a\nb", "\ud800"))] = inner.pop(key)
    elif values:
        inner[key] = rng.choice(values)
    elif kind < 0.7:
        inner[key] = f"@raw{rng.randrange(len(RAW))}@"
    else:
        inner[key] = rng.choice(VALUES)


def _gentle(value: float | str, rng: random.Random) -> float | str | bool:
    """Another value of the kind, such as a file that is well formed may hold."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return rng.choice(WORDS)
    if isinstance(value, int):
        return rng.choice(
            (0, 1, 2, 3, 4, 8, 11, 12, 13, 16, 40, 64, 100, 255, 600, 1200, 2048, 4096, 2**17, 2**24, value + 1)
        )
    return rng.choice((0.0, 1e-7, 1e-3, 0.25, 1.0, -value, 2 * value, value + 1e-9))


def mutated_lines(text: str, tokens: tuple[str, ...], separator: str, rng: random.Random) -> bytes:
    """A file of lines ``key = value``: values replaced, lines removed, doubled, swapped or added."""
    if rng.random() < 0.25:
        return mutated_bytes(text.encode(), rng)
    lines = text.splitlines()
    for _ in range(rng.choice((1, 1, 2))):
        at, kind = rng.randrange(len(lines)), rng.random()
        key, found, _ = lines[at].partition(separator)
        if found and kind < 0.7:
            lines[at] = f"{key}{separator} {rng.choice(tokens)}"
        elif kind < 0.8:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif kind < 0.9:
            lines[at] = re.sub(r"[\w.]+", lambda m: rng.choice((m[0], "../x", "", "a.b", "x" * 300, "'é'")), lines[at])
        elif len(lines) > 1:
            del lines[at]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at + 8 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        chunks.append((name, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [struct.pack(">I4s", len(c), n) + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def mutated_png(data: bytes, rng: random.Random) -> bytes:
    """Sizes, depths, chunks and pixels changed, with checksums that are right; or bytes."""
    kind = rng.random()
    if kind < 0.3:
        return mutated_bytes(data, rng)
    chunks = _chunks(data)
    if kind < 0.7:
        fields = list(struct.unpack(">IIBBBBB", chunks[0][1]))
        sizes = (0, 1, 10, 11, 4096, 4097, 10_000, 65_536, 2**31 - 1, 2**31, 2**32 - 1)
        if rng.random() < 0.6:
            side = rng.choice(sizes)
            fields[0], fields[1] = rng.choice(((side, side), (side, fields[1]), (fields[0], side), (65_536, 65_536)))
        else:
            fields[2], fields[3] = rng.choice((1, 2, 4, 8, 16, 3)), rng.choice((0, 2, 3, 4, 6, 1))
            fields[6] = rng.choice((0, 0, 1, 7))
        chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", *fields))
    elif kind < 0.8:
        at = rng.randrange(len(chunks))
        chunks[at] = (chunks[at][0], mutated_bytes(chunks[at][1], rng))
    elif kind < 0.9:
        bomb = zlib.compress(b"\0" * 20_000_000)
        chunk = rng.choice(
            ((b"zTXt", b"x\0\0" + bomb), (b"iCCP", b"x\0\0" + bomb), (b"tRNS", b"\0" * 900), (b"PLTE", b"\0" * 7))
        )
        chunks.insert(1, chunk)
    else:
        chunks[1:-1] = [(b"IDAT", zlib.compress(b"\0" * rng.choice((0, 10, 20_000_000))))]
    return _png(chunks)


def mutated_safetensors(data: bytes, rng: random.Random) -> bytes:
    """The header's length, or its JSON under the right length; or bytes."""
    kind, length = rng.random(), int.from_bytes(data[:8], "little")
    if kind < 0.3:
        return mutated_bytes(data, rng)
    if kind < 0.5:
        lengths = (0, 1, length - 1, length + 1, length + 8, 2**20, 2**31, 2**32, 2**40, 2**63, 2**64 - 1)
        return rng.choice(lengths).to_bytes(8, "little") + data[8:]
    header = json.loads(data[8 : 8 + length])
    if rng.random() < 0.5:
        entry = header[rng.choice(list(header))]
        key = rng.choice(("dtype", "shape", "data_offsets"))
        entry[key] = rng.choice(
            {
                "dtype": ("F64", "F16", "BF16", "I64", "I32", "BOOL", "U8", "F8_E4M3", "X", "", 3, "C64", "F4"),
                "shape": ([], [0], [2**62, 2**62], [2**40], [-1], ["a"], [1] * 9000, [1.5], 3, [2**64]),
                "data_offsets": ([0, 0], [0, 2**60], [2**60, 0], [-1, 4], [4, 0], [], [0, 4, 8], ["a", 1], [0, 1]),
            }[key]
        )
        text = json.dumps(header).encode()
    else:
        text = mutated_json(header, rng)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def with_checksum(document: dict[str, Any], arrays: bytes) -> dict[str, Any]:
    """A golden's JSON that states the arrays' own checksum."""
    return {**document, "arrays_sha256": hashlib.sha256(arrays).hexdigest()}


class Evil:
    """Unpickled with its code run, it makes a folder."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


def evil_pickles(mark: Path) -> list[bytes]:
    """Pickles that would run something, or allocate without end."""
    entries: list[Any] = [
        {"model": Evil(os.mkdir, str(mark))},
        Evil(os.system, f"mkdir {mark}"),
        {"model": Evil(bytearray, 10**11)},
    ]
    made = [pickle.dumps(entry, protocol) for entry in entries for protocol in (0, 2, 4)]
    made.append(b"\x80\x02cos\nmkdir\n" + b"X" + struct.pack("<I", len(str(mark))) + str(mark).encode() + b"\x85R.")
    made.append(b"\x80\x02]r" + struct.pack("<I", 2**32 - 1) + b".")  # a memo of 32 GB
    made.append(b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.")  # bytes of 1 TB
    made.append(b"\x80\x02ctorch\nTensor\nJ\xff\xff\xff\x7f\x85R.")
    made.append(b"\x80\x02" + b"]" * 3_000_000 + b".")
    made.append(b"\x80\x02(" * 1000 + b".")
    made.append(b"\x80\x02cbuiltins\neval\nX\x03\0\0\0" + b"1+1\x85R.")
    return made


def mutated_zip(data: bytes, rng: random.Random, mark: Path) -> bytes:
    """A checkpoint: members damaged under a stale or a right checksum, removed, doubled, packed; pickles changed."""
    kind = rng.random()
    if kind < 0.2:
        return mutated_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(m.filename, archive.read(m)) for m in archive.infolist()]
    if kind < 0.3:  # a member's own bytes, under the old checksum
        name, content = rng.choice([m for m in members if len(m[1]) > 3])
        at = data.find(content) + rng.randrange(len(content))
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    pickled = next(i for i, (name, _) in enumerate(members) if name.endswith("data.pkl"))
    packing = zipfile.ZIP_STORED
    at = rng.randrange(len(members))
    name, content = members[at]
    if kind < 0.5:
        members[pickled] = (members[pickled][0], mutated_bytes(members[pickled][1], rng))
    elif kind < 0.65:
        members[pickled] = (members[pickled][0], rng.choice(evil_pickles(mark)))
    elif kind < 0.75:
        # Numbers in the pickle: sizes, strides, storages' lengths.
        changed = bytearray(members[pickled][1])
        for _ in range(rng.choice((1, 2, 5))):
            spots = [i for i, byte in enumerate(changed) if byte in b"KMJ"]
            spot = rng.choice(spots)
            changed[spot + 1 : spot + 2] = bytes([rng.randrange(256)])
        members[pickled] = (members[pickled][0], bytes(changed))
    elif kind < 0.8:
        del members[at]
    elif kind < 0.85:
        members[at] = (rng.choice(("../x", "/x", "archive/constants.pkl", "archive/data/0", "x", "x" * 3000)), content)
    elif kind < 0.9:
        members.append((name, mutated_bytes(content, rng)))
    elif kind < 0.95:
        members[at] = (name, rng.choice((b"", content[:-4], content + b"\0\0\0\0", b"\0" * 4_000_000)))
    else:
        packing = zipfile.ZIP_DEFLATED
        members.append(("archive/data/999", b"\0" * 20_000_000))
    file = io.BytesIO()
    import warnings

    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", packing) as archive:
        warnings.simplefilter("ignore")  # a name twice
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def in_place_of_a_file(path: Path, rng: random.Random) -> None:
    """A folder, a pipe, a link to nowhere, to itself or to an endless device, or nothing."""
    path.unlink()
    kind = rng.randrange(6)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        os.mkfifo(path)
    elif kind < 5:
        path.symlink_to(("nowhere", path.name, "/dev/zero")[kind - 2])
