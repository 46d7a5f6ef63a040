"""Hostile settings through `patchline-edge run --check`: one line, a documented exit code, never a traceback or a hang.

Files are made of what settings are named and of values that nobody should write; some are no TOML, no text or no file.
The command is loaded once, and every file is read by a process of its own, forked from it.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.campaigns import CampaignError
from edge.settings.file import walk_settings

COUNT = 500
LIMIT_S = 60.0  # for one file, on a machine with other work
MOST_MEMORY_BYTES = 1 << 30
MOST_CHARACTERS = 20_000  # of what is said
DOCUMENTED = {0, 2, 3, 4, 5, 6}

Make = Callable[[random.Random, Path], bytes]

_VALUES = (
    "0", "1", "-1", "2", "5000", "0.5", "1e-9", "-0.0", "inf", "-inf", "nan", "1e308", "true", "false", "4294967296",
    "9223372036854775807", "18446744073709551616", f"0x{'f' * 400}", f"0x{'f' * 5000}", "9" * 4000, "9" * 5000,
    '""', '"a"', '"CPU"', '"HETERO:CPU"', '"AUTO:"', '"GPU.99"', '"mqtt,jsonl"', '"folder"', '"video"', '"camera"',
    '"command"', '"exact"', '"bf16"', '"a/b"', '"+"', '"#"', '"\\u0000"', '"a\\u0000b"', '"\\u001b[2J"', '"\\n"',
    '"~nobody-here/x"', '"~"', '"%d/"', '"%d/../../etc/shadow"', '".."', '"/"', '"/dev/zero"', '"/dev/tty"',
    '"/proc/self/mem"', '"/proc/1/root"', '"fifo"', '"circle"', '"loop/**/*.png"', '"**x"', '"line.toml"',
    '"rtsp://user:secret@127.0.0.1/x"', '"rtsp://[::1"', '"file:///etc/passwd"', '"http://127.0.0.1:99999/"',
    f'"{"x" * 256}"', f'"{"d/" * 2100}"', f'"{"x" * 70000}"', '"ß\\U0001F600"', "1979-05-27", "07:32:00",
    "[]", "[[]]", "{}", "{a=1}", "[1, 2]", '["mqtt", "mqtt"]', f"[{'1, ' * 10000}]", f"{'[' * 200}{']' * 200}",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file."""

    code: int  # negative: killed by that signal
    said: bytes  # standard output and error
    memory_bytes: int
    seconds: float


def run(count: int, seed: int) -> Sequence[tuple[str, str]]:
    """Give `count` files to the command.

    Raises:
        CampaignError: one ended in a traceback, a signal, a hang, another exit code, or more than one line.
    """
    import edge.cli.main  # noqa: F401, PLC0415 — once, for every process that is forked from this one

    chance = random.Random(seed)
    codes: Counter[int] = Counter()
    slowest, largest = 0.0, 0
    with tempfile.TemporaryDirectory(prefix="patchline-settings-") as place:
        directory = Path(place)
        _set_traps(directory)
        for number in range(count):
            kind = chance.choice(_KINDS)
            config = _write(directory / "line.toml", kind, chance)
            outcome = _check(config, directory / "said", _environment(chance))
            _judge(outcome, f"file {number} ({kind.__name__.strip('_')})")
            codes[outcome.code] += 1
            slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.memory_bytes)
    return (
        ("hostile settings files", str(count)),
        ("accepted, but for a bundle that is not there (exit code 3)", str(codes[3])),
        ("refused (exit codes 2, 4, 6)", str(codes[2] + codes[4] + codes[6])),
        ("tracebacks, hangs, other exit codes, more than one line", "0"),
        ("largest memory, MB", f"{largest / 1e6:.0f}"),
        ("longest, s", f"{slowest:.1f}"),
    )


def _set_traps(directory: Path) -> None:
    os.mkfifo(directory / "fifo")
    (directory / "circle").symlink_to("circle")
    (directory / "loop").mkdir()
    for name in ("a", "b", "c"):  # without care, `**` finds 3^40 directories
        (directory / "loop" / name).symlink_to(".")
    (directory / "loop" / "picture.png").write_bytes(b"no picture")


def _write(path: Path, make: Make, chance: random.Random) -> Path:
    path.unlink(missing_ok=True)
    contents = make(chance, path)
    if contents:
        path.write_bytes(contents)
    return path


def _any_settings(chance: random.Random, _path: Path) -> bytes:
    """Settings that there are, each with any value."""
    names = [name for name, _ in walk_settings()]
    lines = [f"{name} = {chance.choice(_VALUES)}" for name in chance.sample(names, chance.randint(1, 4))]
    return "\n".join(lines).encode()


def _one_setting(chance: random.Random, _path: Path) -> bytes:
    """One setting, with what it needs to matter."""
    name = chance.choice([name for name, _ in walk_settings()])
    lines = [f"{name} = {chance.choice(_VALUES)}"]
    if name.startswith("source.") and name != "source.kind":
        lines.append(f'source.kind = "{chance.choice(("folder", "video", "camera", "simulated"))}"')
    if "mqtt" in name:
        lines += [f"{name.rpartition('.')[0]}.{more}" for more in ("tls = true", "user = 'u'") if more[:3] not in name]
    if name.startswith("sparkplug."):
        lines.append("sparkplug.enabled = true" if "enabled" not in name else "")
    return "\n".join(lines).encode()


