"""The networks that can be converted, by name; without torch, for command lines and experiments."""

from __future__ import annotations

from typing import Literal, get_args

BackboneName = Literal[
    "efficientnet_lite0", "resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2", "wide_resnet101_2"
]
BACKBONES: tuple[BackboneName, ...] = get_args(BackboneName)
# Its weights come by pip, so that it needs no download.
EFFICIENTNET_LITE0: BackboneName = "efficientnet_lite0"
