"""The networks of table 1: sizes, batching over exemplars, the equations, learning, export."""

from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, max_pool2d

from lightning_fewshot import SiameseLearnet
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.learnet.characters.compare import Comparison, ComparisonName
from lightning_fewshot.models.learnet.characters.drawings import ink
from lightning_fewshot.models.learnet.characters.loss import pair_loss, recognition_loss
from lightning_fewshot.models.learnet.characters.network import Architecture, LearnetNetwork, PredictedLayer

CELLS = [(a, c) for a in get_args(Architecture) for c in get_args(ComparisonName)]
VARIANTS = [
    {"predicted": PredictedLayer(number=1)},
    {"predicted": PredictedLayer(number=3)},
    {"predicted": PredictedLayer(predictor="naive")},
    {"predicted": PredictedLayer(bias=True)},
    {"batch_norm": False},
    {"residual_blocks": 1},
    {"predicted": PredictedLayer(predictor="naive", bias=True), "batch_norm": False, "score_norm": False},
]


def _images(count, seed=0):
    return torch.randint(0, 256, (count, 1, 28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def _network(*args, **kwargs):
    torch.manual_seed(0)
    network = LearnetNetwork(*args, **kwargs)
    network.predict(network.adapt(_images(8)), _images(8, 1))  # moves the running statistics off their start
    return network.eval()


def _check_batching(network):
    z, x = _images(3), _images(12, 1)
    with torch.no_grad():
        together = network.predict(network.adapt(z), x)
        alone = [[network.predict(network.adapt(z[p : p + 1]), x[4 * p + r][None]) for r in range(4)] for p in range(3)]
    assert together.shape == (3, 4)
    torch.testing.assert_close(together, torch.tensor(alone), rtol=1e-4, atol=1e-4)


def _learn(module, episode, steps):
    """Train on one episode and return the last loss."""
    optimizer = torch.optim.AdamW(module.parameters(), 2e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        (loss,) = module.loss(episode).values()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize(("architecture", "comparison"), CELLS)
def test_a_batch_of_exemplars_is_each_alone(architecture, comparison):
    _check_batching(_network(architecture, comparison))


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_variants_batch_too(options):
    _check_batching(_network("learnet", "weighted_l1", **options))


@pytest.mark.parametrize(("architecture", "comparison"), CELLS)
def test_every_parameter_learns(architecture, comparison):
    network = LearnetNetwork(architecture, comparison)
    pair_loss(network.predict(network.adapt(_images(6)), _images(6, 1)).flatten(), torch.arange(6) % 2).backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not still


def test_layer_sizes_are_the_papers():
    network = LearnetNetwork("siamese_shared", "euclidean")
    assert [tuple(c.weight.shape) for c in network.stream.convs] == [(16, 1, 5, 5), (64, 16, 5, 5), (512, 64, 4, 4)]
    omega = LearnetNetwork("siamese_learnet", "euclidean").learnet
    assert [tuple(c.weight.shape) for c in omega.trunk.convs] == [(16, 1, 5, 5), (64, 16, 5, 5), (1600, 64, 4, 4)]
    single = LearnetNetwork("learnet", "weighted_l1").learnet
    assert single.sizes == {"filters": 1600, "reference": 512, "weights": 512}


def test_pupil_follows_equation_8():
    network = _network("siamese_learnet", "euclidean", batch_norm=False, score_norm=False)
    z, x = _images(1), _images(1, 1)
    w, stream = network.adapt(z).filters[0], network.stream

    def phi(image):
        first = max_pool2d(conv2d(ink(image), stream.convs[0].weight, stream.convs[0].bias), 2).relu()
        projected = torch.einsum("dc,chw->dhw", stream.convs[1].project.weight[:, :, 0, 0], first[0])
        filtered = torch.stack([conv2d(projected[d][None, None], w[d][None, None])[0, 0] for d in range(64)])
        back = torch.einsum("kd,dhw->khw", stream.convs[1].back.weight[:, :, 0, 0], filtered)
        second = max_pool2d(back + stream.convs[1].back.bias[:, None, None], 2).relu()
        return conv2d(second[None], stream.convs[2].weight, stream.convs[2].bias).flatten()

    distance = torch.linalg.norm(phi(x) - phi(z))
    expected = 1 - distance / 512**0.5
    torch.testing.assert_close(network.predict(network.adapt(z), x)[0, 0], expected, rtol=1e-4, atol=1e-4)


def test_shared_siamese_is_symmetric_and_unshared_is_not():
    z, x = _images(4), _images(4, 1)
    for architecture, symmetric in (("siamese_shared", True), ("siamese_unshared", False), ("learnet", False)):
        network = _network(architecture, "euclidean")
        forth, back = network.predict(network.adapt(z), x), network.predict(network.adapt(x), z)
        assert torch.allclose(forth, back, atol=1e-5) is symmetric


def test_comparisons_match_numpy():
    rng = np.random.default_rng(0)
    a, b, w = rng.normal(size=(3, 2, 5)), rng.normal(size=(3, 1, 5)), rng.normal(size=(3, 1, 5))
    expected = {
        "inner_product": (a * b).sum(-1) / 5,
        "euclidean": 1 - np.linalg.norm(a - b, axis=-1) / 5**0.5,
        "weighted_l1": 1 - np.abs(w * a - w * b).sum(-1) / 5,
    }
    for name, value in expected.items():
        compare = Comparison(name, 5, learn_weights=False, batch_norm=False).double()
        given = torch.from_numpy(w) if name == "weighted_l1" else None
        got = compare(torch.from_numpy(a), torch.from_numpy(b), given)
        np.testing.assert_allclose(got.detach().numpy(), value, rtol=1e-5)


def test_equal_features_have_a_finite_slope():
    compare = Comparison("euclidean", 4)
    features = torch.ones(2, 1, 4, requires_grad=True)
    compare(features, torch.ones(2, 1, 4)).sum().backward()
    assert features.grad.isfinite().all()


def test_predict_does_not_run_the_learnet():
    network = _network("learnet", "weighted_l1")
    state = network.adapt(_images(2))
    expected = network.predict(state, _images(6, 1))
    network.learnet = None  # nothing left to run
    torch.testing.assert_close(network.predict(state, _images(6, 1)), expected)


def test_exemplars_predict_different_filters():
    filters = _network("learnet", "weighted_l1").adapt(_images(2)).filters
    assert filters.shape == (2, 64, 5, 5)
    assert not torch.allclose(filters[0], filters[1], atol=1e-3)


@pytest.mark.parametrize(
    ("architecture", "comparison"),
    [("siamese_shared", "euclidean"), ("siamese_learnet", "weighted_l1"), ("learnet", "weighted_l1")],
)
def test_one_batch_can_be_learned(architecture, comparison):
    torch.manual_seed(0)
    module = SiameseLearnet(architecture, comparison)
    labels = torch.arange(16) % 2
    episode = Episode(
        Examples(_images(16)), Examples(_images(16, 1), labels), ("incongruous", "congruous"), protocol="pairs"
    )
    loss = _learn(module, episode, 60)
    right = (module(episode).flatten() > 0) == labels.bool()
    assert right.all()
    assert loss < 0.32  # similarities at +1 and -1, which is all that normalised ones can do at scale 1


@pytest.mark.parametrize(("architecture", "comparison"), CELLS)
def test_exported_pupil_equals_the_dynamic_one(architecture, comparison):
    module = SiameseLearnet(architecture, comparison)
    module.network = _network(architecture, comparison)
    x = _images(5, 1)
    with torch.no_grad():
        state = module.adapt(Examples(_images(2)))
        expected = module.predict(state.exemplar(1), Examples(x))[0]
        pupil = module.export_pupil(state.exemplar(1))
        torch.testing.assert_close(pupil(x), expected, rtol=1e-4, atol=1e-4)
    kinds = {type(m) for m in pupil.stream.modules()}
    assert kinds <= {type(pupil.stream), nn.ModuleList, nn.Sequential, nn.Conv2d, nn.BatchNorm2d}


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_exported_variants_equal_the_dynamic_one(options):
    network = _network("learnet", "weighted_l1", **options)
    module = SiameseLearnet(**options)
    module.network = network
    with torch.no_grad():
        state = network.adapt(_images(1))
        torch.testing.assert_close(
            module.export_pupil(state)(_images(5, 1)), network.predict(state, _images(5, 1))[0], rtol=1e-4, atol=1e-4
        )


def test_torch_export_and_onnx_equal_the_dynamic_pupil(tmp_path):
    module = SiameseLearnet("learnet", "weighted_l1", predicted=PredictedLayer(bias=True))
    module.network = _network("learnet", "weighted_l1", predicted=PredictedLayer(bias=True))
    x = _images(6, 1)
    with torch.no_grad():
        state = module.adapt(Examples(_images(1)))
        expected = module.predict(state, Examples(x))[0]
    batch = {"images": {0: torch.export.Dim("batch")}}
    program = torch.export.export(module.export_pupil(state), (_images(2),), dynamic_shapes=batch)
    torch.testing.assert_close(program.module()(x), expected, rtol=1e-4, atol=1e-4)
    path = str(tmp_path / "pupil.onnx")
    torch.onnx.export(program, (), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(scores, expected.numpy(), rtol=1e-4, atol=1e-4)


def test_one_exemplar_is_exported():
    module = SiameseLearnet()
    with pytest.raises(ValueError, match="the state holds 2 exemplars but 1 is exported"):
        module.export_pupil(module.adapt(Examples(_images(2))))


def test_images_must_be_shared_out():
    module = SiameseLearnet().eval()
    with pytest.raises(ValueError, match="5 images cannot be shared out equally among 2 exemplars"):
        module.predict(module.adapt(Examples(_images(2))), Examples(_images(5)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual_blocks": -1}, "residual_blocks is -1 but must be at least 0"),
        ({"architecture": "siamese"}, "architecture is 'siamese' but must be one of siamese_shared"),
        ({"comparison": "cosine"}, "comparison is 'cosine' but must be one of inner_product"),
        ({"predicted": {"number": 4}}, "number is 4 but must be one of 1, 2, 3"),
        ({"predicted": {"predictor": "full"}}, "predictor is 'full'"),
        (
            {"architecture": "siamese_shared", "predicted": {"number": 3}},
            "architecture 'siamese_shared' predicts nothing",
        ),
        (
            {"architecture": "siamese_unshared_factorised", "predicted": {"bias": True}},
            "architecture 'siamese_unshared_factorised' has number alone",
        ),
    ],
)
def test_options_that_do_not_exist_or_do_not_act_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        LearnetNetwork(
            **{name: PredictedLayer(**value) if name == "predicted" else value for name, value in options.items()}
        )


def test_the_factorised_layer_can_be_another():
    network = LearnetNetwork("siamese_unshared_factorised", "euclidean", PredictedLayer(number=3))
    assert hasattr(network.stream.convs[2], "filters")


def test_a_training_episode_says_what_it_is():
    episode = Episode(Examples(_images(2)), Examples(_images(2), torch.tensor([0, 1])), ("a", "b"), protocol="problems")
    with pytest.raises(ValueError, match="training episodes are 'problems' but must be 'pairs' or 'alphabets'"):
        SiameseLearnet().loss(episode)


@pytest.mark.parametrize(("architecture", "comparison"), CELLS)
def test_comparing_all_is_predicting_every_pair(architecture, comparison):
    network, z, x = _network(architecture, comparison), _images(6), _images(6, 1)
    with torch.no_grad():
        scores = network.compare_all(z, x, 3)
        alone = torch.stack(
            [
                network.predict(network.adapt(a), b.repeat(3, 1, 1, 1))
                for a, b in zip(z.split(3), x.split(3), strict=True)
            ]
        )
    assert scores.shape == (2, 3, 3)
    torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-4)


def test_recognition_loss_matches_log_probabilities():
    scores = torch.randn(4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows, columns = (np.log(np.exp(scores.numpy()).sum(axis, keepdims=True)) for axis in (1, 2))
    match = np.einsum("aii->ai", scores.numpy())
    wanted = ((rows[:, 0] - match).mean() + (columns[..., 0] - match).mean()) / 2
    assert recognition_loss(scores).item() == pytest.approx(wanted)


@pytest.mark.parametrize("architecture", ["siamese_shared", "learnet"])
def test_whole_alphabets_can_be_learned(architecture):
    torch.manual_seed(0)
    module, labels = SiameseLearnet(architecture=architecture), torch.arange(4)
    episode = Episode(
        Examples(_images(4), labels), Examples(_images(4, 1), labels), ("a", "b", "c", "d"), protocol="alphabets"
    )
    # drawings of noise, which have nothing in common: chance would leave the loss at log 4
    assert _learn(module, episode, 40) < 0.5 * np.log(4)


def test_pair_loss_matches_binary_cross_entropy():
    scores, labels = torch.randn(9, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 2
    expected = nn.functional.binary_cross_entropy_with_logits(scores, labels.float())
    torch.testing.assert_close(pair_loss(scores, labels), expected)
