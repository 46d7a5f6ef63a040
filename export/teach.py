"""Pictures of good parts → bundle. Needs no torch: the same IR, resize and scorer as on the line.

Some of the pictures teach the bank; the others, held out, say where PASS ends (`export.calibrate`). Which ones, and
every other random choice, follow from the seed.
"""

from __future__ import annotations

import math
import platform
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from edge.atomic import write_directory
from edge.bank import Search
from edge.bundle import (
    BANK,
    MANIFEST,
    MASK,
    NAME_PATTERN,
    BankRecord,
    GoldenRecord,
    HeldOutScore,
    Manifest,
    Region,
    ScoringRecord,
    TeachingRecord,
    ThresholdRecord,
    encode_bank,
    seal,
)
from edge.embedder import Embedder, Precision
from edge.errors import BundleError, ExportError, SettingsError, SourceError
from edge.fast_bank import make_bank
from edge.inspector import Scored, Scorer, mask_patches
from edge.ir import MODEL_BIN, MODEL_XML, IrDescription, hash_bytes, read_ir_description, read_verified
from edge.pictures import list_pictures, read_mask, read_picture
from edge.preprocess import inspected_region, prepare
from edge.records import BoolArray, Box, Float32Array, UInt8Array
from edge.scoring import BLUR_SIGMA
from edge.terminal import phase, say
from export.calibrate import best_f1, conformal, find_outliers, mean_sigma, score_quantiles
from export.coreset import PROJECTION, project, select_greedy, select_random
from export.goodness import check_pictures

LEAST_PICTURES = 5  # four to teach from and one to hold out: below that no threshold means anything
_GOLDEN_FRAMES = 3
_NAMED = 10  # pictures in one message
# Another device or instruction set moves f32 scores by less than 1e-3 and bf16 scores by up to 1 %.
_GOLDEN_TOLERANCE = 0.02
_VERSIONS_OF = ("patchline", "openvino", "faiss-cpu", "numpy", "opencv-python-headless")

Method = Literal["conformal", "mean_sigma", "best_f1"]
Coreset = Literal["greedy", "random"]


