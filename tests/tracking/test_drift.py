"""The drift report: its numbers, and that asking a tracker about the true box does not touch its track."""

import csv
from pathlib import Path

import candidates
import numpy as np
import pytest
import torch
from clips import as_frames, video
from red_module import OTB
from scipy.ndimage import map_coordinates

from lightning_fewshot import MetaLearnerTracker, MetaRTT, SiameseLearnetTracker
from lightning_fewshot.models.metartt import PrunedMetaRTT
from lightning_fewshot.models.mlt.settings import MatchingSettings, Memory, MetaLearnerSettings
from lightning_fewshot.models.rt_mdnet import RTMDNet
from lightning_fewshot.models.rt_mdnet.settings import SGDAdaptation
from lightning_fewshot.tracking.candidates.settings import CandidateNetworkSettings
from lightning_fewshot.tracking.candidates.tracker import CandidateTracker
from lightning_fewshot.tracking.drift import COLUMNS, drift
from lightning_fewshot.tracking.episodes import sequence_episode
from lightning_fewshot.tracking.loop import Track, track
from lightning_fewshot.tracking.response import ResponseTracker, Search
from lightning_fewshot.tracking.response_maps import response_at
from lightning_fewshot.tracking.tracker import IdentityTracker, LookingTracker

NAN, INF = float("nan"), float("inf")


def _module(name):
    torch.manual_seed(0)
    if name == "learnet":
        return SiameseLearnetTracker("siamese_learnet", "S").eval()
    if name == "mlt":
        memory = Memory(size=2, update_every=4, least_score=None)
        return MetaLearnerTracker(
            MatchingSettings((6, 8, 8, 8), 8), meta=MetaLearnerSettings(target_kernels=4), memory=memory
        ).eval()
    cls = {"rt_mdnet": RTMDNet, "metartt": MetaRTT, "pruned": PrunedMetaRTT}[name]
    return cls(**candidates.tiny()).eval()


CANDIDATES = ["rt_mdnet", "metartt", "pruned"]
RESPONSES = ["learnet", "mlt"]


@pytest.mark.parametrize("name", CANDIDATES + RESPONSES)
def test_tracks_are_bit_equal_whatever_the_truth(name):
    """Without truth, with the true one, with a wrong one, one that is absent and one that ends: boxes and scores."""
    module, (images, boxes) = _module(name), video(6)
    absent = boxes.clone()
    absent[3:5] = NAN
    tracks = []
    for truth in (None, boxes, boxes.flip(0) - 7, absent, boxes[:4]):
        torch.manual_seed(3)
        tracks.append(track(module.tracker(), as_frames(images), boxes[0], truth))
        tracks[-1] = (*tracks[-1], torch.rand(4))  # the generator is where it was, too
    for other in tracks[1:]:
        for part in (0, 1, 6):
            assert torch.equal(other[part], tracks[0][part])
        assert torch.equal(other[5].nan_to_num(-1), tracks[0][5].nan_to_num(-1)), "found does not depend on the truth"
    told = [t[4] for t in tracks]
    assert told[0].isnan().all()
    assert not told[1][1:].isnan().any()
    assert not torch.equal(told[1], told[2]), "another box has another score"
    assert told[3].isnan().tolist() == [True, False, False, True, True, False]
    assert told[4].isnan().tolist() == [True, False, False, False, True, True]


def test_a_module_tracks_the_same_boxes_with_a_wrong_truth():
    module, (images, boxes) = _module("metartt"), video(6)
    wrong = torch.cat((boxes[:1], boxes[1:].flip(0) + 5))
    tracks = []
    for truth in (boxes, wrong):
        torch.manual_seed(1)
        tracks.append(module(sequence_episode(as_frames(images), truth)))
    assert torch.equal(tracks[0].boxes, tracks[1].boxes)
    assert not torch.equal(tracks[0].truth_scores[1:], tracks[1].truth_scores[1:])


@pytest.mark.parametrize("name", CANDIDATES)
@torch.no_grad()
def test_the_truth_scores_what_it_scores_as_a_candidate(name, monkeypatch):
    """Only copies of the box drawn, the mean of the best is its score."""
    tracker, (images, boxes) = _module(name).tracker(), video(3)
    state = tracker.init(images[0], boxes[0])
    for box in (boxes[1], boxes[1] + 4, boxes[1] * torch.tensor([1.0, 1.0, 1.1, 1.2])):
        asked = tracker.box_score(state, tracker.look(state, images[1]), box)
        monkeypatch.setattr(
            "lightning_fewshot.tracking.candidates.tracker.gaussian_boxes",
            lambda start, n, *a, box=box: box.expand(1, n, 4),
        )
        assert asked == pytest.approx(tracker.update(state, images[1])[2], rel=1e-4, abs=1e-5)


