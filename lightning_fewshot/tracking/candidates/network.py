"""RT-MDNet's network: a convolutional network shared by all samples of a frame, and three fully connected layers.

Jung et al., "Real-time MDNet" (ECCV 2018), section 3; the layers are VGG-M's first three, without the second pooling
and with the third convolution dilated by three, so that the map has a stride of 8. What is looked at of a frame is its
*scene*: the window of ``scene`` times the target's size around it, resampled so that the target has ``target_pixels``
pixels. Dilation and receptive field belong to the size of a target: where it has fewer pixels the third convolution is
dilated by less.

Shapes: N scenes of S x S pixels, P clips, R samples, C channels of the last map, F = 9 C features of a sample.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, relu

from lightning_fewshot.nn.backbones import Backbone
from lightning_fewshot.nn.geometry import Geometry, measured
from lightning_fewshot.settings import BackboneSettings
from lightning_fewshot.tracking.candidates.head import LAYERS, Head
from lightning_fewshot.tracking.candidates.pooling import max_pool
from lightning_fewshot.tracking.candidates.roi_align import POOLED, pooled_regions
from lightning_fewshot.tracking.candidates.settings import (
    CHANNELS,
    DILATION,
    TARGET_SIZE,
    CandidateNetworkSettings,
)

STRIDE = 8  # of the map that is taken from a backbone
LARGEST_FIELD = 75 / TARGET_SIZE  # of a target's side: what RT-MDNet's cells see of it
PADDING = 1.2  # a sample is looked at with this much of its surroundings
CENTRED = 128.0  # subtracted from pixels
PIXEL_SPREAD = 64.0  # their standard deviation, about: inputs, and the steps of an optimiser, are then of order one
CONVOLUTIONS = ("conv1", "conv2", "conv3")


class SharedNetwork(nn.Module):
    """Three convolutions, or a pretrained network's first stages with a dilated third convolution on top.

    Args:
        channels: Of the three convolutions; of the third alone where there is a backbone.
        backbone: Whose map of stride 8 stands for the first two convolutions; None: VGG-M's own.
        dilation: Of the third convolution.
        size: S, pixels of a scene's side; the padding of some backbones depends on it.

    Attributes:
        geometry: Of the map of every convolution, by name.

    Raises:
        ValueError: ``channels`` has another length.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = CHANNELS,
        backbone: BackboneSettings | None = None,
        dilation: int = DILATION,
        size: int = 192,
    ) -> None:
        super().__init__()
        wanted = 3 if backbone is None else 1
        if len(channels) != wanted:
            raise ValueError(f"channels is {channels} but must have {wanted} numbers, one a convolution")
        self.body: Backbone | None = None
        self.stages: tuple[str, ...] = CONVOLUTIONS if backbone is None else CONVOLUTIONS[2:]
        if backbone is None:
            self.conv1 = nn.Conv2d(3, channels[0], 7, stride=2)
            self.conv2 = nn.Conv2d(channels[0], channels[1], 5, stride=2)
            self.conv3 = nn.Conv2d(channels[1], channels[2], 3, dilation=dilation)
        else:
            self.body = _backbone(backbone)
            self.conv3 = nn.Conv2d(self.body.channels[0], channels[0], 3, dilation=dilation, padding=dilation)
        self.geometry = self._geometry(size)
        self._initialise()
        self.to(memory_format=torch.channels_last)

    @property
    def out_channels(self) -> int:
        """C."""
        return self.conv3.out_channels

    def forward(self, scenes: Tensor, masks: Head | None = None) -> Tensor:
        """Return the last map ``(N, C, h, w)`` of RGB scenes ``(N, 3, S, S)`` in [0, 255]."""
        return self.maps(scenes, masks)["conv3"]

    def maps(self, scenes: Tensor, masks: Head | None = None) -> Head:
        """Return the map of every convolution after its ReLU.

        Args:
            scenes: ``(N, 3, S, S)``.
            masks: Multiply each map by its mask, eq. (10): ``(N, C_l)`` by name.
        """
        maps: Head = {}
        scenes = scenes.contiguous(memory_format=torch.channels_last)  # pooling is seven times as fast
        x = (scenes - CENTRED) / PIXEL_SPREAD if self.body is None else _unit_scale(self.body(scenes)[0])
        for stage in self.stages:
            layer = getattr(self, stage)
            x = relu(conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation))
            if masks is not None:
                x = x * masks[stage][..., None, None]  # eq. (10)
            maps[stage] = x
            if stage == "conv1":
                x = max_pool(response_normalisation(x))
            elif stage == "conv2":
                x = response_normalisation(x)
        return maps

    def _geometry(self, size: int) -> dict[str, Geometry]:
        if self.body is not None:
            return {"conv3": measured(self.body, size, lambda body, x: body(x)[0]).through(self.conv3)}
        first = Geometry().through(self.conv1)
        second = first.through(nn.MaxPool2d(3, stride=2)).through(self.conv2)
        return {"conv1": first, "conv2": second, "conv3": second.through(self.conv3)}

    def _initialise(self) -> None:
        for stage in self.stages:
            _initialise_relu(getattr(self, stage))
        if self.body is None:  # maps of order one, in spite of the normalisation
            with torch.no_grad():
                self.conv2.weight *= 2**0.75
                self.conv3.weight *= 2**0.75


