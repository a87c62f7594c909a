"""Other toolkits run our trackers; each test is skipped where its toolkit is not installed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_fewshot.tracking.adapters import Session, got10k_tracker
from lightning_fewshot.tracking.reading import to_frame

ROOT = Path(__file__).parents[2]


class Shifter:
    """Moves right by two pixels a frame, and keeps the boxes it was given in pixels from 0."""

    def init(self, frame, box):
        return box

    def update(self, state, frame):
        box = state + torch.tensor([2.0, 0, 2, 0])
        return box, box, 0.5


def test_a_session_keeps_the_toolkits_coordinates():
    session = Session(Shifter(), origin=1.0)
    frame = to_frame(np.zeros((40, 60, 3), np.uint8))
    session.init(frame, [11, 12, 20, 10])
    assert session._state.tolist() == [10, 11, 30, 21]
    box, score = session.update(frame)
    assert box.tolist() == [13, 12, 20, 10]
    assert score == 0.5


def test_a_bad_box_of_a_toolkit_is_named():
    with pytest.raises(ValueError, match=r"first box of the toolkit is .* outside the frame"):
        Session(Shifter()).init(to_frame(np.zeros((40, 60, 3), np.uint8)), [100, 100, 5, 5])


def test_got10k_runs_our_tracker(maker, tmp_path, monkeypatch):
    experiments = pytest.importorskip("got10k.experiments")
    maker.make_got10k(tmp_path, 2, n_frames=6)
    folder = tmp_path / "GOT-10k"
    (folder / "train").rename(folder / "val")
    monkeypatch.chdir(tmp_path)
    experiment = experiments.ExperimentGOT10k(str(folder), subset="val")
    experiment.run(got10k_tracker(Shifter(), "Ours", origin=0.0))
    written = np.loadtxt(next(tmp_path.glob("results/GOT-10k/Ours/*/*_001.txt")), delimiter=",")
    np.testing.assert_allclose(written[:, 0], written[0, 0] + 2 * np.arange(6), atol=1e-3)


def test_trax_clients_run_our_tracker(maker, tmp_path):
    trax = pytest.importorskip("trax")
    from trax.client import Client

    maker.write_images(tmp_path, maker.images(3))
    code = (
        "from lightning_fewshot.tracking.adapters import serve_trax; import sys; sys.path.insert(0, sys.argv[1]); "
        "from test_adapters import Shifter; serve_trax(Shifter())"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        client = Client((server.stdin.fileno(), server.stdout.fileno()), timeout=60, log=lambda text: None)
        paths = sorted(tmp_path.glob("*.jpg"))
        image = {"color": trax.FileImage.create(str(paths[0]))}
        client.initialize(image, [(trax.Rectangle.create(10, 12, 12, 12), {})], {})
        found = []
        for path in paths[1:]:
            objects, _ = client.frame({"color": trax.FileImage.create(str(path))}, {}, [])
            found.append(objects[0][0].bounds())
        assert found == [(12, 12, 12, 12), (14, 12, 12, 12)]
        client.quit()
        assert server.wait(30) == 0
    finally:
        server.kill()
