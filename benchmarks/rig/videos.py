"""Videos whose packets are damaged one by one: what a camera, a cable and a disk do to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import av
from av.video.stream import VideoStream

from edge.records import UInt8Array

GOP = 6
Damage = Callable[[bytes], bytes]


def write_video(path: Path, codec: str, pictures: Iterable[UInt8Array], options: dict[str, str] | None = None) -> None:
    """Pictures of one size (height, width, 3) BGR, every `GOP`-th a key frame; `codec` as FFmpeg calls its encoder."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        assert isinstance(stream, VideoStream)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = GOP
        stream.bit_rate = 4_000_000
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "bgr24")))
        container.mux(stream.encode(None))


def damage_packet(path: Path, damaged: Path, number: int, damage: Damage) -> None:
    """Write the video at `path` to `damaged` with packet `number`, in the order of decoding, damaged."""
    with av.open(str(path)) as source, av.open(str(damaged), "w") as target:
        (stream,) = source.streams.video
        written = target.add_stream_from_template(stream)
        for place, packet in enumerate(packet for packet in source.demux(stream) if packet.size):
            altered = av.Packet(damage(bytes(packet)) if place == number else bytes(packet))
            altered.pts, altered.dts, altered.time_base = packet.pts, packet.dts, packet.time_base
            altered.is_keyframe, altered.stream = packet.is_keyframe, written
            target.mux(altered)
