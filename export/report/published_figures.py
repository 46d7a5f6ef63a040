"""Figures as they were published, with their sources."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

PAPER = "https://arxiv.org/abs/2106.08265"  # Roth et al., Towards Total Recall in Industrial Anomaly Detection, 2022


AUTHORS = "https://github.com/amazon-science/patchcore-inspection"


ANOMALIB = "https://github.com/open-edge-platform/anomalib"


@dataclass(frozen=True, slots=True)
class Figures:
    """Percentages; none: not published."""

    image_auroc: float | None = None
    pixel_auroc: float | None = None
    aupro: float | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """What the network was given, in pixels."""

    side: int
    resize_shorter: int | None  # before the centre crop; none: resized to `side`, nothing cropped away


@dataclass(frozen=True, slots=True)
class Published:
    """One source at one setting, trained and tested on the full-size pictures of MVTec AD."""

    key: str
    source: str
    url: str  # empty: it has no public address
    backbone: str
    coreset_ratio: float
    input: Input | None  # none: the source does not say
    mean: Figures  # over all categories; empty: only categories were published
    categories: MappingProxyType[str, Figures]

    @property
    def title(self) -> str:
        """For a table's head, such as 'paper, 10 %'."""
        return f"{self.source}, {percentage(self.coreset_ratio)}"


# Side of the square pictures of MVTec AD, in pixels (Bergmann et al., IJCV 2021, table 2).
FULL_SIZE = MappingProxyType(
    {
        "bottle": 900,
        "cable": 1024,
        "capsule": 1000,
        "carpet": 1024,
        "grid": 1024,
        "hazelnut": 1024,
        "leather": 1024,
        "metal_nut": 700,
        "pill": 800,
        "screw": 1024,
        "tile": 840,
        "toothbrush": 1024,
        "transistor": 1024,
        "wood": 1024,
        "zipper": 1024,
    }
)


# Image AUROC with WideResNet50-2, in the order of `_COLUMNS`. The student report left hazelnut out.
_COLUMNS = (
    "paper_25",
    "paper_10",
    "paper_1",
    "authors_10",
    "anomalib_10",
    "hcw_1",
    "tiskw_1",
    "rvorias_10",
    "student_10",
    "student_25",
)


_IMAGE_AUROC: dict[str, tuple[float | None, ...]] = {
    "bottle": (100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0),
    "cable": (99.5, 99.4, 99.3, 99.7, 99.0, 99.5, 99.2, 96.2, 95.7, 96.4),
    "capsule": (98.1, 97.8, 98.0, 97.9, 98.2, 97.6, 97.8, 95.3, 97.9, 97.5),
    "carpet": (98.7, 98.7, 98.0, 98.6, 98.4, 99.1, 99.0, 98.7, 98.5, 98.6),
    "grid": (98.2, 97.9, 98.6, 97.9, 95.9, 97.5, 97.7, 93.0, 96.0, 95.7),
    "hazelnut": (100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, None, None),
    "leather": (100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0),
    "metal_nut": (100.0, 100.0, 99.7, 99.9, 99.4, 99.9, 99.9, 98.3, 98.3, 98.5),
    "pill": (96.6, 96.0, 97.0, 96.7, 92.4, 95.9, 94.5, 92.8, 94.0, 92.3),
    "screw": (98.1, 97.0, 96.4, 98.8, 96.0, 94.9, 95.6, 96.7, 92.1, 90.2),
    "tile": (98.7, 98.9, 99.4, 99.5, 100.0, 99.4, 99.2, 99.0, 99.9, 99.9),
    "toothbrush": (100.0, 99.7, 100.0, 100.0, 93.3, 100.0, 100.0, 98.1, 92.2, 92.2),
    "transistor": (100.0, 100.0, 99.9, 99.9, 100.0, 100.0, 100.0, 99.7, 99.5, 99.4),
    "wood": (99.2, 99.0, 99.2, 99.1, 98.9, 98.9, 99.1, 98.8, 98.9, 98.4),
    "zipper": (99.4, 99.5, 99.2, 99.5, 98.2, 99.5, 99.7, 98.4, 96.4, 96.6),
}


