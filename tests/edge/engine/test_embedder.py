from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.ir import MODEL_BIN, MODEL_XML, IrDescription, read_ir_description
from edge.engine.embedder import Embedder, last_line
from edge.errors import BundleError, SettingsError
from edge.records import Float32Array, Mode
from tests.bundles import draw_good


@pytest.fixture(scope="module")
def ir(ir_dir: Path) -> IrDescription:
    return read_ir_description(ir_dir)


@pytest.fixture(scope="module")
def files(ir_dir: Path) -> tuple[bytes, bytes]:
    return (ir_dir / MODEL_XML).read_bytes(), (ir_dir / MODEL_BIN).read_bytes()


@pytest.mark.parametrize("device", ["CPU", "AUTO:CPU"])
def test_a_model_says_whether_it_was_compiled_before(
    ir: IrDescription, files: tuple[bytes, bytes], tmp_path: Path, device: str
) -> None:
    made = [Embedder(ir, *files, device=device, cache_dir=tmp_path) for _ in range(2)]
    assert [embedder.from_cache for embedder in made] == [False, True]


def test_embeddings_are_those_of_the_picture_in_the_input(ir: IrDescription, files: tuple[bytes, bytes]) -> None:
    embedder = Embedder(ir, *files)
    results = []
    for number in (0, 1, 0):
        embedder.input[:] = draw_good(number).image[:128, :128]
        embedding = embedder.embed()
        assert embedding.grid == ir.grid
        assert embedding.patches.shape == (ir.grid[0] * ir.grid[1], ir.dimension)
        assert embedding.patches.dtype == np.float32
        results.append(embedding.patches.copy())
    assert (results[0] == results[2]).all()
    assert np.abs(results[0] - results[1]).max() > 0.1


def test_input_and_output_are_allocated_once(ir: IrDescription, files: tuple[bytes, bytes]) -> None:
    embedder = Embedder(ir, *files)
    first, second = embedder.embed().patches, embedder.embed().patches
    assert np.shares_memory(first, second)
    assert np.shares_memory(embedder.input, embedder.input)


def test_what_really_executes_is_told(ir: IrDescription, files: tuple[bytes, bytes]) -> None:
    embedder = Embedder(ir, *files, threads=1)
    assert embedder.execution_devices == "CPU"
    assert embedder.execution_precision == "f32"
    assert embedder.threads == 1


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_a_device_that_openvino_chooses_is_as_good_as_a_named_one(
    ir: IrDescription, files: tuple[bytes, bytes], mode: Mode, tmp_path: Path
) -> None:
    named = Embedder(ir, *files, mode=mode, cache_dir=tmp_path)
    chosen = Embedder(ir, *files, device="AUTO:CPU", mode=mode, cache_dir=tmp_path)
    picture = draw_good(0).image[:128, :128]
    named.input[:] = chosen.input[:] = picture
    np.testing.assert_allclose(chosen.embed().patches, named.embed().patches, rtol=1e-5, atol=1e-5)
    assert (chosen.execution_devices, chosen.execution_precision) == ("CPU", "f32")
    assert chosen.streams >= 1
    assert chosen.threads >= 0
    assert isinstance(chosen.kernels, tuple)
    assert chosen.from_cache in {True, False}


def test_the_kernels_that_execute_are_told(ir: IrDescription, files: tuple[bytes, bytes]) -> None:
    kernels = Embedder(ir, *files).kernels
    assert kernels
    assert all(kernel.endswith("_f32") for kernel in kernels)  # an f32 IR, in f32


def test_the_throughput_model_gives_the_same_embeddings(ir: IrDescription, files: tuple[bytes, bytes]) -> None:
    alone, together = Embedder(ir, *files), Embedder(ir, *files, mode="throughput")
    for embedder in (alone, together):
        embedder.input[:] = draw_good(0).image[:128, :128]
    np.testing.assert_allclose(together.embed().patches, alone.embed().patches, rtol=1e-3, atol=1e-3)


def test_threads_embed_at_the_same_time_each_in_buffers_of_its_own(
    ir: IrDescription, files: tuple[bytes, bytes]
) -> None:
    first = Embedder(ir, *files, mode="throughput", streams=2)
    embedders = [first, first.for_another_thread(), first.for_another_thread()]
    expected = []
    for number, embedder in enumerate(embedders):
        embedder.input[:] = draw_good(number).image[:128, :128]
        expected.append(embedder.embed().patches.copy())
    assert not np.shares_memory(embedders[0].input, embedders[1].input)

    def embed_often(embedder: Embedder) -> list[Float32Array]:
        return [embedder.embed().patches.copy() for _ in range(20)]

    with ThreadPoolExecutor(3) as pool:
        for got, want in zip(pool.map(embed_often, embedders), expected, strict=True):
            assert all((patches == want).all() for patches in got)


def test_one_picture_at_a_time_in_latency_mode_and_as_many_as_asked_for_in_throughput_mode(
    ir: IrDescription, files: tuple[bytes, bytes]
) -> None:
    assert Embedder(ir, *files, streams=2).streams == 1
    assert Embedder(ir, *files, mode="throughput", streams=2).streams == 2
    assert Embedder(ir, *files, mode="throughput").streams >= 1


def test_compiled_models_are_cached_where_it_is_asked_for(
    ir: IrDescription, files: tuple[bytes, bytes], tmp_path: Path
) -> None:
    Embedder(ir, *files, cache_dir=tmp_path)
    assert list(tmp_path.iterdir())


def test_a_damaged_model_is_refused(ir: IrDescription, files: tuple[bytes, bytes]) -> None:
    with pytest.raises(BundleError, match=r"model\.xml: OpenVINO cannot read it"):
        Embedder(ir, files[0][: len(files[0]) // 2], files[1])


def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    ir: IrDescription, files: tuple[bytes, bytes]
) -> None:
    with pytest.raises(SettingsError, match=r"device NPU\.7.*devices here: CPU"):
        Embedder(ir, *files, device="NPU.7")


@pytest.mark.parametrize("change", [{"dimension": 7}, {"grid": (4, 4)}])
def test_a_model_of_another_shape_than_described_is_refused_with_both(
    ir: IrDescription, files: tuple[bytes, bytes], change: dict[str, object]
) -> None:
    described = ir.model_copy(update=change)
    with pytest.raises(BundleError, match=rf"expected input .* and output f32 \(.*got .*\(256, {ir.dimension}\)"):
        Embedder(described, *files)


def test_of_what_openvino_says_one_line_is_kept() -> None:
    raised = RuntimeError("Exception from core.cpp:117:\nfrom plugin.cpp:54:\nFailed to allocate 8 bytes\n\n\n")
    assert last_line(raised) == "Failed to allocate 8 bytes"
