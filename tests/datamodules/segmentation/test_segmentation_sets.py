"""All data sets of photos with masks: the same properties for each layout, and what is wrong with bad input."""

import importlib.util
import inspect
import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.images.augmentation import random_part
from datamodules.images.mismatched_support import MismatchedSupport
from datamodules.segmentation import masked_photo
from datamodules.segmentation.camvid import CamVid
from datamodules.segmentation.coco20i import Coco20i
from datamodules.segmentation.coco_panoptic import CocoPanoptic
from datamodules.segmentation.entries import EntrySampler
from datamodules.segmentation.folder_masks import FolderMasks
from datamodules.segmentation.fss1000 import FSS1000
from datamodules.segmentation.pascal5i import NAMES, Pascal5i, read_entries
from datamodules.segmentation.pets import OxfordPets
from datamodules.segmentation.settings import FoldSplits, MaskedImages, MaskRules
from lightning_fewshot.data import EpisodeCounts
from lightning_fewshot.images import read_mask
from lightning_fewshot.sampling import write_episodes

spec = importlib.util.spec_from_file_location("make_masks", Path(__file__).parents[2] / "data/masks/make.py")
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)

SETS = {
    "pascal5i": (Pascal5i, maker.make_pascal5i, {}),
    "voc_sbd": (Pascal5i, maker.make_voc_sbd, {"min_pixels": 100}),
    "camvid": (CamVid, maker.make_camvid, {"min_pixels": 100}),
    "pets": (OxfordPets, maker.make_pets, {}),
    "fss": (FSS1000, maker.make_fss, {}),
    "coco20i": (Coco20i, maker.make_coco20i, {"min_pixels": 100}),
    "panoptic": (CocoPanoptic, maker.make_panoptic, {"min_pixels": 100}),
    "folder": (FolderMasks, maker.make_folder_masks, {"novel_classes": ["cup"], "min_pixels": 100}),
}
every_set = pytest.mark.parametrize("name", list(SETS))


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp(name)) for name, (_, make, _) in SETS.items()}


def build(roots, name, **options):
    made, _, defaults = SETS[name]
    options = {"batch_size": 3, "color": False, "mirror": False, "size": None, "seed": 3, **defaults, **options}
    return made(str(roots[name]), **grouped(made, options))


def grouped(made, options):
    """Put options into the settings groups that have them; other fields keep the class's own defaults."""
    options = dict(options)
    for key, group in {"splits": FoldSplits, "images": MaskedImages, "rules": MaskRules}.items():
        known = inspect.signature(made).parameters.get(key)
        chosen = {f.name: options.pop(f.name) for f in fields(group) if f.name in options}
        options[key] = replace(group() if known is None else known.default, **chosen)
    return options


def equal(a, b):
    parts = [(a.support, b.support), (a.query, b.query)]
    same = [p.names == q.names for p, q in parts]
    same += [torch.equal(x, y) for p, q in parts for x, y in zip(p.images, q.images, strict=True)]
    same += [torch.equal(x, y) for p, q in parts for x, y in zip(p.class_masks, q.class_masks, strict=True)]
    return all(same)


def grey_of(data, episode, c):
    """Give the brightness that the makers draw a class with."""
    name = episode.classes[c]
    if isinstance(data, OxfordPets):
        order = [b.replace("_", " ") for b in ("Abyssinian", "Bengal", "american_bulldog", "pug", "Sphynx")]
        return 255 - maker.STEP * order.index(name)
    names = sorted(data.all_names()) if isinstance(data, FSS1000) else list(data.all_names())
    return 255 - maker.STEP * names.index(name)


@every_set
def test_masks_are_where_the_objects_are_drawn(roots, name):
    data = build(roots, name)
    for split in ("train", "test"):
        episode = data.episode(split, 1)
        for part in (episode.support, episode.query):
            for image, mask, label in zip(part.images, part.class_masks, part.labels, strict=True):
                grey = image.float().mean(0)
                drawn = (grey - grey_of(data, episode, int(label))).abs() < maker.STEP / 2
                inner = torch.nn.functional.max_pool2d(drawn[None].float(), 3, 1, 1)[0] > 0  # JPEG rings at edges
                found = mask == int(label) + 1
                assert found.any()
                assert (found & ~inner).sum() <= 0.1 * found.sum()
                assert (drawn & ~found & (mask != 255)).sum() <= 0.1 * found.sum()


