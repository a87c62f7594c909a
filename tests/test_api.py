"""Trained models from Python, one for each task: load, adapt to named examples, predict, track."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_experiments import FOLDER, config_arguments

import lightning_fewshot as lf
from lightning_fewshot.cli import main

FIXED = ["--trainer.accelerator=cpu", "--trainer.max_steps=1", "--test_after_fit=false", "--pictures.count=0"]
BOX = (8, 6, 30, 26)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a function that trains the main run of a paper for one step on tiny sizes."""
    made, folder = {}, tmp_path_factory.mktemp("runs")

    def checkpoint(name):
        if name not in made:
            run = folder / name
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("WANDB_MODE", "disabled")
                patch.setattr("sys.argv", ["pytest"])
                main(["fit", *config_arguments([FOLDER / f"{name}.yaml"]), *FIXED, f"--run_dir={run}"])
            made[name] = run / "checkpoints/last.ckpt"
        return made[name]

    return checkpoint


@pytest.fixture
def photos(tmp_path):
    """Two photos with a colored rectangle each, red and blue, as files."""
    paths = []
    for name, color in (("a", (200, 30, 30)), ("b", (30, 30, 200))):
        values = np.full((60, 80, 3), 90, np.uint8)
        values[BOX[1] : BOX[3], BOX[0] : BOX[2]] = color
        Image.fromarray(values).save(tmp_path / f"{name}.png")
        paths.append(tmp_path / f"{name}.png")
    return paths


def test_a_detector(trained, photos):
    model = lf.load(trained("repmet"))
    assert not model.module.training
    state = model.adapt(lf.examples(photos, boxes=[BOX, BOX], labels=["bolt", "nut"]))
    for found in model.predict(state, lf.examples([*photos, Image.open(photos[0])])):
        assert found.boxes.shape == (len(found.labels), 4)
        assert set(found.labels) <= {"bolt", "nut"}
        assert ((found.scores >= 0) & (found.scores <= 1)).all()


def test_a_segmenter(trained, photos):
    mask = np.zeros((60, 80), bool)
    mask[BOX[1] : BOX[3], BOX[0] : BOX[2]] = True
    model = lf.load(trained("oslsm"))
    state = model.adapt(lf.examples(photos, masks=[mask, mask], labels=["bolt", "nut"]))
    (found,) = model.predict(state, lf.examples(photos[0]))
    assert found.labels == ("bolt", "nut")
    assert found.masks.shape == found.probs.shape == (2, 60, 80)
    assert torch.equal(found.masks, found.probs > model.module.threshold)


def test_a_recogniser_of_characters_takes_any_image(trained):
    strokes = [np.full((40, 50), 255, np.uint8) for _ in range(3)]
    strokes[0][10:14], strokes[1][:, 20:25], strokes[2][11:15] = 0, 0, 0
    model = lf.load(trained("learnet"))
    state = model.adapt(lf.examples(strokes[:2], labels=["dash", "bar"]))
    found = model.predict(state, lf.examples(strokes[2:]))
    assert len(found) == 1
    assert sorted(found[0].labels) == ["bar", "dash"]
    assert found[0].scores.sum() == pytest.approx(1)


def test_shots_of_a_class_count_together(trained):
    images = [np.full((28, 28), 255, np.uint8) for _ in range(3)]
    for i, image in enumerate(images):
        image[5 + 6 * i : 8 + 6 * i] = 0
    model = lf.load(trained("learnet"))
    support = lf.examples(images, labels=["a", "b", "a"])
    order = lf.examples([images[1], images[2], images[0]], labels=["b", "a", "a"])
    query = lf.examples(images[0])
    first, second = (model.predict(model.adapt(s), query)[0] for s in (support, order))
    assert first.labels == second.labels, "the order of the support does not count"
    torch.testing.assert_close(first.scores, second.scores)


def test_a_tracker(trained):
    frame = torch.randint(256, (3, 60, 80), dtype=torch.uint8)
    model = lf.load(trained("learnet_tracker"))
    target, other = model.init(frame, BOX), model.init(frame, (40, 20, 60, 50))
    box, score = target.update(frame)
    assert box.shape == (4,)
    assert isinstance(score, float)
    torch.testing.assert_close(other.box, torch.tensor([40.0, 20, 60, 50]), msg="targets do not mix")


def test_what_a_model_cannot_do_is_named(trained, photos):
    detector = lf.load(trained("repmet"))
    mask = np.ones((60, 80), bool)
    with pytest.raises(ValueError, match="needs boxes in its support, but it has masks, labels"):
        detector.adapt(lf.examples(photos[0], masks=[mask], labels=["bolt"]))
    with pytest.raises(ValueError, match="needs masks in its support, but it has boxes, labels"):
        lf.load(trained("oslsm")).adapt(lf.examples(photos[0], boxes=BOX, labels="bolt"))
    with pytest.raises(ValueError, match="is no tracker"):
        detector.init(photos[0], BOX)
    with pytest.raises(ValueError, match="x2 > x1"):
        lf.load(trained("learnet_tracker")).init(photos[0], (5, 5, 5, 9))
    with pytest.raises(FileNotFoundError, match=r"gone\.ckpt"):
        lf.load("gone.ckpt")


def test_a_loaded_model_is_the_trained_one(trained, photos):
    """Not one of defaults, and not in training mode: its settings and its weights are the checkpoint's."""
    path = trained("oslsm")
    content = torch.load(path, weights_only=True)
    module = lf.load(path).module
    assert module.init_args["encoder"].size == content["few_shot"]["init_args"]["encoder"]["size"]
    assert all(torch.equal(v, content["state_dict"][n]) for n, v in module.state_dict().items())


def test_lightnings_own_loading_is_refused_and_names_the_right_call(trained):
    """It would take defaults for every setting that it is not given."""
    path = trained("learnet")
    with pytest.raises(ValueError, match=r"use lightning_fewshot\.load"):
        type(lf.load(path).module).load_from_checkpoint(path)
