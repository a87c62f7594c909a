"""``export`` of every task: the file answers like the adapted network, and says what it is."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from test_experiments import FOLDER, config_arguments

import lightning_fewshot as lf
from lightning_fewshot.checkpoints import build_module
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
    assert json.loads(says["classes"]) == ["fish", "moon", "turtle"]
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 97, 113), np.uint8)
    (probs,) = onnxruntime.InferenceSession(out).run(None, {"images": image})
    assert probs.shape == (1, 3, 97, 113)
    assert 0 <= probs.min() <= probs.max() <= 1


def test_a_segmenter_answers_as_predict_does(trained, drawn, tmp_path):
    out = tmp_path / "segment.pt2"
    main(
        [
            "export",
            "--ckpt_path",
            trained("oslsm"),
            "--support",
            str(drawn / "segment"),
            "--out",
            str(out),
            "--format",
            "torch",
        ]
    )
    names = ("fish", "moon", "turtle")
    shots = [
        (name, drawn / f"segment/images/{name}_{i}.png", drawn / f"segment/masks/{name}_{i}.png")
        for name in names
        for i in (1, 2)
    ]
    model = lf.load(trained("oslsm"))
    state = model.adapt(lf.examples([s[1] for s in shots], labels=[s[0] for s in shots], masks=[s[2] for s in shots]))
    query = lf.examples(drawn / "segment/query/moon_1.png")
    (expected,) = model.predict(state, query)
    extra = {"metadata.json": ""}
    found = torch.export.load(str(out), extra_files=extra).module()(query.examples.images)
    torch.testing.assert_close(found[0], expected.probs, rtol=1e-3, atol=1e-3)
    assert json.loads(extra["metadata.json"])["classes"] == list(names)


def test_a_recogniser(trained, drawn, tmp_path):
    out = tmp_path / "classify.onnx"
    main(["export", "--ckpt_path", trained("learnet"), "--support", str(drawn / "classify"), "--out", str(out)])
    image = np.zeros((1, 1, 28, 28), np.uint8)
    (posteriors,) = onnxruntime.InferenceSession(out).run(None, {"images": image})
    assert posteriors.shape == (1, 3)
    assert posteriors.sum() == pytest.approx(1, abs=1e-5)


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
