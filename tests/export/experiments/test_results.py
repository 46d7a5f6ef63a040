from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edge.errors import ExportError, ResultsError
from export.experiments.results import EXPERIMENT, ExperimentRow, read_experiment, write_experiment
from tests.export.evaluation.made_results import make_experiment, make_measurement


def test_what_is_written_is_read(tmp_path: Path) -> None:
    texts = [ExperimentRow(label="both", value="layer2+layer3", categories=(make_measurement(),), extra={"a": "b"})]
    for number, results in enumerate((make_experiment(), make_experiment(texts))):
        path = tmp_path / str(number) / EXPERIMENT
        write_experiment(results, path)
        assert read_experiment(path) == results


def test_rows_of_different_categories_are_refused() -> None:
    rows = [ExperimentRow(label=name, value=name, categories=(make_measurement(name),)) for name in ("bottle", "cable")]
    with pytest.raises(ValidationError, match="rows measure different categories"):
        make_experiment(rows)


def test_the_same_setting_twice_is_refused() -> None:
    row = ExperimentRow(label="10 %", value=0.1, series="greedy", categories=(make_measurement(),))
    with pytest.raises(ValidationError, match=r"measured twice: greedy 0\.1"):
        make_experiment([row, row])


@pytest.mark.parametrize(
    "changes", [{"image_auroc": 99.0}, {"aupro": float("nan")}, {"total_ms": float("inf")}, {"unknown": 1}]
)
def test_figures_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_measurement(**changes)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / EXPERIMENT
    path.write_text('{"schema_version": 1}')
    with pytest.raises(ResultsError, match=r"experiment\.json: name: Field required"):
        read_experiment(path)


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        write_experiment(make_experiment(), tmp_path / "file" / EXPERIMENT)
