"""What both command lines promise of their options."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from edge.cli.main import app as edge_app
from export.cli.main import app as export_app
from export.cli.options import TEACH
from export.teaching.options import TeachOptions

APPS = {"patchline-edge": edge_app, "patchline-export": export_app}
TEACHING = ["teach", "--ir", "absent", "--images", "a", "--out", "o"]


def options() -> Iterator[tuple[str, Any]]:
    for program, app in APPS.items():
        yield from _options(program, typer.main.get_command(app))


def _options(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    for option in command.params:
        yield f"{name} {option.name}", option
    for inner, subcommand in getattr(command, "commands", {}).items():
        yield from _options(f"{name} {inner}", subcommand)


def refusal(app: typer.Typer, *arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert done.exit_code == 2, done.output
    return done.output


def test_every_number_has_both_bounds() -> None:
    unbounded = [
        name
        for name, option in options()
        if option.type_descriptor.annotation in (int, float, int | None, float | None, list[float], list[int])
        and option.type_descriptor.parameter_info.parser is None
        and None in (option.min, option.max)
    ]
    assert len(list(options())) > 60
    assert unbounded == []


@pytest.mark.parametrize("given", ["inf", "nan", "-9", "-inf", "1e400"])
@pytest.mark.parametrize("option", ["--sigmas", "--false-reject-rate", "--hold-out", "--coreset-ratio"])
def test_a_number_that_is_none_is_refused(option: str, given: str) -> None:
    assert option in refusal(export_app, *TEACHING, f"{option}={given}")


@pytest.mark.parametrize("given", ["1", "5", "1%"])
def test_a_rate_in_per_cent_is_refused_with_what_to_write(given: str) -> None:
    assert "1 % is 0.01" in refusal(export_app, *TEACHING, "--false-reject-rate", given)


@pytest.mark.parametrize(
    ("app", "arguments"),
    [
        (export_app, [*TEACHING, "--images", "b"]),
        (export_app, [*TEACHING, "--images=b"]),
        (export_app, ["quantize", "--ir", "a", "--calibration", "b", "--out", "c", "--ir", "d"]),
        (export_app, ["evaluate", "root", "--ir", "a", "--out", "b", "--seed", "1", "--seed", "2"]),
        (edge_app, ["check", "--bundle", "a", "--bundle", "b"]),
        (edge_app, ["run", "--config", "a", "--config", "b"]),
        (edge_app, ["outbox", "list", "--config", "a", "--config", "b"]),
    ],
)
def test_an_option_that_is_given_twice_is_refused_where_one_would_be_forgotten(
    app: typer.Typer, arguments: list[str]
) -> None:
    assert "is given 2 times, and takes one value" in refusal(app, *arguments)


def test_what_may_be_repeated_may_be_repeated() -> None:
    arguments = ["runall", "absent", "--ir", "a", "--ir", "b", "--coreset-ratio", "0.1", "--coreset-ratio", "0.2"]
    done = CliRunner().invoke(export_app, [*arguments, "--out", "c"])
    assert done.exit_code != 2


@pytest.mark.parametrize(
    ("app", "arguments"),
    [
        (export_app, [*TEACHING, "--device", "HETERO:CPU"]),
        (export_app, ["evaluate", "root", "--ir", "a", "--out", "b", "--device", "cpu"]),
        (edge_app, ["check", "--bundle", "a", "--device", "MULTI:CPU"]),
    ],
)
def test_a_device_is_checked_on_the_command_line_as_in_the_settings(app: typer.Typer, arguments: list[str]) -> None:
    assert "expected CPU, NPU, GPU" in refusal(app, *arguments)


def test_options_of_teaching_are_those_of_its_record() -> None:
    fields = {field.name: field for field in dataclasses.fields(TeachOptions)}
    assert TEACH.keys() <= fields.keys()
    # Only what programs give cannot be given on the command line.
    assert fields.keys() - TEACH.keys() == {"pictures", "calibration"}
    assert all(math.isfinite(field.default) for field in fields.values() if isinstance(field.default, float))


def test_help_begins_with_what_comes_first_and_groups_what_teach_can_be_told() -> None:
    help_text = CliRunner().invoke(export_app, ["--help"], env={"COLUMNS": "200"}).output
    places = [help_text.index(f"{name} ") for name in ("convert", "teach", "experiment")]
    assert places == sorted(places)
    teach_help = CliRunner().invoke(export_app, ["teach", "--help"], env={"COLUMNS": "200"}).output
    for panel in ("Memory bank", "Threshold", "What is judged", "Device and arithmetic", "Latency budget"):
        assert panel in teach_help


@pytest.mark.parametrize("app", APPS.values(), ids=APPS)
def test_a_shell_can_complete_commands_and_options(app: typer.Typer) -> None:
    assert "--install-completion" in CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
