"""One feature vector an image: any timm network without its classifier, or the small network of few-shot papers.

Shapes: B images, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from lightning_fewshot.nn.backbones import PACKAGE_MEAN, freeze_batchnorm, input_statistics, load_package_weights
from lightning_fewshot.settings import BackboneSettings

CONV4 = "conv4"
CONV4_WIDTH = 64  # Snell et al. (2017), section 3


class ImageEncoder(nn.Module):
    """Images to pooled features.

    Args:
        settings: "conv4", or any timm classifier; where its weights come from, and what is trained.

    Raises:
        ValueError: No package carries the weights, or more stages are frozen than there are.
    """

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__()
        self.network, self.n_features = _network(settings)
        self.frozen_batchnorm = settings.frozen_batchnorm
        freeze_stages(self.network, settings.frozen_stages)
        plain = settings.name == CONV4
        statistics = (PACKAGE_MEAN, PACKAGE_MEAN) if plain else input_statistics(settings.name, settings.weights)
        mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in statistics)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.train()

    def forward(self, images: Tensor | list[Tensor]) -> Tensor:
        """Return ``(B, F)`` features of uint8 images ``(B, C, H, W)``, grey or RGB, or of a list of any sizes."""
        batch = images if isinstance(images, Tensor) else squares(images)
        batch = batch.expand(-1, 3, -1, -1) if batch.shape[1] == 1 else batch
        return self.network((batch.to(self.std.dtype) - self.mean) / self.std)

    def train(self, mode: bool = True) -> ImageEncoder:
        """Keep frozen batch normalisations in evaluation mode."""
        super().train(mode)
        if self.frozen_batchnorm:
            freeze_batchnorm(self)
        return self


def conv4(width: int = CONV4_WIDTH) -> nn.Sequential:
    """Return four blocks of 3x3 convolution, batch normalisation, ReLU and 2x2 pooling, and a global average.

    The global average (1.75 x 1.75 positions of a 28 x 28 drawing are left) makes the features independent of the
    size of the images. Pooling stands before the ReLU, with which it commutes: a quarter of the elements.
    """
    blocks = [_block(a, width) for a in (3, width, width, width)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _block(inputs: int, width: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.MaxPool2d(2), nn.ReLU(inplace=True))


def freeze_stages(network: nn.Module, count: int) -> None:
    """Stop the training of the first ``count`` stages of a timm network, in place, as timm itself divides it."""
    if not count:
        return
    from timm.models import group_parameters

    matcher = getattr(network, "group_matcher", None)
    if matcher is None:
        raise ValueError(f"frozen_stages is {count} but {type(network).__name__} has no stages")
    groups = group_parameters(network, matcher(coarse=True))
    if count > len(groups):
        raise ValueError(f"frozen_stages is {count} but the backbone has {len(groups)} stages")
    frozen = {name for stage in sorted(groups)[:count] for name in groups[stage]}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)


def squares(images: list[Tensor], side: int = 224) -> Tensor:
    """Return images of any sizes as one batch: the middle square of each, scaled to ``side``."""
    return torch.stack([_square(image, side) for image in images])


def _square(image: Tensor, side: int) -> Tensor:
    height, width = image.shape[-2:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = image[None, :, top : top + short, left : left + short].float()
    return interpolate(square, (side, side), mode="bilinear", antialias=True)[0].expand(3, -1, -1)


def _network(settings: BackboneSettings) -> tuple[nn.Module, int]:
    if settings.name == CONV4:
        if settings.weights != "none":
            raise ValueError(f"weights is {settings.weights!r} but 'conv4' has no ImageNet weights")
        return conv4().to(memory_format=torch.channels_last), CONV4_WIDTH
    import timm

    network = timm.create_model(settings.name, pretrained=settings.weights == "timm", num_classes=0)
    if settings.weights == "package":
        load_package_weights(network, settings.name)
    network.to(memory_format=torch.channels_last)
    return network, _n_features(network)


def _n_features(network: nn.Module) -> int:
    return int(getattr(network, "head_hidden_size", None) or network.num_features)
