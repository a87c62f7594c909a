"""The bench of detection heads: the detector's own scores, supports that grow, intervals of what is paired."""

import sys
from pathlib import Path

import pytest
import torch

from lightning_fewshot.episodes import Examples
from lightning_fewshot.models.repmet.baseline_dml import PlainMetricDetector
from lightning_fewshot.models.repmet.plain import PlainDetector
from lightning_fewshot.models.repmet.settings import FineTuning, Mixture
from lightning_fewshot.nn.two_stage import Proposals, Pyramid, RoiHead
from lightning_fewshot.settings import BackboneSettings

sys.path.insert(0, str(Path(__file__).parents[2] / "studies"))

from repmet_bench.data import CocoPhotos
from repmet_bench.regions import BenchEpisode, Canvas, canvases, support_rows
from repmet_bench.scores import FINETUNED, Asked, Prepared, Resamples, judge, scores_of
from repmet_bench.training import DML, FIRST, TrainedHead, train

SETTINGS = {
    "backbone": BackboneSettings("resnet10t"),
    "pyramid": Pyramid(strides=(8, 16, 32), anchor_sizes=(24, 48, 80), channels=16),
    "proposals": Proposals(train=8, test=8),
    "roi_head": RoiHead(pool_size=3, widths=(32, 32)),
}
WAY = 2


@pytest.fixture(scope="module")
def detectors():
    """A plain detector, and baseline-DML with the same weights."""
    torch.manual_seed(0)
    plain, metric = PlainDetector(**SETTINGS), PlainMetricDetector(**SETTINGS)
    for detector in (plain, metric):
        detector.set_classes(("a", "b", "c"))
    metric.load_state_dict(plain.state_dict())
    return plain.eval(), metric.eval()


def boxes_of(count, rng):
    corner = torch.rand(count, 2, generator=rng) * 60
    return torch.cat([corner, corner + 30 + torch.rand(count, 2, generator=rng) * 30], 1)


