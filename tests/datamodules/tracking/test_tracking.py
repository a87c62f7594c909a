"""All sets of videos: episodes, pairs as section 3.3 has them, and sequences."""

import pickle

import pytest
import torch
from video_sets import build, equal, every_set

from datamodules.tracking.davis import DAVISVideos
from datamodules.tracking.drawn_videos import DrawnVideos, DrawnVideoSettings
from datamodules.tracking.got10k import GOT10k
from datamodules.tracking.imagenet_vid import ImageNetVID
from datamodules.tracking.patches import TrainingCrops, VideoAugmentation
from datamodules.tracking.still_videos import StillVideos
from datamodules.tracking.training import Clips, Pairs, WholeFrames

MOVED = TrainingCrops(shift=8, stretch=0.05)
KINDS = {"pairs": Pairs(crops=MOVED), "clips": Clips(4, MOVED), "frames": WholeFrames(4)}
VARIED = VideoAugmentation(mirror=True, color=True)


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
