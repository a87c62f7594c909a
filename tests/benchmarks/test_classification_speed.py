"""Few-shot tasks on cached features, against the least work that they could be."""

import torch
from timing import say, seconds
from torch import nn

from lightning_fewshot import RepMetClassifier
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.episodes import Examples
from lightning_fewshot.settings import BackboneSettings

TASKS, GOAL = 300, 4.0


def test_tasks_on_cached_features():
    """Tasks of 5-way 5-shot with 15 queries a class, against class means and distances alone."""
    torch.manual_seed(0)
    model = RepMetClassifier(BackboneSettings("efficientnet_lite0"), EmbeddingHead((512,), 256)).eval()
    model.encoder = nn.Identity()
    features = torch.randn(1000, 1280)
    with torch.no_grad():
        cached = model.embed(features)  # what is cached is the embedding: it does not depend on the task
    labels, truth = torch.arange(5).repeat_interleave(5), torch.arange(5).repeat_interleave(15)
    model.head = None
    model.eval()
    generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def tasks():
        for _ in range(TASKS):
            chosen = torch.randint(1000, (100,), generator=generator)
            state = model.adapt(Examples(cached[chosen[:25]], labels))
            model.predict(state, Examples(cached[chosen[25:]], truth))

    def bare():
        for _ in range(TASKS):
            chosen = torch.randint(1000, (100,), generator=generator)
            torch.cdist(cached[chosen[25:]], cached[chosen[:25]].view(5, 5, -1).mean(1))

    ours, least = seconds(tasks), seconds(bare)
    say(f"{TASKS} tasks on cached features: {ours / least:.1f} times class means and distances alone (goal <= {GOAL})")
    assert ours <= GOAL * least
