from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import SourceError
from edge.records import Frame
from edge.settings.source import CameraSettings
from edge.sources import open_source
from edge.sources.address import Address
from edge.sources.base import PixelLimit, Shot, Source, SourceState, unusable
from edge.sources.camera import LONGEST_BACK_OFF_S, SHORTEST_BACK_OFF_S, CameraSource, lengthen
from edge.sources.capture import Capture, CaptureOpener

from .mjpeg import MjpegCamera, Mood, wait_until


def settings(
    device: str,
    *,
    credentials_file: Path | None = None,
    width: int | None = None,
    height: int | None = None,
    frames: int | None = None,
    refuse_identical: bool = True,
) -> CameraSettings:
    return CameraSettings(
        device=device,
        credentials_file=credentials_file,
        width=width,
        height=height,
        frames=frames,
        refuse_identical=refuse_identical,
        open_timeout_s=1.0,
        read_timeout_s=0.5,
    )


@contextmanager
def opened(wanted: CameraSettings) -> Iterator[Source]:
    source = open_source(wanted)
    try:
        yield source
    finally:
        source.close()


def next_frame(source: Source) -> Frame:
    frame = source.read(20)
    assert frame is not None
    return frame


def messages(caplog: pytest.LogCaptureFixture, word: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if word in record.getMessage()]


def test_a_camera_is_live_and_numbers_its_frames() -> None:
    with MjpegCamera() as camera, opened(settings(camera.address)) as source:
        assert source.live
        before_s = time.monotonic()
        first, second = next_frame(source), next_frame(source)
        assert source.state is SourceState.STREAMING
    assert first.image.shape == (48, 64, 3)
    assert first.image.dtype == np.uint8
    assert second.identity.sequence > first.identity.sequence
    assert second.identity.name == f"camera#{second.identity.sequence}"
    assert second.identity.captured_monotonic_s >= before_s
    assert abs(second.identity.captured_at_s - time.time()) < 60
    assert not np.shares_memory(first.image, second.image)


def test_the_newest_frame_wins_and_every_gap_is_a_counted_drop() -> None:
    with MjpegCamera(frames=30) as camera, opened(settings(camera.address)) as source:
        first = next_frame(source)
        before = source.dropped  # what came while it was looked into may be replaced before anybody reads
        wait_until(lambda: source.dropped >= before + 10)
        newest = next_frame(source)
        assert newest.identity.sequence >= first.identity.sequence + 10
        assert newest.image.mean() > first.image.mean() + 8
        read = 2
        while (frame := source.read(0.4)) is not None:
            newest, read = frame, read + 1
        assert newest.identity.sequence + 1 == read + source.dropped
        assert camera.sent == 30


def test_a_frame_that_is_cut_off_is_a_frame_without_a_picture() -> None:
    with MjpegCamera(size=(240, 320)) as camera, opened(settings(camera.address)) as source:
        assert not next_frame(source).unusable
        camera.mood = Mood.CUT
        wait_until(lambda: next_frame(source).unusable.startswith("JPEG cut off or damaged"))
        wait_until(lambda: not next_frame(source).unusable)  # every second one is whole
        assert source.state is SourceState.STREAMING
        camera.mood = Mood.STREAM
        wait_until(lambda: all(not next_frame(source).unusable for _ in range(5)))


def test_a_stream_that_changes_its_size_is_not_scaled() -> None:
    with MjpegCamera(size=(48, 64)) as camera, opened(settings(camera.address)) as source:
        assert next_frame(source).image.shape == (48, 64, 3)
        camera.size = (108, 192)
        wait_until(lambda: next_frame(source).image.shape == (108, 192, 3))
        camera.size = (48, 64)
        wait_until(lambda: next_frame(source).image.shape == (48, 64, 3))


def test_a_picture_of_too_many_pixels_is_not_decoded_and_the_rest_goes_on() -> None:
    with MjpegCamera(size=(48, 64)) as camera:
        source = open_source(settings(camera.address), lambda: 48 * 64)
        try:
            assert not next_frame(source).unusable
            camera.mood = Mood.HUGE
            wait_until(lambda: next_frame(source).unusable.startswith("16000×16000 pixels; expected at most 3072"))
            camera.mood = Mood.STREAM
            wait_until(lambda: not next_frame(source).unusable)
        finally:
            source.close()


