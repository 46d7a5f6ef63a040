"""One typed tree of settings; `edge.settings.file` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from edge.settings.paths import DirectoryPath
from edge.settings.sections import (
    AlarmSettings,
    CommandName,
    CommandSettings,
    DefectSettings,
    InspectionSettings,
    MqttSettings,
    OutboxSettings,
    PublisherKind,
    ServiceSettings,
    SparkplugSettings,
    StationSettings,
)
from edge.settings.source import AnySource, SimulatedSettings
from edge.settings.values import RecipeName

ENVIRONMENT_PREFIX = "PATCHLINE_"
NESTED_DELIMITER = "__"


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter=NESTED_DELIMITER,
    )

    bundle: DirectoryPath = Path("bundle")
    """Bundle directory, made by `patchline-export teach`."""
    recipes: dict[RecipeName, DirectoryPath] = {}
    """Bundle directories by name, for the command `recipe`; `bundle`, with which the station begins, is one of them."""
    publish: Annotated[tuple[PublisherKind, ...], NoDecode] = (PublisherKind.MQTT,)
    """`mqtt`, `jsonl` (JSON lines on standard output), or both; in the environment separated by commas."""
    station: StationSettings = StationSettings()
    source: AnySource = SimulatedSettings()
    inspection: InspectionSettings = InspectionSettings()
    defects: DefectSettings = DefectSettings()
    mqtt: MqttSettings = MqttSettings()
    commands: CommandSettings = CommandSettings()
    outbox: OutboxSettings = OutboxSettings()
    sparkplug: SparkplugSettings = SparkplugSettings()
    alarms: AlarmSettings = AlarmSettings()
    service: ServiceSettings = ServiceSettings()

    @field_validator("publish", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return value.split(",") if isinstance(value, str) else value

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        commands, inspection = self.commands, self.inspection
        if self.recipes and self.bundle not in self.recipes.values():
            raise ValueError(
                f"bundle {self.bundle} must be one of recipes: {', '.join(map(str, self.recipes.values()))}"
            )
        if commands.enabled and PublisherKind.MQTT not in self.publish:
            raise ValueError('commands.enabled needs "mqtt" in publish')
        if inspection.trigger == "command" and not (commands.enabled and CommandName.TRIGGER in commands.allow):
            raise ValueError(
                'inspection.trigger = "command" needs commands.enabled = true and "trigger" in commands.allow'
            )
        if inspection.trigger == "command" and inspection.deadline_ms is None:
            raise ValueError(
                'inspection.trigger = "command" needs inspection.deadline_ms: the time in which a trigger is answered'
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment stands over the file, whose contents arrive as arguments."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings
