"""What README.md tells people to type is run, or at least understood by the command it names."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
# Little time: the same commands on a smaller job.
SMALLER = {"--count 200": "--count 12", "efficientnet_lite0": "efficientnet_lite0 --input-size 96"}
COMMAND = re.compile(r"^(?:PATCHLINE_\w+=\S+ )*(patchline-(?:edge|export) .*)")


def shell_blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)


def patchline_commands() -> list[str]:
    lines = "\n".join(shell_blocks()).splitlines()
    inline = re.findall(r"`(patchline-(?:edge|export) [^`]+)`", README)
    return [found[1] for line in lines if (found := COMMAND.match(line))] + inline


def section(title: str) -> str:
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.long
@pytest.mark.parametrize("smaller", [SMALLER, {}], ids=["smaller", "as it stands"])
def test_the_four_steps_of_the_readme_run_to_their_end_on_any_machine(tmp_path: Path, smaller: dict[str, str]) -> None:
    (tmp_path / "configs").mkdir()
    config = (ROOT / "configs" / "first_steps.toml").read_text(encoding="utf-8")
    frames = 12 if smaller else 200
    (tmp_path / "configs" / "first_steps.toml").write_text(config.replace("frames = 200", f"frames = {frames}"))
    block = re.search(r"```sh\n(.*?)```", section("Teach your own product"), flags=re.DOTALL)
    assert block is not None
    commands = [line for line in block[1].splitlines() if COMMAND.match(line)]
    assert len(commands) == 4
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    for command in commands:
        for text, less in smaller.items():
            command = command.replace(text, less)  # noqa: PLW2901
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    verdicts = [json.loads(line)["verdict"] for line in done.stdout.splitlines()]
    assert len(verdicts) == frames
    assert set(verdicts) == {"PASS", "FAIL"}


@pytest.mark.parametrize("command", patchline_commands())
def test_every_command_and_option_exists(command: str) -> None:
    program, subcommand, *arguments = shlex.split(command, comments=True)
    done = subprocess.run(
        [str(BIN / program), subcommand, "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "300", "NO_COLOR": "1", "TERM": "dumb"},
    )
    assert done.returncode == 0
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert re.search(rf"{re.escape(option)}\b", done.stdout), option


def test_every_file_and_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"(?<![\w/])(?:configs|systemd|benchmarks)/[\w./-]+\w", README):
        assert (ROOT / path).exists(), path


def test_exit_codes_are_those_of_the_errors() -> None:
    import edge.errors

    text = README.split("Exit codes:")[1].split("\n\n")[0]
    documented = {int(code) for code in re.findall(r"(?<![\w.])(\d)(?= )", text)}
    raised = {
        kind.exit_code
        for kind in vars(edge.errors).values()
        if isinstance(kind, type) and issubclass(kind, edge.errors.PatchlineError)
    }
    assert documented - {0} == raised - {1}