def test_a_stream_that_stops_is_away_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO),
        MjpegCamera() as camera,
        opened(settings(camera.address)) as source,
    ):
        before = next_frame(source)
        camera.switch_off()
        wait_until(lambda: source.state is SourceState.AWAY)
        source.read(0)  # the last frame before the break, if it was not read yet
        assert source.read(0.3) is None
        camera.switch_on()
        after = next_frame(source)
        assert source.state is SourceState.STREAMING
        assert after.identity.sequence > before.identity.sequence
    assert len(messages(caplog, "away, waiting")) == 1
    assert len(messages(caplog, "back after")) == 1


@pytest.mark.parametrize("mood", [Mood.HANG, Mood.CLOSE, Mood.GARBAGE])
def test_a_camera_that_misbehaves_is_away_until_it_streams_again(mood: Mood, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO),
        MjpegCamera() as camera,
        opened(settings(camera.address)) as source,
    ):
        next_frame(source)
        camera.mood = mood
        wait_until(lambda: source.state is SourceState.AWAY)
        camera.mood = Mood.STREAM
        wait_until(lambda: source.state is SourceState.STREAMING)
        next_frame(source)
    assert len(messages(caplog, "away, waiting")) == 1
    assert len(messages(caplog, "back after")) == 1


def test_a_frame_equal_to_the_one_before_is_stale_and_a_frozen_camera_away_until_it_moves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.INFO),
        MjpegCamera() as camera,
        opened(settings(camera.address)) as source,
    ):
        for _ in range(5):
            assert not next_frame(source).stale
        camera.mood = Mood.FREEZE
        wait_until(lambda: next_frame(source).stale)
        wait_until(lambda: source.state is SourceState.AWAY)
        assert all(next_frame(source).stale for _ in range(5))
        camera.mood = Mood.STREAM
        wait_until(lambda: not next_frame(source).stale)
        assert source.state is SourceState.STREAMING
    (away,) = messages(caplog, "away, waiting")
    assert "no new picture for 0.5 s: it is frozen" in away
    assert len(messages(caplog, "back after")) == 1


def test_a_camera_that_was_frozen_when_it_went_is_not_back_with_the_same_picture() -> None:
    with MjpegCamera() as camera, opened(settings(camera.address)) as source:
        next_frame(source)
        camera.mood = Mood.FREEZE
        wait_until(lambda: next_frame(source).stale)
        camera.switch_off()
        wait_until(lambda: source.state is SourceState.AWAY)
        source.read(0)  # the last frame before the break, if it was not read yet
        camera.switch_on()
        assert all(next_frame(source).stale for _ in range(5))
        assert source.state is SourceState.AWAY


def test_a_camera_switched_on_later_than_the_station_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    camera = MjpegCamera()
    camera.switch_on()
    camera.switch_off()  # its port is known now, and nobody listens there
    with opened(settings(camera.address)) as source:
        assert source.state is SourceState.AWAY
        assert source.read(0.01) is None
        assert len(messages(caplog, "does not answer")) == 1
        with camera:
            assert next_frame(source).identity.sequence <= source.dropped  # counted from 0
    assert len(messages(caplog, "back after")) == 1


def test_a_frame_of_another_size_than_asked_for_is_refused_at_open() -> None:
    with MjpegCamera(size=(48, 64)) as camera:
        with pytest.raises(SourceError, match=r"asked for width 128, got 64; set source\.width"):
            open_source(settings(camera.address, width=128))
        with pytest.raises(SourceError, match="asked for height 50, got 48"):
            open_source(settings(camera.address, width=64, height=50))
        with opened(settings(camera.address, width=64, height=48)) as source:
            assert next_frame(source).image.shape == (48, 64, 3)


