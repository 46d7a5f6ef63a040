from __future__ import annotations

import pytest

from edge.errors import ExportError
from export.datasets.public import DATASETS, describe_dataset


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_is_described_with_home_licence_and_layout(name: str) -> None:
    text, dataset = describe_dataset(name), DATASETS[name]
    for part in (dataset.title, dataset.home, dataset.licence, dataset.tree):
        assert part in text
    assert dataset.home.startswith("https://")
    if dataset.archive is None:
        assert "form" in dataset.extract
    else:
        assert dataset.archive.url in text
        assert dataset.archive.url.startswith("https://")
        assert dataset.archive.url.rsplit("/", 1)[1] in dataset.extract
        assert len(bytes.fromhex(dataset.archive.sha256)) == 32
        assert dataset.archive.directory in {".", dataset.tree.split("/")[1]}


def test_an_unknown_dataset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ExportError, match="no dataset 'mnist' is known; known are mvtec_ad, mvtec_loco, visa, btad"):
        describe_dataset("mnist")
