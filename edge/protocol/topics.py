"""A station's topics and what its status says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """What `/status` says; its payload is the bare word."""

    ONLINE = "online"
    OFFLINE = "offline"  # the will: the broker says it when the station falls silent
    STOPPED = "stopped"  # the station was shut down on purpose


@dataclass(frozen=True, slots=True)
class StationTopics:
    """The topics of one station; its four levels are validated by the settings."""

    root: str
    site: str
    line: str
    name: str

    @property
    def base(self) -> str:
        """What every topic of the station begins with."""
        return f"{self.root}/{self.site}/{self.line}/{self.name}"

    @property
    def verdict(self) -> str:
        """One message per frame."""
        return f"{self.base}/verdict"

    @property
    def last(self) -> str:
        """The newest verdict, retained, for late joiners."""
        return f"{self.verdict}/last"

    @property
    def status(self) -> str:
        """Whether the station is there."""
        return f"{self.base}/status"

    @property
    def health(self) -> str:
        """Statistics."""
        return f"{self.base}/health"

    @property
    def tombstone(self) -> str:
        """Verdicts that will not come."""
        return f"{self.base}/tombstone"

    def crop(self, index: int) -> str:
        """Pictures of the `index`-th defect, from 0."""
        return f"{self.base}/crop/{index}"

    def alarm(self, code: str) -> str:
        """One alarm, raised or over."""
        return f"{self.base}/alarm/{code}"