def test_a_camera_that_returns_with_another_size_stays_away() -> None:
    with MjpegCamera() as camera, opened(settings(camera.address, width=64)) as source:
        next_frame(source)
        camera.switch_off()
        camera.size = (48, 96)
        camera.switch_on()
        sent = camera.sent
        wait_until(lambda: source.state is SourceState.AWAY and camera.sent > sent)
        source.read(0)  # the last frame before the break, if it was not read yet
        assert source.read(0.5) is None
        camera.switch_off()
        camera.size = (48, 64)
        camera.switch_on()
        assert next_frame(source).image.shape == (48, 64, 3)


SECRET = "p@ss:w/rd?%41#"


def test_user_and_password_come_from_a_file_and_are_told_to_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "login").write_text(f"line user:{SECRET}\n")
    (tmp_path / "login").chmod(0o600)
    with (
        caplog.at_level(logging.DEBUG),
        MjpegCamera(login=f"line user:{SECRET}") as camera,
        opened(settings(camera.address, credentials_file=tmp_path / "login")) as source,
    ):
        next_frame(source)
        camera.switch_off()
        wait_until(lambda: source.state is SourceState.AWAY)
        camera.switch_on()
        wait_until(lambda: source.state is SourceState.STREAMING)
    output = capfd.readouterr()
    for text in (caplog.text, output.out, output.err):
        for part in ("p@ss", "p%40ss", "line user", "line%20user"):
            assert part not in text


def test_a_wrong_password_is_told_apart_from_a_camera_that_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "login").write_text("user:mistaken")
    (tmp_path / "login").chmod(0o600)
    with (
        MjpegCamera(login="user:right") as camera,
        opened(settings(camera.address, credentials_file=tmp_path / "login")) as source,
    ):
        assert source.state is SourceState.AWAY
    (line,) = messages(caplog, "away, waiting")
    assert "answers but gives no video: check path, user and password" in line
    output = capfd.readouterr()
    assert "mistaken" not in caplog.text + output.out + output.err


@pytest.mark.parametrize(
    "device",
    ["file:///etc/hostname", "concat://a", "udp://127.0.0.1:9", "tcp://127.0.0.1:9", "ftp://h/x", "://x"],
)
def test_schemes_that_are_not_for_cameras_are_refused(device: str) -> None:
    with pytest.raises(SourceError, match="refused; expected one of http, https, rtsp, rtsps"):
        open_source(settings(device))


@pytest.mark.parametrize("device", ["", "-1", "camera", "/etc/hostname", "video0", "rtsp:/host"])
def test_what_is_no_index_device_or_address_is_refused(device: str) -> None:
    with pytest.raises(SourceError, match="expected an index"):
        open_source(settings(device))


@pytest.mark.parametrize(
    "device",
    [
        "rtsp://user:hush@127.0.0.1/stream",
        "rtsp://user:hush@127.0.0.1:notaport/stream",
        "rtsp://user:hu/hush@127.0.0.1/stream",
        "rtsp://user:12/hush@127.0.0.1/stream",
        "user:hush@127.0.0.1/stream",
        "ftp://user:hush@127.0.0.1",
        "gopher://127.0.0.1/user=a&password=hush",
        "gopher://127.0.0.1/stream?password=hush",
        "http://:80/password=hush",
    ],
)
def test_a_refusal_never_repeats_a_password(device: str) -> None:
    with pytest.raises(SourceError) as refused:
        open_source(settings(device))
    assert "hush" not in "".join(traceback.format_exception(refused.value, limit=0))


def test_a_password_in_the_address_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(SourceError, match=r"source\.credentials_file"):
        open_source(settings("rtsp://user:hush@127.0.0.1/stream"))


def test_a_secret_in_the_query_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with opened(settings("http://127.0.0.1:9/video?token=hush")) as source:
        assert source.state is SourceState.AWAY
    assert "http://127.0.0.1:9/video?…" in caplog.text or "127.0.0.1 port 9" in caplog.text
    assert "hush" not in caplog.text


@pytest.mark.parametrize("contents", ["", "hush", ":hush", "user:hush\nmore"])
def test_credentials_of_another_form_are_refused_without_repeating_them(tmp_path: Path, contents: str) -> None:
    (tmp_path / "login").write_text(contents)
    (tmp_path / "login").chmod(0o600)
    with pytest.raises(SourceError, match="expected one line, user:password") as refused:
        open_source(settings("rtsp://127.0.0.1/x", credentials_file=tmp_path / "login"))
    assert "hush" not in str(refused.value)


