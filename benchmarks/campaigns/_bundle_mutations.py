"""What a disk, a careless copy or somebody hostile can make of a bundle's directory.

Most changes are sealed: hashes and identity are made right again. Who seals other contents has taught another product,
and the golden frames are all that tells: such forgeries are told apart from what must never be accepted.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.bundle.bundle import identity_of
from edge.files.schema import hash_bytes

Mutation = Callable[[Path, random.Random], str]
_MANIFEST = "manifest.json"
_FILES = ("bank.npy", "model.xml", "model.bin", "golden/0.png", "golden/1.png", "golden/2.png", _MANIFEST)
_SPARSE = 6 * 10**9  # bytes, which no disk has to hold
_WORDS = ("f16", "f64", "i64", "Parameter", "Result", "Convolution", "Loop", "opset1", "name", "\0", "&lt;")
_VALUES: tuple[Any, ...] = (
    *(0, -1, 1, 2, 0.5, 1e-300, 1e30, 1e308, float("inf"), float("-inf"), float("nan"), 2**31, 2**63, 2**64, 10**400),
    *("", "a", "\0", "../x", "/dev/zero", "/etc/passwd", "golden/../../x", "\ud800", "\x1b[2J\nerror: x", "n" * 10**6),
    *(None, True, [], {}, [[]], {"": None}, [0] * 10**5),
)


def damage(directory: Path, dice: random.Random) -> str:
    """One file is not what it was, and its hash says so."""
    name = dice.choice(_FILES)
    path = directory / name
    contents = path.read_bytes()
    how = dice.choice(("flip", "zeros", "cut", "empty", "longer", "gone", "sparse", "swapped", "turned"))
    place = dice.randrange(len(contents))
    match how:
        case "sparse":
            os.truncate(path, _SPARSE)
        case "gone":
            path.unlink()
        case "swapped":
            other = directory / dice.choice(_FILES)
            path.write_bytes(other.read_bytes())
        case _:
            path.write_bytes(_spoiled(contents, how, place, dice))
    return f"{name} {how} at {place}"


def replace_by_another_kind(directory: Path, dice: random.Random) -> str:
    """A file or a directory is a link, a FIFO, a directory, or a link to a device."""
    name = dice.choice((*_FILES, "golden"))
    path = directory / name
    kind = dice.choice(("link", "circle", "fifo", "directory", "device", "nowhere"))
    elsewhere = directory.with_name(directory.name + ".elsewhere")
    path.rename(elsewhere)
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case _:
            targets = {"link": elsewhere, "circle": path, "device": Path("/dev/zero"), "nowhere": Path("/nowhere")}
            path.symlink_to(targets[kind])
    return f"{name} is a {kind}"


def forge_file(directory: Path, dice: random.Random) -> str:
    """A file is spoiled, and sealed."""
    name = dice.choice(_FILES[:-1])
    path = directory / name
    contents = path.read_bytes()
    how = dice.choice(("flip", "zeros", "cut", "empty", "longer", "turned", "head"))
    place = dice.randrange(len(contents))
    path.write_bytes(_spoiled(contents, how, place, dice))
    _seal(directory)
    return f"{name} {how} at {place}, sealed"


def forge_network(directory: Path, dice: random.Random) -> str:
    """The network has another number, name or type somewhere, or another weight; sealed."""
    how = dice.choice(("number", "word", "weight"))
    path = directory / ("model.bin" if how == "weight" else "model.xml")
    contents = path.read_bytes()
    if how == "weight":
        place = 4 * dice.randrange(len(contents) // 4)
        contents = contents[:place] + dice.randbytes(4) + contents[place + 4 :]
    else:
        found = dice.choice(list(re.finditer(rb"\d+" if how == "number" else rb"[A-Za-z_]{3,}", contents)))
        place = found.start()
        other = str(dice.choice((0, 1, 2, 7, -1, 10**6, 2**31, 2**63))) if how == "number" else dice.choice(_WORDS)
        contents = contents[:place] + other.encode() + contents[found.end() :]
    path.write_bytes(contents)
    _seal(directory, throughout=True)
    return f"{path.name} another {how} at {place}, sealed"


def forge_bank(directory: Path, dice: random.Random) -> str:
    """The bank holds what no features are, or another product's, or says that it does; sealed."""
    path = directory / "bank.npy"
    bank = np.load(path)
    head, values = path.read_bytes()[:128], bank.copy()
    how = dice.choice(("nan", "inf", "huge", "scaled", "noise", "constant", "shuffled", "shape", "type", "sparse"))
    match how:
        case "nan" | "inf" | "huge":
            values[dice.randrange(len(values))] = {"nan": np.nan, "inf": np.inf, "huge": 1e30}[how]
        case "scaled":
            values *= dice.choice((0.0, 0.5, 1.2, 1e6))
        case "noise":
            values += np.random.default_rng(dice.randrange(2**32)).normal(0, 3, values.shape).astype(np.float32)
        case "constant":
            values[:] = values[0]
        case "shuffled":
            values = values[:, ::-1]
        case "shape":
            head = head.replace(b"(384, 152)", dice.choice((b"(152, 384)", b"(999, 999)", b"(-1, -1) ", b"(384, [1)")))
        case "type":
            head = head.replace(b"<f4", dice.choice((b"<i4", b"|O4", b">f4", b"|V4", b"<U1")))
    path.write_bytes(head + np.ascontiguousarray(values).tobytes())
    vectors = len(values)
    if how == "sparse":
        vectors = _SPARSE // (4 * values.shape[1])
        os.truncate(path, 128 + 4 * vectors * values.shape[1])
    _seal(directory, bank_vectors=vectors, unread="bank.npy" if how == "sparse" else "")
    return f"bank.npy {how}, sealed"


