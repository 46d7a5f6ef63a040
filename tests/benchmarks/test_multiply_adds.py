from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as op

from benchmarks.multiply_adds import count_multiply_adds

ONES = [1, 1]


def test_convolutions_and_products_of_a_small_network_are_counted_as_by_hand() -> None:
    picture = op.parameter([1, 3, 8, 10], np.float32)
    weights = op.constant(np.ones((4, 3, 3, 3), np.float32))
    convolved = op.convolution(picture, weights, [2, 2], ONES, ONES, ONES)  # → (1, 4, 4, 5)
    depthwise = op.constant(np.ones((4, 1, 1, 3, 3), np.float32))
    grouped = op.group_convolution(convolved, depthwise, ONES, ONES, ONES, ONES)
    rows = op.reshape(grouped, op.constant([4, 20]), special_zero=False)
    product = op.matmul(rows, op.constant(np.ones((20, 7), np.float32)), transpose_a=False, transpose_b=False)
    model = ov.Model([op.result(product)], [picture], "small")
    by_hand = (4 * 5) * 4 * (3 * 3 * 3) + (4 * 5) * 4 * (3 * 3) + 4 * 7 * 20
    assert count_multiply_adds(model) == by_hand


def test_a_transposed_factor_is_summed_over_its_rows() -> None:
    columns = op.parameter([20, 4], np.float32)
    product = op.matmul(columns, op.constant(np.ones((7, 20), np.float32)), transpose_a=True, transpose_b=True)
    assert count_multiply_adds(ov.Model([op.result(product)], [columns], "product")) == 4 * 7 * 20
