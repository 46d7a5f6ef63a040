"""Parts of the work by themselves: search, coreset selection, preprocessing."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.materials import PATCHES, PRETRAINED, Case, Materials
from benchmarks.records import CoresetResult, Latency, SearchResult
from edge.bundle.ir import MODEL_BIN, MODEL_XML
from edge.engine.embedder import Embedder
from edge.engine.threads import use_one_blas_thread
from edge.files.pictures import list_pictures, read_picture
from edge.inspection.preprocess import inspected_region, prepare
from edge.normality.exact_bank import ExactBank
from edge.normality.fast_bank import FastBank
from edge.records import Box, Float32Array, Int64Array
from export.teaching.coreset import project, select_greedy

# The target of the search: queries of one frame at 224², the bank that is 10 % of MVTec AD bottle, the authors' size.
QUERIES, SEARCH_VECTORS, SEARCH_DIMENSION = 784, 16_385, 1024
# The target of the coreset: all patches of MVTec AD bottle at 224², projected; 10 % of them.
POINTS, PICKS = 163_856, 16_385
_PLAIN_SHARE = 100  # one pick in so many is timed of the plain loop
_JITTER = 0.05  # of each dimension's deviation: further vectors where there are too few
_FULL_HD = (1080, 1920)

Result = TypeVar("Result")


def embed_pictures(materials: Materials, backbone: str, pictures: Path, limit: int) -> Float32Array:
    """Embeddings (n, patches, dim) of the first `limit` pictures, f32."""
    directory, ir = materials.ir(backbone, "f32"), materials.description(backbone)
    xml, weights = ((directory / name).read_bytes() for name in (MODEL_XML, MODEL_BIN))
    embedder = Embedder(ir, xml, weights)
    embeddings = []
    for path in list_pictures(pictures)[:limit]:
        picture = read_picture(path)
        region = inspected_region(picture.shape[0], picture.shape[1], ir.geometry, None)
        prepare(picture, region, embedder.input)
        embeddings.append(embedder.embed().patches.copy())
    return np.stack(embeddings)


def narrow(patches: Float32Array) -> Float32Array:
    """(…, 1536) of WideResNet50-2 → (…, 1024): the second layer's channels averaged in pairs, as `pooled` does."""
    pairs = patches[..., 512:].reshape(*patches.shape[:-1], -1, 2)
    return np.ascontiguousarray(np.concatenate([patches[..., :512], pairs.mean(-1)], -1), np.float32)


def enlarge(vectors: Float32Array, count: int) -> Float32Array:
    """`count` vectors (count, dim): the given ones, then slightly moved copies of them."""
    if count <= len(vectors):
        return np.ascontiguousarray(vectors[:count])
    generator = np.random.default_rng(0)
    copied = vectors[generator.integers(0, len(vectors), count - len(vectors))]
    moved = copied + _JITTER * vectors.std(axis=0) * generator.standard_normal(copied.shape, np.float32)
    return np.ascontiguousarray(np.concatenate([vectors, moved]), np.float32)


def measure_search(materials: Materials, case: Case, *, rounds: int) -> SearchResult:
    """Exact and fast search of the same frames in the same bank, in turns; NumPy keeps to one thread from here on."""
    use_one_blas_thread()  # as the service does
    frames = np.concatenate(
        [
            embed_pictures(materials, case.backbone, pictures, 8)
            for pictures in (materials.shown_good(), materials.shown_defective())
        ]
    )
    vectors = materials.bank(case)
    if vectors.shape[1] > SEARCH_DIMENSION:
        frames, vectors = narrow(frames), narrow(vectors)
    bank = enlarge(vectors, SEARCH_VECTORS if len(vectors) > SEARCH_VECTORS // 2 else len(vectors))
    exact, fast = ExactBank(bank), FastBank(bank)
    times: dict[str, list[tuple[int, float]]] = {"exact": [], "map": [], "peak": []}
    score_errors, map_errors = [], []
    for number in range(rounds):
        queries = np.ascontiguousarray(frames[number % len(frames)][:QUERIES])
        exact_ms, (expected, _) = timed(partial(exact.search, queries))
        map_ms, (found, _) = timed(partial(fast.search, queries))
        peak_ms, peak = timed(partial(fast.peak, queries))
        for name, ms in (("exact", exact_ms), ("map", map_ms), ("peak", peak_ms)):
            times[name].append((number, ms))
        score_errors.append(abs(peak.distance / float(expected.max()) - 1))
        map_errors.append(float(np.abs(found / expected - 1).mean()))
    return SearchResult(
        queries=QUERIES,
        vectors=len(bank),
        dimension=bank.shape[1],
        exact_ms=Latency.of(times["exact"]),
        fast_map_ms=Latency.of(times["map"]),
        fast_peak_ms=Latency.of(times["peak"]),
        frames=min(rounds, len(frames)),
        score_error=max(score_errors),
        map_error=float(np.mean(map_errors)),
    )


def measure_coreset(materials: Materials, points: int, picks: int) -> CoresetResult:
    """Our selection in full, the plain loop for a share of its picks, on projected features of simulated parts."""
    count = -(-points // PATCHES)
    pictures = materials.pictures(f"coreset-{count}", count, seed=3, defect_rate=0)
    embeddings = embed_pictures(materials, PRETRAINED, pictures, count)
    projected = project(embeddings.reshape(-1, embeddings.shape[-1])[:points], seed=0)
    ours_ms, selected = timed(lambda: select_greedy(projected, picks, 0))
    by_plain = max(2, picks // _PLAIN_SHARE)
    plain_ms, expected = timed(lambda: select_plainly(projected, int(selected[0]), by_plain))
    return CoresetResult(
        points=len(projected),
        dimension=projected.shape[1],
        picks=len(selected),
        ours_s=round(ours_ms / 1e3, 2),
        plain_s=round(plain_ms / 1e3 / by_plain * len(selected), 1),
        plain_timed=by_plain,
        same_picks=bool((expected == selected[:by_plain]).all()),
    )


def select_plainly(points: Float32Array, first: int, count: int) -> Int64Array:
    """The greedy selection as it is usually written: all points (n, dim) are read for every pick."""
    norms = np.einsum("ij,ij->i", points, points)
    nearest = np.full(len(points), np.inf, np.float32)
    picks = [first]
    while len(picks) < count:
        farthest = points[picks[-1]]
        np.minimum(nearest, norms - 2 * (points @ farthest) + norms[picks[-1]], out=nearest)
        nearest[picks[-1]] = 0
        picks.append(int(nearest.argmax()))
    return np.asarray(picks, np.int64)


def measure_preprocess(rounds: int = 50) -> float:
    """Median milliseconds for a 1920×1080 frame of noise → 256²."""
    height, width = _FULL_HD
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    out = np.empty((256, 256, 3), np.uint8)
    times = [timed(lambda: prepare(picture, Box(0, 0, width, height), out))[0] for _ in range(rounds)]
    return round(float(np.median(times)), 3)


def timed(action: Callable[[], Result]) -> tuple[float, Result]:
    """Milliseconds, and what came of it."""
    started = time.perf_counter()
    result = action()
    return 1e3 * (time.perf_counter() - started), result
