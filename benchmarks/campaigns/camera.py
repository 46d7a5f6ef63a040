"""Videos and cameras whose packets come damaged: no wrong verdict, no frame without an answer.

Parts of the simulated line, good and defective, are filmed as cameras and recorders do. One packet of each attack is
damaged, the video is read by the real source (files) or from a real HTTP server (streams), and every frame is judged
with a real bundle. A verdict on a frame that differs from what was sent is wrong, whatever it says. What a code without
a checksum cannot show, a few bytes overwritten in the middle, is attacked too, and counted apart.
"""

from __future__ import annotations

import functools
import random
import resource
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np

from benchmarks.campaigns import CampaignError, Rows
from benchmarks.rig.plate import teach_plate
from benchmarks.rig.station import FRAME_SIZE
from benchmarks.rig.videos import Damage, damage_packet, write_video
from edge.bundle.bundle import read_bundle
from edge.inspection.inspector import Inspector
from edge.records import Frame, FrameIdentity, Outcome, Reason, UInt8Array
from edge.settings.source import CameraSettings, VideoSettings
from edge.sources.address import parse_address
from edge.sources.base import Shot, SourceState
from edge.sources.capture import open_capture
from edge.sources.simulated.source import draw_part
from edge.sources.video import open_video

COUNT = 180

_FRAMES = 18
_FIRST_PART = 2000  # unseen in teaching
_MAX_PIXELS = 2**23


# What is promised to be noticed, wherever it strikes; `share` is a random place, from 10 to 90 % of the packet.
DAMAGES: dict[str, Callable[[bytes, float], bytes]] = {
    "cut off": lambda data, share: data[: round(share * len(data))],
    "a quarter missing": lambda data, share: (
        data[: round(share * len(data))] + data[round((share + 0.25) * len(data)) :]
    ),
    "zeroed to the end": lambda data, share: data[: round(share * len(data))].ljust(len(data), b"\0"),
    "zeroed": lambda data, _: bytes(len(data)),
    "random bytes": lambda data, share: random.Random(share).randbytes(len(data)),
}
# What is not: JPEG and most codes have no checksum.
SMALL_DAMAGES: dict[str, Callable[[bytes, float], bytes]] = {
    "one bit": lambda data, share: _overwrite(data, share, bytes([data[round(share * len(data))] ^ 4])),
    "64 bytes": lambda data, share: _overwrite(data, share, random.Random(share).randbytes(64)),
}
JPEG_DAMAGES: dict[str, Callable[[bytes, float], bytes]] = {
    "half the size": lambda data, _: _jpeg(_picture(data)[::2, ::2]),
    "16,000 × 16,000": lambda data, _: _announce(data, 16_000),
}


@dataclass(frozen=True, slots=True)
class Carrier:
    """A way in which pictures come."""

    name: str
    codec: str
    suffix: str
    options: dict[str, str]
    over_http: bool = False

    def file(self, directory: Path) -> Path:
        """Where the undamaged video lies."""
        return directory / f"{self.name.replace(' ', '-')}{self.suffix}"

    def write(self, path: Path, pictures: Sequence[UInt8Array]) -> None:
        """What it would send or store."""
        if self.suffix == MULTIPART:
            path.write_bytes(_multipart([_jpeg(picture) for picture in pictures]))
        else:
            write_video(path, self.codec, pictures, self.options)

    def damage(self, path: Path, damaged: Path, number: int, damage: Damage) -> None:
        """The same with the packet of this number damaged."""
        if self.suffix == MULTIPART:
            jpegs = [part.partition(b"\r\n\r\n")[2][:-2] for part in path.read_bytes().split(_BOUNDARY)[1:]]
            jpegs[number] = damage(jpegs[number])
            damaged.write_bytes(_multipart(jpegs))
        else:
            damage_packet(path, damaged, number, damage)


MULTIPART = ".multipart"
CARRIERS = (
    Carrier("MJPEG file", "mjpeg", ".avi", {}),
    Carrier("MJPEG camera", "mjpeg", MULTIPART, {}, over_http=True),
    Carrier("H.264 file", "libx264", ".mp4", {"bf": "2"}),
    Carrier("H.264 camera", "libx264", ".mkv", {"tune": "zerolatency"}, over_http=True),
    Carrier("H.265 file", "libx265", ".mkv", {"x265-params": "log-level=none:bframes=2", "preset": "ultrafast"}),
    Carrier("MPEG-4 file", "mpeg4", ".mp4", {}),
)
_BOUNDARY = b"--frame\r\n"


def run(count: int, seed: int) -> Rows:
    """Damage `count` packets, one a video, all ways in turn."""
    dice = random.Random(seed)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name, _served(Path(name)) as address:
        work = Path(name)
        inspector = Inspector(read_bundle(teach_plate(work)))
        parts = [draw_part(11, _FIRST_PART + number, FRAME_SIZE, defect_rate=0.5).image for number in range(_FRAMES)]
        whole: dict[str, list[Frame]] = {}
        for carrier in CARRIERS:
            carrier.write(carrier.file(work), parts)
            whole[carrier.name] = _read(carrier, carrier.file(work), address)
            _check_whole(inspector, carrier, whole[carrier.name], counts)
        for attack in range(count):
            carrier = CARRIERS[attack % len(CARRIERS)]
            kinds = {**DAMAGES, **SMALL_DAMAGES, **(JPEG_DAMAGES if carrier.codec == "mjpeg" else {})}
            kind, number, share = dice.choice(list(kinds)), dice.randrange(_FRAMES), dice.uniform(0.1, 0.9)
            damaged = work / f"damaged{carrier.suffix}"
            carrier.damage(carrier.file(work), damaged, number, functools.partial(_apply, kinds[kind], share))
            frames = _read(carrier, damaged, address)
            what = f"attack {attack}, {carrier.name}, packet {number} {kind} at {share}"
            _judge(inspector, frames, whole[carrier.name], counts, what=what, promised=kind not in SMALL_DAMAGES)
    return _rows(count, counts)


