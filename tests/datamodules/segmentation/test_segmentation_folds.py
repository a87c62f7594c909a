"""Photos with masks: what one set has and another has not, fixed lists, and bad options."""

import pytest
from masked_sets import build, equal, maker

from datamodules.segmentation.entries import EntrySampler
from datamodules.segmentation.pascal5i import NAMES, read_entries
from lightning_fewshot.sampling import write_episodes


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


def test_a_bad_list_is_named(tmp_path):
    (tmp_path / "fold0.txt").write_text("2007_000032__01\n2007_000033__21\n")
    with pytest.raises(ValueError, match=r"line 2007_000033__21, expected <photo>__<class"):
        read_entries(tmp_path / "fold0.txt")
