"""What each experiment varies, and over which values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from edge.bundle.ir import Geometry, IrPrecision
from edge.errors import ExportError
from edge.records import Precision, Search
from export.conversion.names import BACKBONES, EFFICIENTNET_LITE0
from export.conversion.options import ConvertOptions, WeightsChoice
from export.datasets.category import Category
from export.experiments.categories import NOISE, few_shots, with_noise
from export.teaching.teach import TeachOptions

# The paper's and our sources' values.
CORESET_RATIOS = (0.25, 0.1, 0.05, 0.01, 0.001)


SHOTS = (1, 2, 5, 10, 16, 20, 50)


NEIGHBOURHOODS = (1, 3, 5, 7, 9)


SIDES = (128, 160, 192, 224, 256, 320)


REWEIGHT_NEIGHBOURS = (0, 2, 3, 5, 9, 15)


LAYERS = (
    ("layer1",),
    ("layer2",),
    ("layer3",),
    ("layer1", "layer2"),
    ("layer2", "layer3"),
    ("layer1", "layer2", "layer3"),
)


PRECISIONS: tuple[tuple[IrPrecision, Precision], ...] = (
    ("f32", "f32"),
    ("f32", "bf16"),
    ("int8", "f32"),
    ("int8", "bf16"),
)


SEARCHES: tuple[Search, ...] = ("exact", "fast")


_UNTRAINED = "untrained"  # the last pretraining


CategoryChange = Callable[[Category, int], Category]


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of the parameter: what it changes against the base."""

    label: str
    value: float | str
    series: str = ""
    network: Mapping[str, Any] = field(default_factory=dict)  # of `ConvertOptions`
    precision: IrPrecision = "f32"  # of the IR
    teaching: Mapping[str, Any] = field(default_factory=dict)  # of `TeachOptions`
    category: CategoryChange | None = None  # with the seed
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Base:
    """What is held still."""

    network: ConvertOptions
    teaching: TeachOptions  # `ir`, `images` and `out` are set for each run
    weights: Mapping[str, Path] = field(default_factory=dict)  # label or backbone → file
    fewest_good: int = max(SHOTS) + 1  # teaching pictures of the smallest category


@dataclass(frozen=True, slots=True)
class Experiment:
    """A question, and the settings that answer it."""

    name: str
    title: str
    question: str
    parameter: str
    settings: Callable[[Base], tuple[Setting, ...]]


def _coreset_settings(base: Base) -> tuple[Setting, ...]:
    del base
    return tuple(
        Setting(f"{100 * ratio:g} %", ratio, method, teaching={"coreset_ratio": ratio, "coreset": method})
        for method in ("greedy", "random")
        for ratio in CORESET_RATIOS
    )


def _backbone_settings(base: Base) -> tuple[Setting, ...]:
    return tuple(
        Setting(backbone, backbone, network={"backbone": backbone, **_weights_for(backbone, base)})
        for backbone in BACKBONES
    )


def _weights_for(backbone: str, base: Base) -> dict[str, Any]:
    """The file that was given for this backbone; else pip's; else random, which the row then says."""
    if backbone in base.weights:
        return {"weights": WeightsChoice(file=base.weights[backbone])}
    if backbone == base.network.backbone:
        return {}
    return {"weights": WeightsChoice(random_seed=None if backbone == EFFICIENTNET_LITE0 else 0)}


def _pretraining_settings(base: Base) -> tuple[Setting, ...]:
    if not base.weights:
        raise ExportError("pretrainings: give the checkpoints to compare, each as --weights LABEL=FILE")
    if _UNTRAINED in base.weights:
        raise ExportError(f"--weights {_UNTRAINED}=…: random weights of that name are measured anyway; choose another")
    given = tuple(
        Setting(label, label, network={"weights": WeightsChoice(file=path)}) for label, path in base.weights.items()
    )
    untrained = Setting(_UNTRAINED, _UNTRAINED, network={"weights": WeightsChoice(random_seed=0)})
    return (*given, untrained)


