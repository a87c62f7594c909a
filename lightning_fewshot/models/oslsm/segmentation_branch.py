"""The segmentation branch phi of section 4.2: an FCN up to conv-fc7, which all methods classify.

Shapes: B images, C channels before fc6, D features, (h, w) feature-map locations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_fewshot.models.oslsm.settings import NewLayers, SegmentationBranchSettings
from lightning_fewshot.nn.backbones import Backbone, classifier_network, freeze_batchnorm
from lightning_fewshot.settings import BackboneSettings

VGG_LAYERS = NewLayers(4096, 7)  # fully connected layers of a VGG as convolutions (Long et al., CVPR 2015)


class SegmentationBranch(nn.Module):
    """phi: backbone, fc6, fc7.

    Args:
        backbone: Any timm backbone; the paper has VGG-16.
        settings: What follows it.

    Attributes:
        n_features: D.

    Raises:
        ValueError: ``fc`` is None but the network has no layers of its own that could be fc6 and fc7.
    """

    def __init__(self, backbone: BackboneSettings, settings: SegmentationBranchSettings) -> None:
        super().__init__()
        stride = settings.output_stride
        self.body = Backbone(backbone, strides=(stride,), output_stride=stride)
        layers = self._fully_connected(backbone, settings)
        self.n_features = [layer for layer in layers if isinstance(layer, nn.Conv2d)][-1].out_channels
        norm = [FeatureNorm(self.n_features)] if settings.feature_norm else []
        self.top = nn.Sequential(*layers, *norm, nn.Dropout(settings.dropout))
        self.train()

    def _fully_connected(self, backbone: BackboneSettings, settings: SegmentationBranchSettings) -> list[nn.Module]:
        channels, stride, dropout = self.body.channels[0], settings.output_stride, settings.dropout
        if settings.fc is not None:
            return new_layers(channels, settings.fc, stride, dropout)
        if not backbone.name.startswith("vgg"):
            return _last_convolution(backbone)
        layers = new_layers(channels, VGG_LAYERS, stride, dropout)
        if backbone.weights != "none":
            _copy_fully_connected(layers, backbone)
        return layers

    @property
    def norm(self) -> FeatureNorm | None:
        """The normalisation of fc7's channels, where there is one."""
        return next((layer for layer in self.top if isinstance(layer, FeatureNorm)), None)

    def train(self, mode: bool = True) -> SegmentationBranch:
        """Keep frozen batch normalisations in evaluation mode, that of a pretrained fc6 too."""
        super().train(mode)
        if self.body.frozen_batchnorm:
            freeze_batchnorm(self.top[:2])
        return self

    def maps(self, images: Tensor) -> Tensor:
        """Return what fc6 sees, ``(B, C, h, w)``, of ``(B, 3, H, W)`` images in [0, 255]."""
        return self.body(images)[0]

    def forward(self, images: Tensor) -> Tensor:
        """Return conv-fc7, ``(B, D, h, w)``."""
        return self.top(self.maps(images))


class FeatureNorm(nn.BatchNorm2d):
    """Give each channel mean 0 and variance 1 over all locations.

    In training the statistics are the batch's, later those of the training; before any training those of each image.

    Args:
        features: D.
    """

    def __init__(self, features: int) -> None:
        super().__init__(features, affine=False)
        self.calibrated = False

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise ``(B, D, h, w)``."""
        if self.training:
            self.calibrated = True
        if self.calibrated:
            return super().forward(maps)
        variance, mean = torch.var_mean(maps, (2, 3), correction=0, keepdim=True)
        return (maps - mean) / (variance + self.eps).sqrt()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.calibrated = int(self.num_batches_tracked) > 0


def new_layers(channels: int, layers: NewLayers, output_stride: int, dropout: float) -> list[nn.Module]:
    """Return fc6 and fc7, untrained; fc6 is dilated as the backbone is, so that it sees as much of an image.

    Args:
        channels: C.
        layers: Their sizes.
        output_stride: Of the map that fc6 sees.
        dropout: Between them.
    """
    rate = max(1, 32 // output_stride) if layers.kernel_size > 1 else 1
    padding = rate * (layers.kernel_size // 2)
    fc6 = nn.Conv2d(channels, layers.features, layers.kernel_size, padding=padding, dilation=rate)
    fc7 = nn.Conv2d(layers.features, layers.features, 1)
    for layer in (fc6, fc7):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return [fc6, nn.ReLU(), nn.Dropout(dropout), fc7, nn.ReLU()]


def _last_convolution(backbone: BackboneSettings) -> list[nn.Module]:
    """Return the layers of an EfficientNet between its last map and its pooling."""
    network = classifier_network(backbone.name, backbone.weights)
    if not (hasattr(network, "conv_head") and hasattr(network, "bn2")):
        raise ValueError(
            f"fc is null but {backbone.name} has no convolution before its pooling; "
            "set fc, such as {features: 256, kernel_size: 3}"
        )
    return [network.conv_head, network.bn2]


def _copy_fully_connected(layers: list[nn.Module], backbone: BackboneSettings) -> None:
    """Start fc6 and fc7 from the fully connected layers of a VGG, as FCN does (Long et al., CVPR 2015)."""
    full = classifier_network(backbone.name, backbone.weights).pre_logits
    layers[0].load_state_dict(full.fc1.state_dict())
    layers[3].load_state_dict(full.fc2.state_dict())