@pytest.fixture(scope="module")
def episode(detectors):
    """Three shots of two classes, and three query images; also as examples with one shot and with three."""
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(0, 255, (9, 3, 128, 128), generator=rng, dtype=torch.uint8)
    boxes, labels = [boxes_of(1, rng) for _ in range(9)], [torch.tensor([i // 3 % WAY]) for i in range(9)]
    names = [str(i) for i in range(9)]
    found = canvases(detectors[0], images, boxes, labels, names)
    shots = [torch.tensor([i % 3]) for i in range(6)]
    bench = BenchEpisode(("x", "y"), found[:6], shots, found[6:])
    support = {1: [0, 3], 3: list(range(6))}
    examples = {
        k: Examples(images[rows], [labels[i] for i in rows], [boxes[i] for i in rows]) for k, rows in support.items()
    }
    return bench, examples, Examples(images[6:], labels[6:], boxes[6:])


@pytest.mark.parametrize("k_shot", [1, 3])
def test_the_bench_gives_the_detectors_own_scores(detectors, episode, k_shot):
    plain, metric = detectors
    bench, support, query = episode
    size = plain.network.n_features
    head = TrainedHead(plain.network.head[FIRST:], (torch.eye(size), torch.zeros(size)), Mixture())
    scores = scores_of(DML, head, Prepared(plain, bench), k_shot, Asked())
    with torch.no_grad():
        maps = plain.network.maps(query.images)
        pooled = plain.network.pooled(maps, plain.network.propose(maps).boxes)
        features = plain.network.head(pooled).float()
        expected = {DML: metric.score_rois(metric.adapt(support[k_shot]), pooled, features)}
    plain.finetuning = FineTuning()
    expected[FINETUNED] = plain.adapt(support[k_shot]).scores(features)
    for row, wanted in expected.items():
        torch.testing.assert_close(scores[row], wanted, atol=0.02, rtol=0.0)  # pooled regions are kept in 16 bit
        assert wanted.std() > 0.02


def test_the_shots_of_one_are_among_those_of_three(episode):
    one, three = (support_rows(episode[0], k) for k in (1, 3))
    assert set(one.certain.tolist()) < set(three.certain.tolist())
    assert torch.bincount(one.classes, minlength=WAY).min() >= 1
    assert set(three.labels.tolist()) <= {0, 1, 2}
    n_support = sum(len(c.pooled) for c in episode[0].support)
    assert int(three.certain.max()) < n_support


def test_heads_learn_the_classes_of_their_regions(detectors):
    """Regions of two well separated classes and background: one shot of each names the others."""
    torch.manual_seed(0)
    plain = detectors[0]
    centres = torch.randn(3, plain.network.n_features) * 3
    labels = torch.arange(3).repeat(40)
    regions = centres[labels] + 0.3 * torch.randn(120, plain.network.n_features)
    head = train(plain, "sigma 0.5", (regions, labels), steps=60, seed=0)
    with torch.no_grad():
        scores = head.trained.scores(head.layers(regions))[:, :2]
    objects = labels > 0
    assert (scores[objects].argmax(1) == labels[objects] - 1).float().mean() > 0.9
    again = train(plain, "sigma 0.5", (regions, labels), steps=60, seed=0)
    other = train(plain, "sigma 0.5", (regions, labels), steps=60, seed=1)
    assert torch.equal(head.last[0], again.last[0])
    assert not torch.equal(head.last[0], other.last[0])


def test_a_perfect_score_is_worth_all(episode):
    bench = episode[0]
    query = [c._replace(refined=torch.cat([c.boxes, c.refined[1:]]), labels=torch.tensor([0])) for c in bench.query]
    scores = torch.cat([torch.tensor([[1.0, 0.0]] + [[0.0, 0.0]] * (len(c.refined) - 1)) for c in query])
    value = judge(bench._replace(query=query), scores, torch.ones(1, 3).double())
    assert value[:, 0].tolist() == [1.0, 1.0, 1.0]


def test_intervals_cover_photos_and_episodes():
    """Mean of 40 episodes of 5 photos: values are a photo's own, so the interval is that of a mean over photos."""
    rng = torch.Generator().manual_seed(0)
    names = [[str(int(i)) for i in torch.randperm(30, generator=rng)[:5]] for _ in range(40)]
    resamples = Resamples(names)
    worth = {str(i): torch.randn((), generator=rng).item() * 0.1 + 0.5 for i in range(30)}
    values = []
    for i, row in enumerate(names):
        weights = resamples.of_episode(i)
        values.append((weights * torch.tensor([worth[n] for n in row])).sum(1) / weights.sum(1))
    estimate = resamples.estimate(torch.stack(values))
    half = (estimate.high - estimate.low) / 2
    over_photos = 1.96 * torch.tensor(list(worth.values())).std().item() / 30**0.5
    over_episodes = 1.96 * torch.tensor([v[0] for v in values]).std().item() / 40**0.5
    assert over_photos * 0.8 < half < 1.3 * (over_photos + over_episodes)
    assert resamples.estimate(torch.stack(values) * 0).high == 0


def bare_photos(way, shots):
    """Photos of four classes, six each, with two objects a photo; no detector is asked."""
    bench = object.__new__(CocoPhotos)
    bench.part, bench.way, bench.shots, bench.n_query = "test", way, shots, 2
    bench.names = {c: [f"{c}{i}" for i in range(6)] for c in "pqrs"}
    box = torch.tensor([[0.0, 0, 5, 5], [0, 0, 20, 20], [0, 0, 9, 9]])
    proposals = torch.zeros(2, 4)
    bench.photos = {
        name: Canvas(
            torch.zeros(5, 4), proposals, torch.zeros(2), proposals, box, torch.tensor([k, k, (k + 1) % 4]), name
        )
        for k, names in enumerate(bench.names.values())
        for name in names
    }
    return bench


def test_photos_are_drawn_once_and_queries_do_not_depend_on_the_shots():
    one, five = next(bare_photos(2, 1).episodes(1)), next(bare_photos(2, 5).episodes(1))
    assert [c.name for c in one.query] == [c.name for c in five.query]
    names = [c.name for c in (*five.query, *five.support)]
    assert len(names) == len(set(names))
    assert [c.name for c in one.support] == [c.name for c, s in zip(five.support, five.shots, strict=True) if 0 in s]
    for label in (0, 1):
        numbers = [n for c, s in zip(five.support, five.shots, strict=True) for n in s[c.labels == label].tolist()]
        assert sorted(numbers) == [0, 1, 2, 3, 4]  # four photos give their largest object, one its second
    first = one.support[0].boxes
    assert first.tolist() == [[0.0, 0, 20, 20]]
    assert {int(n) for c in one.query for n in c.labels} <= {0, 1}