def _apply(damage: Callable[[bytes, float], bytes], share: float, data: bytes) -> bytes:
    return damage(data, share)


def _check_whole(inspector: Inspector, carrier: Carrier, frames: list[Frame], counts: Counter[str]) -> None:
    outcomes = Counter(inspector.answer(frame).outcome for frame in frames)
    if len(frames) != _FRAMES or outcomes[Outcome.NO_RESULT]:
        raise CampaignError(f"{carrier.name}: {len(frames)} whole frames of {_FRAMES}, answers {dict(outcomes)}")
    counts["whole PASS"] += outcomes[Outcome.PASS]
    counts["whole FAIL"] += outcomes[Outcome.FAIL]


def _judge(
    inspector: Inspector, frames: list[Frame], whole: list[Frame], counts: Counter[str], *, what: str, promised: bool
) -> None:
    if len(frames) != len(whole):
        raise CampaignError(f"{what}: {len(frames)} answers to {len(whole)} frames")
    noticed, altered = False, 0
    for frame, sent in zip(frames, whole, strict=True):
        verdict = inspector.answer(frame)
        counts["answers"] += 1
        if verdict.outcome is Outcome.NO_RESULT:
            noticed = True
            counts["NO_RESULT"] += 1
            if verdict.reason is not Reason.IMAGE_UNUSABLE:
                raise CampaignError(f"{what}: {verdict.reason.value} ({verdict.detail})")
        elif not np.array_equal(frame.image, sent.image):
            altered += 1
    if altered and promised:
        raise CampaignError(f"{what}: {altered} frames were judged that differ from what was sent")
    kind = "promised" if promised else "small"
    counts[kind] += 1
    counts[f"{kind} noticed"] += noticed
    counts[f"{kind} judged"] += altered > 0


def _rows(count: int, counts: Counter[str]) -> Rows:
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        ("videos with a damaged packet", f"{count}"),
        ("ways", ", ".join(carrier.name for carrier in CARRIERS)),
        ("parts filmed that pass, and that fail, undamaged", f"{counts['whole PASS']}, {counts['whole FAIL']}"),
        ("frames sent = answers", f"{counts['answers']}"),
        ("  of them NO_RESULT, image_unusable", f"{counts['NO_RESULT']}"),
        ("cut off, missing, zeroed, random, resized: noticed", f"{counts['promised noticed']} of {counts['promised']}"),
        ("  verdicts on frames that differ from what was sent", f"{counts['promised judged']}"),
        ("one bit, 64 bytes overwritten: noticed", f"{counts['small noticed']} of {counts['small']}"),
        ("  videos with verdicts on frames that differ", f"{counts['small judged']}"),
        ("peak memory", f"{peak_mb:.0f} MB"),
    )


def _read(carrier: Carrier, path: Path, address: str) -> list[Frame]:
    if not carrier.over_http:
        return list(_frames_of_file(path))
    shots = _shots_of_camera(f"{address}/{path.name}")
    return [_frame(number, shot) for number, shot in enumerate(shots)]


def _frames_of_file(path: Path) -> Iterator[Frame]:
    source = open_video(VideoSettings(path=str(path)), lambda: _MAX_PIXELS)
    while source.state is not SourceState.ENDED:
        frame = source.read(10)
        if frame is not None:
            yield frame


def _shots_of_camera(device: str) -> list[Shot]:
    settings = CameraSettings(device=device)
    capture = open_capture(parse_address(device, None), settings, lambda: _MAX_PIXELS)
    try:
        return list(iter(capture.read, None))
    finally:
        capture.release()


def _frame(number: int, shot: Shot) -> Frame:
    return Frame(FrameIdentity(number, time.time(), time.monotonic()), shot.image, unusable=shot.unusable)


class _Camera(SimpleHTTPRequestHandler):
    """Sends what lies in its directory; pictures in parts, as cameras do."""

    extensions_map = {  # noqa: RUF012 — as the base class has it
        **SimpleHTTPRequestHandler.extensions_map,
        MULTIPART: "multipart/x-mixed-replace; boundary=frame",
    }

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@contextmanager
def _served(directory: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Camera, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _multipart(jpegs: Sequence[bytes]) -> bytes:
    head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    return b"".join(_BOUNDARY + head % len(jpeg) + jpeg + b"\r\n" for jpeg in jpegs)


def _jpeg(picture: UInt8Array) -> bytes:
    return cv2.imencode(".jpg", picture)[1].tobytes()


def _picture(jpeg: bytes) -> UInt8Array:
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def _announce(jpeg: bytes, side: int) -> bytes:
    """Another size in its header."""
    height = jpeg.index(b"\xff\xc0") + 5  # behind marker, length and precision
    return jpeg[:height] + 2 * side.to_bytes(2, "big") + jpeg[height + 4 :]


def _cut_out(data: bytes, share: float) -> bytes:
    """Without a quarter of it, or as much as follows."""
    return data[: round(share * len(data))] + data[round((share + 0.25) * len(data)) :]


def _overwrite(data: bytes, share: float, with_bytes: bytes) -> bytes:
    place = round(share * len(data))
    return data[:place] + with_bytes[: len(data) - place] + data[place + len(with_bytes) :]