@every_set
def test_an_episode_is_a_function_of_seed_split_and_index(roots, name):
    for split in ("train", "test"):
        first, again = (build(roots, name, color=True, mirror=True, size=32) for _ in range(2))
        again.episode(split, 1)
        assert equal(first.episode(split, 7), again.episode(split, 7))
        other = [build(roots, name, color=True, size=32, seed=4).episode(split, i) for i in (6, 7)]
        assert not all(equal(first.episode(split, i), episode) for i, episode in zip((6, 7), other, strict=True))


@every_set
def test_classes_are_disjoint_and_no_training_photo_is_tested(roots, name):
    data = build(roots, name)
    assert not set(data.catalog.split_classes["train"]) & set(data.catalog.split_classes["test"])
    held_out = any(p.evaluation_only for p in data.catalog.photos.values())
    for i in range(12):
        episode = data.episode("test", i)
        names = (*episode.support.names, *episode.query.names)
        assert len(set(names)) == len(names) == 2
        assert not set(names) & set(data.training_names)
        assert not held_out or all(data.catalog.photos[n].evaluation_only for n in names)
        assert [data.catalog.split_classes["test"][c] for c in episode.class_ids] == list(episode.classes)
        assert all(episode.classes[0] in data.catalog.photos[n].classes for n in names)


@every_set
def test_a_training_pair_shows_its_class_twice_and_novel_classes_are_background(roots, name):
    data = build(roots, name, train_shots=2)
    for i in range(4):
        episode = data.episode("train", i)
        assert len(episode.support.names) == 2 * len(episode.query.names)
        assert not set(episode.classes) & set(data.catalog.split_classes["test"])
        assert episode.class_ids == tuple(data.class_names().index(c) for c in episode.classes)
        for j, label in enumerate(episode.query.labels.tolist()):
            assert (episode.query.class_masks[j] == label + 1).any()
            for k in (2 * j, 2 * j + 1):
                assert episode.support.labels[k] == label
                assert (episode.support.class_masks[k] == label + 1).any()
                assert episode.support.names[k] != episode.query.names[j]
        values = set(
            torch.cat([m.flatten() for m in (*episode.query.class_masks, *episode.support.class_masks)]).tolist()
        )
        assert values <= {*range(len(episode.classes) + 1)}


@every_set
def test_training_visits_every_photo_once_in_a_pass(roots, name):
    data = build(roots, name, batch_size=1)
    total = len(data.pair_names)
    assert total == len(data.training_names)
    seen = sorted(data.episode("train", i).query.names[0] for i in range(total))
    assert seen == sorted(data.training_names)


@pytest.mark.parametrize("name", ["camvid", "panoptic"])
def test_untrained_classes_may_be_void_in_training(roots, name):
    plain, void = build(roots, name), build(roots, name, untrained="void")
    novel = [1 + list(plain.all_names()).index(c) for c in plain.catalog.split_classes["test"]]
    left_out = 0
    for i in range(len(plain.pair_names)):
        a, b = plain.episode("train", i), void.episode("train", i)
        for mask, own, photo in zip(a.query.class_masks, b.query.class_masks, a.query.names, strict=True):
            is_novel = torch.from_numpy(np.isin(plain.read_mask(plain.catalog.photos[photo]), novel))
            assert (mask[is_novel] == 0).all()
            assert torch.equal(own, mask.masked_fill(is_novel, 255))
            left_out += int(is_novel.sum())
    assert left_out
    assert equal(plain.episode("test", 0), void.episode("test", 0))


def test_a_random_part_is_as_large_as_asked_and_shows_the_class_about_as_much():
    rng, labels = np.random.default_rng(0), np.zeros((40, 60), np.int16)
    labels[5:15, 40:60] = 3
    image = np.repeat(np.arange(2400).reshape(40, 60, 1), 3, 2)
    sizes = []
    for _ in range(200):
        part, found = random_part(image, labels, 3, 0.5, rng)
        assert part.shape == (*found.shape, 3)
        assert np.array_equal(found, labels.reshape(-1)[part[..., 0]])  # image and labels are cut alike
        assert 2 * (found == 3).mean() >= (labels == 3).mean()
        sizes.append(found.shape[0])
    assert min(sizes) >= 20
    assert len(set(sizes)) > 10
    whole = random_part(image, np.zeros_like(labels), 3, 0.5, rng)[1]
    assert whole.shape == labels.shape  # no part shows the class


