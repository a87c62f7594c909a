"""The loop over frames: it follows what it has learned, keeps its state to itself, and survives bad targets."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from clips import as_frames, video

from lightning_fewshot.boxes import iou
from lightning_fewshot.models.metartt import MetaRTT, PrunedMetaRTT
from lightning_fewshot.models.rt_mdnet import RTMDNet
from lightning_fewshot.models.rt_mdnet.settings import SGDAdaptation
from lightning_fewshot.tracking.candidates.head import score
from lightning_fewshot.tracking.candidates.settings import Batches, CandidateNetworkSettings, TrackerSettings
from lightning_fewshot.tracking.candidates.tracker import CandidateTracker, jittered_windows
from lightning_fewshot.tracking.files import fingerprint
from lightning_fewshot.tracking.loop import track
from lightning_fewshot.tracking.tracker import Tracker


@pytest.mark.parametrize("cls", [RTMDNet, MetaRTT, PrunedMetaRTT])
def test_is_a_tracker_and_repeats_itself(cls, tiny):
    tracker = cls(**tiny).eval().tracker()
    assert isinstance(tracker, Tracker)
    images, boxes = video(7)
    tracks = []
    for _ in range(2):
        torch.manual_seed(3)
        tracks.append(track(tracker, as_frames(images), boxes[0]))
    assert torch.equal(tracks[0].boxes, tracks[1].boxes)
    assert torch.equal(tracks[0].boxes[0], boxes[0])
    assert not torch.equal(tracks[0].boxes[1], boxes[0])


def test_follows_a_square_after_adapting_to_it(tiny):
    """Untrained features: the head that 50 steps of SGD fit must do it, on enough channels."""
    tiny["network"] = CandidateNetworkSettings((16, 24, 32), 32, 40, 4.0)
    tiny["tracking"] = TrackerSettings(first=(60, 200), first_scenes=2, frame=(10, 30), every=5, box_regression=False)
    module = RTMDNet(**tiny, adaptation=SGDAdaptation(50, 15, init_lr=3e-3, online_lr=3e-3), drop=0.0).eval()
    images, boxes = video(12, step=4.0)
    found = track(module.tracker(), as_frames(images), boxes[0]).boxes
    still = iou(boxes[:1], boxes)[0]
    assert iou(found[:, None], boxes[:, None])[:, 0, 0].mean() > 0.6
    assert still.mean() < 0.3  # what a tracker that never moves would have


def test_states_do_not_mix(tiny):
    tracker = MetaRTT(**tiny).eval().tracker()
    images, boxes = video(4)
    with torch.no_grad():
        first = tracker.init(images[0], boxes[0])
        kept = first.box.clone(), len(first.positives), {k: v.clone() for k, v in first.head.items()}
        for frame in images[1:]:
            tracker.update(first, frame)
    assert torch.equal(first.box, kept[0])
    assert len(first.positives) == kept[1]
    assert all(torch.equal(first.head[k], kept[2][k]) for k in kept[2])


def test_adapts_every_t_frames_and_when_lost(tiny, monkeypatch):
    module = RTMDNet(**tiny).eval()
    calls = []
    monkeypatch.setattr(module, "adapt_online", lambda i, head, data, p: calls.append(data.positives.shape[1]) or head)
    images, boxes = video(7)
    tracker = module.tracker()
    for value, expected in ((1.0, [3, 6]), (-1.0, [1, 2, 3, 4, 5, 6])):
        calls.clear()
        monkeypatch.setattr(tracker, "_find", lambda s, *a, value=value: (s.box, s.box, value))
        with torch.no_grad():
            state = tracker.init(images[0], boxes[0])
            seen = []
            for t, frame in enumerate(images[1:], 1):
                before = len(calls)
                state, _, _ = tracker.update(state, frame)
                seen += [t] if len(calls) > before else []
        assert seen == expected
    assert set(calls) == {6}  # nothing was remembered after the first frame


def test_the_refined_box_is_the_result_and_does_not_steer_the_search(tiny, monkeypatch):
    images, boxes = video(5)
    monkeypatch.setattr("lightning_fewshot.tracking.candidates.tracker.margin", lambda scores: scores[..., 1].abs() + 1)
    tracker = RTMDNet(**tiny, adaptation=SGDAdaptation(k_init=5)).eval().tracker()
    tracks = []
    for shift in (0.0, 5.0):
        monkeypatch.setattr(
            CandidateTracker, "_refine", lambda self, state, features, chosen, window, by=shift: chosen + by
        )
        torch.manual_seed(0)
        with torch.no_grad():
            state = tracker.init(images[0], boxes[0])
            found = []
            for frame in images[1:]:
                state, box, _ = tracker.update(state, frame)
                found.append(torch.stack((box, state.box)))
        tracks.append(torch.stack(found))
    torch.testing.assert_close(tracks[0][:, 1], tracks[1][:, 1])
    torch.testing.assert_close(tracks[0][:, 0], tracks[0][:, 1])
    assert (tracks[1][:, 0] != tracks[1][:, 1]).any(dim=1).all()


def test_memory_is_bounded(tiny):
    tiny["tracking"] = TrackerSettings(
        candidates=16,
        first=(8, 16),
        first_scenes=1,
        frame=(4, 8),
        positive_memory=5,
        negative_memory=2,
        box_regression=False,
        every=100,
    )
    module = MetaRTT(**tiny).eval()
    images, boxes = video(12)
    tracker = module.tracker()
    tracker._find = lambda s, *a: (s.box, s.box, 1.0)
    with torch.no_grad():
        state = tracker.init(images[0], boxes[0])
        for frame in images[1:]:
            state, _, _ = tracker.update(state, frame)
    assert (len(state.positives), len(state.negatives)) == (5, 2)
    assert state.ridge is None


@pytest.mark.parametrize(
    "box",
    [[0.0, 0.0, 96.0, 96.0], [80.0, -12.0, 120.0, 20.0], [40.0, 40.0, 41.0, 90.0], [-300.0, -300.0, 400.0, 400.0]],
)
@pytest.mark.parametrize("cls", [RTMDNet, MetaRTT])
def test_targets_that_fill_or_leave_the_frame(box, cls, tiny):
    images, _ = video(5)
    found = track(cls(**tiny).eval().tracker(), as_frames(images), torch.tensor(box)).boxes
    assert found.isfinite().all()
    centre = (found[1:, :2] + found[1:, 2:]) / 2
    assert (centre >= 0).all()
    assert (centre <= 96).all()


def test_pruned_state_is_smaller(tiny):
    module = PrunedMetaRTT(**tiny).eval()
    with torch.no_grad():
        for mlp in module.psi.mlp.values():
            mlp[-1].bias[::2] = -5.0
    images, boxes = video(3)
    tracker = module.tracker()
    with torch.no_grad():
        state = tracker.init(images[0], boxes[0])
        assert state.pruned.rate > 0.5
        assert state.network.shared.conv1.out_channels == 1
        assert state.positives[0].shape[1] == state.network.features < module.network.features
        state, box, _ = tracker.update(state, images[1])
    assert box.isfinite().all()


def test_settings_tell_result_files_apart(tiny):
    module = MetaRTT(**tiny)
    first = fingerprint(module, module.tracker())
    assert fingerprint(module, module.tracker()) == first
    module.tracking = replace(module.tracking, candidates=65)
    assert fingerprint(module, module.tracker()) != first
    module.tracking = replace(module.tracking, candidates=64)
    assert fingerprint(module, module.tracker()) == first
    module.inner = replace(module.inner, clip=1.0)
    assert fingerprint(module, module.tracker()) != first


def test_jittered_scenes():
    window = torch.tensor([100.0, 100.0, 200.0, 300.0])
    found = jittered_windows(window, 7, 160, torch.default_generator)
    assert torch.equal(found[0], window)
    sizes = (found[:, 2:] - found[:, :2]) / (window[2:] - window[:2])
    powers = sizes[:, 0].log() / torch.tensor(1.1).log()
    torch.testing.assert_close(powers.round(), torch.tensor([0.0, 1, -1, 2, -2, 1, -1]))
    shift = ((found[:, :2] + found[:, 2:]) / 2 - torch.tensor([150.0, 200.0])).abs()
    assert (shift <= 4 / 160 * torch.tensor([100.0, 200.0]) + 1e-4).all()


def test_found_means_above_the_first_frame_s_threshold(tiny, monkeypatch):
    """With half of the way from the medians of that frame's scores as the threshold, in numpy."""
    tiny["tracking"] = replace(tiny["tracking"], found_share=0.5)
    module = RTMDNet(**tiny).eval()
    seen = {}
    monkeypatch.setattr(module, "adapt_first", lambda head, data: seen.update(head=head, data=data) or head)
    images, boxes = video(3)
    tracker = module.tracker()
    with torch.no_grad():
        state = tracker.init(images[0], boxes[0])
        scores = [score(seen["head"], part)[0].numpy() for part in seen["data"]]
    medians = [np.percentile(s[:, 0] - s[:, 1], 50, method="lower") for s in scores]
    assert state.threshold == pytest.approx(sum(medians) / 2, abs=1e-6)
    for above, found in ((0.01, True), (-0.01, False)):
        monkeypatch.setattr(tracker, "_find", lambda s, *a, above=above: (s.box, s.box, s.threshold + above))
        with torch.no_grad():
            assert tracker.update(state, images[1])[0].found is found


def test_without_a_share_found_means_above_zero(tiny):
    images, boxes = video(1)
    with torch.no_grad():
        assert RTMDNet(**tiny).eval().tracker().init(images[0], boxes[0]).threshold == 0


def test_numbers_are_checked():
    with pytest.raises(ValueError, match=r"tracking\.found_share is 1\.0 but must be above 0 and below 1"):
        TrackerSettings(found_share=1.0)
    with pytest.raises(ValueError, match=r"tracking\.candidates is 3 but must be at least 5"):
        TrackerSettings(candidates=3)
    with pytest.raises(ValueError, match=r"tracking.frame is \(0, 4\)"):
        TrackerSettings(frame=(0, 4))
    with pytest.raises(ValueError, match="regression_areas is"):
        TrackerSettings(regression_areas=(1.5, 2.0))
    with pytest.raises(ValueError, match=r"tracking\.scale is 0\.5 but must be at least 1"):
        TrackerSettings(scale=0.5)
    with pytest.raises(ValueError, match=r"batches\.positives is 0 but must be at least 1"):
        Batches(positives=0)
