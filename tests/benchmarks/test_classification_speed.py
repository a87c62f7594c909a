"""Speed of classification as ratios within one run. Run with `pytest tests/benchmarks/test_classification_speed.py -s`.

Processor time is counted on one thread, so that other work on the machine does not change a ratio. Whole fits are in
test_fit_speed.py. Tasks on cached features are printed as seconds of 10,000: the goal is under 60 on one core.
"""

import pytest
import torch
from timing import say, seconds
from torch import nn

from lightning_fewshot import RepMetClassifier
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.episodes import Examples
from lightning_fewshot.nn.embedding import squared_distances
from lightning_fewshot.settings import BackboneSettings

TASKS, IMAGES = 100, 1000

pytestmark = pytest.mark.usefixtures("one_thread")


@torch.no_grad()
def test_tasks_on_cached_embeddings_against_embedding_each_task():
    """5-way 5-shot with 15 queries a class; what is cached is the embedding, which no task changes."""
    model = RepMetClassifier(BackboneSettings("efficientnet_lite0"), EmbeddingHead((512,), 256)).eval()
    model.encoder = nn.Identity()
    features = torch.randn(IMAGES, 1280)
    labels, truth = torch.arange(5).repeat_interleave(5), torch.arange(5).repeat_interleave(15)
    chosen = torch.randint(IMAGES, (TASKS, 100))

    def cached():
        embedded = model.embed(features)
        for row in chosen:
            model.scores(model.modes_of(embedded[row[:25]], labels), embedded[row[25:]])

    def each_task():
        for row in chosen:
            model.predict(model.adapt(Examples(features[row[:25]], labels)), Examples(features[row[25:]], truth))

    quick, slow = seconds(cached), seconds(each_task)
    say(f"10,000 tasks on cached embeddings: {quick * 10_000 / TASKS:.1f} s; {slow / quick:.1f} times the speed")
    assert slow / quick >= 1.2


@torch.no_grad()
def test_distances_as_one_product_against_a_loop_over_classes():
    embedded = nn.functional.normalize(torch.randn(64, 1024), dim=-1)
    modes = nn.functional.normalize(torch.randn(100, 3, 1024), dim=-1)

    def loop():
        return torch.stack([torch.cdist(embedded, row).square() for row in modes], dim=1)

    torch.testing.assert_close(squared_distances(embedded, modes), loop(), atol=1e-4, rtol=1e-3)
    ratio = seconds(loop, 5) / seconds(lambda: squared_distances(embedded, modes), 5)
    say(f"distances as one product: {ratio:.1f} times the speed of a loop over classes")
    assert ratio >= 1.5