def _layer_settings(base: Base) -> tuple[Setting, ...]:
    del base
    return tuple(Setting("+".join(layers), "+".join(layers), network={"layers": layers}) for layers in LAYERS)


def _neighbourhood_settings(base: Base) -> tuple[Setting, ...]:
    del base
    return tuple(Setting(f"{side}×{side}", side, network={"neighbourhood": side}) for side in NEIGHBOURHOODS)


def _resolution_settings(base: Base) -> tuple[Setting, ...]:
    """The field of view stays: the paper's resize of 256 to a crop of 224, in proportion."""
    shorter = base.network.geometry.resize_shorter
    share = None if shorter is None else shorter / base.network.geometry.input_height
    return tuple(
        Setting(
            f"{side}²",
            side,
            network={
                "geometry": Geometry(
                    input_height=side, input_width=side, resize_shorter=None if share is None else round(side * share)
                )
            },
        )
        for side in SIDES
    )


def _reweight_settings(base: Base) -> tuple[Setting, ...]:
    del base
    return tuple(
        Setting("none" if b == 0 else f"b = {b}", b, teaching={"reweight_neighbours": b}) for b in REWEIGHT_NEIGHBOURS
    )


def _shot_settings(base: Base) -> tuple[Setting, ...]:
    """As many as every category has pictures for, with some left for the threshold."""
    return tuple(
        Setting(f"{shots}", shots, category=partial(few_shots, shots=shots))
        for shots in SHOTS
        if shots < base.fewest_good
    )


def _noise_settings(base: Base) -> tuple[Setting, ...]:
    del base
    return tuple(Setting(f"{100 * share:g} %", share, category=partial(with_noise, share=share)) for share in NOISE)


def _precision_settings(base: Base) -> tuple[Setting, ...]:
    del base
    return tuple(
        Setting(
            f"{ir}, {arithmetic}",
            f"{ir}, {arithmetic}",
            f"{search} search",
            precision=ir,
            teaching={"precision": arithmetic, "search": search},
        )
        for search in SEARCHES
        for ir, arithmetic in PRECISIONS
    )


EXPERIMENTS: Mapping[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "coreset",
            "Size of the memory bank",
            "How small may the memory bank be, and does greedy selection beat random selection?",
            "coreset ratio",
            _coreset_settings,
        ),
        Experiment(
            "backbones",
            "Networks",
            "Which network gives the best quality, and at what latency?",
            "network",
            _backbone_settings,
        ),
        Experiment(
            "pretrainings",
            "Pretrainings",
            "How much does it matter on what the network was trained?",
            "weights",
            _pretraining_settings,
        ),
        Experiment("layers", "Layers", "Which layers make the best embedding?", "layers", _layer_settings),
        Experiment(
            "neighbourhood",
            "Neighbourhood size",
            "Over how large a neighbourhood should a patch be averaged?",
            "side of the neighbourhood, in patches of the layer",
            _neighbourhood_settings,
        ),
        Experiment(
            "resolution",
            "Resolution",
            "What does a larger input bring, and what does it cost?",
            "side of the model's input, pixels",
            _resolution_settings,
        ),
        Experiment(
            "reweighting",
            "Re-weighting of the image score",
            "Does equation 7 of the paper help, and with how many neighbours?",
            "b, bank neighbours of the nearest bank vector (0: no re-weighting)",
            _reweight_settings,
        ),
        Experiment(
            "shots",
            "Few shots",
            "From how few good parts can a product be taught?",
            "good pictures in the bank",
            _shot_settings,
        ),
        Experiment(
            "noise",
            "Defective parts among the good ones",
            "How much does it hurt if some of the teaching pictures show defective parts?",
            "share of defective pictures in the teaching set",
            _noise_settings,
        ),
        Experiment(
            "precision",
            "Arithmetic and search",
            "What do bf16, int8 and the fast search cost in quality, and what do they bring in latency?",
            "precision of the IR, and of the rest",
            _precision_settings,
        ),
    )
}
