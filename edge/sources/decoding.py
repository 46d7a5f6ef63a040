"""Packets of a video → pictures, one for each, and none of them from damaged data.

FFmpeg conceals damage: it fills what is missing from the picture before, and a defect is gone. What it knows of damage
it tells those who ask: errors (`err_detect`) and corrupt packets and frames. In a stream whose frames build on each
other everything after damage is suspect until the next frame that stands alone.
"""

from __future__ import annotations

import logging
from typing import Protocol

import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from edge.errors import SourceError
from edge.files.jpeg import decode_jpeg
from edge.records import UInt8Array
from edge.sources.base import PixelLimit, Shot, unusable

log = logging.getLogger("patchline.source")

_DETECT = "crccheck+bitstream+buffer+explode"
# H.264 and H.265 hold back 16 frames at the most to bring them into order: a packet that has no picture after so many
# others had theirs will never have one.
_LONGEST_REORDERING = 16
_NEVER_SHOWN = frozenset({"vp8", "libvpx"})  # has packets that are meant to have no picture
# H.264 (7.4.1) and H.265 let no unit end in a zero byte; decoders take zeros for blocks like those before. Some
# cameras pad units to multiples of 4, 8 or 16 bytes all the same.
_ENDS_IN_NO_ZERO = frozenset({"h264", "hevc"})
_ZEROED = bytes(16)
# Tried with damage of every kind; decoders of other codecs take much of it for pictures (VP8, VP9, FFV1).
_TELLS_DAMAGE = frozenset({"h264", "hevc", "mpeg2video", "mpeg4"})


class Decoder(Protocol):
    """One codec. Every packet that holds a picture gets one `Shot`, if not at once then with a later packet."""

    def decode(self, packet: Packet[VideoStream]) -> list[Shot]:
        """What is ready after this packet; an empty one ends the video."""
        ...


def make_decoder(stream: VideoStream, label: str, max_pixels: PixelLimit) -> Decoder:
    """The decoder for `stream`; one that cannot tell damage is said to be so."""
    codec = stream.codec_context.name
    if codec == "mjpeg":
        return JpegDecoder(max_pixels)
    if codec not in _TELLS_DAMAGE:
        log.warning("source: %s: the decoder of %s does not tell all damaged frames; use H.264 or MJPEG", label, codec)
    return FrameDecoder(stream.codec_context, max_pixels())


class JpegDecoder:
    """MJPEG: every packet is a JPEG, and stands alone."""

    def __init__(self, max_pixels: PixelLimit) -> None:
        self._max_pixels = max_pixels

    def decode(self, packet: Packet[VideoStream]) -> list[Shot]:
        """One shot for a packet."""
        if not packet.size:
            return []
        try:
            return [Shot(decode_jpeg(memoryview(packet), self._max_pixels()))]
        except SourceError as error:
            return [unusable(str(error))]


class FrameDecoder:
    """Every other codec, by FFmpeg."""

    def __init__(self, context: VideoCodecContext, max_pixels: int) -> None:
        context.options = {"err_detect": _DETECT, "max_pixels": str(max_pixels)}
        context.thread_type = "SLICE"  # several threads for a frame; several frames at a time would come later
        self._context = context
        self._packets = 0
        self._waiting: set[int] = set()  # numbers of packets whose pictures have not come
        self._held: list[tuple[int, Shot]] = []  # that came before one which they may build on
        self._damage = "it begins between two key frames"
        self._resumed_at: int | None = None  # time stamp of the key frame after damage

    def decode(self, packet: Packet[VideoStream]) -> list[Shot]:
        """One shot for a packet; pictures that the codec holds back come with later ones, in order."""
        if not packet.size:
            return self._end()
        if packet.is_keyframe and self._damage:
            self._context.flush_buffers()
            self._damage, self._resumed_at = "", packet.pts
        if self._damage or self._leads(packet):
            return [unusable(f"not decoded before the next key frame: {self._damage or 'damage before it'}")]
        number, self._packets = self._packets, self._packets + 1
        self._waiting.add(number)
        if packet.is_corrupt or self._ends_in_zeros(packet):
            return self._lose("a packet came damaged or cut off")
        packet.pts = packet.dts = number  # comes back as the picture's
        try:
            frames = self._context.decode(packet)
        except FFmpegError as error:
            return self._lose(f"a frame cannot be decoded ({error.strerror})")
        if not frames and self._context.name in _NEVER_SHOWN:
            self._waiting.discard(number)
        return self._take(frames)

    def _leads(self, packet: Packet[VideoStream]) -> bool:
        """Whether it is shown before the key frame that it comes after: it builds on what was before, too."""
        return packet.pts is not None and self._resumed_at is not None and packet.pts < self._resumed_at

    def _ends_in_zeros(self, packet: Packet[VideoStream]) -> bool:
        return self._context.name in _ENDS_IN_NO_ZERO and bytes(memoryview(packet)[-len(_ZEROED) :]) == _ZEROED

    def _take(self, frames: list[VideoFrame]) -> list[Shot]:
        shots: list[Shot] = []
        for frame in frames:
            if frame.is_corrupt:
                return shots + self._lose("a frame is damaged")
            number = self._packets if frame.pts is None else frame.pts
            self._waiting.discard(number)
            self._held.append((number, Shot(_picture(frame))))
            shots += self._release()
            if any(other <= number - _LONGEST_REORDERING for other in self._waiting):
                return shots + self._lose("no picture came of a packet")
        return shots

    def _release(self) -> list[Shot]:
        """What builds on nothing that is still to come: a picture is shown before one that was decoded earlier."""
        shots = []
        while self._held and all(number > self._held[0][0] for number in self._waiting):
            shots.append(self._held.pop(0)[1])
        return shots

    def _lose(self, damage: str) -> list[Shot]:
        """Nothing more is taken before the next key frame, nor what was held back."""
        self._damage = damage
        shots = [unusable(damage) for _ in (*self._held, *self._waiting)]
        self._waiting.clear()
        self._held.clear()
        return shots

    def _end(self) -> list[Shot]:
        if self._damage:
            return []
        try:
            return self._take(self._context.decode(None)) + self._lose("no picture came of a packet")
        except FFmpegError as error:
            return self._lose(f"a frame cannot be decoded ({error.strerror})")


def _picture(frame: VideoFrame) -> UInt8Array:
    """Upright, as the video says: recorders that hang on their side say so."""
    picture = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
    quarter_turns = round(frame.rotation / 90) % 4  # counterclockwise
    return np.ascontiguousarray(np.rot90(picture, quarter_turns)) if quarter_turns else picture