def test_cropped_pairs_show_their_class_and_come_again(roots):
    data, again = (build(roots, "panoptic", size=48, crop=0.5) for _ in range(2))
    for i in range(4):
        episode = data.episode("train", i)
        assert equal(episode, again.episode("train", i))
        for part in (episode.query, episode.support):
            assert part.images.shape[1:] == (3, 48, 48)
            assert all((m == 1 + c).any() for m, c in zip(part.class_masks, part.labels, strict=True))
    assert not equal(data.episode("train", 0), build(roots, "panoptic", size=48).episode("train", 0))


def test_scaled_photos_are_decoded_once_while_there_is_room(roots, monkeypatch):
    decoded, read = [], masked_photo.read_image
    monkeypatch.setattr(masked_photo, "read_image", lambda path: decoded.append(path) or read(path))
    options = {"size": 48, "mirror": True, "color": True}
    data = build(roots, "pascal5i", **options)
    first = [data.episode("train", i) for i in range(8)]
    assert len(decoded) == len(set(decoded))
    monkeypatch.setattr(masked_photo, "KEPT", 0)
    decoded.clear()
    unkept = build(roots, "pascal5i", **options)
    assert all(equal(a, unkept.episode("train", i)) for i, a in enumerate(first))
    assert len(decoded) == 8 * 6


def test_photos_of_a_class_too_small_for_a_pair_are_left_out_of_the_walk(roots):
    data = build(roots, "pets", batch_size=1, novel_classes=["pug"])
    spare = [n for n, p in data.catalog.photos.items() if p.classes == ("Bengal",)][1:]
    data.catalog.photos = {n: p for n, p in data.catalog.photos.items() if n not in spare}
    with pytest.warns(UserWarning, match="skipped .* training classes"):
        total = len(data.pair_names)
    assert total == len(data.training_names) - 1
    for turn in range(2):
        seen = [data.episode("train", turn * total + i).query.names[0] for i in range(total)]
        assert sorted(seen) == sorted(data.pair_names)


@every_set
def test_conventions_differ_in_size_and_in_void(roots, name):
    paper, later = build(roots, name, size=20), build(roots, name, size=20, convention="later")
    a, b = paper.episode("test", 0), later.episode("test", 0)
    assert a.query.names == b.query.names
    assert a.query.images.shape[-2:] == a.query.class_masks.shape[-2:] == (20, 20)
    assert b.query.images.shape[-2:] == b.query.class_masks.shape[-2:] == maker.SIZE[::-1]
    assert a.support.images.shape == b.support.images.shape
    assert 255 not in a.query.class_masks
    has_void = name in ("pascal5i", "voc_sbd", "camvid", "pets", "panoptic")
    assert (255 in b.query.class_masks) == has_void
    protocols = paper.protocol("test"), later.protocol("test")
    assert [(p["convention"], p["void"], p["query_size"]) for p in protocols] == [
        ("paper", "background", 20),
        ("later", "ignore", "own"),
    ]


