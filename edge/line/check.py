"""`run --check`: whatever the start would refuse is said beforehand, all of it at once.

A camera is not opened and a broker not called: the station that uses them may be running.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from edge.bundle.bundle import read_bundle
from edge.delivery.opening import outbox_directory
from edge.errors import OutboxError, PatchlineError, SettingsError
from edge.line.first_recipe import choose_first
from edge.line.opening import last_recipe, open_recipes, station_topics
from edge.publishers.mqtt.credentials import read_password, tls_context
from edge.publishers.sparkplug.schema import payload_class
from edge.settings.sections import MqttSettings, PublisherKind
from edge.settings.source import CameraSettings
from edge.settings.tree import Settings
from edge.sources import open_source
from edge.sources.address import parse_address
from edge.terminal import say


def check_station(settings: Settings) -> str:
    """Whether a station with these settings could start here and now; returns the model's identity.

    Raises:
        PatchlineError: of the first thing that is wrong, with all others in its message.
    """
    problems = [error for part in _parts(settings) if (error := _error_of(part)) is not None]
    model = ""
    try:
        model = _check_bundles(settings)
    except PatchlineError as error:
        problems.append(error)
    if problems:
        raise type(problems[0])("; ".join(str(problem) for problem in problems))
    return model


def _parts(settings: Settings) -> Iterator[Callable[[], object]]:
    yield lambda: _check_source(settings)
    if PublisherKind.MQTT in settings.publish:
        yield lambda: _check_broker(settings.mqtt)
        if settings.outbox.enabled:
            directory = outbox_directory(settings.outbox, station_topics(settings))
            yield lambda: _refuse_unusable("outbox.directory", directory, OutboxError)
    if settings.sparkplug.enabled:
        yield payload_class
        if settings.sparkplug.mqtt is not None or PublisherKind.MQTT not in settings.publish:
            yield lambda: _check_broker(settings.sparkplug.mqtt or settings.mqtt)
    cache = settings.inspection.cache_dir
    if cache is not None:
        yield lambda: _refuse_unusable("inspection.cache_dir", cache, SettingsError)


def _error_of(part: Callable[[], object]) -> PatchlineError | None:
    try:
        part()
    except PatchlineError as error:
        return error
    return None


def _check_source(settings: Settings) -> None:
    source = settings.source
    if isinstance(source, CameraSettings):
        parse_address(source.device, source.credentials_file)
    else:
        open_source(source).close()


def _check_broker(mqtt: MqttSettings) -> None:
    read_password(mqtt)
    tls_context(mqtt)


def _check_bundles(settings: Settings) -> str:
    for directory in settings.recipes.values():
        read_bundle(directory)
    last = last_recipe(settings)
    recipes = open_recipes(settings, choose_first(settings, last.read()), last)
    recipes.close()
    inspector = recipes.active.inspectors[0]
    for note in inspector.notes:
        say(note)
    return inspector.model


def _refuse_unusable(name: str, directory: Path, error: type[PatchlineError]) -> None:
    """Made at the start, it must lie in a directory that can be written."""
    there = directory
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
    except OSError as problem:
        raise error(f"{name} {directory}: cannot be reached ({problem.strerror})") from problem
    if not there.is_dir():
        raise error(f"{name} {directory}: {there} is no directory")
    if not os.access(there, os.W_OK | os.X_OK):
        raise error(f"{name} {directory}: {there} cannot be written by this user")
