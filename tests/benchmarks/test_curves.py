from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.curves import resize_ir
from edge.bundle.ir import MODEL_BIN, MODEL_XML, Geometry, read_ir_description
from export.conversion.convert import convert
from export.conversion.drawn_pictures import draw_pictures
from export.conversion.ir_files import load_model, run_model
from export.conversion.options import ConvertOptions

SIDE = 96


def test_a_resized_network_is_the_one_converted_at_that_size(ir_dir: Path, tmp_path: Path) -> None:
    options = ConvertOptions(backbone="efficientnet_lite0", geometry=Geometry(input_height=SIDE, input_width=SIDE))
    expected = convert(options, tmp_path / "ir")
    xml, weights = ((ir_dir / name).read_bytes() for name in (MODEL_XML, MODEL_BIN))
    description, files = resize_ir(read_ir_description(ir_dir), xml, weights, SIDE)
    assert (description.geometry, description.grid) == (expected.geometry, expected.grid)
    pictures = [picture[None] for picture in draw_pictures(2, SIDE, SIDE)]
    converted = {name: (tmp_path / "ir" / name).read_bytes() for name in (MODEL_XML, MODEL_BIN)}
    np.testing.assert_allclose(
        run_model(load_model(files), pictures), run_model(load_model(converted), pictures), rtol=1e-3, atol=1e-3
    )
