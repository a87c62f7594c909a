"""All sets of videos: pairs as section 3.3 has them, clips, whole frames, sequences; and bad input."""

import importlib.util
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser

from datamodules.tracking.base import Target, TrackingData, hold_out
from datamodules.tracking.benchmarks import OTB, UAV123, VOT, TempleColor128
from datamodules.tracking.davis import DAVISVideos
from datamodules.tracking.drawn_videos import DrawnVideos, DrawnVideoSettings
from datamodules.tracking.got10k import GOT10k
from datamodules.tracking.imagenet_vid import ImageNetVID, list_video, read_objects
from datamodules.tracking.patches import TrainingCrops, VideoAugmentation
from datamodules.tracking.still_videos import Still, StillFrames, StillVideos, StillVideoSettings
from datamodules.tracking.training import Clips, Pairs, WholeFrames
from datamodules.tracking.video_file import VideoFile, parse_box
from lightning_fewshot.data import EpisodeCounts
from lightning_fewshot.tracking.frames import ArrayFrames


def load(name):
    path = Path(__file__).parents[2] / f"data/{name}/make.py"
    spec = importlib.util.spec_from_file_location(f"make_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker, photos, tiny, masks = (load(name) for name in ("videos", "photos", "tiny_imagenet", "masks"))
SETS = {
    "drawn": lambda root, **o: DrawnVideos(20, DrawnVideoSettings(8, 96), EpisodeCounts(1000, 10, 3), **o),
    "got10k": lambda root, **o: GOT10k(root, **o),
    "vid": lambda root, **o: ImageNetVID(root, val_share=0.2, **o),
    "stills": lambda root, **o: StillVideos("tiny_imagenet", root, StillVideoSettings(8, 96), **o),
    "otb": lambda root, **o: GOT10k(root, test=OTB(root, max_frames=o.get("max_frames")), **o),
    "davis": lambda root, **o: DAVISVideos(root, val_share=0.4, **o),
}
MOVED = TrainingCrops(shift=8, stretch=0.05)
KINDS = {"pairs": Pairs(crops=MOVED), "clips": Clips(4, MOVED), "frames": WholeFrames(4)}
VARIED = VideoAugmentation(mirror=True, color=True)
every_set = pytest.mark.parametrize("name", list(SETS))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    base = tmp_path_factory.mktemp("videos")
    for make in (maker.make_otb, maker.make_vot, maker.make_templecolor, maker.make_uav123):
        make(base)
    maker.make_got10k(base)
    maker.make_vid(base)
    maker.make_vid(base, 3, part="val")
    masks.make_davis(base)
    tiny.make(base)
    photos.make_coco(base, ["person", "dog", "cat", "car", "bus", "bird", "zebra"], 8)
    return str(base)


def build(root, name, **options):
    data = SETS[name](root, **{"batch_size": 3, "seed": 3, **options})
    data.setup("fit")
    data.setup("test")
    return data


def equal(a, b):
    same = [
        torch.equal(x, y)
        for p, q in ((a.support, b.support), (a.query, b.query))
        for x, y in zip(p.boxes, q.boxes, strict=True)
    ]
    return all(same) and all(torch.equal(x, y) for x, y in zip(a.query.images, b.query.images, strict=True))


@every_set
@pytest.mark.parametrize("kind", list(KINDS))
def test_an_episode_is_a_function_of_seed_and_index(root, name, kind):
    options = {"training": KINDS[kind], "augmentation": VARIED}
    first, again = build(root, name, **options), build(root, name, **options)
    order = [4, 0, 7]
    found = {i: first.episode("train", i) for i in order}
    for i in sorted(order):
        assert equal(found[i], again.episode("train", i))
        assert found[i].protocol == kind
    assert not equal(found[0], found[4])
    assert not equal(found[0], build(root, name, **{**options, "seed": 4}).episode("train", 0))


@every_set
def test_pairs_have_the_papers_sizes_and_the_object_in_the_middle(root, name):
    data = build(root, name)
    episode = data.episode("train", 1)
    assert episode.support.images.shape == (3, 3, 127, 127)
    assert episode.query.images.shape == (3, 3, 255, 255)
    assert episode.support.images.dtype == episode.query.images.dtype == torch.uint8
    assert set(episode.query.labels.tolist()) <= {0, 1}
    for examples, size in ((episode.support, 127), (episode.query, 255)):
        for box in examples.boxes:
            assert box.shape == (1, 4)
            centre = (box[0, :2] + box[0, 2:]) / 2
            torch.testing.assert_close(centre, torch.full((2,), size / 2), atol=0.01, rtol=0)
            sides = box[0, 2:] - box[0, :2]  # w, h of the exemplar: sqrt((w + p)(h + p)) pixels become 127
            margin = sides.sum() / 2
            assert ((sides + margin).prod().sqrt()).item() == pytest.approx(127, abs=0.1)


def test_the_object_is_in_the_box(root):
    """In the tiny videos it is red: the box of each crop frames the red square."""
    pairs = Pairs(crops=TrainingCrops(shift=20, stretch=0.05))
    data = build(root, "got10k", training=pairs, augmentation=VideoAugmentation(mirror=True), batch_size=8)
    episode = data.episode("train", 0)
    for examples in (episode.support, episode.query):
        for image, box in zip(examples.images, examples.boxes, strict=True):
            seen = ((image[0] > 150) & (image[1] < 100)).nonzero()
            low, high = seen.amin(0), seen.amax(0) + 1
            found = torch.tensor([low[1], low[0], high[1], high[0]]).float()
            inside = box[0].clamp(0, image.shape[2])
            assert (found - inside).abs().max() <= 5  # a pixel of the frame is 5 pixels here


class Numbered(TrackingData):
    """Videos whose every frame has its own grey: 64 v + t; the object is there in frames 2 to 59."""

    def count(self, split):
        return 3

    def target(self, split, video, rng=None):
        images = np.stack([np.full((40, 40, 3), 64 * video + t, np.uint8) for t in range(64)])
        boxes = torch.tensor([10.0, 10, 30, 30]).repeat(64, 1)
        boxes[:2], boxes[60:] = torch.nan, torch.nan
        return Target(ArrayFrames(images, f"v{video}"), boxes)


def greys(images):
    values = images[:, 0, images.shape[2] // 2, images.shape[3] // 2].tolist()
    return [(v // 64, v % 64) for v in values]


def test_three_in_four_pairs_show_one_object_within_the_gap():
    data = Numbered(Pairs(max_gap=10), batch_size=40)
    labels, gaps = [], []
    for index in range(25):
        episode = data.episode("train", index)
        rows = zip(
            greys(episode.support.images), greys(episode.query.images), episode.query.labels.tolist(), strict=True
        )
        for (video, t), (other, u), label in rows:
            assert (video == other) == bool(label)
            assert 2 <= t < 60
            assert 2 <= u < 60
            labels.append(label)
            gaps += [abs(t - u)] if label else []
    assert np.mean(labels) == pytest.approx(0.75, abs=0.04)
    assert max(gaps) == 10
    assert min(gaps) == 1
    assert episode.support.query_index.tolist() == list(range(40))


def test_any_two_frames_of_a_video_make_a_pair_at_no_cost():
    """A gap of a million frames takes the time of the video's own frames."""
    episodes = [Numbered(Pairs(max_gap=gap, positives=1.0), batch_size=20).episode("train", 1) for gap in (64, 10**9)]
    assert equal(*episodes)
    gaps = [abs(t - u) for (_, t), (_, u) in zip(*(greys(e.images) for e in episodes[0][:2]), strict=True)]
    assert max(gaps) > 30


def test_clips_show_one_object_in_order():
    data = Numbered(Clips(6), batch_size=5)
    episode = data.episode("train", 0)
    assert episode.support.images.shape == (5, 3, 127, 127)
    assert episode.query.images.shape == (30, 3, 255, 255)
    assert episode.query.labels.tolist() == [1] * 30
    found = greys(episode.query.images)
    for b, (video, t) in enumerate(greys(episode.support.images)):
        part = found[6 * b : 6 * b + 6]
        assert {v for v, _ in part} == {video}
        times = [u for _, u in part]
        assert times == sorted(set(times))
        assert t not in times


def test_whole_frames_come_in_order_and_from_different_videos():
    data = Numbered(WholeFrames(6), batch_size=3)
    episode = data.episode("train", 0)
    first = greys(torch.stack(episode.support.images))
    rest = greys(torch.stack(episode.query.images))
    assert len({video for video, _ in first}) == 3, "hard negatives come from other videos"
    for b, (video, t) in enumerate(first):
        part = rest[5 * b : 5 * b + 5]
        assert {v for v, _ in part} == {video}
        assert [t, *(u for _, u in part)] == sorted({t, *(u for _, u in part)})
    assert episode.query.boxes[0].tolist() == [[10, 10, 30, 30]]


def test_whole_frames_can_be_reduced():
    frame = Numbered(WholeFrames(max_side=20), batch_size=1).episode("train", 0)
    assert frame.support.images[0].shape == (3, 20, 20)
    assert frame.support.boxes[0].tolist() == [[5, 5, 15, 15]]


@every_set
def test_sequences_are_lazy_and_carry_their_truth(root, name):
    data = build(root, name, max_frames=6)
    assert data.counts["test"] == (data.test_set or data).count("test")
    episode = data.episode("test", 0)
    assert episode.protocol == "one_pass"
    assert len(episode.support.images) == 1
    assert torch.equal(episode.support.images[0], episode.query.images[0])
    assert 1 <= len(episode.query.images) <= 6
    assert episode.query.boxes[0].shape[1] == 4
    assert torch.equal(episode.support.boxes[0], episode.query.boxes[0][:1])
    copy = pickle.loads(pickle.dumps(episode))
    assert torch.equal(copy.query.images[0], episode.query.images[0])
    names = [data.episode("test", i).query.names[0] for i in range(data.counts["test"])]
    assert len(set(names)) == len(names), "result files must not collide"


def test_splits_share_no_video(root):
    for data in (GOT10k(root, val_share=0.3), ImageNetVID(root, val_share=0.4), DAVISVideos(root, 0.4)):
        assert not set(data.videos["train"]) & set(data.videos["val"])
        assert data.videos["val"]
    stills = StillVideos("tiny_imagenet", root).stills
    assert not {s.path for s in stills["train"]} & {s.path for s in stills["val"]}


def test_workers_and_the_process_draw_the_same(root):
    alone, helped = build(root, "drawn", num_workers=0), build(root, "drawn", num_workers=1)
    for data in (alone, helped):
        data.counts["train"] = 2
    for a, b in zip(alone.train_dataloader(), helped.train_dataloader(), strict=True):
        assert equal(a, b)
    for a, b in zip(alone.test_dataloader(), helped.test_dataloader(), strict=True):
        assert torch.equal(a.query.images[3], b.query.images[3])


def test_an_absent_object_is_never_trained_on(root):
    data = build(root, "got10k")
    target = data.target("train", 0)
    assert target.box(3).isnan().all()
    assert target.box(2).isfinite().all()
    for index in range(10):
        for box in data.episode("train", index).query.boxes:
            assert box.isfinite().all()


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


@pytest.mark.parametrize(("cls", "count"), [(TempleColor128, 2), (UAV123, 3), (OTB, 7)])
def test_benchmarks(root, cls, count):
    data = cls(root)
    data.setup("test")
    assert data.counts["test"] == count
    assert data.protocol("test")["benchmark"] == cls.benchmark
    with pytest.raises(ValueError, match=f"has no training video; .* --data.test datamodules.{cls.__name__}"):
        data.setup("fit")


def test_a_test_set_stands_in_for_the_test_videos_alone(root):
    """In its own settings; the other set's limits are those of its validation."""
    counts = EpisodeCounts(10, 1, 1)
    data = GOT10k(root, test=OTB(root, max_frames=5), episodes=counts, max_frames=7, batch_size=2)
    for stage in ("fit", "test", "predict"):
        data.setup(stage)
    assert data.counts == {"train": 10, "val": 1, "test": 7, "predict": 1}
    assert len(data.episode("val", 0).query.images) == 7
    tested = data.episode("test", 1)
    assert tested.query.names == OTB(root).episode("test", 1).query.names == data.episode("predict", 1).query.names
    assert len(tested.query.images) == 5
    assert tested.index == 1
    protocol = data.protocol("test")
    assert (protocol["benchmark"], protocol["test_set"], protocol["max_frames"]) == ("otb", "OTB", 5)
    assert "benchmark" not in data.protocol("val")


def test_an_overlay_gives_a_test_set_and_leaves_the_training_data():
    folder = Path(__file__).parents[3] / "experiments"
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    for part in ("model", "trainer", "checkpoint"):
        parser.add_argument(f"--{part}", type=dict)
    parser.add_subclass_arguments(TrackingData, "data")
    configs = [f"--config={folder / name}" for name in ("learnet_tracker.yaml", "data/otb.yaml", "data/otb.tiny.yaml")]
    data = parser.instantiate_classes(parser.parse_args([*configs, "--data.test.sequences=[Deer]"])).data
    assert isinstance(data, DrawnVideos)
    assert data.training.crops == TrainingCrops(shift=12, stretch=0.05)
    assert isinstance(data.test_set, OTB)
    assert (data.test_set.names, data.test_set.max_frames) == (["Deer"], 12)


def test_vot_is_supervised_or_one_pass(root):
    supervised, one_pass = VOT(root=root), VOT("one-pass", root=root)
    assert supervised.target("test", 0).boxes().shape == (20, 8)
    assert one_pass.target("test", 0).boxes().shape == (20, 4)
    assert supervised.protocol("test")["evaluation"] == "supervised"
    assert supervised.episode("test", 0).protocol == "supervised"
    assert one_pass.episode("test", 0).protocol == "one_pass"
    with pytest.raises(ValueError, match="evaluation is 'otb' but must be"):
        VOT("otb")


def test_vot_opens_a_training_video_without_reading_all_its_boxes(root, monkeypatch):
    monkeypatch.setattr(Target, "boxes", lambda self: pytest.fail("all boxes were read"))
    data = GOT10k(root, test=VOT("one-pass", root=root))
    assert data.target("train", 0, np.random.default_rng(0)) is not None


def test_sequences_by_name(root):
    data = OTB(root, ["Deer", "Jogging.2"])
    data.setup("test")
    assert data.counts["test"] == 2
    with pytest.raises(ValueError, match="sequences has 'Dear' but otb has Couple, David, Deer"):
        OTB(root, ["Dear"]).setup("test")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Numbered(batch_size=0), "batch_size is 0 but must be at least 1"),
        (lambda: Numbered(max_frames=0), "max_frames is 0 but must be at least 1"),
        (lambda: Clips(0), "frames is 0 but must be at least 1"),
        (lambda: WholeFrames(0), "frames is 0 but must be at least 1"),
        (lambda: WholeFrames(max_side=0), "max_side is 0 but must be at least 1"),
        (lambda: Pairs(positives=1.5), r"positives is 1.5 but must be in \[0, 1\]"),
        (lambda: Pairs(max_gap=0), "max_gap is 0 but must be at least 1"),
        (lambda: TrainingCrops(exemplar=0), "exemplar is 0 but must be at least 1 pixel"),
        (lambda: TrainingCrops(shift=-1), "shift is -1 but must be at least 0"),
        (lambda: TrainingCrops(stretch=1), "stretch is 1 but must be at least 0 and below 1"),
        (lambda: hold_out([], 1.5), r"val_share is 1.5 but must be in \[0, 1\]"),
        (lambda: DrawnVideoSettings(n_frames=0), "videos.n_frames is 0 but must be at least 1"),
        (lambda: DrawnVideoSettings(speed=0), "videos.speed is 0 but must be positive"),
        (lambda: DrawnVideos(0), "n_videos is 0 but must be at least 1"),
        (
            lambda: DrawnVideos(episodes=EpisodeCounts(test=None)),
            "episodes.test is null but the drawn world has no end",
        ),
        (lambda: StillVideoSettings(wander=0.6), r"videos.wander is 0.6 but must be in \[0, 0.5\]"),
        (lambda: StillVideoSettings(resize=0.5), "videos.resize is 0.5 but must be at least 1"),
    ],
)
def test_numbers_out_of_range(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_videos_that_are_too_short_for_a_clip():
    with pytest.raises(ValueError, match="none of 100 training videos has 80 frames with the object in sight"):
        Numbered(WholeFrames(80)).episode("train", 0)


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


def test_a_million_frames_cost_no_memory():
    """Twenty thousand drawn videos of a thousand frames each: opening one draws nothing."""
    import tracemalloc

    data = DrawnVideos(20_000, DrawnVideoSettings(n_frames=1000))
    tracemalloc.start()
    data.setup("fit")
    _ = [data.target("train", i) for i in range(0, 20_000, 100)]
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 2e6


@pytest.mark.real_data
@pytest.mark.parametrize(("folder", "counts"), [("videos", (16, 2)), ("videos-2", (5, 1))])
def test_real_videos_in_the_got10k_layout(folder, counts):
    data = GOT10k(os.environ["FEWSHOT_DATA"], folder, batch_size=2)
    data.setup("fit")
    assert (data.count("train"), data.count("val")) == counts
    assert data.episode("train", 0).query.images.shape == (2, 3, 255, 255)


@pytest.mark.real_data
@pytest.mark.parametrize("photos", ["tiny_imagenet", "yolo"])
def test_real_photos_as_videos(photos):
    data = StillVideos(photos, os.environ["FEWSHOT_DATA"], training=WholeFrames(), batch_size=2)
    data.setup("fit")
    assert data.count("train") > 1000
    assert len(data.episode("train", 0).query.images) == 10


@pytest.mark.real_data
def test_real_davis():
    root = os.environ["FEWSHOT_DATA"]
    data = DAVISVideos(root, val_share=0.3, batch_size=2)
    data.setup("fit")
    assert (data.count("train"), data.count("val")) == (10, 4)
    assert data.episode("train", 0).query.images.shape == (2, 3, 255, 255)
    benchmark = DAVISVideos(root)
    benchmark.setup("test")
    assert benchmark.counts["test"] == 14
    episodes = [benchmark.episode("test", i) for i in range(14)]
    assert sum(len(e.query.images) for e in episodes) == sum(len(e.query.boxes[0]) for e in episodes) == 910
    assert episodes[0].support.boxes[0].tolist() == [[62, 36, 248, 188]]
