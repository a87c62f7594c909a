"""Speed of Learnet as ratios within one run. Run with `pytest tests/benchmarks/test_learnet_speed.py -s`.

Processor time is counted on one thread, so that other work on the machine does not change a ratio.
"""

import pytest
import torch
from timing import say, seconds
from torch.nn.functional import conv2d

from datamodules.characters.drawn_alphabets import AlphabetSettings, DrawnAlphabets
from lightning_fewshot import SiameseLearnet
from lightning_fewshot.episodes import Examples
from lightning_fewshot.nn.dynamic import dynamic_conv2d, dynamic_depthwise_conv2d

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", ["depthwise", "full"])
def test_dynamic_layer_against_a_loop_over_samples(kind):
    x = torch.randn(128, 64, 12, 12, requires_grad=True)
    shape = (128, 64, 5, 5) if kind == "depthwise" else (128, 64, 16, 5, 5)
    x = x if kind == "depthwise" else torch.randn(128, 16, 12, 12, requires_grad=True)
    w = torch.randn(shape, requires_grad=True)

    def grouped():
        y = dynamic_depthwise_conv2d(x, w) if kind == "depthwise" else dynamic_conv2d(x, w)
        y.sum().backward()

    def loop():
        if kind == "depthwise":
            parts = [conv2d(x[i : i + 1], w[i][:, None], groups=64) for i in range(128)]
        else:
            parts = [conv2d(x[i : i + 1], w[i]) for i in range(128)]
        torch.cat(parts).sum().backward()

    ratio = seconds(loop, 3) / seconds(grouped, 3)
    say(f"dynamic layer, {kind}: {ratio:.1f} times the speed of a loop over samples, forward and backward")
    if kind == "depthwise":  # the layer of the paper; the naive one is an ablation
        assert ratio >= 5


def test_adapt_once_against_the_learnet_for_each_pair():
    module = SiameseLearnet().eval()
    data = DrawnAlphabets(AlphabetSettings(background=2, evaluation=3), problems=20)
    support, query = data.episode("test", 0)[:2]

    @torch.no_grad()
    def once():
        return module.predict(module.adapt(support), query)

    @torch.no_grad()
    def each_pair():
        scores = []
        for i in range(len(query.images)):
            state = module.adapt(Examples(support.images[i // 20][None]))
            scores.append(module.predict(state, Examples(query.images[i][None])))
        return torch.cat(scores).view(20, 20)

    @torch.no_grad()
    def all_pairs():
        return module.predict(module.adapt(Examples(support.images.repeat_interleave(20, 0))), query).view(20, 20)

    torch.testing.assert_close(once(), each_pair(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(once(), all_pairs(), rtol=1e-3, atol=1e-3)
    quick, slow, batched = seconds(once), seconds(each_pair, 2), seconds(all_pairs)
    say(
        f"adapt once: {20 / quick:.0f} problems/s, {slow / quick:.1f} times the learnet run for each pair, "
        f"{batched / quick:.1f} times the learnet run for all pairs in one batch"
    )
    assert slow / quick >= 5
