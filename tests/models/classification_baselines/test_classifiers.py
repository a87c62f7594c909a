"""Every classifier: it learns, adapts, grows by a class, and is exported with equal output."""

import numpy as np
import pytest
import torch

from datamodules import DrawnObjects
from datamodules.classification.drawn_objects import ObjectSettings
from datamodules.classification.settings import ClassSplits, ImageSettings
from datamodules.classification.training import ClassBatch, TaskTraining
from datamodules.world.scenes import SceneClasses
from lightning_fewshot import (
    MagnetClassifier,
    PrototypeClassifier,
    PrototypicalNetwork,
    ProxyClassifier,
    RepMetClassifier,
    SoftmaxClassifier,
    TripletClassifier,
)
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.episodes import Examples
from lightning_fewshot.models.repmet.classifier_settings import ClassMixture
from lightning_fewshot.settings import BackboneSettings

CONV4 = BackboneSettings("conv4")
HEAD = EmbeddingHead((16,), 8)
MAKERS = {
    "repmet": lambda: RepMetClassifier(CONV4, HEAD, ClassMixture(n_modes=2)),
    "softmax": lambda: SoftmaxClassifier(CONV4, HEAD),
    "triplet": lambda: TripletClassifier(CONV4, HEAD, n_modes=2),
    "magnet": lambda: MagnetClassifier(CONV4, HEAD, n_modes=2),
    "proxies": lambda: ProxyClassifier(CONV4, HEAD, n_modes=2),
    "protonet": PrototypicalNetwork,
    "prototypes": lambda: PrototypeClassifier(CONV4),
}
TRAINED = [name for name in MAKERS if name != "prototypes"]


def make_data(evaluated="novel", training=ClassBatch(4, 3), **options):
    return DrawnObjects(
        classes=SceneClasses(train=6, val=5, test=5),
        objects=ObjectSettings(8),
        images=ImageSettings(size=32),
        splits=ClassSplits(evaluated, test_images=0.25, val_images=0.125),
        training=training,
        **{"n_way": 3, "k_shot": 2, "n_query": 2, **options},
    )


def make_model(name, data):
    torch.manual_seed(0)
    model = MAKERS[name]()
    model.set_classes(data.class_names())
    return model.eval()


@pytest.mark.parametrize("name", MAKERS)
def test_scores_of_a_task(name):
    data = make_data()
    model, episode = make_model(name, data), data.episode("test", 0)
    scores = model(episode)
    assert scores.shape == (6, 3)
    assert bool(((scores >= 0) & (scores <= 1)).all())
    assert bool((scores.sum(1) <= 1 + 1e-5).all())
    again = model.predict(model.adapt(episode.support), episode.query)
    assert torch.equal(scores, again)


@pytest.mark.parametrize("name", MAKERS)
def test_support_in_another_order_gives_the_same_scores(name):
    data = make_data(k_shot=2)
    model, episode = make_model(name, data), data.episode("test", 0)
    order = torch.tensor([5, 3, 1, 0, 2, 4])
    support = Examples(episode.support.images[order], episode.support.labels[order])
    torch.testing.assert_close(model.predict(model.adapt(support), episode.query), model(episode), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MAKERS)
def test_a_class_is_added_in_one_call(name):
    """Adding the third class to a state of two gives the scores of a state of three."""
    data = make_data()
    model, episode = make_model(name, data), data.episode("test", 0)
    images, labels = episode.support.images, episode.support.labels
    state = model.adapt(Examples(images[labels < 2], labels[labels < 2]))
    before = [part.clone() for part in state[:2]]
    grown = model.add_class(state, Examples(images[labels == 2]))
    torch.testing.assert_close(model.predict(grown, episode.query), model(episode), atol=1e-5, rtol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(before, state[:2], strict=True))


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_falls(name):
    training = TaskTraining(3, 2, 2) if name == "protonet" else ClassBatch(4, 3)
    data = make_data(training=training)
    model = make_model(name, data)
    optimizer = model.optimization.make_optimizer(model.parameter_groups())
    model.index_classes(data.reference_episodes()) if model.keeps_training_classes else None
    model.train()
    episode = data.episode("train", 0)
    losses = []
    for _ in range(20):
        loss = sum(model.loss(episode).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", TRAINED)
def test_the_other_kind_of_training_episode_is_refused(name):
    wrong = ClassBatch(4, 3) if name == "protonet" else TaskTraining(3, 2, 2)
    data = make_data(training=wrong)
    with pytest.raises(ValueError, match=r"data\.training"):
        make_model(name, data).loss(data.episode("train", 0))


@pytest.mark.parametrize("name", MAKERS)
def test_a_closed_set_is_classified_without_support(name):
    data = make_data("closed")
    data.setup("test")
    model = make_model(name, data)
    if model.keeps_training_classes:
        model.index_classes(data.reference_episodes())
    scores = model(data.episode("test", 0))
    assert scores.shape == (12, 6)
    assert bool(scores.isfinite().all())


@pytest.mark.parametrize("name", MAKERS)
def test_export_gives_equal_output(name, tmp_path):
    """torch.export and ONNX answer as predict does."""
    onnxruntime = pytest.importorskip("onnxruntime")
    data = make_data(k_shot=3)
    model, episode = make_model(name, data), data.episode("test", 0)
    state = model.adapt(episode.support)
    expected = model.predict(state, episode.query).detach()
    network, images = model.export_classifier(state), episode.query.images
    torch.testing.assert_close(network(images), expected)
    exported = torch.export.export(network, (images,))
    torch.testing.assert_close(exported.module()(images), expected)
    path = tmp_path / "classifier.onnx"
    torch.onnx.export(network, (images,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path)
    (output,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    np.testing.assert_allclose(output, expected.numpy(), rtol=1e-3, atol=1e-5)


def test_prototype_classifier_refuses_to_train():
    data = make_data()
    with pytest.raises(ValueError, match="nothing to train"):
        make_model("prototypes", data).loss(data.episode("train", 0))


@pytest.mark.parametrize("wrong", [{"n_modes": 0}, {"margin": 0}])
def test_triplet_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TripletClassifier(CONV4, HEAD, **wrong)


@pytest.mark.parametrize("name", ["repmet", "protonet"])
def test_named_examples_are_adapted_to_and_predicted(name):
    """The Python API gives class names by falling score, whatever the sizes of the images."""
    from lightning_fewshot.api import Model, examples

    torch.manual_seed(0)
    model = MAKERS[name]()
    model.set_classes(("x", "y"))
    images = [np.full((40, 30 + i, 3), 60 * i, np.uint8) for i in range(4)]
    adapted = Model(model)
    state = adapted.adapt(examples(images, ["dark", "dark", "light", "light"]))
    (prediction,) = adapted.predict(state, examples([images[0]]))
    assert sorted(prediction.labels) == ["dark", "light"]
    assert prediction.scores[0] >= prediction.scores[1]
