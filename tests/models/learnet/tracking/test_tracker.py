"""Learnet's trackers: sizes of section 3.3, equation 8 by hand, labels, learning, export, the command line."""

from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn.functional import conv2d, max_pool2d

from lightning_fewshot import SiameseLearnetTracker
from lightning_fewshot.cli import main
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.learnet.tracking.network import TemplateState, TrackingArchitecture, TrackingNetwork
from lightning_fewshot.models.learnet.tracking.omega import TrackingLearnet
from lightning_fewshot.nn.response_loss import SquareLoss, pair_targets, query_cells
from lightning_fewshot.nn.siamese import MEAN, SPREAD
from lightning_fewshot.tracking.frames import ArrayFrames
from lightning_fewshot.tracking.loop import track

ROOT = Path(__file__).parents[4]
ARCHITECTURES = get_args(TrackingArchitecture)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _images(count, side, seed=0):
    return torch.randint(
        0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def _network(architecture, **options):
    network = TrackingNetwork(architecture, **{"stream": "S", **options})
    with torch.no_grad():
        network.predict(network.adapt(_images(4, 127)), _images(4, 255, 1))  # moves the running statistics
    return network.eval()


def _pairs(labels, seed=0):
    count = len(labels)
    boxes = [torch.tensor([[97.5, 97.5, 157.5, 157.5]])] * count
    query = Examples(_images(count, 255, seed), torch.tensor(labels), boxes=boxes)
    support = Examples(_images(count, 127, seed + 1), boxes=[torch.tensor([[33.5, 33.5, 93.5, 93.5]])] * count)
    return Episode(support, query, ("object",), protocol="pairs")


def _target(episode):
    return pair_targets(SquareLoss(), episode, query_cells(episode, "pairs", 127, 8), torch.zeros(2, 17, 17))


def test_layers_are_alexnets_and_the_variants_thinner():
    streams = {v: TrackingNetwork("siamese_shared", v).stream for v in "ABC"}
    shapes = {v: [tuple(c.weight.shape) for c in stream.convs] for v, stream in streams.items()}
    assert shapes["A"] == [(96, 3, 11, 11), (256, 48, 5, 5), (384, 256, 3, 3), (384, 192, 3, 3), (256, 192, 3, 3)]
    assert shapes["B"] == [(48, 3, 11, 11), (128, 24, 5, 5), (384, 128, 3, 3), (384, 192, 3, 3), (64, 192, 3, 3)]
    assert shapes["C"][:4] == shapes["B"][:4]
    assert shapes["C"][4] == (32, 192, 3, 3)
    assert streams["A"].convs[0].stride == (2, 2)


def test_a_learnet_has_one_output_for_every_element_of_the_filters():
    assert TrackingNetwork("siamese_learnet", "B", "C").learnet.head.weight.shape == (48 * 25, 32 * 36)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_responses_are_17_by_17_and_a_batch_is_each_alone(architecture):
    network = _network(architecture)
    z, x = _images(2, 127), _images(4, 255, 1)
    with torch.no_grad():
        state = network.adapt(z)
        together = network.predict(state, x)
        assert state.template.shape == (2, 32, 6, 6)
        alone = [network.predict(network.adapt(z[i // 2][None]), x[i][None])[0, 0] for i in range(4)]
    assert together.shape == (2, 2, 17, 17)
    torch.testing.assert_close(together.flatten(0, 1), torch.stack(alone), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_tracker_answers_as_its_module_and_changes_nothing_of_it(architecture):
    module = SiameseLearnetTracker(architecture, stream="S")
    module.network = _network(architecture)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    tracker, x = module.eval().tracker(), _images(3, 255, 1)
    with torch.no_grad():
        state = module.adapt(Examples(_images(1, 127)))
        expected, ours = module.network.predict(state, x), tracker.predict(state, x)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    assert tracker.predict.__self__ is not module.network  # folded
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_pupil_follows_equation_8():
    network = _network("siamese_learnet")
    image, stream = _images(1, 127, 3), network.stream
    with torch.no_grad():
        state = network.adapt(_images(1, 127))
        x = (image.double() - MEAN) / SPREAD
        for i, (conv, norm) in enumerate(zip(stream.convs, stream.norms, strict=True)):
            if i == 1:
                halves = [(w.double(), x) for w, x in zip(conv.project.weight.chunk(2), x.chunk(2, 1), strict=True)]
                projected = torch.cat([torch.einsum("dc,bchw->bdhw", w[..., 0, 0], half) for w, half in halves], 1)
                filters = state.filters[0].double()
                each = [conv2d(projected[:, d : d + 1], filters[d][None, None]) for d in range(len(filters))]
                back = torch.block_diag(*conv.back.weight[..., 0, 0].double().chunk(2))  # AlexNet's two groups
                x = torch.einsum("kd,bdhw->bkhw", back, torch.cat(each, 1)) + conv.back.bias.double()[:, None, None]
            else:
                x = conv2d(x, conv.weight.double(), stride=conv.stride, groups=conv.groups)
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            x = x * scale[:, None, None] + (norm.bias - norm.running_mean * scale)[:, None, None]
            x = x.relu() if i < 4 else x
            x = max_pool2d(x, 3, 2) if i < 2 else x
        ours = stream(network.stream.pixels(image), state.filters)
    torch.testing.assert_close(ours.double(), x, rtol=1e-3, atol=1e-3)


def test_the_response_is_a_loop_over_subwindows():
    network = _network("siamese_shared")
    z, x = _images(1, 127), _images(1, 255, 1)
    with torch.no_grad():
        response = network.predict(network.adapt(z), x)[0, 0]
        template = network.adapt(z).template[0]
        for row, column in [(0, 0), (8, 8), (16, 3)]:
            window = x[..., 8 * row : 8 * row + 127, 8 * column : 8 * column + 127]
            features = network.adapt(window).template[0]  # the same network, as it is shared
            expected = network.response.adjust((template * features).sum().view(1, 1, 1, 1))
            torch.testing.assert_close(response[row, column], expected.flatten()[0], rtol=1e-3, atol=1e-3)


def test_predict_does_not_run_the_learnet():
    network = _network("siamese_learnet")
    with torch.no_grad():
        state = network.adapt(_images(1, 127))
        expected = network.predict(state, _images(2, 255, 1))
        network.learnet = None
        torch.testing.assert_close(network.predict(state, _images(2, 255, 1)), expected)


def test_exemplars_predict_different_filters_and_unshared_streams_differ():
    with torch.no_grad():
        filters = _network("siamese_learnet").adapt(_images(2, 127)).filters
        assert filters.shape == (2, 24, 5, 5)
        assert not torch.allclose(filters[0], filters[1], atol=1e-3)
        templates = [_network(a).adapt(_images(1, 127)).template for a in ("siamese_shared", "siamese_unshared")]
        assert not torch.allclose(*templates)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_learns(architecture):
    module = SiameseLearnetTracker(architecture, stream="S")
    module.loss(_pairs([1, 1, 0]))["locations"].backward()
    still = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not still


def test_central_2_by_2_cells_match():
    target = _target(_pairs([1, 0]))
    line = torch.tensor([0.5, 1.0, 0.5])
    expected = torch.zeros(2, 17, 17)
    expected[0, 7:10, 7:10] = line[:, None] * line
    torch.testing.assert_close(target, expected)
    assert float(target[0].sum()) == 4  # 2 x 2 cells


def test_a_moved_object_moves_the_label():
    episode = _pairs([1])
    moved = episode.query._replace(boxes=[episode.query.boxes[0] + torch.tensor([12.0, -8.0, 12.0, -8.0])])
    target = _target(episode._replace(query=moved))
    assert (target[0] == 1).nonzero().tolist() == [[7, 9], [7, 10]]  # row 8 - 1; column 8 + 12 / 8, between two cells


def test_one_episode_can_be_learned():
    module = SiameseLearnetTracker("siamese_learnet", stream="S")
    episode = _pairs([1, 1, 0])
    groups = [{**g, "lr": 2e-3 * g.get("lr_factor", 1)} for g in module.parameter_groups()]
    optimizer = torch.optim.AdamW(groups)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = module.loss(episode)["locations"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_exported_pupil_is_static_and_the_same(architecture):
    module = SiameseLearnetTracker(architecture, stream="S")
    module.network = _network(architecture)
    with torch.no_grad():
        state = module.eval().adapt(Examples(_images(1, 127)))
        pupil, x = module.export_pupil(state), _images(2, 255, 1)
        expected = module.predict(state, Examples(x))[0]
        exported = torch.export.export(pupil, (x,)).module()
        torch.testing.assert_close(pupil(x), expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(exported(x), expected, rtol=1e-3, atol=1e-3)
    assert not any("learnet" in name or "project" in name for name, _ in pupil.named_modules())
    with pytest.raises(ValueError, match="holds 2 exemplars but 1 is exported"):
        module.export_pupil(TemplateState(state.template.repeat(2, 1, 1, 1), None))


def test_onnx_of_the_pupil_answers_the_same_to_any_number_of_patches(tmp_path):
    module, x = SiameseLearnetTracker("siamese_learnet", stream="S"), _images(3, 255, 1)
    module.network = _network("siamese_learnet")
    with torch.no_grad():
        state = module.eval().adapt(Examples(_images(1, 127)))
        expected = module.predict(state, Examples(x))[0].numpy()
    batch = {"images": {0: torch.export.Dim("batch")}}
    program = torch.export.export(module.export_pupil(state), (x[:2],), dynamic_shapes=batch)
    torch.onnx.export(program, (), str(tmp_path / "pupil.onnx"), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "pupil.onnx"), providers=["CPUExecutionProvider"])
    (responses,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(responses, expected, rtol=1e-3, atol=1e-3)


def test_a_tracker_without_training_still_returns_boxes_that_are_finite():
    module = SiameseLearnetTracker("siamese_learnet", stream="S")
    module.network = _network("siamese_learnet")
    video = ArrayFrames(np.random.default_rng(0).integers(0, 256, (4, 70, 90, 3), dtype=np.uint8))
    result = track(module.eval().tracker(), video, torch.tensor([-5.0, -4.0, 12.0, 9.0]))  # partly outside
    assert result.boxes.shape == (4, 4)
    assert bool(result.boxes.isfinite().all())
    assert module.tracker().settings[0] == 5  # scales, section 3.3


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: TrackingNetwork("siamese"), "architecture is 'siamese' but must be one of siamese_shared"),
        (lambda: TrackingNetwork(stream="D"), "stream is 'D' but must be one of A, B, C, S"),
        (lambda: TrackingNetwork("siamese_shared", learnet="A"), "architecture 'siamese_shared' predicts nothing"),
        (lambda: _network("siamese_shared").adapt(_images(1, 100)), r"must be \(P, 3, 127, 127\)"),
        (lambda: _network("siamese_shared").adapt(_images(1, 127)[:, :1]), r"but must be \(B, 3, H, W\)"),
        (
            lambda: _network("siamese_shared").predict(
                _network("siamese_shared").adapt(_images(2, 127)), _images(3, 255)
            ),
            "not a whole number",
        ),
        (lambda: TrackingLearnet((24, 5, 5), "S")(torch.zeros(1, 3, 127, 127)), "raise batch_size"),
        (
            lambda: SiameseLearnetTracker(stream="S").loss(_pairs([1])._replace(protocol="clips")),
            "training episodes are 'clips' but must be 'pairs': set data.train",
        ),
        (
            lambda: SiameseLearnetTracker(stream="S").loss(_pairs([1])._replace(query=Examples(_images(1, 255)))),
            "must have boxes",
        ),
    ],
)
def test_bad_input_is_said(work, message):
    with torch.no_grad(), pytest.raises(ValueError, match=message):
        work()


def test_fit_ends_with_tracks_and_figure_4(in_tmp, monkeypatch):
    sizes = ["--data.batch_size=2", "--data.num_workers=0", "--data.episodes={train: 2, val: 1, test: 1}"]
    sizes += ["--data.max_frames=4", "--data.videos.image_size=96", "--trainer.max_epochs=1"]
    config = str(ROOT / "experiments/learnet_tracker.yaml")
    cli = main(["fit", "--config", config, "--trainer.accelerator=cpu", "--run_dir=run", *sizes])
    assert cli.model.estimates["success_auc"].n == 1
    assert Path("run/pictures/test_0000.png").is_file()
    assert Path("run/tracks/drawn_test_0000.txt").read_text().count("\n") == 4
