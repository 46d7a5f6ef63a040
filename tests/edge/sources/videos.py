"""Videos for tests: frames that are told apart, and packets damaged in one stated way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from edge.records import UInt8Array

GOP = 6
SIZE = (96, 128)
Damage = Callable[[bytes], bytes]

DAMAGES: dict[str, Damage] = {
    "cut": lambda data: data[: len(data) // 2],
    "zeroed": lambda data: bytes(len(data)),
    "half zeroed": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "garbage": lambda data: np.random.default_rng(0).bytes(len(data)),
}


def moving_texture(number: int) -> UInt8Array:
    """A texture that moves three pixels a frame, with noise: what follows builds on what was before."""
    texture = np.random.default_rng(0).integers(0, 256, (SIZE[0] // 8, SIZE[1] // 8, 3), np.uint8)
    picture = np.roll(np.kron(texture, np.ones((8, 8, 1), np.uint8)), 3 * number, axis=1)
    noise = np.random.default_rng(number).integers(0, 9, picture.shape, np.uint8)
    return np.asarray(picture // 2 + noise, np.uint8)


def write_video(path: Path, codec: str, frames: int, options: dict[str, str] | None = None) -> None:
    """A key frame in every `GOP`; `codec` as FFmpeg's encoder is called."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = GOP
        stream.bit_rate = 4_000_000
        for number in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moving_texture(number), "bgr24")))
        container.mux(stream.encode(None))


def damage_packet(path: Path, number: int, damage: Damage) -> None:
    """Write the video again with packet `number` damaged."""
    copy = path.with_suffix(f".damaged{path.suffix}")
    with av.open(str(path)) as source, av.open(str(copy), "w") as target:
        (stream,) = source.streams.video
        written = target.add_stream_from_template(stream)
        for place, packet in enumerate(packet for packet in source.demux(stream) if packet.size):
            altered = av.Packet(damage(bytes(packet)) if place == number else bytes(packet))
            altered.pts, altered.dts, altered.time_base = packet.pts, packet.dts, packet.time_base
            altered.is_keyframe, altered.stream = packet.is_keyframe, written
            target.mux(altered)
    copy.replace(path)
