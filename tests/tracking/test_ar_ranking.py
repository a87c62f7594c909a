"""AR ranking: a table of three trackers by hand, and the ranks, table and pictures of ``score``."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from lightning_fewshot.metrics.vot import Code
from lightning_fewshot.tracking.ar_ranking import rank_trackers, ranks
from lightning_fewshot.tracking.benchmarks import read_benchmark
from lightning_fewshot.tracking.score_supervised import SupervisedScores
from lightning_fewshot.tracking.sequence import Sequence
from lightning_fewshot.tracking.trajectories import SupervisedResult

T = 30


def result(overlap, failures=(), length=T):
    """A start in frame 0, then one overlap everywhere but at failures and the four frames that follow each."""
    codes = torch.full((length,), int(Code.TRACKED))
    codes[0] = Code.START
    for t in failures:
        codes[t : t + 6] = torch.tensor([Code.FAILURE, *[Code.SKIPPED] * 4, Code.START])[: length - t]
    return SupervisedResult(torch.where(codes == Code.TRACKED, overlap, 0.0), codes)


def scores(**sequences):
    results = {name: runs if isinstance(runs, list) else [runs] for name, runs in sequences.items()}
    return SupervisedScores(results, {})


def truth(name, **tags):
    flags = tuple(
        (tag, torch.zeros(T, dtype=torch.bool).index_fill(0, torch.tensor(f), True)) for tag, f in tags.items()
    )
    return Sequence(name, None, torch.ones(T, 4), tags=flags)


def values(found):
    return {name: (r.accuracy.value, r.robustness.value) for name, r in found.items()}


def test_ranks_are_scipys():
    rng = np.random.default_rng(0)
    for _ in range(20):
        drawn = rng.integers(0, 5, 8)
        assert ranks(torch.from_numpy(drawn)).tolist() == rankdata(drawn).tolist()


def test_ranks_over_sequences_by_hand():
    """Accuracy ranks 1, 2.5, 2.5 and 3, 2, 1; failures 0, 0, 0 and 1, 0, 2: ranks 2, 2, 2 and 2, 1, 3."""
    found = rank_trackers(
        {
            "A": scores(ant=result(0.8), bee=result(0.5, [12])),
            "B": scores(ant=result(0.6), bee=result(0.7)),
            "C": scores(ant=result(0.6), bee=result(0.9, [5, 12])),
        },
        {"ant": truth("ant"), "bee": truth("bee")},
    )
    assert list(found) == ["sequences"], "no frame is tagged"
    assert values(found["sequences"]) == {"A": (2, 2), "B": (2.25, 1.5), "C": (1.75, 2.5)}
    assert found["sequences"]["A"].accuracy.n == 2
    assert found["sequences"]["A"].accuracy.low >= 1
    assert found["sequences"]["A"].accuracy.high <= 3


def test_ranks_over_attributes_by_hand():
    """A fails in an occlusion of ant. In frame 3, within burn-in, its overlap is 1, which must not count.

    Occlusion: accuracies 0.4 (A, of ant alone) and 0.5: ranks 2, 1; failures 1, 0: ranks 2, 1.
    Fast motion is in bee alone: 0.9 and 0.3: ranks 1, 2; no failure: 1.5 each.
    Unassigned: the mean of 0.4 and 0.9 over frames is above that of 0.5 and 0.3: ranks 1, 2; no failure: 1.5 each.
    """
    ant = result(0.4, [15])
    ant.overlaps[3] = 1.0
    found = rank_trackers(
        {"A": scores(ant=ant, bee=result(0.9)), "B": scores(ant=result(0.5), bee=result(0.3))},
        {"ant": truth("ant", occlusion=[3, 11, 12, 15]), "bee": truth("bee", fast=[4, 20, 21])},
    )["attributes"]
    assert values(found) == {"A": pytest.approx((4 / 3, 5 / 3)), "B": pytest.approx((5 / 3, 4 / 3))}
    assert found["A"].robustness.n == 3


def test_repetitions_of_a_sequence_are_averaged_before_it_is_ranked():
    """A's mean is 0.5 with one failure in two runs; one run of B has 0.6 and a failure."""
    found = rank_trackers(
        {"A": scores(ant=[result(0.9), result(0.1, [20])]), "B": scores(ant=result(0.6, [20]))}, {"ant": truth("ant")}
    )
    assert values(found["sequences"]) == {"A": (2, 1), "B": (1, 2)}


def test_only_sequences_that_all_have_are_ranked():
    trackers = {"A": scores(ant=result(0.4), bee=result(0.1)), "B": scores(ant=result(0.3))}
    with pytest.warns(UserWarning, match="leaves out 1 sequences that some tracker lacks"):
        found = rank_trackers(trackers, {"ant": truth("ant"), "bee": truth("bee")})
    assert values(found["sequences"]) == {"A": (1, 1.5), "B": (2, 1.5)}
    assert rank_trackers({"A": trackers["A"]}, {"ant": truth("ant")}) == {}


