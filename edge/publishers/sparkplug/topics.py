"""The topics of one edge node and its one device (Sparkplug 3.0, section 4). Pure."""

from __future__ import annotations

from dataclasses import dataclass

NAMESPACE = "spBv1.0"


@dataclass(frozen=True, slots=True)
class SparkplugTopics:
    """Who speaks, and whom it waits for; the ids are validated by the settings."""

    group: str
    edge_node: str
    device: str
    primary_host: str = ""  # none: nobody is waited for

    @property
    def nbirth(self) -> str:
        """The edge node's metrics, all of them."""
        return self._node("NBIRTH")

    @property
    def ndata(self) -> str:
        """The edge node's metrics that changed."""
        return self._node("NDATA")

    @property
    def ndeath(self) -> str:
        """The edge node has gone: the will."""
        return self._node("NDEATH")

    @property
    def ncmd(self) -> str:
        """Commands to the edge node."""
        return self._node("NCMD")

    @property
    def dbirth(self) -> str:
        """The device's metrics, all of them."""
        return self._device("DBIRTH")

    @property
    def ddata(self) -> str:
        """One verdict."""
        return self._device("DDATA")

    @property
    def ddeath(self) -> str:
        """The device has gone."""
        return self._device("DDEATH")

    @property
    def state(self) -> str:
        """Whether the primary host is there; empty without one."""
        return f"{NAMESPACE}/STATE/{self.primary_host}" if self.primary_host else ""

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """What must be subscribed to before the first birth."""
        return (self.ncmd, self.state) if self.primary_host else (self.ncmd,)

    def _node(self, kind: str) -> str:
        return f"{NAMESPACE}/{self.group}/{kind}/{self.edge_node}"

    def _device(self, kind: str) -> str:
        return f"{self._node(kind)}/{self.device}"
