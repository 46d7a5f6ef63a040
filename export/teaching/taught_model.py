"""The IR that a product is taught with: compiled, and how frames of the product enter it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.bundle.ir import MODEL_BIN, MODEL_XML, IrDescription
from edge.engine.embedder import Embedder
from edge.errors import BundleError, SettingsError
from edge.files.masks import read_mask
from edge.files.pictures import read_picture
from edge.files.schema import read_verified
from edge.inspection.masking import describe_mask, mask_patches
from edge.inspection.preprocess import inspected_region, prepare
from edge.inspection.scorer import Scorer
from edge.normality.make import make_bank
from edge.records import BoolArray, Box, Float32Array, Precision, Search, UInt8Array
from edge.terminal import say
from export.conversion.reference import check_features


@dataclass(frozen=True, slots=True, eq=False)
class TaughtModel:
    """One compiled model, one infer request: not for use from several threads at once."""

    ir: IrDescription
    xml: bytes
    weights: bytes
    embedder: Embedder
    frame_size: tuple[int, int]  # (height, width)
    region: Box
    mask: UInt8Array | None
    ignored: BoolArray | None  # (patches,)

    @property
    def patches(self) -> int:
        """Patches of a picture that the mask leaves."""
        return self.ir.grid[0] * self.ir.grid[1] if self.ignored is None else int((~self.ignored).sum())

    def embed_picture(self, path: Path) -> Float32Array:
        """(patches, dim) of the patches that the mask leaves; the next call may overwrite them.

        Raises:
            SourceError: the picture cannot be read any more.
        """
        prepare(read_picture(path), self.region, self.embedder.input)
        patches = self.embedder.embed().patches
        return patches if self.ignored is None else patches[~self.ignored]

    def make_scorer(self, bank: Float32Array, search: Search, reweight_neighbours: int) -> Scorer:
        """The scorer of the line, with this model and `bank` (vectors, dim)."""
        return Scorer(
            self.embedder,
            make_bank(bank, search),
            self.region,
            ignored=self.ignored,
            reweight_neighbours=reweight_neighbours,
        )


def open_model(
    directory: Path,
    ir: IrDescription,
    frame_size: tuple[int, int],
    *,
    region: Box | None,
    mask: Path | None,
    device: str,
    precision: Precision,
) -> TaughtModel:
    """Verify and compile the IR in `directory` for frames of `frame_size` (height, width).

    Raises:
        BundleError: the IR is damaged.
        SettingsError: region, mask or device do not fit.
        FeaturesError: this machine miscalculates the model.
    """
    for name in (MODEL_XML, MODEL_BIN):
        if name not in ir.files:
            raise BundleError(f"{directory}: model.json does not list {name}; convert again")
    xml = read_verified(directory, MODEL_XML, ir.files[MODEL_XML])
    weights = read_verified(directory, MODEL_BIN, ir.files[MODEL_BIN])
    try:
        inspected = inspected_region(*frame_size, ir.geometry, region)
    except ValueError as error:
        raise SettingsError(f"--region: {error}") from error
    mask_image = None if mask is None else read_mask(mask)
    embedder = Embedder(ir, xml, weights, device=device, precision=precision)
    check_features(directory, ir, embedder)
    return TaughtModel(
        ir=ir,
        xml=xml,
        weights=weights,
        embedder=embedder,
        frame_size=frame_size,
        region=inspected,
        mask=mask_image,
        ignored=None if mask_image is None else mask_patches(mask_image, *frame_size, inspected, ir.grid),
    )


def say_what_is_seen(model: TaughtModel) -> None:
    """A note, where part of the frame lies outside the inspected region or under the mask."""
    height, width = model.frame_size
    region = model.region
    if model.mask is not None and model.ignored is not None:
        say(f"note: {describe_mask(model.mask, region, model.ir.grid, model.ignored)}")
    share = region.width * region.height / (height * width)
    if share < 0.999:
        say(
            f"note: {share:.0%} of the {width}×{height} frame is inspected: {region.width}×{region.height} at "
            f"x {region.x}, y {region.y}; what lies outside is never seen (convert with --input-size to see all)"
        )
