"""Growth of processor time with work: no faster than the work. With ``--write`` the curves go into docs/."""

from pathlib import Path

import numpy as np
import pytest
import torch
from clips import clip_episode
from speed_table import machine_class
from timing import say, seconds

from lightning_fewshot import MetaRTT, OSLSMSegmenter, RepMetClassifier, SiameseLearnetTracker
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.episodes import Examples
from lightning_fewshot.models.metartt.settings import InnerLoop, OnlineAdaptation, SimulatedEpisode
from lightning_fewshot.models.oslsm.settings import NewLayers, SegmentationBranchSettings, SupportEncoder
from lightning_fewshot.settings import BackboneSettings
from lightning_fewshot.tracking.candidates.settings import Batches, CandidateNetworkSettings
from lightning_fewshot.tracking.frames import ArrayFrames
from lightning_fewshot.tracking.loop import track

STEEPEST = 1.15  # slope of the last doubling in a plot of logarithms; 1 is proportional
CURVES = {}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def plot(request):
    """Draw all curves at the end, where docs are written."""
    yield
    path = request.config.getoption("--write")
    if path and CURVES:
        _draw(Path(path).parent / f"speed-growth-{machine_class().lower()}.svg")


def _images(count, side=64):
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)


def _classifier():
    return RepMetClassifier(BackboneSettings("conv4"), EmbeddingHead((128,), 64)).eval()


def _images_of_a_query():
    module = _classifier()
    state = module.adapt(Examples(_images(5), torch.arange(5)))
    return lambda n: module.predict(state, Examples(_images(n)))


def _ways():
    module = _classifier()
    return lambda n: module.adapt(Examples(_images(n), torch.arange(n)))


def _shots():
    branch = SegmentationBranchSettings(8, NewLayers(128, 3))
    module = OSLSMSegmenter(BackboneSettings("regnetx_002"), branch=branch, encoder=SupportEncoder(size=64)).eval()
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[:, 16:40, 16:40] = 1
    return lambda n: module.adapt(
        Examples(_images(n), torch.zeros(n, dtype=torch.int64), class_masks=mask.repeat(n, 1, 1))
    )


def _frames():
    tracker = SiameseLearnetTracker("siamese_shared", stream="S").eval().tracker()
    video, box = np.random.default_rng(0).integers(0, 256, (64, 120, 160, 3), dtype=np.uint8), [40.0, 30.0, 90.0, 70.0]
    return lambda n: track(tracker, ArrayFrames(video[: n + 1]), torch.tensor(box))


def _gradient_steps():
    sizes = {"network": CandidateNetworkSettings((24, 48, 96), 96, 48, 4.0), "batches": Batches(32, 96, 256)}
    episode, simulated = clip_episode(2), SimulatedEpisode((32, 96), frame=(16, 48))

    def work(n):
        module = MetaRTT(**sizes, episode=simulated, inner=InnerLoop(n), online=OnlineAdaptation(n))
        with torch.enable_grad():
            sum(module.loss(episode).values()).backward()

    return work


KINDS = {
    "query images": (_images_of_a_query, (8, 16, 32, 64)),
    "ways": (_ways, (5, 10, 20, 40)),
    "shots": (_shots, (2, 4, 8, 16)),
    "frames": (_frames, (4, 8, 16, 32)),
    "gradient steps K": (_gradient_steps, (2, 4, 8, 16)),
}


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_time_grows_no_faster_than_work(kind):
    make, counts = KINDS[kind]
    work = make()
    times = [seconds(lambda n=n: work(n), 3) for n in counts]
    CURVES[kind] = counts, times
    slope = float(np.log2(times[-1] / times[-2]))
    say(f"{kind}, {counts[-2]} to {counts[-1]}: {2**slope:.2f} times the time, slope {slope:.2f} (expected <= 1)")
    assert slope <= STEEPEST


def _draw(path):
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    for kind, (counts, times) in CURVES.items():
        axes.loglog(np.array(counts) / counts[0], np.array(times) / times[0], marker="o", label=kind)
    axes.loglog([1, 8], [1, 8], color="grey", linestyle="--", label="proportional")
    axes.set_xlabel("work, as a multiple")
    axes.set_ylabel("processor time, as a multiple")
    axes.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