@every_set
def test_a_missing_root_says_what_to_download_and_where_to_put_it(tmp_path, monkeypatch, name):
    monkeypatch.delenv("FEWSHOT_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"is empty\. .* (unpack|put) it so that these exist: /"):
        build(dict.fromkeys(SETS, tmp_path), name).setup("test")
    with pytest.raises(FileNotFoundError, match=r"set FEWSHOT_DATA or --data.root"):
        SETS[name][0]().setup("test")


def test_every_entry_is_asked_once_in_a_pass_so_classes_count_by_their_photos():
    items = {"cat": [f"c{i}" for i in range(6)], "dog": ["d0", "d1", "c0"]}
    sampler = EntrySampler(items, 1, 2, 1, seed=0, split="test")
    plans = [sampler[i] for i in range(9)]
    assert sorted((p.classes[0], p.query[0][0]) for p in plans) == sorted((c, i) for c in items for i in items[c])
    assert all(p.query[0][0] not in p.support[0] and len(set(p.support[0])) == 2 for p in plans)
    assert [sampler[i] for i in range(9, 18)] != plans
    with pytest.raises(ValueError, match=r"class 'dog' of split 'test' has 3 items, but k_shot \+ n_query = 3 \+ 1"):
        EntrySampler(items, 1, 3, 1, seed=0, split="test")


def test_both_sources_of_pascal5i_read_the_same_photos(roots):
    data = build(roots, "voc_sbd")
    held_out = {n for n, p in data.catalog.photos.items() if p.evaluation_only}
    assert len(held_out) == 60
    assert "2008_000001" in held_out  # it is in SBD's training list too
    assert data.catalog.photos["2008_000004"].mask.suffix == ".mat"
    assert data.catalog.photos["2008_000000"].mask.suffix == ".png"
    assert build(roots, "pascal5i").catalog.split_classes["test"] == tuple(sorted(NAMES[:5]))
    assert data.catalog.split_classes["test"] == tuple(sorted(NAMES[:5]))


def test_a_fold_of_which_no_photo_shows_a_class_is_named(tmp_path):
    root = maker.make_pascal5i(tmp_path)
    for part in ("trn", "val"):
        (root / f"pascal5i/splits/{part}/fold0.txt").write_text("")
    with pytest.raises(
        ValueError, match=r"fold is 0 but no photo here shows aeroplane, .*folds with photos are 1, 2, 3"
    ):
        build({"pascal5i": root}, "pascal5i").setup("test")


def test_folds_of_coco20i_are_every_fourth_class(roots):
    assert build(roots, "coco20i", fold=1).catalog.split_classes["test"] == ("thing1", "thing5")
    assert build(roots, "panoptic", fold=2, stuff=False).catalog.split_classes["train"] == (
        "thing0",
        "thing2",
        "thing6",
    )


def test_crowds_are_void(roots):
    data = build(roots, "coco20i")
    photo = [p for p in data.catalog.photos.values() if p.evaluation_only][-1]
    assert (data.read_mask(photo)[:, 0] == -1).all()
    assert (data.read_mask(photo)[:, 1:] != -1).all()


def test_test_classes_of_fss_come_from_the_authors_list(roots, tmp_path):
    root = maker.make_fss(tmp_path)
    drawn = build({"fss": root}, "fss").catalog.split_classes["test"]
    assert len(drawn) == 3
    (root / "fewshot_data/fss_test_set.txt").write_text("class03\nclass07\n")
    assert build({"fss": root}, "fss").catalog.split_classes["test"] == ("class03", "class07")


def test_several_ways_label_all_classes_of_the_episode(roots):
    data = build(roots, "camvid", n_way=3, n_query=2, k_shot=2)
    episode = data.episode("test", 0)
    assert episode.query.labels is None
    assert len(episode.query.names) == 6
    assert episode.support.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for mask, label in zip(episode.support.class_masks, episode.support.labels.tolist(), strict=True):
        assert set(mask.flatten().tolist()) == {0, label + 1}


def test_a_fixed_list_is_used_as_it_is(roots, tmp_path):
    sampled = build(roots, "camvid")
    plans = [sampled.sampler("test")[i] for i in (4, 9)]
    write_episodes(tmp_path / "list.json", plans)
    data = build(roots, "camvid", episodes_file=str(tmp_path / "list.json"), seed=99)
    data.test_dataloader()
    assert data.counts["test"] == 2
    assert equal(data.episode("test", 1), sampled.episode("test", 9))


@every_set
def test_the_control_shows_another_class_under_the_asked_ones_name(roots, name):
    plain = build(roots, name, episodes=EpisodeCounts(test=8), size=32)
    control = MismatchedSupport(build(roots, name, episodes=EpisodeCounts(test=8), size=32))
    asked = {e.support.names: e.classes for e in (plain.episode("test", i) for i in range(8))}
    if len(set(asked.values())) == 1:
        with pytest.raises(ValueError, match="mismatched support: all 8 episodes ask for"):
            control.episode("test", 0)
        return
    for i in range(8):
        own, other = plain.episode("test", i), control.episode("test", i)
        assert own.query.names == other.query.names
        assert own.classes == other.classes != asked[other.support.names]
        assert all((mask == 1).any() for mask in other.support.class_masks)
    assert control.protocol("test") == {**plain.protocol("test"), "support": "mismatched"}


def test_bad_options_are_named(roots):
    with pytest.raises(ValueError, match="crop is 0 but must be above 0 and at most 1"):
        build(roots, "camvid", crop=0)
    with pytest.raises(ValueError, match="fold is 4 but must be 0 to 3"):
        build(roots, "camvid", fold=4)
    with pytest.raises(ValueError, match="untrained is 'none' but must be 'background' or 'void'"):
        build(roots, "pets", untrained="none")
    with pytest.raises(ValueError, match="convention is 'new' but must be 'paper' or 'later'"):
        build(roots, "camvid", convention="new")
    with pytest.raises(ValueError, match=r"has 4 items, but k_shot \+ n_query = 4 \+ 1 = 5"):
        build(roots, "pets", k_shot=4).setup("test")
    with pytest.raises(ValueError, match="novel_classes has 'zebu' but the data has"):
        build(roots, "camvid", novel_classes=["zebu"]).setup("test")
    with (
        pytest.warns(UserWarning, match="skipped .* training classes"),
        pytest.raises(ValueError, match="no training class has more than train_shots = 50 photos"),
    ):
        _ = build(roots, "pets", train_shots=50).pair_names
    with pytest.raises(FileNotFoundError, match=r"set data\.year"):
        build(roots, "coco20i", year="2015").setup("test")


# bad masks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path):
    return maker.make_folder_masks(tmp_path)


def folder(root, **options):
    return FolderMasks(str(root), images=MaskedImages(size=None), **options)


def save_as(path, how):
    values = np.asarray(Image.open(path))
    if how == "palette":
        image = Image.fromarray(values).convert("P")
        image.putpalette([7, 0, 3] * 256)
        image.putdata(values.flatten().tolist())
    elif how == "rgb":
        image = Image.fromarray(np.repeat(values[..., None], 3, axis=2))
    elif how == "rgba":
        image = Image.fromarray(np.dstack([values, values, values, np.full_like(values, 255)]))
    else:
        image = Image.fromarray(values.astype(np.uint16))
    image.save(path)


@pytest.mark.parametrize("how", ["palette", "rgb", "rgba", "16 bits"])
def test_masks_of_other_kinds_read_alike(own, how):
    path = own / "masks/mine0.png"
    before = folder(own).read_mask(folder(own).catalog.photos["images/mine0.png"])
    save_as(path, how)
    after = folder(own).read_mask(folder(own).catalog.photos["images/mine0.png"])
    assert Image.open(path).mode == {"palette": "P", "rgb": "RGB", "rgba": "RGBA", "16 bits": "I;16"}[how]
    np.testing.assert_array_equal(before, after)


def test_a_one_bit_mask_needs_no_list_of_classes(own):
    for path in (own / "masks").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) > 0).save(path)
    (own / "classes.txt").unlink()
    data = folder(own)
    assert data.catalog.split_classes["test"] == ("object",)
    assert (data.read_mask(data.catalog.photos["images/mine0.png"]) == 1).sum() > 300


