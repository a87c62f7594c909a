"""Tracks that an earlier test wrote are taken up where the tracker and the data are the same."""

from pathlib import Path

import pytest
from red_module import OTB, calls


def test_a_stopped_test_goes_on_where_it_was(run):
    first = run("test", "OTB", *OTB)
    assert len(calls) == 4
    Path("run/tracks/Deer.txt").unlink()
    again = run("test", "OTB", *OTB)
    assert len(calls) == 5, "one sequence was tracked again"
    for name in ("success_auc", "precision_20", "norm_precision_auc", "success_50"):
        assert again["metrics"][name] == first["metrics"][name]


def test_every_sequence_is_tracked_with_several_seeds(run):
    once = run("test", "OTB", *OTB, run_dir="once")["metrics"]
    assert len(calls) == 4
    record = run("test", "OTB", *OTB, "--data.repeats", 3)
    assert len(calls) == 16
    assert record["protocol"]["repeats"] == 3
    assert record["metrics"]["success_auc"]["n"] == 4
    assert record["metrics"]["success_auc"]["value"] == pytest.approx(once["success_auc"]["value"])
    assert record["metrics"]["success_auc_seed_std"]["value"] == pytest.approx(0, abs=1e-9)
    assert record["metrics"]["success_auc_seed_std"]["n"] == 3
    assert sorted(path.name for path in Path("run/tracks").glob("repeat_*")) == ["repeat_2", "repeat_3"]
    again = run("test", "OTB", *OTB, "--data.repeats", 3)
    assert len(calls) == 16, "all are taken up"
    assert again["metrics"]["success_auc"] == record["metrics"]["success_auc"]


@pytest.mark.parametrize("changed", [["--model.least", 160], ["--seed_everything", 7]])
def test_another_tracker_takes_nothing_up(run, changed):
    run("test", "OTB", *OTB)
    run("test", "OTB", *OTB, *changed)
    assert len(calls) == 8


def test_tracks_of_changed_truth_are_not_taken(run):
    run("test", "OTB", *OTB)
    truth = Path("data/OTB/Deer/groundtruth_rect.txt")
    truth.write_text("".join(f"{line}\n" for line in truth.read_text().splitlines()[:-1]) + "9,9,9,9\n")
    run("test", "OTB", *OTB)
    assert len(calls) == 5, "one sequence was tracked again"
    fresh = run("test", "OTB", *OTB, run_dir="fresh")["metrics"]
    again = run("test", "OTB", *OTB)["metrics"]
    assert len(calls) == 9
    assert again["success_auc"] == fresh["success_auc"]


def test_tracks_of_changed_images_are_not_taken(run):
    run("test", "OTB", *OTB)
    path = sorted(Path("data/OTB/Deer/img").iterdir())[3]
    path.write_bytes(path.read_bytes())
    run("test", "OTB", *OTB)
    assert len(calls) == 5


def test_one_pass_and_supervised_tracks_are_not_taken_for_each_other(run):
    reference = run("test", "VOT", run_dir="reference")["metrics"]
    run("test", "VOT", "--data.evaluation", "one-pass")
    supervised = run("test", "VOT")["metrics"]
    assert len(calls) == 6
    for name in ("accuracy", "failures", "robustness"):
        assert supervised[name]["value"] == reference[name]["value"]
    one_pass = run("test", "VOT", "--data.evaluation", "one-pass")["metrics"]
    assert len(calls) == 8
    assert "success_auc" in one_pass


def test_supervised_evaluation_resumes_too(run):
    first = run("test", "VOT")
    assert len(calls) == 2
    assert first["protocol"]["evaluation"] == "supervised"
    assert first["metrics"]["failures"]["value"] == 0
    assert first["metrics"]["accuracy"]["value"] > 0.8
    again = run("test", "VOT")
    assert len(calls) == 2
    for name in ("accuracy", "failures", "robustness"):  # no sequence is long enough for an EAO
        assert again["metrics"][name]["value"] == pytest.approx(first["metrics"][name]["value"], abs=1e-6)


def test_a_longer_supervised_run_is_not_taken_for_a_shorter_one(run):
    run("test", "VOT")
    run("test", "VOT", "--data.max_frames", 7)
    assert len(calls) == 4
    assert len(Path(next(Path("run/tracks").glob("*.txt"))).read_text().split()) == 7
