"""Multiply-adds of a network, counted from the shapes in its IR."""

from __future__ import annotations

import math
from typing import Any

import openvino as ov


def count_multiply_adds(model: ov.Model) -> int:
    """Of all convolutions and matrix products of a model of static shape; the rest is small beside them."""
    return sum(_multiply_adds(operation) for operation in model.get_ops())


def _multiply_adds(operation: ov.Node) -> int:
    """Values of the output times what is summed for each."""
    match operation.get_type_name():
        case "Convolution":  # weights (out, in, height, width)
            summed = math.prod(_shape(operation.input(1))[1:])
        case "GroupConvolution":  # weights (groups, out, in, height, width)
            summed = math.prod(_shape(operation.input(1))[2:])
        case "MatMul":
            summed = _shape(operation.input(0))[-2 if operation.get_attributes()["transpose_a"] else -1]
        case _:
            return 0
    return math.prod(_shape(operation.output(0))) * summed


def _shape(port: Any) -> tuple[int, ...]:
    return tuple(int(side) for side in port.get_shape())