def test_credentials_that_cannot_be_read_or_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent: cannot be read \(No such file"):
        open_source(settings("rtsp://127.0.0.1/x", credentials_file=tmp_path / "absent"))
    with pytest.raises(SourceError, match=r"%d/camera: .*LoadCredential="):
        open_source(settings("rtsp://127.0.0.1/x", credentials_file=Path("%d/camera")))
    (tmp_path / "login").write_bytes(b"user:\xff\xfe")
    (tmp_path / "login").chmod(0o600)
    with pytest.raises(SourceError, match="not UTF-8"):
        open_source(settings("rtsp://127.0.0.1/x", credentials_file=tmp_path / "login"))
    with pytest.raises(SourceError, match="credentials_file is for addresses"):
        open_source(settings("0", credentials_file=tmp_path / "login"))


def test_an_index_without_a_camera_is_refused() -> None:
    with pytest.raises(SourceError, match="/dev/video97 does not exist"):
        open_source(settings("97"))


def test_a_device_that_is_not_plugged_in_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with opened(settings("/dev/v4l/by-id/usb-absent")) as source:
        assert source.state is SourceState.AWAY
        assert source.read(0.01) is None
    (line,) = messages(caplog, "away, waiting")
    assert "/dev/v4l/by-id/usb-absent does not exist: is it plugged in?" in line


def test_a_path_that_is_no_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").touch()
    with pytest.raises(SourceError, match="expected a camera, got something else"):
        open_source(settings(f"/dev/..{tmp_path}/picture.png"))


def test_a_device_that_is_no_camera_is_away(caplog: pytest.LogCaptureFixture) -> None:
    with opened(settings("/dev/null")) as source:
        assert source.state is SourceState.AWAY
    assert "gives no video" in caplog.text


def test_settings_that_an_address_cannot_take_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with MjpegCamera() as camera:
        wanted = CameraSettings(device=camera.address, fps=10, exposure=3)
        open_source(wanted).close()
    assert "auto_exposure, exposure, fps ignored" in caplog.text


def test_the_number_of_frames_ends_the_camera() -> None:
    with MjpegCamera() as camera, opened(settings(camera.address, frames=3)) as source:
        for _ in range(3):
            next_frame(source)
        assert source.state is SourceState.ENDED
        assert source.read(1) is None


def test_closing_wakes_a_waiting_read_and_ends_the_thread() -> None:
    with MjpegCamera() as camera:
        camera.mood = Mood.HANG
        before = threading.active_count()
        source = open_source(settings(camera.address))
        answers: list[Frame | None] = []
        reader = threading.Thread(target=lambda: answers.append(source.read(60)))
        reader.start()
        source.close()
        reader.join(20)
        source.close()
        assert answers == [None]
        assert source.state is SourceState.ENDED
        wait_until(lambda: threading.active_count() <= before + 1)  # the test camera's own connection


class FakeDriver:
    """A camera driver in memory: hands out captures that block, fail or stream, as it was told."""

    def __init__(self, *behaviours: str) -> None:
        self.opened = 0
        self.released = 0
        self.read = 0  # pictures unlike the one before
        self.unblock = threading.Event()
        self._behaviours = behaviours

    def open(self, _address: Address, _settings: CameraSettings, _max_pixels: PixelLimit) -> Capture:
        behaviour = self._behaviours[min(self.opened, len(self._behaviours) - 1)]
        self.opened += 1
        if behaviour == "crash":
            raise RuntimeError("the driver has a bug")
        return FakeCapture(self, behaviour)


class FakeCapture:
    def __init__(self, driver: FakeDriver, behaviour: str) -> None:
        self._driver = driver
        self._behaviour = behaviour

    def read(self) -> Shot | None:
        if self._behaviour == "block":
            self._driver.unblock.wait()
            return Shot(np.zeros((2, 2, 3), np.uint8))
        if self._behaviour == "damage":
            time.sleep(0.005)
            return unusable("cut off")
        time.sleep(0.005)
        image = np.full((2, 2, 3), 7, np.uint8)
        if self._behaviour != "freeze":
            self._driver.read += 1
            image[1, 1] = self._driver.read % 256
        return Shot(image)

    def release(self) -> None:
        self._driver.released += 1


@contextmanager
def driven(driver: FakeDriver, *, refuse_identical: bool = True) -> Iterator[CameraSource]:
    opener: CaptureOpener = driver.open
    source = CameraSource(settings("/dev/null", refuse_identical=refuse_identical), lambda: 100, opener)
    try:
        yield source
    finally:
        driver.unblock.set()
        source.close()


def test_a_blocked_capture_is_abandoned_and_another_one_takes_over(caplog: pytest.LogCaptureFixture) -> None:
    driver = FakeDriver("block", "stream")
    with driven(driver) as source:
        frame = next_frame(source)
        assert frame.identity.sequence == 0
        driver.unblock.set()  # what the abandoned thread captured at last is not a frame any more
        wait_until(lambda: driver.released == 1)
        assert all(next_frame(source).image[0, 0, 0] == 7 for _ in range(20))
    assert len(messages(caplog, "its thread is abandoned")) == 1


def test_no_more_than_one_blocked_thread_is_ever_left_behind() -> None:
    driver = FakeDriver("block")
    before = threading.active_count()
    with driven(driver) as source:
        wait_until(lambda: source.read(0.05) is None and driver.opened == 2)
        for _ in range(10):
            assert source.read(0.3) is None
        assert driver.opened == 2
        assert threading.active_count() == before + 2
        assert source.state is SourceState.AWAY
        driver.unblock.set()
        wait_until(lambda: source.read(0.05) is not None)


def test_a_bug_in_capture_is_reported_and_the_camera_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    driver = FakeDriver("crash", "stream")
    with driven(driver) as source:
        assert next_frame(source).image[0, 0, 0] == 7
    assert "the driver has a bug" in caplog.text


def test_a_frozen_camera_is_opened_again_with_growing_back_off_until_it_gives_another_picture(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    driver = FakeDriver("freeze", "freeze", "freeze", "stream")
    with driven(driver) as source:
        assert not next_frame(source).stale
        wait_until(lambda: next_frame(source).stale and source.state is SourceState.AWAY)
        wait_until(lambda: not next_frame(source).stale)
        assert source.state is SourceState.STREAMING
        assert (driver.opened, driver.released) == (4, 3)
    (away,) = messages(caplog, "away, waiting")
    assert "no new picture for 0.5 s: it is frozen" in away
    assert "source.refuse_identical = false" in away
    assert len(messages(caplog, "back after")) == 1


def test_a_camera_that_sends_only_damage_is_answered_away_and_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    driver = FakeDriver("damage", "damage", "stream")
    with driven(driver) as source:
        wait_until(lambda: next_frame(source).unusable == "cut off" and source.state is SourceState.AWAY)
        wait_until(lambda: not next_frame(source).unusable)
        assert source.state is SourceState.STREAMING
        assert driver.opened == 3
    (away,) = messages(caplog, "away, waiting")
    assert "no whole picture for 0.5 s" in away
    assert len(messages(caplog, "back after")) == 1


def test_pictures_that_may_repeat_are_not_stale() -> None:
    driver = FakeDriver("freeze")
    with driven(driver, refuse_identical=False) as source:
        end_s = time.monotonic() + 1.5  # three times the time after which a frozen camera counts as away
        while time.monotonic() < end_s:
            assert not next_frame(source).stale
        assert source.state is SourceState.STREAMING
        assert driver.opened == 1


@given(st.floats(SHORTEST_BACK_OFF_S, LONGEST_BACK_OFF_S), st.floats(0, 1, exclude_max=True))
def test_a_back_off_stays_between_its_bounds(back_off_s: float, chance: float) -> None:
    assert SHORTEST_BACK_OFF_S <= lengthen(back_off_s, chance) <= min(LONGEST_BACK_OFF_S, 3 * back_off_s)


def test_back_offs_grow_to_the_longest() -> None:
    back_off_s = SHORTEST_BACK_OFF_S
    for _ in range(10):
        back_off_s = lengthen(back_off_s, 0.999)
    assert back_off_s > 0.99 * LONGEST_BACK_OFF_S
