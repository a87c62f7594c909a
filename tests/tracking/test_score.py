"""Scores of raw result files: tiny ones by hand, and the published SiamFC boxes."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_fewshot.tracking.benchmarks import read_benchmark
from lightning_fewshot.tracking.score import align, checked_results, score_files, score_sequence
from lightning_fewshot.tracking.sequence import Sequence, plain_name
from lightning_fewshot.tracking.trajectories import read_trajectory


def _scored(folder, truth):
    (files,) = checked_results(folder, truth).values()
    return score_files(files, truth)


@pytest.fixture
def results(maker, tmp_path):
    """Results of a good and a bad tracker on the tiny OTB."""
    maker.make_otb(tmp_path / "data")
    for tracker, off in (("good", 1), ("bad", 30)):
        for sequence in read_benchmark("otb", tmp_path / "data"):
            boxes = sequence.truth.numpy() + np.array([off, 0, 0, 0])
            maker.write_rows(tmp_path / "results" / tracker / f"{sequence.name}.txt", boxes)
            times = tmp_path / "results" / tracker / "times" / f"{sequence.name}_time.txt"
            maker.write_rows(times, np.full((len(boxes), 1), 0.05))
    return tmp_path


def score(cli, results, *args):
    cli("score", results, "--benchmark", "otb", "--root", "data", *args, toy=False)
    return json.loads(Path("run/results.json").read_text())


def test_the_command_scores_every_tracker_in_a_folder(results, cli, capsys):
    record = score(cli, results / "results")
    assert list(record["trackers"]) == ["bad", "good"]
    good = record["trackers"]["good"]["metrics"]
    assert good["success_auc"]["n"] == 7
    assert good["precision_20"]["value"] == 1
    assert good["fps"]["value"] == pytest.approx(20)
    assert record["trackers"]["bad"]["metrics"]["precision_20"]["value"] < 0.2, "only the first frame is right"
    table = capsys.readouterr().out
    assert table.index("good") < table.index("bad"), "the best tracker first"


def test_the_command_scores_one_tracker(results, cli):
    record = score(cli, results / "results/good")
    assert list(record["trackers"]) == ["good"]
    deer = record["trackers"]["good"]["sequences"]["Deer"]
    overlap = 11 * 12 / (2 * 144 - 11 * 12)  # one pixel off
    expected = (20 * 1 + 9 * sum(overlap > k / 20 for k in range(21))) / 210
    assert deer["success_auc"] == pytest.approx(expected)
    attributes = record["trackers"]["good"]["attributes"]
    assert {a: attributes[a]["success_auc"]["n"] for a in attributes} == {"IV": 2, "SV": 2}


def test_a_tracker_without_times_hides_nobodys_speed(results, cli, capsys):
    for path in (results / "results/bad/times").glob("*.txt"):
        path.unlink()
    score(cli, results / "results")
    assert "fps" in capsys.readouterr().out


def test_plots_are_written(results, cli):
    pytest.importorskip("matplotlib")
    score(cli, results / "results")
    names = {p.name for p in Path("run").glob("*.png")}
    assert {"success.png", "precision.png", "norm_precision.png", "success_IV.png", "success_SV.png"} <= names


def test_missing_and_unknown_files_are_named(results):
    folder = results / "results/good"
    (folder / "Deer.txt").unlink()
    (folder / "Dear.txt").write_text("1,2,3,4\n")
    truth = {plain_name(s.name): s for s in read_benchmark("otb", results / "data")}
    with pytest.warns(UserWarning, match="good") as caught:
        assert len(_scored(folder, truth)) == 6
    messages = " ".join(str(w.message) for w in caught)
    assert "good lacks 1 of 7 sequences: Deer" in messages
    assert "Dear.txt are no sequences" in messages


def test_a_folder_without_results_is_one_line(results, cli):
    (results / "nothing").mkdir()
    with pytest.raises(SystemExit, match=r"error: .*nothing holds no result file"):
        score(cli, results / "nothing")
    (results / "nothing/Dear.txt").write_text("1,2,3,4\n")
    with pytest.raises(SystemExit, match=r"error: none of the 1 files in .* is a sequence of the benchmark"):
        score(cli, results / "nothing")


def test_boxes_from_the_first_image_on_are_aligned_by_the_start_of_the_truth():
    truth = torch.rand(6, 4).double() + 1
    sequence = Sequence("David", None, truth, first=4)
    everything = torch.cat((torch.zeros(3, 4).double(), truth))
    boxes, target = align(everything, sequence)
    assert torch.equal(boxes, target)
    with pytest.warns(UserWarning, match="David has 5 boxes but 6 truths: 1 frames without a box are misses"):
        boxes, target = align(truth[:5], sequence)
    assert len(boxes) == len(target) == 6
    assert boxes[5].isnan().all()


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("tracker", "success", "precision"), [("SiamFC_pretrain_1", 0.583646, 0.789543), ("SiamFC", 0.528812, 0.713629)]
)
def test_the_published_boxes_of_siamfc_score_what_was_published(tracker, success, precision):
    """99 sequences one by one. The truth of Tiger1 at hand lacks five boxes: its published scores stand in."""
    folder = Path(os.environ["FEWSHOT_DATA"]) / "tracking-benchmarks"
    published = json.loads((folder / f"siamfc-results/reports/OTB2015/{tracker}/performance.json").read_text())
    published = next(iter(published.values()))["seq_wise"]
    truth = {plain_name(s.name): s for s in read_benchmark("otb", folder)}
    scored = _scored(folder / f"siamfc-results/results/OTB2015/{tracker}", truth)
    assert len(scored) == 100
    ours = {
        "success_auc": [published["Tiger1"]["success_score"]],
        "precision_20": [published["Tiger1"]["precision_score"]],
    }
    for name in scored.keys() - {"Tiger1"}:
        expected, found = published[name], scored[name].curves.scores
        assert found["success_auc"] == pytest.approx(expected["success_score"], abs=1e-9), name
        assert found["precision_20"] == pytest.approx(expected["precision_score"], abs=1e-9), name
        np.testing.assert_allclose(scored[name].curves.precision, expected["precision_curve"], atol=1e-9)
        assert scored[name].fps == pytest.approx(expected["speed_fps"], rel=1e-3), name
        ours = {key: [*values, found[key]] for key, values in ours.items()}
    assert np.mean(ours["success_auc"]) == pytest.approx(success, abs=1e-6)
    assert np.mean(ours["precision_20"]) == pytest.approx(precision, abs=1e-6)


@pytest.mark.real_data
def test_the_truth_as_it_lies_in_the_pack_scores_within_3e_5():
    """Without the first five frames of Tiger1."""
    folder = Path(os.environ["FEWSHOT_DATA"]) / "tracking-benchmarks"
    truth = {plain_name(s.name): s for s in read_benchmark("otb", folder)}
    scored = _scored(folder / "siamfc-results/results/OTB2015/SiamFC_pretrain_1", truth)
    assert np.mean([s.curves.scores["success_auc"] for s in scored.values()]) == pytest.approx(0.583646, abs=5e-5)


def test_polygons_are_scored_by_their_bounding_boxes(tmp_path):
    truth = torch.tensor([[5.0, 0, 10, 5, 5, 10, 0, 5]] * 3).double()
    (tmp_path / "bag.txt").write_text("0,0,10,10\n" * 3)
    trajectory = read_trajectory(tmp_path / "bag.txt")
    assert score_sequence([trajectory], Sequence("bag", None, truth)).curves.scores["precision_20"] == 1


ROW = "10,15,20,20\n"


@pytest.fixture
def sets(tmp_path):
    """A sequence each in the layouts of GOT-10k, UAV123 and VOT, the truth alone."""
    got, uav, vot = tmp_path / "GOT-10k/val", tmp_path / "UAV123/anno/UAV123", tmp_path / "VOT"
    for path, text in {
        got / "list.txt": "GOT-10k_Val_000001\n",
        got / "GOT-10k_Val_000001/groundtruth.txt": ROW * 5,
        uav / "bike9.txt": ROW * 5,
        vot / "list.txt": "ant\n",
        vot / "ant/groundtruth.txt": "10,15,30,15,30,35,10,35\n" * 12,
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _record(cli, sets, folder, benchmark, *args):
    cli("score", folder, "--benchmark", benchmark, "--root", sets, *args, toy=False)
    return json.loads(Path("run/results.json").read_text())["trackers"]


def test_results_of_the_got10k_toolkit_with_repetitions_and_their_archive(sets, cli):
    name = "GOT-10k_Val_000001"
    folder = sets / "results/SiamFC" / name
    _write(folder / f"{name}_001.txt", ROW * 5)
    _write(folder / f"{name}_002.txt", ROW + "90,90,20,20\n" * 4)
    _write(folder / f"{name}_time.txt", "0.01,0.01\n" * 5)
    archive = sets / "out/siamfc.zip"
    (tracker,) = _record(cli, sets, sets / "results", "got10k", "--archive", archive).items()
    assert tracker[0] == "SiamFC"
    assert tracker[1]["metrics"]["ao"]["value"] == pytest.approx(0.5)
    assert tracker[1]["metrics"]["sr_75"]["value"] == pytest.approx(0.5)
    assert tracker[1]["metrics"]["fps"]["value"] == pytest.approx(100)
    with zipfile.ZipFile(archive) as found:
        assert sorted(found.namelist()) == [f"{name}/{name}_{end}.txt" for end in ("001", "002", "time")]
    assert list(_record(cli, sets, sets / "results/SiamFC", "got10k")) == ["SiamFC"]


def test_an_archive_needs_every_sequence(sets, cli):
    _write(sets / "GOT-10k/val/list.txt", "GOT-10k_Val_000001\nGOT-10k_Val_000002\n")
    _write(sets / "GOT-10k/val/GOT-10k_Val_000002/groundtruth.txt", ROW * 5)
    _write(sets / "r/a/GOT-10k_Val_000001.txt", ROW * 5)
    with pytest.raises(SystemExit, match="the archive needs all 2 sequences, 1 lack a result: GOT-10k_Val_000002"):
        _record(cli, sets, sets / "r", "got10k", "--archive", sets / "a.zip")


def test_results_of_pytracking_with_prefix_and_folders_of_parameters(sets, cli):
    _write(sets / "tracking/dimp/dimp50/uav_bike9.txt", ROW.replace(",", "\t") * 5)
    _write(sets / "tracking/dimp/dimp50/uav_bike9_time.txt", "0.02\n" * 5)
    (tracker,) = _record(cli, sets, sets / "tracking", "uav123").items()
    assert tracker[0] == "dimp/dimp50"
    assert tracker[1]["metrics"]["success_auc"]["value"] == pytest.approx(20 / 21)
    assert tracker[1]["metrics"]["fps"]["value"] == pytest.approx(50)


def test_supervised_results_of_vot_toolkit(sets, cli):
    """A start, ten boxes of which one has half the object, a failure: by hand."""
    text = "1\n" + ROW * 9 + "20,15,20,20\n" + "2\n"
    _write(sets / "vot/A/baseline/ant/ant_001.txt", text)
    (tracker,) = _record(cli, sets, sets / "vot", "vot").items()
    assert tracker[0] == "A/baseline"
    assert tracker[1]["evaluation"] == "supervised"
    assert tracker[1]["metrics"]["accuracy"]["value"] == pytest.approx(1 / 3, abs=1e-6), "one frame after burn-in"
    assert tracker[1]["metrics"]["failures"]["value"] == 1
    assert not [name for name in tracker[1]["metrics"] if name.startswith("eao")], "no sequence is as long"
    assert Path("run/accuracy_robustness.png").exists()


def test_vot_toolkits_unsupervised_experiment_is_one_pass(sets, cli):
    _write(sets / "vot/A/unsupervised/ant/ant_001.txt", "1\n" + ROW * 11)
    (tracker,) = _record(cli, sets, sets / "vot", "vot").values()
    assert tracker["evaluation"] == "one-pass"
    assert tracker["metrics"]["ao"]["value"] == pytest.approx(1)


def test_a_tracker_that_died_half_way_says_so(sets, cli):
    _write(sets / "r/bike9.txt", ROW * 2)
    with pytest.warns(UserWarning, match="bike9 has 2 boxes but 5 truths: 3 frames without a box are misses"):
        (tracker,) = _record(cli, sets, sets / "r", "uav123").values()
    assert tracker["sequences"]["bike9"]["frames"] == 5
    assert tracker["sequences"]["bike9"]["frames_without_box"] == 3
    assert tracker["metrics"]["precision_20"]["value"] == pytest.approx(0.4)
