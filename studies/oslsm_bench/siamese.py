"""Siamese matching, section 6, trained on the cached pairs of studies/oslsm_training.py.

Locations of a query and of its support are verified: are both the object's, or both not? fc6 and a similarity of
locations train, as in SiameseSegmenter; a query is then labelled by its most similar locations of the support.

Shapes: P pairs, D features, (h, w) locations.
"""

from __future__ import annotations

import copy

import torch
from oslsm_bench.baselines import labelled
from oslsm_bench.pairs import Pairs, Supports
from oslsm_bench.rows import Method
from oslsm_sets import BATCH
from torch import Tensor, nn

from lightning_fewshot.models.oslsm.grid import location_labels
from lightning_fewshot.models.oslsm.loss import verification_loss
from lightning_fewshot.models.oslsm.nearest import neighbour_logits
from lightning_fewshot.models.oslsm.segmentation_branch import SegmentationBranch
from lightning_fewshot.models.oslsm.siamese import similarity, similarity_scale, some_locations

STEPS = 300
RATES = (3e-4, 1e-2)  # of fc6, and of the similarity, each of whose numbers is one of a thousand
WARM_UP = 0.05


def siamese(branch: SegmentationBranch, pairs: Pairs, supports: Supports, *, steps: int = STEPS) -> Method:
    """Train on pairs and return the method.

    Args:
        branch: What fc6 starts from; it is copied.
        pairs: For training.
        supports: Theirs.
        steps: Of ``BATCH`` pairs.
    """
    branch = copy.deepcopy(branch)
    parameters = nn.Parameter(torch.zeros(branch.n_features + 1))
    with torch.no_grad():  # the offset starts where half of all pairs of locations are the same
        parameters[-1] = -_similarities(branch, pairs, supports, torch.arange(1), parameters)[0][0].median()
    fc6 = [p for p in branch.top.parameters() if p.requires_grad]
    groups = [{"params": part, "lr": lr} for part, lr in zip((fc6, [parameters]), RATES, strict=True)]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, list(RATES), total_steps=steps, pct_start=WARM_UP)
    order = torch.Generator().manual_seed(1)
    branch.train()
    for _ in range(steps):
        chosen = torch.randint(len(pairs.classes), (BATCH,), generator=order)
        optimizer.zero_grad()
        found = _similarities(branch, pairs, supports, chosen, parameters)
        torch.stack([verification_loss(logits, same) for logits, same in found]).mean().backward()
        optimizer.step()
        schedule.step()
    branch.eval()
    scale = similarity_scale(parameters.detach())
    return labelled(branch, lambda shots, features: neighbour_logits(shots, features, scale))


def _similarities(
    branch: SegmentationBranch, pairs: Pairs, supports: Supports, chosen: Tensor, parameters: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Return, for each pair, similarities of some locations of query and support, and which are of one kind."""
    places = supports.index[chosen, 0]
    features = branch.top(torch.cat([pairs.maps[chosen], supports.maps[places]]).float())
    found = []
    for i, place, query, support in zip(chosen.tolist(), places.tolist(), *features.split(len(chosen)), strict=True):
        mask = pairs.masks[i]
        asked = some_locations(query, *location_labels(mask == 1, mask, query.shape[-2:], True))
        known = some_locations(support, *supports.labels[place])
        found.append((similarity(asked[0], known[0], parameters), asked[1][:, None] == known[1][None]))
    return found
