"""The test sets on disk and their quirks, on tiny copies of the real layouts."""

import shutil

import numpy as np
import pytest
import torch

from lightning_fewshot.boxes import xywh_to_xyxy
from lightning_fewshot.tracking.benchmarks import OTB_FIRST, UAV123_PARTS, read_benchmark
from lightning_fewshot.tracking.large_sets import got10k_sequence
from lightning_fewshot.tracking.sequence import plain_name


@pytest.fixture(scope="module")
def root(maker, tmp_path_factory):
    base = tmp_path_factory.mktemp("benchmarks")
    for name in ("otb", "vot", "templecolor", "uav123", "got10k", "lasot", "trackingnet", "nfs"):
        getattr(maker, f"make_{name}")(base)
    return base


def sequences(root, name):
    return {s.name: s for s in read_benchmark(name, root)}


def red_box(frame):
    """Find the red square."""
    seen = ((frame[0] > 150) & (frame[1] < 100)).nonzero()
    low, high = seen.amin(0), seen.amax(0) + 1
    return torch.tensor([low[1], low[0], high[1], high[0]]).float()


COUNTS = {"otb": 7, "vot": 2, "templecolor": 2, "uav123": 3, "got10k": 6, "lasot": 2, "trackingnet": 1, "nfs": 1}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_every_truth_lies_on_its_object(root, name, count):
    """The square is where the row says, in the image the row belongs to: start frames and origins are right."""
    found = read_benchmark(name, root)
    assert len(found) == count
    for sequence in found:
        frames, boxes = sequence.frames(), sequence.boxes()
        if boxes.shape[1] == 8:
            boxes = boxes[:, [0, 1, 4, 5]]
        if sequence.name in ("Jogging.2", "Human4"):  # the tiny videos show the first object only
            boxes = boxes - 5
        assert len(frames) == len(boxes) == len(sequence.truth)
        for t in range(0, len(frames), max(1, len(frames) // 4)):
            if boxes[t].isfinite().all():
                assert (red_box(frames[t]) - boxes[t]).abs().max() <= 1, (sequence.name, t)


def test_otb_has_its_quirks(root):
    found = sequences(root, "otb")
    assert set(found) == {"Deer", "Couple", "Football1", "Jogging.1", "Jogging.2", "Human4", "David"}
    assert len(found["Football1"].frames()) == 9, "fewer boxes than images"
    assert found["David"].frames().paths[0].endswith("0300.jpg"), "the truth starts later than the images"
    assert found["Jogging.2"].truth[0].tolist() == [16, 18, 12, 12]
    assert found["Human4"].truth[0].tolist() == [16, 18, 12, 12], "the second truth counts"
    assert found["Deer"].attributes == ("IV",)
    assert found["Jogging.1"].attributes == ("SV",)
    assert OTB_FIRST["David"] == 300


def test_parts_of_uav123(root):
    found = sequences(root, "uav123")
    assert found["truck4_2"].frames().paths[0].endswith("truck4/000577.jpg")
    assert found["truck4_2"].boxes()[2].isnan().all(), "an absent object"
    assert sum(map(len, UAV123_PARTS.values())) == 51


def test_a_part_of_templecolor_starts_later(root):
    assert sequences(root, "templecolor")["Kite_ce"].frames().paths[0].endswith("0003.jpg")


def test_an_absent_object_of_got10k_has_no_truth(root, tmp_path):
    folder = tmp_path / "GOT-10k/train/GOT-10k_Train_000001"
    shutil.copytree(root / "GOT-10k", tmp_path / "GOT-10k")
    before = got10k_sequence(folder).truth
    marks = [1 if t in (2, 5) else 0 for t in range(len(before))]
    (folder / "absence.label").write_text("\n".join(map(str, marks)))
    lines = (folder / "groundtruth.txt").read_text().splitlines()
    lines[6] = "3,4,0,7"
    (folder / "groundtruth.txt").write_text("\n".join(lines))
    absent = sequences(tmp_path, "got10k")["GOT-10k_Train_000001"].truth.isnan().all(1)
    assert absent.nonzero()[:, 0].tolist() == [2, 5, 6]


def test_boxes_count_from_the_edge_of_the_first_pixel(root):
    deer = sequences(root, "otb")["Deer"]
    expected = xywh_to_xyxy(deer.truth - torch.tensor([1, 1, 0, 0])).float()
    assert torch.equal(deer.boxes(), expected)


@pytest.mark.parametrize("missing", ["0004.jpg", "0010.jpg"])
def test_a_missing_frame_is_named(root, tmp_path, missing):
    """Without the check, every box behind the gap would belong to the wrong image."""
    shutil.copytree(root / "OTB", tmp_path / "OTB")
    (tmp_path / "OTB/Deer/img" / missing).unlink()
    number = int(missing[:4])
    with pytest.raises(FileNotFoundError, match=f"frame {number} of sequence Deer is missing"):
        sequences(tmp_path, "otb")["Deer"].frames()


def test_no_benchmark_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no otb at .*groundtruth_rect"):
        read_benchmark("otb", tmp_path)
    with pytest.raises(ValueError, match="benchmark is 'obt' but must be one of otb"):
        read_benchmark("obt", tmp_path)


@pytest.mark.parametrize(("name", "plain"), [("Jogging-1", "jogging.1"), ("Human4_2", "human4"), ("human4", "human4")])
def test_names_of_results_are_found_however_they_are_written(name, plain):
    assert plain_name(name) == plain


@pytest.mark.real_data
def test_real_sequences():
    import os

    root = os.environ["FEWSHOT_DATA"]
    otb, vot = sequences(root, "otb"), sequences(root, "vot")
    assert len(otb) == 13
    assert {n: len(otb[n].frames()) for n in ("Diving", "Football1", "Jogging.2")} == {
        "Diving": 215,
        "Football1": 74,
        "Jogging.2": 307,
    }
    assert vot["bag"].boxes().shape == (196, 8)
    assert np.isclose(vot["bag"].boxes()[0, 0].item(), 291.827, atol=1e-3)


def test_lasot_leaves_out_what_cannot_be_seen_and_takes_its_test_list(root, tmp_path):
    found = sequences(root, "lasot")
    assert found["cat-1"].truth.isnan().any(1).nonzero()[:, 0].tolist() == [2, 4]
    assert not found["dog-3"].truth.isnan().any()
    shutil.copytree(root / "LaSOT", tmp_path / "LaSOT")
    (tmp_path / "LaSOT/testing_set.txt").write_text("dog-3\r\n")
    assert list(sequences(tmp_path, "lasot")) == ["dog-3"]


def test_nfs_takes_every_eighth_line_where_the_truth_is_at_240_frames_a_second(root, maker):
    assert sequences(root, "nfs")["ball"].truth.tolist() == maker.boxes(8).tolist()


def test_trackingnets_test_videos_have_no_truth_to_compare_with(root):
    assert list(sequences(root, "trackingnet")) == ["abc_0"]


def test_a_list_cannot_lead_out_of_its_folder(tmp_path):
    (tmp_path / "VOT").mkdir()
    for name in ("../secret", "/etc"):
        (tmp_path / "VOT/list.txt").write_text(f"\n{name}\n")
        with pytest.raises(ValueError, match=r"list\.txt, line 2: .* leads out of"):
            read_benchmark("vot", tmp_path)


def test_litter_of_an_operating_system_is_no_frame(root, tmp_path):
    shutil.copytree(root / "OTB/Deer", tmp_path / "OTB/Deer")
    (tmp_path / "OTB/Deer/img/._0001.jpg").write_bytes(b"\0\5\26\7 Mac OS X")
    assert len(sequences(tmp_path, "otb")["Deer"].frames()) == 10
