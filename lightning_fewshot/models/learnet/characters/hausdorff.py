"""The modified Hausdorff distance (Dubuisson and Jain, 1994) between drawings: the last row of table 1.

Shapes: P exemplars, R inputs of each, N ink points (padded), 2 coordinates.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.metrics.classification import MatchError
from lightning_fewshot.models.learnet.characters.drawings import drawings, ink
from lightning_fewshot.models.learnet.characters.loss import pair_loss
from lightning_fewshot.module import FewShotModule
from lightning_fewshot.settings import Optimization

FAR = 1e4  # pixels: where padding stands, on opposite sides for the two sets
PAIRS_OF_POINTS = 1 << 21  # whose distances are in memory at once: 16 MB fit a cache, 128 are ten times slower


class InkPoints(NamedTuple):
    """Ink pixels of drawings, relative to their mean.

    Args:
        points: ``(B, N, 2)`` float32, (row, column) in pixels.
        valid: ``(B, N)`` bool; the rest is padding.
    """

    points: Tensor
    valid: Tensor


class ModifiedHausdorff(FewShotModule):
    """Compare drawings as sets of ink points. Nothing is learned but the score's scale and offset (a calibration).

    A batch of grey squares is taken in its own size, any other images are converted to 28 x 28. Training fits two
    numbers and leaves the ranking, so the error, as it is; ``test`` alone is enough for table 1.

    Args:
        threshold: Ink, in (0, 1), from which a pixel is a point.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start training from, as far as names and shapes agree.

    Raises:
        ValueError: The threshold is not in (0, 1).
    """

    monitor = "val/error"
    mode = "min"

    def __init__(
        self,
        threshold: float = 0.25,
        optimization: Optimization = Optimization(),
        init_from: str | None = None,
    ) -> None:
        super().__init__(optimization, init_from)
        if not 0 < threshold < 1:
            raise ValueError(f"threshold is {threshold} but must be between 0 and 1")
        self.threshold = threshold
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.ones(()))

    def adapt(self, support: Examples) -> InkPoints:
        """Return the ink points of the exemplars."""
        return ink_points(ink(drawings(support.images, side=None)), self.threshold)

    def predict(self, state: InkPoints, query: Examples) -> Tensor:
        """Return scores ``(P, R)``: minus the distance, scaled and shifted."""
        candidates = ink_points(ink(drawings(query.images, side=None)), self.threshold)
        repeats = _inputs_of_each(len(query.images), len(state.points))
        exemplars = InkPoints(*(part.repeat_interleave(repeats, 0) for part in state))
        distances = modified_hausdorff(exemplars, candidates).view(-1, repeats)
        return self.offset - self.log_scale.exp() * distances

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the logistic loss over pairs, for the calibration."""
        return {"pairs": pair_loss(self(episode).flatten(), episode.query.labels)}

    def build_metrics(self) -> MatchError:
        """Return the error rate of one-shot recognition, table 1."""
        return MatchError()

    @torch.no_grad()
    def draw(self, episode: Episode, preds: Tensor) -> Tensor:
        """Return one ``(3, H, W)`` uint8 picture of problems with their ranking."""
        from lightning_fewshot.models.learnet.characters.visualization import draw_problems

        exemplars, candidates = (drawings(part.images, side=None) for part in (episode.support, episode.query))
        return draw_problems(exemplars, candidates, labels=episode.query.labels, scores=preds)


def ink_points(images: Tensor, threshold: float) -> InkPoints:
    """Return the pixels of ``images`` ``(B, 1, H, W)`` with at least ``threshold`` ink, centred on their mean.

    An empty drawing gets the single point (0, 0).

    >>> image = torch.zeros(1, 1, 3, 3)
    >>> image[0, 0, 1] = 1.0
    >>> ink_points(image, 0.5).points.tolist()
    [[[0.0, -1.0], [0.0, 0.0], [0.0, 1.0]]]
    """
    inked = images[:, 0] >= threshold  # (B, H, W)
    rows, columns = torch.meshgrid(*(torch.arange(n, device=images.device) for n in inked.shape[1:]), indexing="ij")
    grid = torch.stack([rows, columns], -1).flatten(0, 1).float()  # (H * W, 2)
    inked = inked.flatten(1)
    inked[:, 0] |= ~inked.any(1)
    order = inked.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, : int(inked.sum(1).max())]  # (B, N)
    valid = inked.gather(1, order)
    mean = (inked.float() @ grid) / inked.sum(1, keepdim=True)
    return InkPoints((grid[order] - mean[:, None]) * valid[..., None], valid)


def modified_hausdorff(a: InkPoints, b: InkPoints) -> Tensor:
    """Return ``max(mean_a min_b |a - b|, mean_b min_a |a - b|)`` for each of B pairs of point sets, in pixels.

    Dubuisson and Jain (1994), their best of 24: mean of the nearest distances, larger of the two directions.

    >>> a = InkPoints(torch.tensor([[[0.0, 0.0], [0.0, 2.0]]]), torch.ones(1, 2, dtype=torch.bool))
    >>> b = InkPoints(torch.tensor([[[0.0, 0.0]]]), torch.ones(1, 1, dtype=torch.bool))
    >>> modified_hausdorff(a, b).tolist()
    [1.0]
    """
    at_once = max(1, PAIRS_OF_POINTS // (a.points.shape[1] * b.points.shape[1]))
    chunks = zip(*(part.split(at_once) for part in (*a, *b)), strict=True)
    return torch.cat([_modified_hausdorff(InkPoints(*c[:2]), InkPoints(*c[2:])) for c in chunks])


def _modified_hausdorff(a: InkPoints, b: InkPoints) -> Tensor:
    p, q = (part.points.double().masked_fill(~part.valid[..., None], far) for part, far in ((a, FAR), (b, -FAR)))
    one = p.new_ones(())
    left = torch.cat([-2 * p, p.square().sum(-1, keepdim=True), one.expand(*p.shape[:2], 1)], -1)
    right = torch.cat([q, one.expand(*q.shape[:2], 1), q.square().sum(-1, keepdim=True)], -1)
    squared = left @ right.mT  # (B, Na, Nb), |p - q|^2; padding is nearest to nothing
    return torch.maximum(_mean_root(squared.amin(2), a.valid), _mean_root(squared.amin(1), b.valid)).float()


def _mean_root(squared: Tensor, valid: Tensor) -> Tensor:
    return squared.clamp(min=0).sqrt().masked_fill(~valid, 0).sum(1) / valid.sum(1)


def _inputs_of_each(images: int, exemplars: int) -> int:
    if exemplars == 0 or images % exemplars:
        raise ValueError(f"{images} images cannot be shared out equally among {exemplars} exemplars")
    return images // exemplars
