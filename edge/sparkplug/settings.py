"""Settings of the Sparkplug connection."""

from __future__ import annotations

from pydantic import Field, field_validator

from edge.settings import MqttSettings, Section

# Sparkplug 3.0, section 4.1: any UTF-8 but + / #. Control characters are left out too: no host shows them.
SPARKPLUG_ID = r"^[^+/#\x00-\x1f\x7f]{0,60}$"


class SparkplugSettings(Section):
    """A second connection for SCADA hosts, which speaks Sparkplug B 3.0 over MQTT 3.1.1."""

    enabled: bool = False
    """Speak Sparkplug. Needs `pip install 'patchline[sparkplug]'`."""
    group: str = Field(default="", pattern=SPARKPLUG_ID)
    """Group id; empty: the station's site."""
    edge_node: str = Field(default="", pattern=SPARKPLUG_ID)
    """Edge node id, unique within the group; empty: `<line>-<station>`."""
    device: str = Field(default="", pattern=SPARKPLUG_ID)
    """Device id; empty: the station's name."""
    primary_host: str = Field(default="", pattern=SPARKPLUG_ID)
    """Host id to wait for: nothing is said while that host is offline. Empty: wait for nobody."""
    capacity: int = Field(default=1000, ge=10, le=100_000)
    """Verdicts kept, in memory, until the broker has them; about 3 KB each."""
    rebirth_interval_s: float = Field(default=2.0, ge=0, le=60)
    """Shortest time between two births that hosts ask for."""
    mqtt: MqttSettings | None = None
    """The broker, if it is another than that of `[mqtt]`."""

    @field_validator("group")
    @classmethod
    def _not_state(cls, group: str) -> str:
        if group == "STATE":
            raise ValueError("STATE is reserved for hosts' own topics: choose another group")
        return group
