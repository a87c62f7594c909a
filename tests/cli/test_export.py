"""``export`` of every task: the file answers like the adapted network, and says what it is."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from tiny_experiments import FOLDER, config_arguments

import datamodules
import lightning_fewshot as lf
from lightning_fewshot.api import AdaptedState
from lightning_fewshot.checkpoints import build_module
from lightning_fewshot.classification.mixtures import ClassMixtures
from lightning_fewshot.cli import main

FIXED = ["--trainer.accelerator=cpu", "--trainer.max_steps=1", "--test_after_fit=false", "--pictures.count=0"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Return the folder that ``example`` makes."""
    return main(["example", str(tmp_path_factory.mktemp("example") / "files")])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a function that trains an experiment for one step on tiny sizes."""
    made, folder = {}, tmp_path_factory.mktemp("runs")

    def checkpoint(name):
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("WANDB_MODE", "disabled")
                patch.setattr("sys.argv", ["pytest"])
                main(["fit", *config_arguments([FOLDER / f"{name}.yaml"]), *FIXED, f"--run_dir={folder / name}"])
            made[name] = folder / name / "checkpoints/last.ckpt"
        return str(made[name])

    return checkpoint


def metadata(path):
    return {p.key: p.value for p in onnx.load(path).metadata_props}


def test_a_segmenter(trained, drawn, tmp_path, capsys):
    out = tmp_path / "segment.onnx"
    main(
        [
            "export",
            "--ckpt_path",
            trained("oslsm"),
            "--support",
            str(drawn / "segment"),
            "--out",
            str(out),
            "--size",
            "97",
            "113",
        ]
    )
    assert "greatest difference" in capsys.readouterr().out
    says = metadata(out)
    assert json.loads(says["classes"]) == ["kite", "moon", "turtle"]
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 97, 113), np.uint8)
    (probs,) = onnxruntime.InferenceSession(out).run(None, {"images": image})
    assert probs.shape == (1, 3, 97, 113)
    assert 0 <= probs.min() <= probs.max() <= 1


def test_a_segmenter_answers_as_predict_does(trained, drawn, tmp_path):
    out, support = tmp_path / "segment.pt2", str(drawn / "segment")
    checkpoint = ["--ckpt_path", trained("oslsm")]
    main(["export", *checkpoint, "--support", support, "--out", str(out), "--format", "torch"])
    data = datamodules.FolderMasks(support)
    data.setup("predict")
    episode, model = data.episode("predict", 0), build_module(trained("oslsm"))
    with torch.no_grad():
        expected = model.predict(model.adapt(episode.support), episode.query)[1].probs
    extra = {"metadata.json": ""}
    found = torch.export.load(str(out), extra_files=extra).module()(episode.query.images[1][None])
    torch.testing.assert_close(found[0], expected, rtol=1e-3, atol=1e-3)
    assert json.loads(extra["metadata.json"])["classes"] == list(episode.classes)


def test_a_recogniser(trained, tmp_path):
    out = tmp_path / "classify.onnx"
    for name in ("bar", "dash", "query"):
        (tmp_path / "signs" / name).mkdir(parents=True)
        strokes = np.full((40, 50), 255, np.uint8)
        strokes[(slice(10, 14), slice(None)) if name == "dash" else (slice(None), slice(20, 25))] = 0
        Image.fromarray(strokes).save(tmp_path / f"signs/{name}/1.png")
    main(["export", "--ckpt_path", trained("learnet"), "--support", str(tmp_path / "signs"), "--out", str(out)])
    image = np.full((1, 1, 28, 28), 255, np.uint8)
    (posteriors,) = onnxruntime.InferenceSession(out).run(None, {"images": image})
    assert posteriors.shape == (1, 2)
    assert posteriors.sum() == pytest.approx(1, abs=1e-5)
    assert json.loads(metadata(out)["classes"]) == ["bar", "dash"]


@pytest.mark.parametrize("name", ["mlt/matching", "learnet_tracker"])
def test_a_tracker(trained, drawn, tmp_path, name):
    out = tmp_path / "track.onnx"
    video = ["--support", str(drawn / "track/clip.mp4")]
    with pytest.raises(SystemExit, match="--box is missing"):
        main(["export", "--ckpt_path", trained(name), *video, "--out", str(out)])
    main(["export", "--ckpt_path", trained(name), *video, "--box", "115,138,46,36", "--out", str(out)])
    assert metadata(out)["outputs"].startswith("(N, h, w)")


def test_a_detector(trained, drawn, tmp_path):
    out = tmp_path / "detect.onnx"
    main(
        [
            "export",
            "--ckpt_path",
            trained("repmet"),
            "--support",
            str(drawn / "detect"),
            "--out",
            str(out),
            "--size",
            "128",
            "160",
        ]
    )
    boxes, scores = onnxruntime.InferenceSession(out).run(None, {"images": np.full((1, 3, 128, 160), 90, np.uint8)})
    assert boxes.shape == (len(scores), 4)
    assert scores.shape[1] == 3
    assert boxes[:, 2].max() <= 160
    assert boxes[:, 3].max() <= 128


def test_weights_in_half_precision_are_a_checkpoint(trained, tmp_path):
    out = tmp_path / "small.ckpt"
    main(["export", "--ckpt_path", trained("mlt/matching"), "--format", "weights", "--out", str(out)])
    module, before = build_module(out), build_module(trained("mlt/matching"))
    for name, value in before.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name].float(), value.float(), rtol=1e-3, atol=1e-3)
    assert "optimizer_states" not in torch.load(out, weights_only=True)
    assert out.with_suffix(".md").read_text() == Path(trained("mlt/matching")).with_name("card.md").read_text()


def test_a_saved_state_is_exported_and_one_of_another_class_is_not(trained, tmp_path):
    checkpoint = ["--ckpt_path", trained("oslsm"), "--out", str(tmp_path / "bolt.onnx")]
    mask = np.zeros((97, 113), np.uint8)
    mask[20:60, 30:80] = 1
    shot = lf.examples(np.full((97, 113, 3), 120, np.uint8), masks=[mask], labels=["bolt"])
    lf.save_state(lf.load(trained("oslsm")).adapt(shot), tmp_path / "bolt.safetensors")
    support = ["--support", str(tmp_path / "bolt.safetensors")]
    with pytest.raises(SystemExit, match=r"--size is missing: .*bolt\.safetensors has no image"):
        main(["export", *checkpoint, *support])
    main(["export", *checkpoint, *support, "--size", "97", "113"])
    assert json.loads(metadata(tmp_path / "bolt.onnx")["classes"]) == ["bolt"]
    points = torch.zeros(1, 1, 4), torch.ones(1, 1, dtype=torch.bool)
    lf.save_state(AdaptedState(ClassMixtures(*points), ("bolt",)), tmp_path / "bolt.safetensors")
    with pytest.raises(SystemExit, match="is a ClassMixtures, but a PixelClassifiers is needed"):
        main(["export", *checkpoint, *support, "--size", "97", "113"])
