"""Videos of one layout each: ImageNet VID, pseudo-videos, one's own; and what is missing."""

import numpy as np
import pytest
import torch
from video_sets import build, maker

from datamodules.tracking.benchmarks import OTB, UAV123
from datamodules.tracking.got10k import GOT10k
from datamodules.tracking.imagenet_vid import ImageNetVID, list_video, read_objects
from datamodules.tracking.still_videos import Still, StillFrames, StillVideos, StillVideoSettings
from datamodules.tracking.training import WholeFrames
from datamodules.tracking.video_file import VideoFile, parse_box


def test_a_missing_frame_is_named(tmp_path):
    maker.make_got10k(tmp_path, 2)
    (tmp_path / "GOT-10k/train/GOT-10k_Train_000001/00000005.jpg").unlink()
    data = GOT10k(str(tmp_path), val_share=0.0, training=WholeFrames(3), batch_size=2)
    with pytest.raises(FileNotFoundError, match="frame 5 of sequence GOT-10k_Train_000001 is missing"):
        data.episode("train", 0)


def test_vid_reads_the_xml_of_drawn_frames_only(root):
    data = build(root, "vid")
    read_objects.cache_clear()
    data.episode("train", 0)
    assert read_objects.cache_info().misses < 3 * 2 * 8
    target = data.target("test", 0)
    assert target.box(0).isfinite().all()
    assert target.frames.name.count(".") == 1


def test_vid_boxes_include_the_last_pixel(root):
    data = build(root, "vid")
    first = data.videos["train"][0]
    _, notes = list_video(data.folder, first)
    assert read_objects(notes[0])[0] == (10, 12, 22, 24)
    assert set(read_objects(notes[1])) == {0, 1}


@pytest.mark.parametrize(("parts", "count"), [("train", 5), ("val", 3), ("both", 8)])
def test_vid_trains_on_either_part(root, parts, count):
    """MLT trains its meta-learner on the validation videos (section 3.2.2)."""
    data = ImageNetVID(root, parts, val_share=0.0, batch_size=2)
    data.setup("fit")
    assert data.count("train") == count
    assert data.episode("train", 0).query.images.shape == (2, 3, 255, 255)


def test_vid_that_is_truncated(root, tmp_path):
    note = tmp_path / "0.xml"
    note.write_text("<annotation><object><trackid>0</trackid><bndbox>")
    with pytest.raises(ValueError, match=r"0\.xml is truncated"):
        read_objects(note)
    note.write_text("<annotation><object><trackid>0</trackid></object></annotation>")
    with pytest.raises(ValueError, match="without trackid or box"):
        read_objects(note)


def test_pseudo_videos_show_the_object_in_its_box(tmp_path):
    import cv2

    photo = np.zeros((64, 64, 3), np.uint8)
    photo[20:50, 16:40] = (0, 0, 255)
    cv2.imwrite(str(tmp_path / "a.png"), photo)
    cv2.imwrite(str(tmp_path / "b.png"), np.full((50, 70, 3), 90, np.uint8))
    settings = StillVideoSettings(image_size=128, relight=0.0, target_size=0.3)
    still = Still(str(tmp_path / "a.png"), (16.0, 20.0, 40.0, 50.0))
    frames = StillFrames(still, str(tmp_path / "b.png"), (0, "train", 5), settings)
    boxes = frames.boxes()
    for t in range(6):
        red = ((frames[t][0] > 150) & (frames[t][1] < 60)).nonzero()
        low, high = red.amin(0), red.amax(0) + 1
        found = torch.tensor([low[1], low[0], high[1], high[0]]).float()
        assert (found - boxes[t].clamp(0, 128)).abs().max() <= 2
    centre = (boxes[0, :2] + boxes[0, 2:]) / 2
    torch.testing.assert_close(centre, torch.full((2,), 64.0))
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt() / 128
    assert (sizes > 0.3 / 1.41).all()
    assert (sizes < 0.3 * 1.41).all()
    assert len(torch.unique(sizes)) == 6


def test_pseudo_videos_of_coco(root):
    data = StillVideos("coco", root, StillVideoSettings(image_size=64), batch_size=2)
    data.setup("fit")
    assert data.episode("train", 0).query.images.shape == (2, 3, 255, 255)


def test_data_that_is_not_there_says_what_to_download(tmp_path, monkeypatch):
    monkeypatch.delenv("FEWSHOT_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"Download the full data .* from http://got-10k"):
        GOT10k(str(tmp_path)).setup("fit")
    with pytest.raises(FileNotFoundError, match=r"Download ILSVRC2015_VID\.tar\.gz"):
        ImageNetVID(str(tmp_path)).setup("fit")
    with pytest.raises(FileNotFoundError, match="there is no otb at"):
        OTB(str(tmp_path)).setup("test")
    with pytest.raises(FileNotFoundError, match="no root is given for uav123: set FEWSHOT_DATA"):
        UAV123().setup("test")


def test_ones_own_video(root, tmp_path):
    clip = maker.make_clip(tmp_path / "clip.mp4")
    data = VideoFile(str(clip), "10,12,12,12")
    data.setup("predict")
    episode = data.episode("predict", 0)
    assert episode.query.boxes is None
    assert episode.support.boxes[0].tolist() == [[10, 12, 22, 24]]
    assert len(episode.query.images) == 12
    with pytest.raises(ValueError, match="there is nothing to compare with"):
        data.setup("test")
    with pytest.raises(ValueError, match="no video is given"):
        VideoFile().setup("predict")
    with pytest.raises(ValueError, match="box and truth are both given"):
        VideoFile(str(clip), "1,2,3,4", "x.txt")
    with pytest.raises(ValueError, match="must be four numbers"):
        parse_box("a,b,c,d")
