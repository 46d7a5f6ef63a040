from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.errors import DeliveryError, PatchlineError, SettingsError, SourceError
from edge.line.check import check_station
from edge.settings.file import load_settings

EDGE = Path(sys.executable).parent / "patchline-edge"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with files of every kind that settings may name wrongly."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    (tmp_path / "login").write_text("user:password")
    (tmp_path / "login").chmod(0o644)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "note.txt").write_text("no directory")
    os.mkfifo(tmp_path / "fifo", 0o600)
    return tmp_path


def check(directory: Path, bundle: Path, text: str) -> str:
    config = directory / "line.toml"
    config.write_text(f'bundle = "{bundle}"\n{text}\n', encoding="utf-8")
    return check_station(load_settings(config))


@pytest.mark.parametrize(
    ("text", "error", "complaint"),
    [
        ("[source]\nkind = 'folder'\npath = 'absent'", SourceError, "absent: no such"),
        ("[source]\nkind = 'folder'", SourceError, "source.path is empty"),
        ("[source]\nkind = 'folder'\npath = 'empty'", SourceError, "no pictures among 0 entries"),
        ("[source]\nkind = 'video'\npath = 'absent.mp4'", SourceError, "absent.mp4: no such video"),
        ("[source]\nkind = 'video'\npath = 'broken.mp4'", SourceError, "broken.mp4: not a video"),
        ("[source]\nkind = 'video'\npath = 'fifo'", SourceError, "fifo: no such video file"),
        ("[source]\nkind = 'camera'\ndevice = 'webcam'", SourceError, "source.device 'webcam'"),
        (
            "[source]\nkind = 'camera'\ndevice = 'rtsp://127.0.0.1/x'\ncredentials_file = 'login'",
            SourceError,
            "login: everybody on this machine may read",
        ),
        ("[mqtt]\nuser = 'u'\npassword_file = 'login'", SettingsError, "login: everybody on this machine may read"),
        ("[mqtt]\nuser = 'u'\npassword_file = 'fifo'", SettingsError, "fifo: cannot be read (it is no regular file)"),
        ("[mqtt]\ntls = true\nca_file = 'fifo'", SettingsError, "fifo: cannot be used (it is no regular file)"),
        ("[mqtt]\ntls = true\nca_file = 'absent'", SettingsError, "absent: cannot be used"),
        ("[outbox]\ndirectory = 'note.txt/outbox'", DeliveryError, "note.txt is no directory"),
        ("[inspection]\ncache_dir = 'note.txt'", SettingsError, "note.txt is no directory"),
        ("[inspection]\nmask = 'fifo'", PatchlineError, "fifo"),
        ("[inspection]\nmask = 'absent.png'", PatchlineError, "absent.png"),
        (
            "[sparkplug]\nenabled = true\n[sparkplug.mqtt]\nuser = 'u'\npassword_file = 'absent'",
            SettingsError,
            "absent: cannot be read",
        ),
    ],
)
def test_what_the_start_would_refuse_is_refused(
    here: Path, bundle_dir: Path, text: str, error: type[PatchlineError], complaint: str
) -> None:
    with pytest.raises(error) as caught:
        check(here, bundle_dir, text)
    assert complaint in str(caught.value)


def test_recipes_are_looked_at_too(here: Path, bundle_dir: Path) -> None:
    with pytest.raises(PatchlineError, match="empty"):
        check(here, bundle_dir, f"[recipes]\na = '{bundle_dir}'\nb = 'empty'")


def test_a_station_that_can_start_is_valid(here: Path, bundle_dir: Path, good_pictures: Path) -> None:
    (here / "password").write_text("secret")
    (here / "password").chmod(0o400)
    text = f"[source]\nkind = 'folder'\npath = '{good_pictures}'\n[mqtt]\nuser = 'u'\npassword_file = 'password'"
    assert len(check(here, bundle_dir, text)) == 12
    assert not (here / "state").exists()  # nothing is made


def test_everything_that_is_wrong_is_said_at_once(here: Path) -> None:
    (here / "line.toml").write_text(
        "[source]\nkind = 'video'\npath = 'absent.mp4'\n[mqtt]\nuser = 'u'\npassword_file = 'login'\n"
    )
    command = [str(EDGE), "run", "--config", str(here / "line.toml"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == SourceError.exit_code
    assert len(done.stderr.splitlines()) == 1
    for complaint in (
        "absent.mp4: no such video file",
        "login: everybody on this machine",
        "bundle: no such directory",
    ):
        assert complaint in done.stderr
