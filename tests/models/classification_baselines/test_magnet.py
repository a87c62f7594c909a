"""The Magnet loss against plain numbers, its clusters, and batches of neighbouring clusters."""

import numpy as np
import pytest
import torch

from datamodules import ClusterBatch, DrawnObjects
from datamodules.classification.drawn_objects import ObjectSettings
from datamodules.classification.settings import ImageSettings
from datamodules.world.scenes import SceneClasses
from lightning_fewshot import MagnetClassifier
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.models.classification_baselines.magnet import magnet_loss
from lightning_fewshot.sampling import Clusters
from lightning_fewshot.settings import BackboneSettings

NEVER = float("inf")


def make_data(**options):
    sizes = {"classes": SceneClasses(train=6, val=2, test=2), "objects": ObjectSettings(5)}
    return DrawnObjects(**sizes, images=ImageSettings(size=32), training=ClusterBatch(3, 4), n_way=2, **options)


def make_model(data):
    torch.manual_seed(0)
    model = MagnetClassifier(BackboneSettings("conv4"), EmbeddingHead((16,), 8), n_modes=2)
    model.set_classes(data.class_names())
    return model.eval()


def test_magnet_loss_by_hand():
    """Eq. (4) of Rippel et al. against plain numbers: two images, of which the second has a far neighbour."""
    distances = torch.tensor([[0.2, 0.6, 1.0], [2.0, 0.5, 3.0]])
    of_class = torch.tensor([[True, True, False], [True, True, False]])
    variance = (0.2 + 0.5) / (2 - 1)
    expected = [max(0.0, own / (2 * variance) + 4.0 - far / (2 * variance)) for own, far in ((0.2, 1.0), (0.5, 3.0))]
    loss = magnet_loss(distances, torch.tensor([0.2, 0.5]), of_class, 4.0)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-5)


def test_several_clusters_of_other_classes_repel_together():
    distances = torch.tensor([[0.2, 1.0, 2.0, NEVER]])
    of_class = torch.tensor([[True, False, False, False]])
    others = np.log(sum(np.exp(-d / 0.4) for d in (1.0, 2.0)))
    loss = magnet_loss(distances, torch.tensor([0.2]), of_class, 4.0)
    assert float(loss) == pytest.approx(0.2 / 0.4 + 4.0 + others, rel=1e-5)


def test_a_cluster_that_stands_in_two_columns_counts_once():
    distances, of_class = torch.tensor([[0.2, 1.0, 2.0]]), torch.tensor([[True, False, False]])
    once = magnet_loss(distances, torch.tensor([0.2]), of_class, 4.0)
    columns = torch.tensor([0, 1, 1, 2])
    twice = magnet_loss(
        distances[:, columns], torch.tensor([0.2]), of_class[:, columns], 4.0, torch.tensor([1.0, 2.0, 2.0, 1.0])
    )
    torch.testing.assert_close(twice, once)


def test_a_batch_of_one_class_has_a_finite_gradient():
    distances = torch.tensor([[0.2, 0.6]], requires_grad=True)
    magnet_loss(distances, distances[:, 0], torch.tensor([[True, True]]), 0.0).sum().backward()
    assert distances.grad.tolist() == [[0.0, 0.0]]


def test_clusters_are_the_nearest_centres_of_the_own_class():
    data = make_data()
    model = make_model(data)
    clusters = model.find_clusters(data.reference_episodes())
    embedded, labels = model.index_classes(data.reference_episodes())
    for number, (place, label) in enumerate(zip(embedded, labels, strict=True)):
        modes = model.centres[label][model.centres_used[label]]
        assert clusters.owner[number] == 2 * label + int((modes - place).square().sum(1).argmin())
    assert np.isinf(clusters.distances[0, :2]).all()
    assert np.isfinite(clusters.distances[0, 2:]).sum() == int(model.centres_used[1:].sum())
    assert (clusters.weights >= 0).all()


def test_a_batch_is_a_cluster_and_its_nearest_of_other_classes():
    """Twelve clusters of six classes: the seed is the one that has weight, its neighbours are the nearest two."""
    data = make_data()
    owner = np.array([2 * (i // 5) + (i % 5 > 2) for i in range(30)])  # 3 and 2 images of each class
    distances = np.abs(np.subtract.outer(np.arange(12.0), np.arange(12.0)))
    distances[np.arange(12)[:, None] // 2 == np.arange(12) // 2] = np.inf
    data.clusters = Clusters(owner, np.eye(12)[5], distances)  # the second cluster of class 2
    episode = data.episode("train", 3)
    assert [data.class_names()[i] for i in episode.query.labels.tolist()] == [
        name for c in (2, 3, 1) for name in [data.class_names()[c]] * 4
    ]
    shown = [{int(name.rpartition("/")[2]) for name in episode.query.names[i : i + 4]} for i in (0, 4, 8)]
    assert shown == [{3, 4}, {0, 1, 2}, {3, 4}]


def test_clusters_without_weight_or_images():
    empty = Clusters(np.array([0, 2]), np.array([0.0, 9.0, 0.0]), np.zeros((3, 3)))
    assert {empty.draw_neighbours(1, np.random.default_rng(i))[0] for i in range(20)} == {0, 2}


def test_clusters_are_kept_with_the_data():
    first, second = make_data(), make_data()
    first.clusters = make_model(first).find_clusters(first.reference_episodes())
    second.load_state_dict(first.state_dict())
    assert first.episode("train", 1).query.names == second.episode("train", 1).query.names
    second.load_state_dict({})
    assert second.clusters is None


def test_worker_processes_cannot_follow_a_model():
    with pytest.raises(ValueError, match="num_workers is 1 but ClusterBatch follows the model: must be 0"):
        make_data(num_workers=1)
