"""RepMetClassifier: its posterior against plain loops, rejection, counter-examples, fewer shots than modes."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from lightning_fewshot.classification.mixtures import mixtures_of
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.repmet.classifier import RepMetClassifier, mixture_scores, none_of_these
from lightning_fewshot.models.repmet.classifier_settings import ClassMixture
from lightning_fewshot.nn.kmeans import kmeans
from lightning_fewshot.settings import BackboneSettings

SIGMA = 0.5


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(0)
    embedded = normalize(torch.randn(5, 6, generator=generator), dim=-1)
    modes = normalize(torch.randn(4, 3, 6, generator=generator), dim=-1)
    return embedded, modes


def probability(a, b):
    return math.exp(-float((a - b).square().sum()) / (2 * SIGMA**2))


def test_scores_are_eq_5_times_one_minus_eq_3(drawn):
    embedded, modes = drawn
    scores = mixture_scores(embedded, modes, torch.ones(4, 3, dtype=torch.bool), sigma=SIGMA)
    for q in range(5):
        probs = [[probability(embedded[q], modes[i, j]) for j in range(3)] for i in range(4)]
        total, best = sum(map(sum, probs)), max(map(max, probs))
        expected = torch.tensor([sum(row) / total * best for row in probs])
        torch.testing.assert_close(scores[q], expected, rtol=1e-4, atol=1e-6)
        assert float(none_of_these(scores)[q]) == pytest.approx(1 - best, abs=1e-5)


def test_classes_with_fewer_modes_are_not_at_a_disadvantage(drawn):
    """A mode that stands twice counts as once."""
    embedded, modes = drawn
    twice = torch.cat([modes[:, :1], modes[:, :1]], dim=1)
    used = torch.ones(4, 2, dtype=torch.bool)
    once = used.clone()
    once[:2, 1] = False
    torch.testing.assert_close(mixture_scores(embedded, twice, once), mixture_scores(embedded, twice, used))


def test_counter_examples_lower_the_scores_near_them(drawn):
    embedded, modes = drawn
    used = torch.ones(4, 3, dtype=torch.bool)
    plain = mixture_scores(embedded, modes, used)
    against = mixture_scores(embedded, modes, used, embedded[:1])
    assert float(against[0].sum()) < 0.7 * float(plain[0].sum())
    assert torch.equal(plain.argmax(1), against.argmax(1))
    assert bool((none_of_these(against) >= none_of_these(plain)).all())


def test_k_above_the_images_of_a_class(drawn):
    """Two shots and one shot with K = 3: the shots themselves are the modes, the other slots are not used."""
    embedded, _ = drawn
    state = mixtures_of(embedded[:3], torch.tensor([0, 1, 0]), n_modes=3)
    assert state.used.tolist() == [[True, True], [True, False]]
    torch.testing.assert_close(state.representatives[0], embedded[[0, 2]])
    assert bool(mixture_scores(embedded, *state).isfinite().all())


def test_more_shots_than_k_become_k_means_centres():
    points = torch.tensor([[0.0, 1], [0.1, 1], [1, 0.0], [1, 0.1]])
    state = mixtures_of(normalize(points, dim=-1), torch.zeros(4, dtype=torch.long), n_modes=2)
    assert state.used.shape == (1, 2)
    near = (state.representatives[0] @ normalize(points, dim=-1).T).amax(dim=1)
    assert bool((near > 0.99).all())


def test_kmeans_against_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    generator = torch.Generator().manual_seed(0)
    middles = torch.tensor([[0.0, 0], [5, 0], [0, 5]])
    points = (middles[:, None] + 0.3 * torch.randn(3, 20, 2, generator=generator)).flatten(0, 1)
    ours = kmeans(points, 3)
    theirs = torch.from_numpy(cluster.KMeans(3, n_init=10, random_state=0).fit(points.numpy()).cluster_centers_)
    torch.testing.assert_close(torch.cdist(ours, theirs.float()).amin(1), torch.zeros(3), atol=1e-4, rtol=0)


def test_a_class_without_an_example_is_named(drawn):
    with pytest.raises(ValueError, match="class 1 of 3 has no example"):
        mixtures_of(drawn[0][:2], torch.tensor([0, 2]), n_modes=3)


def make_model():
    torch.manual_seed(0)
    model = RepMetClassifier(BackboneSettings("conv4"), EmbeddingHead((), 8), ClassMixture(n_modes=2))
    model.set_classes(("a", "b", "c"))
    return model


def test_the_loss_is_eq_5_and_eq_4():
    model = make_model().eval()
    images, labels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8), torch.tensor([0, 1, 2, 0])
    terms = model.loss(Episode(None, Examples(images, labels), ("a", "b", "c"), protocol="batch"))
    embedded, modes = model.embed(images), model.representatives()
    for_hand, margins = [], []
    for q, label in enumerate(labels.tolist()):
        probs = [[probability(embedded[q], modes[i, j]) for j in range(2)] for i in range(3)]
        for_hand.append(-math.log(sum(probs[label]) / sum(map(sum, probs))))
        nearest = [min(float((embedded[q] - modes[i, j]).norm()) for j in range(2)) for i in range(3)]
        margins.append(max(0, nearest[label] - min(d for i, d in enumerate(nearest) if i != label) + 0.5))
    assert float(terms["cross_entropy"]) == pytest.approx(sum(for_hand) / 4, rel=1e-4)
    assert float(terms["embedding"]) == pytest.approx(sum(margins) / 4, rel=1e-3)


def test_representatives_have_a_learning_rate_of_their_own():
    groups = make_model().parameter_groups()
    assert groups[1]["lr_factor"] == 5.0
    assert groups[1]["params"][0].shape == (3, 2, 8)


@pytest.mark.parametrize("name", ["n_modes", "sigma", "representatives_lr"])
def test_settings_are_checked(name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        ClassMixture(**{name: 0})


def test_the_papers_network_takes_a_training_step():
    """Section 4.1: InceptionV3, 2048 and 1024 units, K = 3; its smallest image is 75 pixels."""
    torch.manual_seed(0)
    model = RepMetClassifier(BackboneSettings("inception_v3", "none"))
    model.set_classes(("a", "b"))
    assert [layer.out_features for layer in (model.head.layers[0], model.head.last)] == [2048, 1024]
    assert model.representatives().shape == (2, 3, 1024)
    images = torch.randint(0, 256, (4, 3, 75, 75), dtype=torch.uint8)
    loss = sum(
        model.loss(Episode(None, Examples(images, torch.tensor([0, 0, 1, 1])), ("a", "b"), protocol="batch")).values()
    )
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters() if p.requires_grad)