class CandidateNetwork(nn.Module):
    """Shared convolutions, regions of samples, and the initial parameters of the head.

    Args:
        settings: Widths and sizes.
        backbone: See :class:`SharedNetwork`.
    """

    def __init__(
        self,
        settings: CandidateNetworkSettings = CandidateNetworkSettings(),
        backbone: BackboneSettings | None = None,
    ) -> None:
        super().__init__()
        self.target_pixels = settings.target_pixels
        self.scene = settings.scene
        self.scene_size = settings.scene_size
        self.shared = SharedNetwork(tuple(settings.channels), backbone, settings.taps, size=self.scene_size)
        self.features = self.shared.out_channels * POOLED * POOLED
        self.fc4 = nn.Linear(self.features, settings.hidden)
        self.fc5 = nn.Linear(settings.hidden, settings.hidden)
        self.fc6 = nn.Linear(settings.hidden, 2)
        for layer in (self.fc4, self.fc5):
            _initialise_relu(layer)

    def head(self, clips: int = 1) -> Head:
        """Return theta_init^0 of the head, once a clip: ``(P, ...)``, all clips sharing the memory."""
        return {
            f"{name}.{part}": tensor.expand(clips, *tensor.shape)
            for name in LAYERS
            for part, tensor in getattr(self, name).named_parameters()
        }

    def describe(self, maps: Tensor, boxes: Tensor, stage: str = "conv3") -> Tensor:
        """Return the features ``(N, R, F)`` of samples.

        Args:
            maps: ``(N, C, h, w)``.
            boxes: ``(N, R, 4)`` in pixels of the scenes.
            stage: Convolution that the maps come from.
        """
        return pooled_regions(maps, self.regions(boxes, stage))

    def regions(self, boxes: Tensor, stage: str = "conv3") -> Tensor:
        """Return the cells ``(N, R, 4)`` that samples cover, boxes ``(N, R, 4)`` in pixels of the scene.

        A sample is enlarged by 1.2, and what remains when the receptive field is subtracted is what its cells see
        wholly. No more is subtracted than RT-MDNet does from its targets of 107 pixels, as a share of the target's
        size: of a small target a deep network's cells see no part alone.
        """
        stride, offset, field = self.shared.geometry[stage]
        centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, PADDING * (boxes[..., 2:] - boxes[..., :2]) / 2
        inside = (half - min(field, LARGEST_FIELD * self.target_pixels) / 2).clamp(min=0)
        return (torch.cat((centre - inside, centre + inside), dim=-1) - offset) / stride


def _backbone(settings: BackboneSettings) -> Backbone:
    """Return a timm network that ends at stride 8; what lies beyond would be computed for nothing."""
    backbone = Backbone(settings, strides=(STRIDE,))
    body, last = backbone.body, backbone.indices[0]
    if hasattr(body, "blocks") and hasattr(body, "_stage_out_idx"):
        body.blocks = body.blocks[: max(stage for stage, out in body._stage_out_idx.items() if out <= last)]
    elif hasattr(body, "return_layers"):
        names, wanted = list(body), list(body.return_layers)[: last + 1]
        for name in names[names.index(wanted[-1]) + 1 :]:
            del body[name]
        body.return_layers = {name: body.return_layers[name] for name in wanted}
    return backbone


def _initialise_relu(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)


def _unit_scale(x: Tensor) -> Tensor:
    """Divide maps ``(N, C, h, w)`` by their root mean square: backbones differ by orders of magnitude."""
    return x / x.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)


def response_normalisation(x: Tensor) -> Tensor:
    """Divide each element by ``(2 + 1e-4 x^2)^0.75``: VGG-M's normalisation over a single channel.

    >>> response_normalisation(torch.tensor([2.0 ** 0.75])).round(decimals=3).tolist()
    [1.0]
    """
    root = torch.addcmul(x.new_full((), 2.0), x, x, value=1e-4).rsqrt()
    return x * root * root.sqrt()  # a power of 0.75 takes three times as long


def scene_windows(boxes: Tensor, scene: float, least: float = 8.0) -> Tensor:
    """Return the windows ``(..., 4)`` of a frame that are looked at, around boxes ``(..., 4)``.

    Args:
        boxes: In pixels.
        scene: Side of the window, in sides of the box.
        least: Pixels that a side counts at least.

    >>> scene_windows(torch.tensor([10.0, 10.0, 20.0, 30.0]), 3.0).tolist()
    [0.0, -10.0, 30.0, 50.0]
    """
    centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, scene / 2 * (boxes[..., 2:] - boxes[..., :2]).clamp(min=least)
    return torch.cat((centre - half, centre + half), dim=-1)