def test_values_outside_the_set_are_named(own):
    path = own / "masks/mine3.png"
    values = np.array(Image.open(path))
    values[5, 5] = 77
    Image.fromarray(values).save(path)
    with pytest.raises(ValueError, match=r"mine3.png has the value 77 but the allowed values are 0, 10, 20, 30, 255"):
        folder(own).setup("predict")


def test_colored_truncated_and_absent_masks_are_named(own):
    path = own / "masks/mine3.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"mine3.png is a colored picture \(RGB\); save class numbers"):
        folder(own).setup("predict")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"mine3.png is truncated"):
        folder(own).setup("predict")
    path.rename(own / "masks/nobody.png")
    with pytest.raises((FileNotFoundError, ValueError), match=r"nobody"):
        folder(own).setup("predict")
    with pytest.raises(FileNotFoundError):
        read_mask(own / "masks/none.png")


def test_a_mask_of_another_size_is_named(own):
    Image.fromarray(np.full((20, 30), 10, np.uint8)).save(own / "masks/mine3.png")
    data = folder(own)
    with pytest.raises(ValueError, match=r"images/mine3.png: the mask has 30 x 20 pixels but the photo 60 x 40"):
        data.episode("predict", 0)


def test_empty_masks_give_no_shots(own):
    for path in (own / "masks").iterdir():
        Image.fromarray(np.zeros((40, 60), np.uint8)).save(path)
    with pytest.raises(ValueError, match="shows no class: there is nothing to adapt to"):
        folder(own).setup("predict")


def test_a_bad_line_in_classes_is_named(own):
    (own / "classes.txt").write_text("10 cup\npen 20\n")
    with pytest.raises(ValueError, match=r"classes.txt has the line 'pen 20', expected a value from 1 to 254"):
        folder(own).setup("predict")


