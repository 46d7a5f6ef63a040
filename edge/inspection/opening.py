"""A bundle made ready to judge with, on this device, and proven: every command that judges begins here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from edge.bundle.bundle import Bundle
from edge.bundle.ir import MODEL_BIN, MODEL_XML
from edge.engine.embedder import last_line
from edge.engine.model_cache import ModelCache
from edge.errors import BundleError, SelfTestError
from edge.inspection.golden import GoldenResult, run_golden
from edge.inspection.inspector import Inspector
from edge.inspection.options import InspectorOptions

Say = Callable[[str], None]
_DIGITS = 12  # of each file's hash, in the name of a model in the cache


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """An inspector, and how it did on the golden frames."""

    inspector: Inspector
    golden: tuple[GoldenResult, ...]  # empty: it was not tested


def open_inspector(
    bundle: Bundle, options: InspectorOptions, *, note: Say, warn: Say, self_test: bool = True
) -> Opened:
    """Compile, index and test `bundle`; a compiled model from the cache that fails the test is replaced once.

    Args:
        bundle: what was taught.
        options: how this station judges with it.
        note: told what is not judged, and in what the station departs from what was taught.
        warn: told what was wrong with the cache, which is no reason not to judge.
        self_test: off only where the operator says so.

    Raises:
        BundleError: the model is damaged.
        SettingsError: device, region of interest or mask do not fit.
        SelfTestError: this device does not reproduce the golden scores, with a newly compiled model either.
    """
    cache = _open_cache(bundle, options, warn)
    options = replace(options, cache_dir=None if cache is None else cache.directory)
    inspector = _compile(bundle, options)
    try:
        golden = _test(inspector, bundle) if self_test else ()
    except SelfTestError:
        if cache is None or not inspector.embedder.from_cache or not _clear(cache, warn):
            raise
        inspector = _compile(bundle, options)
        golden = _test(inspector, bundle)
    if cache is not None:
        _seal(cache, warn)
    for text in inspector.notes:
        note(text)
    return Opened(inspector, golden)


def _compile(bundle: Bundle, options: InspectorOptions) -> Inspector:
    with _runnable():
        return Inspector(bundle, options)


def _test(inspector: Inspector, bundle: Bundle) -> tuple[GoldenResult, ...]:
    with _runnable():
        return run_golden(inspector, bundle)


@contextmanager
def _runnable() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of OpenVINO: compiled, but it cannot be run
        raise BundleError(f"model.xml: it cannot be run ({last_line(error)}); convert again, or free memory") from error


def _open_cache(bundle: Bundle, options: InspectorOptions, warn: Say) -> ModelCache | None:
    if options.cache_dir is None:
        return None
    files = bundle.manifest.files
    name = "-".join(files[file].sha256[:_DIGITS] for file in (MODEL_XML, MODEL_BIN))
    cache = ModelCache(options.cache_dir, name)
    try:
        damaged = cache.open()
    except OSError as error:
        warn(f"no cache of compiled models in {options.cache_dir} ({error.strerror}): every start compiles")
        return None
    if damaged:
        warn(f"compiled model damaged on disk, compiled again: {', '.join(damaged)}")
    return cache


def _clear(cache: ModelCache, warn: Say) -> bool:
    """Whether there was anything that the failed test can be due to."""
    try:
        removed = cache.clear()
    except OSError as error:
        warn(f"{cache.directory}: cannot be cleared ({error.strerror})")
        return False
    if removed:
        warn(f"golden self-test failed with the compiled model on disk, compiled again: {', '.join(removed)}")
    return bool(removed)


def _seal(cache: ModelCache, warn: Say) -> None:
    try:
        cache.seal()
    except OSError as error:
        warn(f"{cache.directory}: cannot be written ({error.strerror}): the next start compiles again")
