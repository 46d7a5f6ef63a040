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

from benchmarks.rig.station import FRAME_SIZE
from tests.places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
# No camera, no network and little time in a test: the same commands on a smaller job.
SMALLER = {
    "configs/usb_camera.toml": "station.toml",
    "--count 200": "--count 12",
    "wide_resnet50_2": "efficientnet_lite0 --input-size 96",
}


def shell_blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)


def patchline_commands() -> list[str]:
    lines = "\n".join(shell_blocks()).splitlines()
    inline = re.findall(r"`(patchline-(?:edge|export) [^`]+)`", README)
    return [line for line in lines if line.startswith("patchline-")] + inline


def section(title: str) -> str:
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def test_a_product_is_taught_and_run_by_the_commands_of_the_readme(tmp_path: Path) -> None:
    size = f"simulated_width = {FRAME_SIZE[1]}\nsimulated_height = {FRAME_SIZE[0]}"
    settings = 'bundle = "bundle"\npublish = ["jsonl"]\n[source]\nkind = "simulated"\ndefect_rate = 0.0\nframes = 12\n'
    (tmp_path / "station.toml").write_text(f"{settings}{size}\n", encoding="utf-8")
    block = re.search(r"```sh\n(.*?)```", section("Teach your own product"), flags=re.DOTALL)
    assert block is not None
    commands = [line for line in block[1].splitlines() if line.startswith("patchline-")]
    assert len(commands) == 4
    for command in commands:
        for text, smaller in SMALLER.items():
            command = command.replace(text, smaller)  # noqa: PLW2901
        program, *arguments = shlex.split(command)
        done = subprocess.run(
            [str(BIN / program), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(verdicts) == 12


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