def test_a_tracker_that_knows_its_object_scores_the_truth_above_other_places():
    torch.manual_seed(0)
    keywords = {**candidates.tiny(), "network": CandidateNetworkSettings((16, 24, 32), 32, 40, 4.0)}
    images, boxes = video(2)
    module = RTMDNet(**keywords, adaptation=SGDAdaptation(50, 15, init_lr=3e-3, online_lr=3e-3), drop=0.0).eval()
    tracks = []
    for shift in (0, 12, 24):
        torch.manual_seed(0)
        tracks.append(float(track(module.tracker(), as_frames(images), boxes[0], boxes + shift).truth_scores[1]))
    assert tracks[0] > max(tracks[1:]) + 5


def test_found_is_what_the_tracker_says(monkeypatch):
    module, (images, boxes) = _module("rt_mdnet"), video(5)
    values = iter((1.0, -1.0, -1.0, 1.0))
    monkeypatch.setattr(CandidateTracker, "_find", lambda self, s, view: (s.box, s.box, s.threshold + next(values)))
    assert track(module.tracker(), as_frames(images), boxes[0]).found.tolist()[1:] == [1, 0, 0, 1]
    assert track(_module("learnet").tracker(), as_frames(images), boxes[0], boxes).found.isnan().all()


def test_a_candidate_tracker_does_not_search_outside_of_its_scene():
    tracker, images = _module("rt_mdnet").tracker(), video(2)[0]
    with torch.no_grad():
        state = tracker.init(images[0], torch.tensor([4.0, 4.0, 16.0, 16.0]))
        view = tracker.look(state, images[1])  # 4 times the box: -14 to 34, candidates up to a tenth from its border
        scores = [tracker.box_score(state, view, torch.tensor([0.0, 0.0, 12.0, 12.0]) + x) for x in (20.0, 26.0, 70.0)]
    assert np.isfinite(scores).tolist() == [True, False, False]
    assert scores[1] == -INF


class Painted(ResponseTracker):
    """Answers with responses that are given."""

    def adapt(self, exemplar):
        return None

    def respond(self, model, crops):
        return self.answers


@torch.no_grad()
def test_the_truth_reads_the_response_at_its_place_and_at_its_size():
    tracker = Painted(Search(scales=3, step=1.25, window=0.3, penalty=0.9, upsample=16))
    tracker.answers = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 17, 17))).float()
    start, frame = torch.tensor([80.0, 60.0, 120.0, 100.0]), torch.zeros(3, 160, 200, dtype=torch.uint8)
    state = tracker.init(frame, start)
    view = tracker.look(state, frame)
    for scale, growth in ((0, 0.82), (1, 1.05), (2, 1.2)):
        pixels = float(view.windows[scale, 2] - view.windows[scale, 0]) / 255  # of the frame, for one of the crop
        for column, row in ((8.0, 8.0), (3.0, 11.0), (5.25, 9.5), (16.3, 0.0)):
            centre = torch.tensor([100.0, 80.0]) + (torch.tensor([column, row]) - 8) * 8 * pixels
            half = torch.tensor([20.0, 20.0]) * growth
            asked = tracker.box_score(state, view, torch.cat((centre - half, centre + half)))
            expected = map_coordinates(tracker.answers[scale].numpy(), [[row], [column]], order=1, mode="nearest")
            assert asked == pytest.approx(float(expected[0]), abs=1e-4)
    assert tracker.box_score(state, view, start + 90) == -INF
    assert response_at(tracker.answers[0], torch.tensor([0.0, 8.6])) == -INF


@torch.no_grad()
def test_at_the_peak_the_response_is_the_tracker_s_score():
    tracker = Painted(Search(scales=1, window=0, upsample=1, damping=0.0))
    tracker.answers = torch.zeros(1, 17, 17)
    tracker.answers[0, 5, 10] = 2.5
    frame = torch.zeros(3, 160, 200, dtype=torch.uint8)
    state = tracker.init(frame, torch.tensor([80.0, 60.0, 120.0, 100.0]))
    _, box, score = tracker.update(state, frame)
    assert tracker.box_score(state, tracker.look(state, frame), box) == pytest.approx(score, abs=1e-4)


class Remembers(LookingTracker):
    """Moves by a pixel; its score of a box is what it knew before the frame."""

    def __init__(self):
        self.asked = []

    def init(self, frame, box):
        return 0, box

    def look(self, state, frame):
        return float(frame.float().mean())

    def decide(self, state, view):
        return (state[0] + 1, state[1] + 1), state[1] + 1, view

    def box_score(self, state, view, box):
        self.asked.append(box)
        return 100 * state[0] + view


class Whole(Remembers):
    """Replaces ``update`` itself."""

    def update(self, state, frame):
        return state, state[1], 0.25


