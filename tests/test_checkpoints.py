"""Checkpoints as files and as what a model is made of: whole, verified, and data alone."""

import dataclasses
import os
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import toy

from lightning_fewshot import checkpoints
from lightning_fewshot.checkpoint_entry import KEY, description
from lightning_fewshot.checkpoint_files import read_checkpoint, write_checkpoint
from lightning_fewshot.checkpoints import build_module, named_class, settings_of
from lightning_fewshot.data import EpisodicDataModule
from lightning_fewshot.module import FewShotModule
from lightning_fewshot.settings import Optimization


@pytest.fixture
def content():
    """What a checkpoint of a toy holds, with settings that are not its defaults."""
    torch.manual_seed(0)
    model = toy.ToyModel(width=5, optimization=Optimization("SGD", lr=0.5, options={"momentum": 0.9}))
    return {"state_dict": model.state_dict(), KEY: description(model)}


@pytest.fixture
def path(content, tmp_path):
    write_checkpoint(content, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def _changed(path, content, **entry):
    write_checkpoint({**content, KEY: {**content[KEY], **entry}}, path)
    return path


def test_a_model_is_made_of_its_checkpoint_alone(path, content):
    model = build_module(path)
    assert type(model) is toy.ToyModel
    assert not model.training
    assert model.optimization == Optimization("SGD", lr=0.5, options={"momentum": 0.9})
    assert all(torch.equal(value, content["state_dict"][name]) for name, value in model.state_dict().items())
    assert description(model) == content[KEY], "and says the same of itself"


def test_what_is_no_checkpoint_is_named(tmp_path, path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*none\.ckpt"):
        build_module(tmp_path / "none.ckpt")
    with pytest.raises(ValueError, match="is a folder"):
        build_module(tmp_path)
    half = tmp_path / "half.ckpt"
    half.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"half\.ckpt is truncated or not a checkpoint"):
        build_module(half)
    with zipfile.ZipFile(tmp_path / "other.ckpt", "w") as file:
        file.writestr("a.txt", "x")
    with pytest.raises(ValueError, match=r"other\.ckpt is no checkpoint"):
        build_module(tmp_path / "other.ckpt")
    with zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data/0", bytes(10**6))
    with pytest.raises(ValueError, match="its records are compressed"):
        build_module(tmp_path / "bomb.ckpt")


@pytest.mark.parametrize("value", [[1], {"a": 1}, {"state_dict": {"w": 5}}, {"state_dict": 3}])
def test_files_of_torch_that_hold_something_else(tmp_path, value):
    torch.save(value, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=r"x\.ckpt is no checkpoint: it has no 'state_dict' of tensors"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_one_flipped_bit_is_found_in_every_record(tmp_path, path):
    whole, bad = path.read_bytes(), tmp_path / "bad.ckpt"
    with zipfile.ZipFile(path) as file:
        records = [r for r in file.infolist() if r.file_size]
        starts = {r.filename: whole.index(file.read(r)) for r in records if r.file_size > 20}
    assert len(starts) >= 3
    for name, start in starts.items():
        damaged = bytearray(whole)
        damaged[start + 7] ^= 0x10
        bad.write_bytes(bytes(damaged))
        with pytest.raises(ValueError, match=r"bad\.ckpt is damaged: the checksum"):
            read_checkpoint(bad)
        assert name


def test_old_and_foreign_checkpoints_and_other_versions_are_refused(tmp_path, content):
    torch.save({"state_dict": content["state_dict"]}, tmp_path / "old.ckpt")
    with pytest.raises(ValueError, match=r"old\.ckpt does not say which model it is of"):
        build_module(tmp_path / "old.ckpt")
    newer = _changed(tmp_path / "new.ckpt", content, schema="lightning_fewshot/checkpoint/9")
    with pytest.raises(ValueError, match=r"new\.ckpt is of schema 'lightning_fewshot/checkpoint/9', but this version"):
        build_module(newer)


@pytest.mark.parametrize(
    "class_path",
    [
        "lightning_fewshot.models.none.Model",
        "lightning_fewshot.module.None_",
        "lightning_fewshot.settings.Optimization",
        "lightning_fewshot.module.FewShotModule",
        "toy.ToyData",
        "os.system",
        "subprocess.Popen",
    ],
)
def test_a_class_that_is_no_model_here_is_refused(tmp_path, content, class_path):
    with pytest.raises(ValueError, match=r"b\.ckpt is of the class .* no such FewShotModule here"):
        build_module(_changed(tmp_path / "b.ckpt", content, class_path=class_path))


def test_no_module_is_imported_because_a_file_names_it(tmp_path, content, monkeypatch):
    (tmp_path / "trap.py").write_text("import pathlib\npathlib.Path('sprung').touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"import it first, or give it as --model trap\.Model"):
        build_module(_changed(tmp_path / "b.ckpt", content, class_path="trap.Model"))
    optimization = {"optimizer": "trap.Optimizer"}
    with pytest.raises(ValueError, match=r"trap\.Optimizer, which is not imported"):
        build_module(_changed(tmp_path / "b.ckpt", content, init_args={"optimization": optimization}))
    assert "trap" not in sys.modules
    assert not Path("sprung").exists()


@pytest.mark.parametrize("optimizer", ["os.system", "torch.load", "torch.optim.lr_scheduler.StepLR", "nothing"])
def test_only_optimizers_are_taken_for_one(tmp_path, content, optimizer):
    with pytest.raises(ValueError, match=r"must name a subclass of torch\.optim\.Optimizer"):
        build_module(_changed(tmp_path / "b.ckpt", content, init_args={"optimization": {"optimizer": optimizer}}))


@pytest.mark.parametrize(
    ("init_args", "message"),
    [
        ({"widht": 3}, "settings that ToyModel does not have here: widht"),
        ({"optimization": {"speed": 3}}, "optimization has no speed"),
        ({"optimization": {"lr": -1.0}}, "lr is -1.0 but must be above 0"),
        ({"width": torch.zeros(2)}, "width is a Tensor, but must be plain data"),
    ],
)
def test_settings_that_do_not_fit_are_named(tmp_path, content, init_args, message):
    with pytest.raises(ValueError, match=message):
        build_module(_changed(tmp_path / "b.ckpt", content, init_args=init_args))


def test_weights_that_do_not_fit_are_named(tmp_path, content):
    with pytest.raises(ValueError, match=r"embed\.0\.weight: \(5, 64\) in the file, \(6, 64\) here"):
        build_module(_changed(tmp_path / "b.ckpt", content, init_args={"width": 6}))


@dataclasses.dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[str, float] | None = None


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    others: tuple[Inner, ...] = ()
    table: dict[str, Inner] = dataclasses.field(default_factory=dict)


class Base:
    def __init__(self, optimization: Optimization = Optimization(), size: int = 1):
        pass


class Grouped(Base):
    def __init__(self, outer: Outer | None = None, names: list[str] | str = "x", **kwargs):
        super().__init__(**kwargs)


def test_groups_of_groups_come_back_as_they_were():
    from lightning_fewshot.checkpoint_entry import as_plain

    outer = Outer(Inner((3,), ("a", 0.5)), (Inner(), Inner((4, 5))), {"k": Inner()})
    given = {"outer": outer, "names": ["a"], "size": 3, "optimization": Optimization(lr=0.1)}
    assert settings_of(Grouped, as_plain(given), "x.ckpt") == given


def test_data_of_a_checkpoint_must_be_data(path):
    assert named_class("toy.ToyData", EpisodicDataModule, path) is toy.ToyData
    with pytest.raises(ValueError, match="no such EpisodicDataModule here"):
        named_class("toy.ToyModel", EpisodicDataModule, path)
    assert issubclass(named_class("toy.ToyModel", FewShotModule, path), checkpoints.FewShotModule)


def test_a_write_that_breaks_off_leaves_the_old_file(path, content, monkeypatch):
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(OSError, match=r"cannot write the checkpoint: No space left on device: .*a\.ckpt"):
                write_checkpoint(content, path)
        assert path.read_bytes() == before
        assert [p.name for p in path.parent.iterdir()] == ["a.ckpt"]


def test_a_new_file_is_made_beside_the_old_one_and_renamed(path, content, monkeypatch):
    """The temporary folder may be on another file system, from which a move is a copy."""
    moves, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (moves.append((Path(old), Path(new))), replace(old, new)))
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    write_checkpoint(content, path)
    ((old, new),) = moves
    assert old.parent == new.parent
    assert new == path