def _unknown_names(chance: random.Random, _path: Path) -> bytes:
    letters = "abcdefgh._-\\\"'\n\t\x1b\x00äß𝔘"
    name = "".join(chance.choice(letters) for _ in range(chance.choice((1, 5, 300, 5000))))
    return f'"{name}" = {chance.choice(_VALUES)}'.encode()


def _nested(chance: random.Random, _path: Path) -> bytes:
    depth = chance.choice((10, 100, 1000, 3000, 20_000))
    forms = (
        f"a = {'[' * depth}{']' * depth}",
        f"a = {'{a=' * depth}1{'}' * depth}",
        f"{'.'.join('a' * depth)} = 1",
        "".join(f"[{'.'.join('a' * level)}]\n" for level in range(1, min(depth, 300))),
        f"bundle = {'[' * depth}",
    )
    return chance.choice(forms).encode()


def _damaged_example(chance: random.Random, _path: Path) -> bytes:
    examples = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.toml"))
    data = bytearray(chance.choice(examples).read_bytes())
    for _ in range(chance.randint(1, 20)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data[: chance.randint(1, len(data))])


def _no_text(chance: random.Random, _path: Path) -> bytes:
    forms = (
        chance.randbytes(chance.randint(1, 5000)),
        b"\xef\xbb\xbfbundle = 'b'",
        "bundle = 'b'".encode("utf-16"),
        b"bundle = '\xff'",
        b"#" * chance.choice((10, 2**20, 2**21)),
        b"\x00" * 100,
        b"\n",
        b"\r" * 50,
    )
    return chance.choice(forms)


def _no_file(chance: random.Random, path: Path) -> bytes:
    """Nothing is written: what the name leads to is no regular file."""
    match chance.randrange(4):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to(path.name)
        case 2:
            path.symlink_to(chance.choice(("/dev/zero", "/dev/random", "/proc/self/mem", "/")))
        case _:
            pass  # there is none
    return b""


_KINDS: tuple[Make, ...] = (
    _any_settings, _any_settings, _one_setting, _one_setting, _one_setting, _one_setting, _unknown_names, _nested,
    _damaged_example, _no_text, _no_file,
)  # fmt: skip


def _environment(chance: random.Random) -> dict[str, str]:
    """Of one file in three: a setting, or a name that is like one."""
    if chance.random() > 1 / 3:
        return {}
    name = chance.choice([name for name, _ in walk_settings()]).upper().replace(".", "__")
    value = (
        chance.choice((*_VALUES, "{", "[" * 50_000, '{"a": 1}', "1,2,3", "\udcff")).strip('"').replace("\\u0000", "")
    )
    return {f"PATCHLINE_{name}{chance.choice(('', '', '', '_X', '__Y'))}": value[:100_000]}


def _check(config: Path, said: Path, environment: dict[str, str]) -> Outcome:
    """The command in a process of its own."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _become_command(config, said, environment)
    deadline = began + LIMIT_S
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.002)
    return Outcome(
        os.waitstatus_to_exitcode(status), said.read_bytes(), usage.ru_maxrss * 1024, time.monotonic() - began
    )


def _become_command(config: Path, said: Path, environment: dict[str, str]) -> None:
    """Never returns."""
    code = 70  # what no exit code of ours is
    try:
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, output), (2, output)):
            os.dup2(source, target)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", errors="backslashreplace") for number in (1, 2))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PATCHLINE_")}
        os.environ.clear()
        os.environ.update(kept | environment | {"STATE_DIRECTORY": str(said.parent)})
        os.chdir(said.parent)
        sys.argv = ["patchline-edge", "run", "--config", str(config), "--check"]
        code = _exit_code()
    except BaseException:  # noqa: BLE001 — the process ends here whatever it was
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)


def _exit_code() -> int:
    from edge.__main__ import main  # noqa: PLC0415 — in the child

    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _judge(outcome: Outcome, what: str) -> None:
    text = outcome.said.decode("utf-8", "replace")
    lines = text.splitlines()
    promises = (
        (outcome.code != -signal.SIGKILL, f"does not end within {LIMIT_S:.0f} s"),
        ("Traceback" not in text, "ends in a traceback"),
        (outcome.code in DOCUMENTED, f"ends with {outcome.code}"),
        (outcome.code == 0 or (len(lines) == 1 and text.startswith("error: ")), f"{len(lines)} lines are said"),
        (all(line.isprintable() for line in lines), "what is said acts on a terminal"),
        (len(text) <= MOST_CHARACTERS, f"{len(text)} characters are said"),
        ("secret" not in text, "a password is shown"),
        (outcome.memory_bytes <= MOST_MEMORY_BYTES, f"takes {outcome.memory_bytes / 1e6:.0f} MB"),
    )
    for kept, otherwise in promises:
        if not kept:
            raise CampaignError(f"{what} {otherwise}: {text[-1500:]!r}")
