from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edge.delivery.outbox.records import OutboxLimits
from edge.inspection.options import InspectorOptions
from edge.line.opening import inspector_options
from edge.settings.sections import OutboxSettings
from edge.settings.tree import Settings


def test_a_station_without_settings_inspects_as_the_commands_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    filled, own = inspector_options(Settings()), InspectorOptions(cache_dir=tmp_path)
    for field in dataclasses.fields(InspectorOptions):
        assert getattr(filled, field.name) == getattr(own, field.name), field.name


def test_an_outbox_that_is_told_nothing_has_the_limits_of_the_settings() -> None:
    settings = OutboxSettings()
    assert dataclasses.asdict(OutboxLimits()) == settings.model_dump(include=set(dataclasses.asdict(OutboxLimits())))
