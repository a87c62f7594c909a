"""Pairs and problems: what they hold, that they are pure functions of their number, and the drawn alphabets."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser

from datamodules.characters.affine import AffineJitter, DrawingAugmentation, jitter
from datamodules.characters.base import CharacterPairs
from datamodules.characters.drawings import Characters, with_symmetries
from datamodules.characters.drawn_alphabets import AlphabetSettings, DrawnAlphabets
from datamodules.characters.problems import draw_problems
from datamodules.characters.training import AlphabetBatch, PairBatch, draw_alphabets, draw_pairs
from lightning_fewshot.data import EpisodeCounts

SMALL = AlphabetSettings(background=4, evaluation=3, fewest=6, most=9, drawers=5)


@pytest.fixture(scope="module")
def data():
    return DrawnAlphabets(SMALL, n_way=6, training=PairBatch(50), problems=8, val_alphabets=2)


@pytest.fixture(scope="module")
def uneven():
    """Alphabets of 2, 5 and 9 characters with 2 to 6 drawings."""
    sizes, drawings = np.array([2, 5, 9]), np.random.default_rng(0).integers(2, 7, 16)
    names = tuple(f"{a}/{c}" for a, n in enumerate(sizes) for c in range(n))
    return Characters(np.zeros((drawings.sum(), 28, 28), np.uint8), ("0", "1", "2"), sizes, drawings, names)


def _owners(characters):
    of = np.repeat(np.arange(len(characters.drawings)), characters.drawings)
    return of, np.repeat(np.arange(len(characters.alphabets)), characters.characters)[of]


@pytest.mark.parametrize("negatives", ["alphabet", "any"])
def test_pairs_are_what_they_say(uneven, negatives):
    first, second, labels = draw_pairs(uneven, 4000, negatives, np.random.default_rng(0))
    character, alphabet = _owners(uneven)
    assert labels.mean() == 0.5
    np.testing.assert_array_equal(character[first] == character[second], labels == 1)
    assert (first != second).all()
    same_alphabet = (alphabet[first] == alphabet[second])[labels == 0]
    assert same_alphabet.all() == (negatives == "alphabet")
    assert set(first) == set(second) == set(range(len(uneven.images)))  # every drawing is used
    counts = np.bincount(character[first], minlength=16)
    assert abs(counts - 250).max() < 5 * np.sqrt(250)  # characters are equally likely


def test_alphabets_are_what_they_say(uneven):
    exemplars, inputs = draw_alphabets(uneven, 4, 3000, np.random.default_rng(0))
    character, alphabet = _owners(uneven)
    np.testing.assert_array_equal(character[exemplars], character[inputs])
    assert (exemplars != inputs).all()
    drawn = character[exemplars].reshape(3000, 4)
    assert (np.sort(drawn, 1)[:, 1:] != np.sort(drawn, 1)[:, :-1]).all()
    assert (alphabet[exemplars].reshape(3000, 4) == alphabet[exemplars][::4, None]).all()
    counts = np.bincount(drawn.ravel(), minlength=16)
    assert (counts[:2] == 0).all()  # an alphabet of two has no four characters
    assert abs(counts[2:] - 12000 / 14).max() < 5 * np.sqrt(12000 / 14)  # characters are equally likely
    assert set(exemplars) == set(inputs) == set(range(uneven.drawings[:2].sum(), len(uneven.images)))


def test_an_episode_of_alphabets():
    data = DrawnAlphabets(SMALL, n_way=6, val_alphabets=1, training=AlphabetBatch(2))
    episode = data.episode("train", 3)
    assert episode.support.images.shape == episode.query.images.shape == (12, 1, 28, 28)
    assert torch.equal(episode.support.labels, episode.query.labels)
    assert episode.query.labels.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert len(episode.classes) == 6
    assert episode.protocol == "alphabets"
    assert torch.equal(data.episode("train", 3).query.images, episode.query.images)
    assert not torch.equal(data.episode("train", 4).query.images, episode.query.images)


def test_problems_are_what_they_say(uneven):
    large = uneven.of_alphabets([1, 2])
    exemplars, candidates, matches = draw_problems(large, 5, 3000, np.random.default_rng(0))
    character, alphabet = _owners(large)
    assert (np.sort(character[candidates], 1)[:, 1:] != np.sort(character[candidates], 1)[:, :-1]).all()
    assert (alphabet[candidates] == alphabet[exemplars][:, None]).all()
    np.testing.assert_array_equal((character[candidates] == character[exemplars][:, None]).argmax(1), matches)
    assert (candidates != exemplars[:, None]).all()
    assert abs((alphabet[exemplars] == 0).mean() - 0.5) < 0.05  # alphabets are equally likely
    assert abs(np.bincount(matches, minlength=5) - 600).max() < 5 * np.sqrt(600)


def test_episodes_are_functions_of_their_number(data):
    again = DrawnAlphabets(SMALL, n_way=6, training=PairBatch(50), problems=8, val_alphabets=2)
    for split in ("train", "val", "test"):
        later = again.episode(split, 5)
        for one, other in ((data.episode(split, 5), later), (data.episode(split, 5), data.episode(split, 5))):
            assert torch.equal(one.support.images, other.support.images)
            assert torch.equal(one.query.images, other.query.images)
            assert torch.equal(one.query.labels, other.query.labels)
        assert not torch.equal(data.episode(split, 6).support.images, later.support.images)


def test_workers_do_not_change_episodes():
    def labels(workers):
        data = DrawnAlphabets(
            SMALL, n_way=6, problems=8, episodes=EpisodeCounts(val=4), num_workers=workers, val_alphabets=1
        )
        data.setup("validate")
        return [(e.index, e.query.images.sum().item(), e.query.labels.tolist()) for e in data.val_dataloader()]

    assert labels(0) == labels(2)


def test_problem_episode(data):
    episode = data.episode("test", 0)
    assert episode.support.images.shape == (8, 1, 28, 28)
    assert episode.query.images.shape == (48, 1, 28, 28)
    assert episode.query.images.dtype == torch.uint8
    assert (episode.query.labels.view(8, 6).sum(1) == 1).all()
    assert len(episode.query.names) == 48
    assert episode.protocol == "problems"


def test_an_episode_of_pairs(data):
    episode = data.episode("train", 0)
    assert episode.protocol == "pairs"
    assert episode.query.labels.tolist() == [1, 0] * 25
    assert episode.support.query_index.tolist() == list(range(50))
    assert episode.support.labels is None


def test_splits_share_no_alphabet_and_no_drawing(data):
    splits = [data.characters(split) for split in ("train", "val", "test")]
    names = [name for s in splits for name in s.alphabets]
    assert len(names) == len(set(names)) == 7
    drawings = [image.tobytes() for s in splits for image in s.images]
    assert len(set(drawings)) == len(drawings)


def test_val_may_repeat_the_training_alphabets():
    data = DrawnAlphabets(SMALL, n_way=6, val_alphabets=0)
    assert data.characters("val").alphabets == data.characters("train").alphabets
    assert data.protocol("val")["seen_in_training"]
    assert not data.protocol("test")["seen_in_training"]


def test_drawn_alphabets_are_black_on_white_and_can_be_told_apart(data):
    images = data.characters("test").images.astype(float)
    assert images.mean() > 200
    assert (images.min((1, 2)) < 128).all()
    character = np.repeat(np.arange(len(data.characters("test").drawings)), data.characters("test").drawings)
    means = np.stack([images[character == c].mean(0) for c in range(character.max() + 1)]).reshape(-1, 784)
    nearest = ((images.reshape(-1, 1, 784) - means) ** 2).sum(-1).argmin(1)
    assert (nearest == character).mean() > 0.5  # chance is under 0.06


@pytest.mark.parametrize(
    ("quarter_turns", "mirror", "count"), [(False, False, 1), (True, False, 4), (False, True, 2), (True, True, 8)]
)
def test_turned_and_mirrored_alphabets_are_new_ones(data, quarter_turns, mirror, count):
    plain = data.characters("train")
    more = with_symmetries(plain, quarter_turns, mirror)
    assert len(more.alphabets) == count * len(plain.alphabets) == len(set(more.alphabets))
    assert len(set(more.names)) == count * len(plain.names)
    versions = more.images.reshape(count, *plain.images.shape)[:, 3]
    assert len(np.unique(versions, axis=0)) == count
    np.testing.assert_array_equal(versions[0], plain.images[3])
    if quarter_turns:
        np.testing.assert_array_equal(versions[1], np.rot90(plain.images[3]))
    if mirror:
        np.testing.assert_array_equal(versions[count // 2], np.fliplr(plain.images[3]))
    np.testing.assert_array_equal(more.drawings, np.tile(plain.drawings, count))


def test_jitter_shifts_by_pixels_and_fills_with_white():
    images = torch.full((64, 1, 28, 28), 255, dtype=torch.uint8)
    images[:, :, 10:18, 10:18] = 0
    moved = jitter(images, AffineJitter(0, 0, 0, 3), np.random.default_rng(0))
    ink = 255 - moved[:, 0].float()
    torch.testing.assert_close(ink.sum((1, 2)), torch.full((64,), 64 * 255.0), rtol=0.01, atol=0)
    centre = (ink.sum(1) @ torch.arange(28.0)) / ink.sum((1, 2)) - 13.5
    assert 2 < centre.abs().max() <= 3.01
    assert centre.min() < -1 < 1 < centre.max()


def test_augmentation_is_a_function_of_the_number():
    data = DrawnAlphabets(SMALL, n_way=6, val_alphabets=1, augmentation=DrawingAugmentation(affine=AffineJitter()))
    plain = DrawnAlphabets(SMALL, n_way=6, val_alphabets=1)
    assert torch.equal(data.episode("train", 1).query.images, data.episode("train", 1).query.images)
    assert not torch.equal(data.episode("train", 1).query.images, plain.episode("train", 1).query.images)
    assert torch.equal(data.episode("test", 1).query.images, plain.episode("test", 1).query.images)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DrawnAlphabets(n_way=1), "n_way is 1 but must be at least 2"),
        (lambda: DrawnAlphabets(problems=0), "problems is 0 but must be at least 1"),
        (lambda: DrawnAlphabets(val_alphabets=-1), "val_alphabets is -1"),
        (lambda: PairBatch(1), "pairs is 1 but must be at least 2"),
        (lambda: PairBatch(negatives="none"), "negatives is 'none'"),
        (lambda: AlphabetBatch(0), "alphabets is 0 but must be at least 1"),
        (lambda: AlphabetSettings(drawers=0), "alphabets.drawers is 0"),
        (lambda: AlphabetSettings(fewest=9, most=8), "alphabets.fewest is 9 but alphabets.most is 8"),
        (lambda: AffineJitter(rotate=-1), "affine.rotate is -1 but must be at least 0"),
    ],
)
def test_bad_options_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("training", ["clips", "datamodules.Clips"])
def test_another_tasks_kind_of_training_is_refused(training, capsys):
    parser = ArgumentParser()
    parser.add_subclass_arguments(CharacterPairs, "data")
    with pytest.raises(SystemExit):
        parser.parse_args(["--data=datamodules.DrawnAlphabets", f"--data.training={training}"])
    assert "training" in capsys.readouterr().err


def test_drawn_character_with_one_drawing():
    with pytest.raises(ValueError, match="character 'alphabet00/character01' of split 'train' has 1 drawing"):
        DrawnAlphabets(replace(SMALL, drawers=1), n_way=6, val_alphabets=1).characters("train")


def test_unknown_split(data):
    with pytest.raises(ValueError, match="split is 'novel' but DrawnAlphabets has train, val, test and predict"):
        data.episode("novel", 0)


def test_predictions_are_made_on_the_first_test_episode(data):
    data.setup("predict")
    predicted, tested = data.episode("predict", 0), data.episode("test", 0)
    assert data.counts["predict"] == 1
    assert torch.equal(predicted.query.images, tested.query.images)
    assert predicted.query.names == tested.query.names
