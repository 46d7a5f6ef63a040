"""The published datasets that are compared on: contents, licence, where to get them and how they lie on disk."""

from __future__ import annotations

from dataclasses import dataclass

from edge.errors import ExportError
from export.datasets.layouts.detect import LOOKED_FOR


@dataclass(frozen=True, slots=True)
class Archive:
    """A dataset's file at a public address."""

    url: str
    sha256: str
    directory: str  # what `evaluate` is given, below the directory that it is extracted to


@dataclass(frozen=True, slots=True)
class Dataset:
    """A published dataset, and how to come by it."""

    title: str
    home: str
    licence: str
    holds: str
    extract: str
    tree: str
    archive: Archive | None = None  # none where the publisher asks for a form or changes the addresses


DATASETS = {
    "mvtec_ad": Dataset(
        title="MVTec AD",
        home="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        licence="CC BY-NC-SA 4.0: not for commercial use",
        holds="5,354 pictures, 15 categories",
        extract="fill in the form on the page, then: tar -xf mvtec_anomaly_detection.tar.xz -C mvtec_ad",
        tree="mvtec_ad/bottle/{train/good,test/good,test/<kind>,ground_truth/<kind>}, …",
    ),
    "mvtec_loco": Dataset(
        title="MVTec LOCO AD",
        home="https://www.mvtec.com/company/research/datasets/mvtec-loco",
        licence="CC BY-NC-SA 4.0: not for commercial use",
        holds="3,644 pictures, 5 categories",
        extract="fill in the form on the page, then: tar -xf mvtec_loco_anomaly_detection.tar.xz -C mvtec_loco",
        tree="mvtec_loco/breakfast_box/{train/good,validation/good,"
        "test/{good,logical_anomalies,structural_anomalies},ground_truth/<kind>/<stem>/<n>.png}, …",
    ),
    "visa": Dataset(
        title="VisA",
        home="https://github.com/amazon-science/spot-diff",
        licence="CC BY 4.0",
        holds="10,821 pictures, 12 categories, 1.9 GB",
        extract="tar -xf VisA_20220922.tar -C visa",
        tree="visa/{split_csv/1cls.csv,candle/Data/{Images/Normal,Images/Anomaly,Masks/Anomaly}, …}",
        # sha256 as anomalib pins it (src/anomalib/data/datamodules/image/visa.py).
        archive=Archive(
            url="https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
            sha256="2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
            directory=".",
        ),
    ),
    "btad": Dataset(
        title="BTAD (beanTech)",
        home="https://github.com/pankajmishra000/VT-ADL",
        licence="CC BY-SA 4.0, as its authors' repository says",
        holds="3 categories",
        extract="unzip btad.zip -d btad",
        tree="btad/BTech_Dataset_transformed/01/{train/ok,test/ok,test/ko,ground_truth/ko}, …",
        # sha256 as anomalib pins it (src/anomalib/data/datamodules/image/btech.py).
        archive=Archive(
            url="https://avires.dimi.uniud.it/papers/btad/btad.zip",
            sha256="461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
            directory="BTech_Dataset_transformed",
        ),
    ),
}


def describe_dataset(name: str) -> str:
    """What the dataset is, its licence, where to get it and how it lies on disk: a text for people.

    Raises:
        ExportError: `name` is none of `DATASETS`.
    """
    dataset = DATASETS.get(name)
    if dataset is None:
        raise ExportError(f"no dataset '{name}' is known; known are {', '.join(DATASETS)}. {LOOKED_FOR}")
    archive = dataset.archive
    lines = [
        f"{dataset.title}: {dataset.holds}",
        f"  home     {dataset.home}",
        f"  licence  {dataset.licence}",
        *([f"  archive  {archive.url}", f"  sha256   {archive.sha256}"] if archive else []),
        f"  extract  {dataset.extract}",
        f"  on disk  {dataset.tree}",
    ]
    return "\n".join(lines)