def forge_picture(directory: Path, dice: random.Random) -> str:
    """A golden frame or a mask is another picture, or none; sealed."""
    name = dice.choice(("golden/0.png", "golden/1.png", "mask.png"))
    height, width = dice.choice(((192, 256), (1, 1), (256, 192), (192, 257), (4000, 4000)))
    shade = dice.choice((0, 1, 255))
    contents = cv2.imencode(".png", np.full((height, width), shade, np.uint8))[1].tobytes()
    how = dice.choice(("whole", "cut", "claims", "jpeg"))
    if how == "cut":
        contents = contents[: len(contents) // 2]
    elif how == "claims":
        contents = contents[:16] + (60_000).to_bytes(4, "big") * 2 + contents[24:]
    elif how == "jpeg":
        contents = cv2.imencode(".jpg", np.full((height, width), shade, np.uint8))[1].tobytes()
    (directory / name).write_bytes(contents)
    _seal(directory, added=name)
    return f"{name} of {width}×{height}, {shade}, {how}, sealed"


def forge_manifest(directory: Path, dice: random.Random) -> str:
    """One place of the manifest says something else; sealed, mostly."""
    path = directory / _MANIFEST
    manifest = json.loads(path.read_bytes())
    place = dice.choice(list(_places(manifest)))
    inner = manifest
    for step in place[:-1]:
        inner = inner[step]
    how = dice.choice(("value", "value", "nudge", "nudge", "delete", "add", "nest"))
    value = dice.choice(_VALUES)
    match how:
        case "delete":
            del inner[place[-1]]
        case "add":
            manifest["unheard_of"] = value
        case "nest":
            inner[place[-1]] = json.loads("[" * 900 + "]" * 900)
        case "nudge" if isinstance(inner[place[-1]], int | float):
            inner[place[-1]] *= dice.choice((0.9, 0.999, 1.001, 1.1, 2))
        case _:
            inner[place[-1]] = value
    sealed = dice.random() < 0.8 and _give_identity(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8", errors="surrogatepass")
    return f"manifest.json {'.'.join(map(str, place))} {how} {str(value)[:40]!r}{', sealed' if sealed else ''}"


MUTATIONS: tuple[Mutation, ...] = (
    damage,
    replace_by_another_kind,
    forge_file,
    forge_network,
    forge_bank,
    forge_picture,
    forge_manifest,
    forge_manifest,
)


_OTHER_CONTENTS = frozenset({forge_file, forge_network, forge_bank, forge_picture})


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to a copy of a bundle."""

    what: str
    forged: bool  # other contents, sealed


def mutate(bundle: Path, copy: Path, dice: random.Random) -> Change:
    """Make a changed `copy` of `bundle`."""
    shutil.copytree(bundle, copy)
    mutation = dice.choice(MUTATIONS)
    return Change(mutation(copy, dice), mutation in _OTHER_CONTENTS)


def _spoiled(contents: bytes, how: str, place: int, dice: random.Random) -> bytes:
    start = min(place, 128)
    return {
        "flip": contents[:place] + bytes([contents[place] ^ 1 << dice.randrange(8)]) + contents[place + 1 :],
        "zeros": contents[:place] + bytes(len(contents[place : place + 4096])) + contents[place + 4096 :],
        "cut": contents[:place],
        "empty": b"",
        "longer": contents + dice.randbytes(dice.randrange(1, 10_000)),
        "turned": contents[::-1],
        "head": dice.randbytes(start) + contents[start:],
    }[how]


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place of a manifest, but few of the many that are alike."""
    entries = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*path, key)
        yield from _places(inner, (*path, key))


def _seal(
    directory: Path, *, bank_vectors: int = 0, added: str = "", unread: str = "", throughout: bool = False
) -> None:
    path = directory / _MANIFEST
    manifest = json.loads(path.read_bytes())
    for name in {*manifest["files"], *([added] if added else [])}:
        if name == unread:
            manifest["files"][name] = {"size": (directory / name).stat().st_size, "sha256": "0" * 64}
        else:
            manifest["files"][name] = hash_bytes((directory / name).read_bytes()).model_dump()
    if throughout:
        manifest["ir"]["files"] |= {name: manifest["files"][name] for name in manifest["ir"]["files"]}
    if bank_vectors:
        manifest["bank"]["vectors"] = bank_vectors
    _give_identity(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def _give_identity(manifest: Any) -> bool:
    """Whether the manifest has one: half a character cannot be hashed."""
    try:
        manifest["identity"] = identity_of(manifest)
    except ValueError:
        return False
    return True
