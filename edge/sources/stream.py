"""A video file or a network camera, read packet by packet with FFmpeg."""

from __future__ import annotations

import os
from collections import deque
from typing import IO

import av
import av.logging
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from edge.errors import SourceError
from edge.sources.base import PixelLimit, Shot
from edge.sources.decoding import make_decoder

# OpenCV's own variable, `key;value|key;value`: what an operator has set for it is still heeded.
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


class VideoRead:
    """An opened video. Its calls may block as long as its time-outs say."""

    def __init__(
        self,
        place: str | IO[bytes],
        label: str,
        max_pixels: PixelLimit,
        *,
        timeouts_s: tuple[float, float] | None = None,  # of opening, and of every packet
    ) -> None:
        """Open `place`, an address or an open file, which `label` names for people.

        Raises:
            SourceError: it cannot be opened, or holds no video that can be decoded. Nothing else is said: FFmpeg's own
                words repeat the address, which may hold a password.
        """
        av.logging.set_level(None)
        options = {"rtsp_transport": "tcp", "max_pixels": str(max_pixels()), **_operators_options()}
        try:
            self._container = av.open(place, "r", options=options, timeout=timeouts_s)
        except (FFmpegError, OSError, ValueError):  # OSError: of a file that sends us beyond its end
            raise SourceError(f"{label}: not a video that can be decoded") from None
        stream = self._container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.codec_context is None:
            self._container.close()
            raise SourceError(f"{label}: not a video that can be decoded: it holds none")
        self._packets = self._container.demux(stream)
        self.width, self.height = stream.codec_context.width, stream.codec_context.height
        self._decoder = make_decoder(stream, label, max_pixels)
        self._ready: deque[Shot] = deque()

    def read(self) -> Shot | None:
        """What came for the next picture, or None at the end, or when the connection broke."""
        while not self._ready:
            packet = self._next_packet()
            if packet is None:
                return None
            self._ready.extend(self._decoder.decode(packet))
        return self._ready.popleft()

    def release(self) -> None:
        """Close file or connection."""
        self._container.close()

    def _next_packet(self) -> Packet[VideoStream] | None:
        try:
            return next(self._packets, None)
        except (FFmpegError, OSError):
            return None


def _operators_options() -> dict[str, str]:
    pairs = (entry.partition(";") for entry in os.environ.get(_OPTIONS, "").split("|"))
    return {key: value for key, separator, value in pairs if separator}