def test_the_state_that_is_asked_is_the_one_before_the_decision():
    images, boxes = video(4)
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand_as(images).clone()
    tracker = Remembers()
    found = track(tracker, as_frames(images), boxes[0], boxes)
    assert found.truth_scores[1:].tolist() == [1.0, 102.0, 203.0]
    assert torch.equal(torch.stack(tracker.asked), boxes[1:])
    assert found.found.isnan().all(), "it does not say"
    assert torch.equal(
        found.boxes, track(IdentityTracker(), as_frames(images), boxes[0]).boxes + torch.arange(4)[:, None]
    )


@pytest.mark.parametrize("tracker", [Whole(), IdentityTracker()])
def test_who_cannot_be_asked_is_not(tracker):
    images, boxes = video(3)
    found = track(tracker, as_frames(images), boxes[0], boxes)
    assert torch.equal(found.boxes, boxes[:1].expand(3, 4))
    assert found.truth_scores.isnan().all()
    assert getattr(tracker, "asked", []) == []


def test_asking_does_not_count_as_the_tracker_s_time(monkeypatch):
    import time

    images, boxes = video(4)
    monkeypatch.setattr(Remembers, "box_score", lambda self, *a: time.sleep(0.2) or 1.0)
    found = track(Remembers(), as_frames(images), boxes[0], boxes)
    assert found.seconds.sum() < 0.2
    assert found.read_seconds.sum() < 0.2


def test_the_row_of_a_track_is_numpys():
    """A random track over 30 frames, the object absent in some, a truth that is shorter than the video."""
    g = np.random.default_rng(1)
    corner = np.cumsum(g.normal(0, 3, (30, 2)), 0) + 50
    target = np.concatenate((corner, corner + 10), 1)[:28]
    target[[4, 9]] = NAN
    boxes = np.concatenate((corner, corner + 10), 1) + g.normal(0, 9, (30, 1))
    scores, at_truth, found = g.normal(size=(3, 30))
    found = (found > 0).astype(float)
    at_truth[[0, 4, 9]], at_truth[[6, 7]], found[0] = NAN, -INF, NAN
    parts = [torch.from_numpy(v).float() for v in (boxes, scores, scores, scores, at_truth, found)]
    row = drift(Track(*parts), torch.from_numpy(target).float())
    low, high = np.maximum(boxes[:28, :2], target[:, :2]), np.minimum(boxes[:28, 2:], target[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    overlap = shared / (200 - shared)
    present = [t for t in range(28) if t not in (4, 9)]
    later = present[1:]
    assert row["frames"] == 26
    assert row["share_overlapping"] == pytest.approx(np.mean(overlap[present] > 0), abs=1e-4)
    assert row["first_loss"] == next(t for t in present if overlap[t] == 0)
    assert row["mean_iou"] == pytest.approx(overlap[present].mean(), abs=1e-4)
    assert row["mean_score"] == pytest.approx(scores[later].mean(), abs=1e-4)
    assert row["score_at_truth"] == pytest.approx(at_truth[[t for t in later if t not in (6, 7)]].mean(), abs=1e-4)
    assert row["share_truth_scored"] == pytest.approx(23 / 25, abs=1e-4)
    assert row["share_called_found"] == pytest.approx(found[later].mean(), abs=1e-4)
    assert set(row) == set(COLUMNS[2:])


def test_what_nobody_knows_stays_empty():
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0]]).expand(3, 4)
    ones = torch.ones(3)
    row = drift(Track(boxes, ones, ones, ones), boxes)
    assert [row[k] for k in ("score_at_truth", "share_truth_scored", "share_called_found")] == [None] * 3
    never = drift(Track(boxes, ones, ones, ones, -INF * ones, 0 * ones), boxes)
    assert [never[k] for k in ("score_at_truth", "share_truth_scored", "share_called_found")] == [None, 0, 0]
    one = drift(Track(boxes[:1], ones[:1], ones[:1], ones[:1]), boxes[:1])
    assert (one["frames"], one["mean_iou"], one["mean_score"]) == (1, 1, None)


def _rows():
    with Path("run/tracks/report.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_report_says_where_each_sequence_was_lost(run):
    run("test", "OTB", *OTB, "--data.repeats", 2)
    rows = _rows()
    assert tuple(rows[0]) == COLUMNS
    assert [(row["sequence"], row["repeat"]) for row in rows[:2]] == [("Couple", "1"), ("Couple", "2")]
    assert len(rows) == 8
    assert {(row["share_overlapping"], row["first_loss"]) for row in rows} == {("1.0", "")}, "never lost"
    assert {row["mean_score"] for row in rows} == {"0.5"}, "without the first frame's"
    assert {row["score_at_truth"] + row["share_truth_scored"] + row["share_called_found"] for row in rows} == {""}