@dataclass(frozen=True, slots=True)
class TeachOptions:
    """What to teach from, and how."""

    ir: Path
    images: Path  # a directory, a glob or one file; with `pictures`, only the place that messages name
    out: Path
    name: str = ""  # the recipe; empty: the name of `out`
    pictures: tuple[Path, ...] = ()  # good parts, instead of those at `images`
    calibration: tuple[Path, ...] = ()  # good parts for the threshold alone: then none of the others is held out
    coreset_ratio: float = 0.1
    coreset: Coreset = "greedy"  # random is the baseline that experiments compare with
    hold_out: float | None = None  # share of the pictures; none: see `hold_out_count`
    method: Method = "conformal"
    false_reject_rate: float = 0.01
    sigmas: float = 3.0
    defects: Path | None = None  # labelled defective pictures, for best_f1
    search: Search = "fast"
    reweight_neighbours: int = 0
    region: Box | None = None
    mask: Path | None = None
    device: str = "CPU"
    precision: Precision = "f32"
    seed: int = 0
    skip_bad: bool = False
    allow_random: bool = False
    replace: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    """The IR, compiled, and how frames of this product enter it."""

    ir: IrDescription
    xml: bytes
    weights: bytes
    embedder: Embedder
    frame_size: tuple[int, int]  # (height, width)
    region: Box
    mask: UInt8Array | None
    ignored: BoolArray | None

    def scorer(self, bank: Float32Array, search: Search, reweight_neighbours: int) -> Scorer:
        return Scorer(
            self.embedder,
            make_bank(bank, search),
            self.region,
            ignored=self.ignored,
            reweight_neighbours=reweight_neighbours,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Scores:
    """What pictures scored, in their order."""

    paths: tuple[Path, ...]
    scores: tuple[float, ...]
    map_peaks: tuple[float, ...]


def teach(options: TeachOptions) -> Manifest:
    """Teach a product and write its bundle; nothing is left behind if that fails.

    Raises:
        ExportError: too few pictures, pictures that do not belong together, a full disk, random weights.
        BundleError: the IR directory is damaged.
        SettingsError: region, mask or device do not fit.
        SourceError: there are no pictures.
    """
    ir = read_ir_description(options.ir)
    _refuse_early(options, ir)
    pictures = check_pictures(_list_good(options), skip_bad=options.skip_bad)
    held_out, teaching = _split(pictures.paths, options)
    model = _open_model(options, ir, pictures.height, pictures.width)
    _say_what_is_seen(model)
    with _scratch(options.out) as scratch:
        bank, record = _make_bank(model, teaching, options, Path(scratch))
    scorer = model.scorer(bank, options.search, options.reweight_neighbours)
    good = _score_all("scoring held-out parts", scorer, held_out)
    _name_outliers(good)
    threshold = _calibrate(options, model, scorer, good)
    files = {
        MODEL_XML: model.xml,
        MODEL_BIN: model.weights,
        BANK: encode_bank(bank),
        **({} if model.mask is None else {MASK: _png(model.mask)}),
    }
    golden = _choose_golden(good)
    files |= {record.file: _png(read_picture(path)) for path, record in golden}
    manifest = seal(
        Manifest(
            identity="0" * 64,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            name=_recipe(options),
            ir=ir,
            inference_precision=options.precision,
            frame_height=pictures.height,
            frame_width=pictures.width,
            region=_region_record(options.region),
            bank=record,
            scoring=ScoringRecord(
                search=options.search, reweight_neighbours=options.reweight_neighbours, blur_sigma=BLUR_SIGMA
            ),
            threshold=threshold,
            golden=tuple(record for _, record in golden),
            golden_tolerance=_GOLDEN_TOLERANCE,
            teaching=_teaching_record(teaching, good, pictures.skipped),
            settings=_settings_record(options),
            versions=versions_here(),
            files={name: hash_bytes(contents) for name, contents in sorted(files.items())},
        )
    )
    files[MANIFEST] = (manifest.model_dump_json(indent=2) + "\n").encode()
    write_directory(options.out, files, replace=options.replace, error=ExportError)
    return manifest


def hold_out_count(pictures: int, rate: float, share: float | None) -> int:
    """How many pictures to hold out for the threshold.

    By default as many as the false-reject rate needs, 1/rate - 1, but never more than half of the pictures, nor fewer
    than a fifth: a bank from too few pictures finds every part strange.
    """
    if share is not None:
        return min(pictures - 1, max(1, round(share * pictures)))
    needed = math.ceil(round(1 / rate, 9)) - 1
    return max(1, min(max(needed, pictures // 5), pictures // 2))


def versions_here() -> dict[str, str]:
    """Of what decides about scores, as manifests record them."""
    return {name: version(name) for name in _VERSIONS_OF} | {"python": platform.python_version()}


def _refuse_early(options: TeachOptions, ir: IrDescription) -> None:
    if ir.weights.source == "random" and not options.allow_random:
        raise ExportError(
            f"{options.ir}: its weights are random, for timing only; convert with real weights, "
            "or say --allow-random if that is what you want"
        )
    if re.fullmatch(NAME_PATTERN, _recipe(options)) is None:
        raise SettingsError(
            f"recipe name '{_recipe(options)}': expected 1 to 64 of A-Z a-z 0-9 _ . -; give another --name "
            "(without it, the name of --out is taken)"
        )
    if options.reweight_neighbours == 1:
        raise SettingsError("--reweight-neighbours 1: one neighbour makes every score 0; give 0, or 2 or more")
    if options.method == "best_f1" and options.defects is None:
        raise SettingsError("--threshold best_f1 needs --defects: pictures of defective parts")
    if options.out.exists() and not options.replace:
        raise ExportError(f"{options.out}: exists already; give another --out, or --replace")
    if options.out.exists() and not (options.out / MANIFEST).is_file():
        raise ExportError(f"{options.out}: is not a bundle, so --replace will not replace it; give another --out")


def _recipe(options: TeachOptions) -> str:
    return options.name or options.out.name


def _list_good(options: TeachOptions) -> list[Path]:
    return [*(options.pictures or list_pictures(str(options.images))), *options.calibration]


def _split(paths: Sequence[Path], options: TeachOptions) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The pictures for the threshold, and those for the bank."""
    if options.calibration:
        given = frozenset(options.calibration)
        held_out = tuple(path for path in paths if path in given)
        teaching = tuple(path for path in paths if path not in given)
        if not held_out or not teaching:
            raise ExportError(
                f"{options.images}: {len(teaching)} usable pictures to teach from and {len(held_out)} for the "
                "threshold; at least one of each is needed"
            )
        return held_out, teaching
    if len(paths) < LEAST_PICTURES:
        raise ExportError(
            f"{options.images}: {len(paths)} usable pictures of good parts; at least "
            f"{LEAST_PICTURES} are needed, 50 to 200 are usual"
        )
    return _hold_out(paths, options)


def _hold_out(paths: Sequence[Path], options: TeachOptions) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    count = hold_out_count(len(paths), options.false_reject_rate, options.hold_out)
    order = np.random.default_rng([options.seed, 3]).permutation(len(paths))
    held_out, teaching = sorted(order[:count]), sorted(order[count:])
    return tuple(paths[i] for i in held_out), tuple(paths[i] for i in teaching)


def _open_model(options: TeachOptions, ir: IrDescription, height: int, width: int) -> _Model:
    for name in (MODEL_XML, MODEL_BIN):
        if name not in ir.files:
            raise BundleError(f"{options.ir}: model.json does not list {name}; convert again")
    xml = read_verified(options.ir, MODEL_XML, ir.files[MODEL_XML])
    weights = read_verified(options.ir, MODEL_BIN, ir.files[MODEL_BIN])
    try:
        region = inspected_region(height, width, ir.geometry, options.region)
    except ValueError as error:
        raise SettingsError(f"--region: {error}") from error
    mask = None if options.mask is None else read_mask(options.mask)
    return _Model(
        ir=ir,
        xml=xml,
        weights=weights,
        embedder=Embedder(ir, xml, weights, device=options.device, precision=options.precision),
        frame_size=(height, width),
        region=region,
        mask=mask,
        ignored=None if mask is None else mask_patches(mask, height, width, region, ir.grid),
    )


def _say_what_is_seen(model: _Model) -> None:
    height, width = model.frame_size
    share = model.region.width * model.region.height / (height * width)
    if share < 0.999:
        region = model.region
        say(
            f"note: {share:.0%} of the {width}×{height} frame is inspected: {region.width}×{region.height} at "
            f"x {region.x}, y {region.y}; what lies outside is never seen (convert with --input-size to see all)"
        )


def _scratch(out: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.")
    except OSError as error:
        raise ExportError(f"{out.parent}: cannot be written ({error.strerror})") from error


def _make_bank(
    model: _Model, paths: Sequence[Path], options: TeachOptions, scratch: Path
) -> tuple[Float32Array, BankRecord]:
    embeddings, projected = _embed_all(model, paths, options.seed, scratch)
    count = max(1, round(len(embeddings) * options.coreset_ratio))
    with phase("selecting the coreset", count) as done:
        match options.coreset:
            case "greedy":
                picks = select_greedy(projected, count, options.seed, done)
            case "random":
                picks = select_random(len(projected), count, options.seed)
    bank: Float32Array = np.asarray(embeddings[np.sort(picks)])
    record = BankRecord(
        vectors=len(bank),
        dimension=bank.shape[1],
        patches=len(embeddings),
        coreset_ratio=options.coreset_ratio,
        projection=projected.shape[1],
        seed=options.seed,
    )
    return bank, record


def _embed_all(model: _Model, paths: Sequence[Path], seed: int, scratch: Path) -> tuple[Float32Array, Float32Array]:
    """Embeddings of all pictures (n, dim), on disk, and their projection, in memory."""
    kept = np.arange(model.ir.grid[0] * model.ir.grid[1]) if model.ignored is None else ~model.ignored
    file = scratch / "embeddings.f32"
    per_picture = int(np.count_nonzero(kept)) if kept.dtype == np.bool_ else len(kept)
    _check_space(scratch, per_picture * len(paths) * model.ir.dimension * 4)
    projected = np.empty((per_picture * len(paths), min(PROJECTION, model.ir.dimension)), np.float32)
    try:
        with file.open("wb") as stream, phase("embedding good parts", len(paths)) as done:
            for number, path in enumerate(paths):
                prepare(read_picture(path), model.region, model.embedder.input)
                patches = model.embedder.embed().patches[kept]
                patches.tofile(stream)
                projected[number * per_picture : (number + 1) * per_picture] = project(patches, seed)
                done(number + 1)
    except OSError as error:
        # NumPy's own error on a full disk has no strerror.
        why = error.strerror or error
        raise ExportError(f"{scratch.parent}: cannot be written ({why}); nothing was kept") from error
    embeddings = np.memmap(file, np.float32, "r", shape=(len(projected), model.ir.dimension))
    return embeddings, projected


def _check_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed * 1.2:
        raise ExportError(
            f"{directory.parent}: teaching needs {needed * 1.2 / 1e9:.1f} GB of scratch space here, "
            f"{free / 1e9:.1f} GB are free; free some, or teach from fewer pictures"
        )


def _score_all(name: str, scorer: Scorer, paths: Sequence[Path]) -> _Scores:
    scores: list[float] = []
    peaks: list[float] = []
    with phase(name, len(paths)) as done:
        for number, path in enumerate(paths):
            scored = scorer.score(read_picture(path))
            scores.append(_finite(scored, path))
            peaks.append(float(scorer.map_of(scorer.patch_scores(scored)).values.max()))
            done(number + 1)
    return _Scores(tuple(paths), tuple(scores), tuple(peaks))


def _finite(scored: Scored, path: Path) -> float:
    if not math.isfinite(scored.score):
        raise ExportError(f"{path}: its anomaly score is {scored.score}; the weights of this IR are not usable")
    return scored.score


def _name_outliers(good: _Scores) -> None:
    outliers = find_outliers(good.scores)
    if outliers:
        named = ", ".join(f"{good.paths[index].name} ({good.scores[index]:.3f})" for index in outliers[:_NAMED])
        say(
            f"warning: {len(outliers)} of {len(good.paths)} held-out pictures score far above the others (median "
            f"{np.median(good.scores):.3f}) and raise the threshold: {named}. If they show defective parts, "
            "remove them and teach again"
        )


def _calibrate(options: TeachOptions, model: _Model, scorer: Scorer, good: _Scores) -> ThresholdRecord:
    if max(good.scores) <= 0 or max(good.map_peaks) <= 0:
        raise ExportError(f"{options.images}: the held-out pictures repeat the others; give pictures of other parts")
    match options.method:
        case "conformal":
            return conformal(good.scores, good.map_peaks, options.false_reject_rate)
        case "mean_sigma":
            return mean_sigma(good.scores, good.map_peaks, options.sigmas)
        case "best_f1":
            defects = check_pictures(list_pictures(str(options.defects)), skip_bad=options.skip_bad)
            if (defects.height, defects.width) != model.frame_size:
                raise ExportError(
                    f"{options.defects}: pictures of {defects.width}×{defects.height}, but the good parts have "
                    f"{model.frame_size[1]}×{model.frame_size[0]}; take both with the same camera settings"
                )
            bad = _score_all("scoring defective parts", scorer, defects.paths)
            return best_f1(good.scores, bad.scores, good.map_peaks, bad.map_peaks)


def _choose_golden(good: _Scores) -> list[tuple[Path, GoldenRecord]]:
    """The best, the median and the worst of the held-out good parts."""
    order = np.argsort(good.scores)
    chosen = sorted({int(order[round(share * (len(order) - 1))]) for share in np.linspace(0, 1, _GOLDEN_FRAMES)})
    return [
        (
            good.paths[index],
            GoldenRecord(file=f"golden/{number}.png", score=good.scores[index], map_peak=good.map_peaks[index]),
        )
        for number, index in enumerate(chosen)
    ]


def _teaching_record(teaching: Sequence[Path], good: _Scores, skipped: Sequence[str]) -> TeachingRecord:
    return TeachingRecord(
        pictures=len(teaching),
        held_out=len(good.paths),
        skipped=tuple(skipped),
        normal_score_quantiles=score_quantiles(good.scores),
        normal_scores_mean=float(np.mean(good.scores)),
        normal_scores_deviation=float(np.std(good.scores)),
        held_out_scores=tuple(
            HeldOutScore(sha256=_hash(path), score=score, map_peak=peak)
            for path, score, peak in zip(good.paths, good.scores, good.map_peaks, strict=True)
        ),
    )


def _hash(path: Path) -> str:
    try:
        return hash_bytes(path.read_bytes()).sha256
    except OSError as error:
        raise SourceError(f"{path}: cannot be read any more ({error.strerror})") from error


def _settings_record(options: TeachOptions) -> dict[str, str]:
    wanted = (
        "coreset",
        "coreset_ratio",
        "hold_out",
        "method",
        "false_reject_rate",
        "sigmas",
        "device",
        "seed",
        "skip_bad",
    )
    return {name: str(getattr(options, name)) for name in wanted}


def _region_record(box: Box | None) -> Region | None:
    return None if box is None else Region(x=box.x, y=box.y, width=box.width, height=box.height)


def _png(image: UInt8Array) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()