@pytest.fixture
def tagged(tmp_path):
    """VOT with two sequences of 12 frames and an occlusion, and the results of two trackers."""
    box, off = "10,15,20,20", "20,15,20,20"
    for name in ("ant", "bee"):
        folder = tmp_path / "VOT" / name
        folder.mkdir(parents=True)
        (folder / "groundtruth.txt").write_text(f"{box}\n" * 12)
    (tmp_path / "VOT/list.txt").write_text("ant\nbee\n")
    (tmp_path / "VOT/ant/occlusion.tag").write_text("0\n" * 10 + "1\n1\n")
    (tmp_path / "VOT/bee/occlusion.label").write_text("0\n1\n")
    lines = {
        ("good", "ant"): ["1", *[box] * 11],
        ("good", "bee"): ["1", *[box] * 11],
        ("bad", "ant"): ["1", *[off] * 11],
        ("bad", "bee"): ["1", *[box] * 10, "2"],
    }
    for (tracker, name), text in lines.items():
        path = tmp_path / "results" / tracker / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(text) + "\n")
    return tmp_path


def test_tags_of_both_kinds_of_files_are_read_and_short_ones_end_in_zeros(tagged):
    ant, bee = read_benchmark("vot", tagged)
    assert [(name, flags.tolist()) for name, flags in ant.tags] == [("occlusion", [False] * 10 + [True] * 2)]
    assert [(name, flags.tolist()) for name, flags in bee.tags] == [("occlusion", [False, True] + [False] * 10)]
    (tagged / "VOT/bee/occlusion.label").write_text("0\nyes\n")
    with pytest.raises(ValueError, match=r"occlusion.label, line 2 is 'yes' but must be 0 or 1"):
        read_benchmark("vot", tagged)


def test_tags_of_the_json(tmp_path):
    entry = {"gt_rect": [[1, 2, 3, 4]] * 3, "occlusion": [0, 1, 0], "height": 5}
    (tmp_path / "VOT2018.json").write_text(json.dumps({"ant": entry}))
    (ant,) = read_benchmark("vot", tmp_path)
    assert [(name, flags.tolist()) for name, flags in ant.tags] == [("occlusion", [False, True, False])]
    (tmp_path / "VOT2018.json").write_text(json.dumps({"ant": {**entry, "occlusion": 1}}))
    with pytest.raises(ValueError, match="sequence ant: occlusion must be a list of 0 and 1"):
        read_benchmark("vot", tmp_path)


@pytest.mark.filterwarnings("ignore:no EAO")
def test_the_command_ranks_and_draws(tagged, cli, capsys):
    pytest.importorskip("matplotlib")
    cli("score", tagged / "results", "--benchmark", "vot", "--root", tagged, toy=False)
    found = json.loads(Path("run/results.json").read_text())["trackers"]
    by_sequence, by_attribute = (
        {name: [found[name]["ranks"][basis][part]["value"] for part in ("accuracy", "robustness")] for name in found}
        for basis in ("sequences", "attributes")
    )
    assert by_sequence == {"good": [1.25, 1.25], "bad": [1.75, 1.75]}, "level in bee's accuracy and ant's failures"
    assert by_attribute == {"good": [1.25, 1.25], "bad": [1.75, 1.75]}, "unassigned: bee's frames after burn-in"
    assert {p.name for p in Path("run").glob("*.png")} == {
        "accuracy_robustness.png",
        "ar_ranking_sequences.png",
        "ar_ranking_attributes.png",
    }
    assert "AR ranking, 1 is the best" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:no EAO")
def test_one_tracker_is_not_ranked(tagged, cli, capsys):
    cli("score", tagged / "results/good", "--benchmark", "vot", "--root", tagged, toy=False)
    (tracker,) = json.loads(Path("run/results.json").read_text())["trackers"].values()
    assert "ranks" not in tracker
    assert not list(Path("run").glob("ar_ranking*"))
    assert "AR ranking" not in capsys.readouterr().out


def test_the_points_of_the_picture_are_the_ranks(monkeypatch, tmp_path):
    """The best is at the upper right: both axes run from the worst rank to the best."""
    figure = pytest.importorskip("matplotlib.figure")
    from lightning_fewshot.tracking import score_plots

    drawn = []

    class Kept(figure.Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            drawn.append(self)

    monkeypatch.setattr(figure, "Figure", Kept)
    ranked = {"A": (1.5, 2.0), "B": (2.5, 1.0)}
    record = {
        "protocol": {"benchmark": "vot"},
        "trackers": {
            name: {
                "ranks": {
                    "sequences": {
                        "accuracy": {"value": a, "ci95": [a - 0.25, a + 0.5], "n": 4},
                        "robustness": {"value": r, "ci95": [None, None], "n": 4},
                    }
                }
            }
            for name, (a, r) in ranked.items()
        },
    }
    assert score_plots.write_ranking_plots(record, tmp_path) == [tmp_path / "ar_ranking_sequences.png"]
    (axes,) = drawn[0].axes
    points = {c.get_label(): tuple(float(v[0]) for v in c.lines[0].get_data()) for c in axes.containers}
    assert points == {name: (r, a) for name, (a, r) in ranked.items()}
    assert axes.get_xlim()[0] > axes.get_xlim()[1]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    vertical = axes.containers[0].lines[2][1].get_segments()[0][:, 1]
    assert sorted(vertical.tolist()) == [1.25, 2.0]
