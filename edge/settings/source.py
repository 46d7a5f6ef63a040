"""Where frames come from: one table, whose settings depend on its `kind`.

What belongs to another kind may stay in the table and is ignored: `PATCHLINE_SOURCE__KIND=simulated` is enough to try
a camera's settings without the camera.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from edge.settings.paths import CredentialPath, PicturesPath
from edge.settings.values import Pixels, Section, Text


class SourceKind(StrEnum):
    """Where frames come from."""

    SIMULATED = "simulated"
    FOLDER = "folder"
    VIDEO = "video"
    CAMERA = "camera"


# Of any kind: stop after so many; frames of a line that runs without a pause for ten years have fewer.
Frames = Annotated[int, Field(ge=1, le=10**12)]
Rate = Annotated[float, Field(ge=1e-4, le=1000)]


class SimulatedSettings(Section):
    """A drawn line: seeded, with known defects, without any camera."""

    kind: Literal[SourceKind.SIMULATED] = SourceKind.SIMULATED
    """`simulated`, `folder`, `video` or `camera`."""
    fps: Rate | None = None
    """simulated, folder, video: pace frames at this rate; none: as fast as possible."""
    frames: Frames | None = None
    """Stop after this many frames; none: never (or at the end of the files)."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """simulated: the line is a pure function of this seed and the part's number."""
    defect_rate: float = Field(default=0.1, ge=0, le=1)
    """simulated: share of defective parts."""
    simulated_width: int = Field(default=480, ge=64, le=4096)
    """simulated: frame width."""
    simulated_height: int = Field(default=480, ge=64, le=4096)
    """simulated: frame height."""


class FolderSettings(Section):
    """Pictures on disk."""

    kind: Literal[SourceKind.FOLDER] = SourceKind.FOLDER
    """As above."""
    path: PicturesPath = ""
    """folder: a directory, picture or glob; video: a file."""
    fps: Rate | None = None
    """As above."""
    frames: Frames | None = None
    """As above."""
    loop: bool = False
    """folder, video: begin again at the end."""


class VideoSettings(Section):
    """A video file."""

    kind: Literal[SourceKind.VIDEO] = SourceKind.VIDEO
    """As above."""
    path: PicturesPath = ""
    """As above."""
    fps: Rate | None = None
    """As above."""
    frames: Frames | None = None
    """As above."""
    loop: bool = False
    """As above."""


class CameraSettings(Section):
    """A camera, at this machine or in the network."""

    kind: Literal[SourceKind.CAMERA] = SourceKind.CAMERA
    """As above."""
    device: Text = "0"
    """camera: an index (`0`), a stable path (`/dev/v4l/by-id/…`) or an address (`rtsp://…`, `http://…`)."""
    credentials_file: CredentialPath | None = None
    """camera: a file with `user:password` on one line, which not everybody may read, put into the address when it is
    opened; `%d/camera` under systemd."""
    width: Pixels | None = None
    """camera: frame width to ask for; refused if the camera gives another."""
    height: Pixels | None = None
    """camera: frame height to ask for; refused if the camera gives another."""
    fps: Rate | None = None
    """camera: rate to ask for."""
    fourcc: str | None = Field(default=None, pattern=r"^[\x20-\x7e]{4}$")
    """camera: pixel format to ask for, such as `MJPG`."""
    exposure: float | None = Field(default=None, ge=-1e9, le=1e9)
    """camera: exposure to set, in the driver's unit; automatic exposure is switched off first."""
    open_timeout_s: float = Field(default=5.0, ge=0.1, le=60)
    """camera: longest time for opening an address."""
    read_timeout_s: float = Field(default=2.0, ge=0.1, le=60)
    """camera: longest time without a frame, or without a new one, before it counts as away and is opened again."""
    refuse_identical: bool = True
    """camera: a frame equal to the one before, byte for byte, is NO_RESULT, `camera_stale`: a sensor's noise differs.
    Off for cameras that draw their pictures, or whose compression leaves nothing of the noise."""
    frames: Frames | None = None
    """As above."""


SourceSettings = SimulatedSettings | FolderSettings | VideoSettings | CameraSettings
_KINDS: dict[SourceKind, type[Section]] = {
    SourceKind.SIMULATED: SimulatedSettings,
    SourceKind.FOLDER: FolderSettings,
    SourceKind.VIDEO: VideoSettings,
    SourceKind.CAMERA: CameraSettings,
}


def _of_its_kind(table: object) -> object:
    """The table without what belongs to other kinds alone."""
    if not isinstance(table, Mapping):
        return table
    kind = table.get("kind", SourceKind.SIMULATED)
    if kind not in list(SourceKind):
        return table
    own = _KINDS[SourceKind(kind)].model_fields
    others = {name for settings in _KINDS.values() for name in settings.model_fields} - own.keys()
    return {"kind": kind, **{name: value for name, value in table.items() if name not in others}}


AnySource = Annotated[SourceSettings, Field(discriminator="kind"), BeforeValidator(_of_its_kind)]