def test_ones_own_folder_is_predicted_from_all_its_masks(own):
    data = folder(own, chunk=3)
    data.setup("predict")
    assert data.counts["predict"] == 2
    first, second = data.episode("predict", 0), data.episode("predict", 1)
    assert first.classes == ("cup", "key", "pen")
    assert len(first.support.names) == 24  # each photo shows two classes
    for mask, label in zip(first.support.class_masks, first.support.labels.tolist(), strict=True):
        assert set(mask.flatten().tolist()) == {0, label + 1}
    asked = (*first.query.names, *second.query.names)
    assert asked == ("images/unmasked.png", "query/q0.png", "query/q1.png", "query/q2.png")
    assert first.query.class_masks is None
    assert first.query.labels is None
    with pytest.raises(ValueError, match="set novel_classes"):
        data.setup("fit")


def test_a_bad_list_is_named(tmp_path):
    (tmp_path / "fold0.txt").write_text("2007_000032__01\n2007_000033__21\n")
    with pytest.raises(ValueError, match=r"line 2007_000033__21, expected <photo>__<class"):
        read_entries(tmp_path / "fold0.txt")


# real data ------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_published_lists_of_pascal5i_have_their_counts():
    for part, expected in (("trn", (2286, 3425, 5883, 2086)), ("val", (346, 451, 725, 346))):
        for fold, count in enumerate(expected):
            data = Pascal5i(splits=FoldSplits(fold=fold))
            entries = read_entries(data.listed / f"splits/{part}/fold{fold}.txt")
            assert len(entries) == count
            assert {NAMES[label - 1] for _, label in entries} == set(NAMES[5 * fold : 5 * fold + 5])
    test = Pascal5i(splits=FoldSplits(fold=1)).items("test")
    assert sum(map(len, test.values())) == 451
    assert set(test) == set(NAMES[5:10])


@pytest.mark.real_data
@pytest.mark.parametrize("fold", range(4))
def test_real_masks_of_pascal5i_show_their_class_and_void(fold):
    data = Pascal5i(splits=FoldSplits(fold=fold))
    void = 0
    for name, photos in data.items("test").items():
        for photo in (data.catalog.photos[n] for n in photos[:20]):
            labels = data.read_mask(photo)
            assert (labels == 1 + NAMES.index(name)).sum() >= 1000
            void += (labels == -1).sum()
    assert void > 0
    assert not set(data.training_names) & {n for n, p in data.catalog.photos.items() if p.evaluation_only}


@pytest.mark.real_data
@pytest.mark.parametrize("fold", range(1, 4))
@pytest.mark.filterwarnings("ignore:skipped")
def test_photos_of_pascal5is_animals_are_read(fold):
    animals = {1: ("cat", "chair", "cow"), 2: ("dog", "horse", "person"), 3: ("sheep", "sofa")}
    root = Path(os.environ["FEWSHOT_DATA"]) / "pascal5i-animals"
    data = Pascal5i(str(root), splits=FoldSplits(fold=fold), images=MaskedImages(size=240))
    data.setup("fit")
    data.setup("test")
    assert data.catalog.split_classes["test"] == animals[fold]
    for split in ("train", "test"):
        episode = data.episode(split, 0)
        for part in (episode.support, episode.query):
            for mask, label in zip(part.class_masks, part.labels.tolist(), strict=True):
                assert (mask == 1 + label).any()


@pytest.mark.real_data
def test_a_fold_without_photos_is_named():
    root = Path(os.environ["FEWSHOT_DATA"]) / "pascal5i-animals"
    with pytest.raises(
        ValueError, match=r"fold is 0 but no photo here shows aeroplane, .*folds with photos are 1, 2, 3"
    ):
        Pascal5i(str(root)).setup("test")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("make", "classes"),
    [
        (lambda: CamVid(images=MaskedImages(size=240)), 3),
        (lambda: OxfordPets(images=MaskedImages(size=240), splits=FoldSplits(("all",))), 3),
        (lambda: CocoPanoptic(images=MaskedImages(size=240), splits=FoldSplits(small_classes="drop")), 20),
    ],
    ids=["camvid", "pets", "panoptic"],
)
@pytest.mark.filterwarnings("ignore:skipped")
def test_real_photos_and_masks_are_read(make, classes):
    data = make()
    data.setup("test")
    assert len(data.sampler("test").names) >= classes
    for i in range(5):
        episode = data.episode("test", i)
        assert (episode.query.class_masks == 1).any()
        assert (episode.support.class_masks == 1).any()
