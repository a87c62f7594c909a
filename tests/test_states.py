"""Adapted states are saved, loaded and grow; what is no state, or of another class, is refused."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import lightning_fewshot as lf
from lightning_fewshot.api import AdaptedState, Model
from lightning_fewshot.models.learnet.characters.network import PupilState
from lightning_fewshot.models.oslsm.classifiers import PixelClassifiers
from lightning_fewshot.models.oslsm.settings import NewLayers, SegmentationBranchSettings, SupportEncoder
from lightning_fewshot.models.repmet.adaptation import MetricHead
from lightning_fewshot.models.repmet.settings import Mixture
from lightning_fewshot.settings import BackboneSettings


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple):
        return type(one) is type(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return set(one) == set(other) and all(equal(one[name], other[name]) for name in one)
    return one == other


def head(classes, slots, seed):
    generator = torch.Generator().manual_seed(seed)
    representatives = torch.randn(classes, slots, 4, generator=generator)
    used = torch.rand(classes, slots, generator=generator) > 0.3
    used[:, 0] = True
    return MetricHead(torch.ones(4, 6), torch.zeros(4), representatives, used, Mixture(sigma=0.7))


def pixels(labels):
    labels = torch.tensor(labels)
    return PixelClassifiers(torch.randn(len(labels), 5), torch.randn(len(labels)), labels)


@pytest.mark.parametrize(
    "state",
    [
        head(3, 2, 0),
        pixels([0, 1, 1]),
        pixels([0, 1])._replace(top={"0.weight": torch.ones(2, 3)}),
        PupilState(None, None, torch.rand(2, 3), torch.rand(2, 3)),
    ],
    ids=lambda state: type(state).__name__,
)
def test_a_state_comes_back_as_it_was(state, tmp_path):
    saved = AdaptedState(state, ("a", "b", "c"))
    lf.save_state(saved, tmp_path / "s.safetensors")
    found = lf.load_state(tmp_path / "s.safetensors", like=saved)
    assert found.classes == ("a", "b", "c")
    assert equal(found.state, state)


def test_a_state_of_another_class_is_refused(tmp_path):
    path = tmp_path / "s.safetensors"
    lf.save_state(AdaptedState(pixels([0]), ("a",)), path)
    with pytest.raises(ValueError, match="is a PixelClassifiers, but a MetricHead is needed"):
        lf.load_state(path, like=MetricHead)
    with pytest.raises(ValueError, match="are PixelClassifiers and MetricHead, but must be of one model"):
        lf.merge_states(lf.load_state(path), AdaptedState(head(1, 1, 0), ("a",)))
    with pytest.raises(ValueError, match="a PupilState cannot grow"):
        lf.merge_states(*[AdaptedState(PupilState(None, None, torch.rand(1, 3), None), ("a",))] * 2)


def test_what_is_no_state_is_refused(tmp_path):
    path = tmp_path / "s.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no state"):
        lf.load_state(path)
    path.write_bytes(b"no safetensors")
    with pytest.raises(ValueError, match="is damaged or no file of safetensors"):
        lf.load_state(path)
    save_file({"t0": torch.ones(1)}, str(path))
    with pytest.raises(ValueError, match="is of schema None"):
        lf.load_state(path)
    said = {"schema": "lightning_fewshot/state/1", "classes": "[]"}
    save_file({"t0": torch.ones(1)}, str(path), {**said, "state": '{"type": "os.system", "parts": {}}'})
    with pytest.raises(ValueError, match=r"the file names os\.system, which is not of this framework"):
        lf.load_state(path)
    save_file(
        {"t0": torch.ones(1)}, str(path), {**said, "state": '{"type": "lightning_fewshot.api.load", "parts": {}}'}
    )
    with pytest.raises(ValueError, match="there is no such state here"):
        lf.load_state(path)
    with pytest.raises(ValueError, match="a state holds a object, which cannot be saved"):
        lf.save_state(AdaptedState(object(), ()), path)


def test_a_head_grows_by_shots_and_classes():
    first, second = AdaptedState(head(2, 2, 0), ("nut", "bolt")), AdaptedState(head(2, 3, 1), ("bolt", "screw"))
    grown = lf.merge_states(first, second)
    assert grown.classes == ("nut", "bolt", "screw")
    state = grown.state
    assert state.used.sum(1).tolist() == [
        int(first.state.used[0].sum()),
        int(first.state.used[1].sum() + second.state.used[0].sum()),
        int(second.state.used[1].sum()),
    ]
    assert torch.equal(
        state.representatives[1][state.used[1]][-1], second.state.representatives[0][second.state.used[0]][-1]
    )
    tuned = second.state._replace(weight=second.state.weight + 1)
    with pytest.raises(ValueError, match="the states have different embeddings"):
        lf.merge_states(first, AdaptedState(tuned, second.classes))


def test_a_grown_segmenter_predicts_like_one_that_saw_all_shots():
    torch.manual_seed(0)
    module = lf.OSLSMSegmenter(
        BackboneSettings("resnet10t"),
        branch=SegmentationBranchSettings(16, NewLayers(8, 3)),
        encoder=SupportEncoder(size=64),
    )
    model, rng = Model(module), np.random.default_rng(0)
    images = [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(3)]
    masks = [np.zeros((64, 64), np.uint8) for _ in range(3)]
    for mask, place in zip(masks, (0, 20, 40), strict=True):
        mask[place : place + 20, 5:50] = 1
    labels = ["nut", "bolt", "nut"]
    parts = [lf.examples(images[:1], labels[:1], masks=masks[:1]), lf.examples(images[1:], labels[1:], masks=masks[1:])]
    grown = lf.merge_states(*map(model.adapt, parts))
    whole = model.adapt(lf.examples(images, labels, masks=masks, classes=grown.classes))
    query = lf.examples(images)
    for one, other in zip(model.predict(grown, query), model.predict(whole, query), strict=True):
        assert one.labels == other.labels == ("nut", "bolt")
        torch.testing.assert_close(one.probs, other.probs, atol=1e-4, rtol=1e-4)
