"""The network omega (the learnet) for tracking, and the sizes of all streams (Learnet, section 3.3).

Shapes: P exemplars, D factors, F filter side.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import relu

from lightning_fewshot.models.learnet.filters import FILTER_VARIATION
from lightning_fewshot.nn.siamese import SiameseStream

Variant = Literal["A", "B", "C", "S"]
# Filters of each layer. A is AlexNet; B and C have half of it in the first two layers, and a quarter and an eighth in
# the last (section 3.3); S is ours, for the embedded videos on a CPU.
CHANNELS: dict[str, tuple[int, ...]] = {
    "A": (96, 256, 384, 384, 256),
    "B": (48, 128, 384, 384, 64),
    "C": (48, 128, 384, 384, 32),
    "S": (24, 64, 96, 96, 32),
}
GROUPS = (1, 2, 1, 2, 2)  # AlexNet's


class TrackingLearnet(nn.Module):
    """The network omega: a stream, and a layer with one output for every element of the predicted filters.

    Args:
        filter_shape: (D, F, F) of one exemplar.
        variant: Which of ``CHANNELS``.
        exemplar: Side of an exemplar in pixels; the layer is fully connected, and takes nothing else.
    """

    def __init__(self, filter_shape: tuple[int, int, int], variant: Variant = "A", exemplar: int = 127) -> None:
        super().__init__()
        self.filter_shape = filter_shape
        self.trunk = SiameseStream(CHANNELS[variant], groups=GROUPS)
        inputs, outputs = CHANNELS[variant][-1] * self.trunk.map_side(exemplar) ** 2, math.prod(filter_shape)
        self.head = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs)
        nn.init.normal_(self.head.weight, 0, 1 / math.sqrt(inputs))
        spread = 1 / math.prod(filter_shape[1:]) ** 0.5
        nn.init.constant_(self.norm.weight, FILTER_VARIATION * spread)  # what depends on z
        nn.init.normal_(self.norm.bias, 0, spread)  # what is common to all z

    def forward(self, z: Tensor) -> Tensor:
        """Return the filters ``(P, D, F, F)`` for exemplars ``(P, 3, 127, 127)`` from ``SiameseStream.pixels``.

        Raises:
            ValueError: One exemplar alone in training: its filters cannot be normalised over a batch.
        """
        if self.training and len(z) < 2:
            raise ValueError("a training episode has 1 exemplar but must have at least 2: raise batch_size")
        return self.norm(self.head(relu(self.trunk(z)).flatten(1))).unflatten(1, self.filter_shape)