# Of the authors' repository at 10 %: pixel AUROC, AUPRO.
_AUTHORS_PIXELS = {
    "bottle": (98.5, 97.1),
    "cable": (98.4, 93.8),
    "capsule": (99.0, 97.1),
    "carpet": (99.1, 96.9),
    "grid": (98.8, 97.0),
    "hazelnut": (98.7, 92.9),
    "leather": (99.3, 99.2),
    "metal_nut": (98.3, 92.8),
    "pill": (97.8, 94.4),
    "screw": (99.5, 98.5),
    "tile": (95.7, 89.8),
    "toothbrush": (98.6, 94.8),
    "transistor": (96.1, 83.2),
    "wood": (95.1, 90.2),
    "zipper": (98.9, 97.8),
}


_CROPPED = Input(224, 256)


_CROPPED_LARGE = Input(320, 366)


_WHOLE = Input(256, None)


_WRN50 = "wide_resnet50_2"


def _categories(column: str) -> MappingProxyType[str, Figures]:
    place = _COLUMNS.index(column)
    pixels = _AUTHORS_PIXELS if column == "authors_10" else {}
    return MappingProxyType(
        {
            category: Figures(values[place], *pixels.get(category, (None, None)))
            for category, values in _IMAGE_AUROC.items()
            if values[place] is not None
        }
    )


_NONE: MappingProxyType[str, Figures] = MappingProxyType({})


# With figures for each category.
BY_CATEGORY = (
    Published("paper_25", "paper", PAPER, _WRN50, 0.25, _CROPPED, Figures(99.1, 98.1, 93.4), _categories("paper_25")),
    Published("paper_10", "paper", PAPER, _WRN50, 0.1, _CROPPED, Figures(99.0, 98.1, 93.5), _categories("paper_10")),
    Published("paper_1", "paper", PAPER, _WRN50, 0.01, _CROPPED, Figures(99.0, 98.0, 93.1), _categories("paper_1")),
    Published(
        "authors_10",
        "authors' repository",
        AUTHORS,
        _WRN50,
        0.1,
        _CROPPED,
        Figures(99.16, 98.11, 94.4),
        _categories("authors_10"),
    ),
    Published(
        "anomalib_10", "anomalib", ANOMALIB, _WRN50, 0.1, _WHOLE, Figures(98.0, 98.0), _categories("anomalib_10")
    ),
    Published(
        "hcw_1",
        "hcw-00",
        "https://github.com/hcw-00/PatchCore_anomaly_detection",
        _WRN50,
        0.01,
        None,
        Figures(),
        _categories("hcw_1"),
    ),
    Published(
        "tiskw_1",
        "tiskw",
        "https://github.com/tiskw/patchcore-ad",
        _WRN50,
        0.01,
        None,
        Figures(),
        _categories("tiskw_1"),
    ),
    Published(
        "rvorias_10",
        "rvorias",
        "https://github.com/rvorias/ind_knn_ad",
        _WRN50,
        0.1,
        None,
        Figures(),
        _categories("rvorias_10"),
    ),
    Published("student_10", "student report", "", _WRN50, 0.1, None, Figures(97.1), _categories("student_10")),
    Published("student_25", "student report", "", _WRN50, 0.25, None, Figures(96.8), _categories("student_25")),
)


# With means alone.
MEANS = (
    Published(
        "authors_1_320",
        "authors' repository, 320²",
        AUTHORS,
        _WRN50,
        0.01,
        _CROPPED_LARGE,
        Figures(99.30, 97.8, 94.3),
        _NONE,
    ),
    Published(
        "authors_ensemble",
        "authors' repository, three networks, 320²",
        AUTHORS,
        "wide_resnet101_2 + resnext101 + densenet201",
        0.01,
        _CROPPED_LARGE,
        Figures(99.55, 98.2, 94.9),
        _NONE,
    ),
    Published("anomalib_resnet18", "anomalib", ANOMALIB, "resnet18", 0.1, _WHOLE, Figures(97.3, 97.6), _NONE),
)


def percentage(share: float) -> str:
    """A share as people write it, not to be broken over lines: '10 %', '0.1 %'."""
    return f"{100 * share:.4g}\N{NO-BREAK SPACE}%"
