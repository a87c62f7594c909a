"""``python -m lightning_fewshot export --ckpt_path X --support DIR --out FILE``: an adapted network as one file."""

from __future__ import annotations

import argparse
import importlib
import shutil
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import Tensor

from lightning_fewshot import __version__
from lightning_fewshot.api import NamedExamples, examples
from lightning_fewshot.checkpoint_files import read_checkpoint
from lightning_fewshot.checkpoints import build_module
from lightning_fewshot.cli.commands import PROG
from lightning_fewshot.cli.errors import one_line_errors
from lightning_fewshot.episodes import Examples
from lightning_fewshot.exporting import export_onnx, export_torch
from lightning_fewshot.images import as_image
from lightning_fewshot.module import FewShotModule
from lightning_fewshot.shipped import write_half
from lightning_fewshot.states import load_state
from lightning_fewshot.tracking.module import TrackingModule

STATE = ".safetensors"
READERS = {"class_masks": "FolderMasks", "boxes": "FolderDetection"}  # of datamodules: the library imports no data
SUPPORT = "The examples: a folder as predict takes it; of a tracker a video; or a state of save_state, *.safetensors."
QUERY = "query"  # the folder that holds no class
SEARCH_PATCHES = 2


class Adapted(NamedTuple):
    """A paper's state for a support, and an image to compare answers on.

    Args:
        state: Of ``adapt_images``.
        classes: Names.
        images: ``(1, 3, H, W)`` uint8.
    """

    state: Any
    classes: tuple[str, ...]
    images: Tensor


def main(args: list[str]) -> Path:
    """Write the file; return its path."""
    options = _parser().parse_args(args)
    with one_line_errors():
        if options.format == "weights":
            return _export_weights(options.ckpt_path, options.out)
        if options.support is None:
            raise ValueError("--support is missing: the folder that the network is adapted to, as for predict")
        return _export(build_module(options.ckpt_path), options)


def _export_weights(checkpoint: str, out: Path) -> Path:
    """Write the weights in half precision, and the model card of their run beside them."""
    write_half(read_checkpoint(checkpoint), out)
    card = Path(checkpoint).with_name("card.md")
    if card.is_file():
        shutil.copyfile(card, out.with_suffix(".md"))
    print(f"weights in half precision: {out}" + (f", their card: {out.with_suffix('.md')}" if card.is_file() else ""))
    return out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{PROG} export", description=__doc__)
    parser.add_argument("--ckpt_path", required=True, help="A checkpoint of fit.")
    parser.add_argument("--support", type=Path, help=SUPPORT)
    parser.add_argument("--box", help="Of a tracker: x,y,width,height of the object in the first frame.")
    parser.add_argument("--out", required=True, type=Path, help="The file to write.")
    help_text = "weights: only the checkpoint, in half precision and without the optimiser's state"
    parser.add_argument("--format", choices=("onnx", "torch", "weights"), default="onnx", help=help_text)
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="Of the images that the file will take.")
    return parser


@torch.no_grad()
def _export(module: FewShotModule, options: argparse.Namespace) -> Path:
    if isinstance(module, TrackingModule):
        adapted = _tracked(module, options)
    else:
        adapted = _adapted(module, options.support, options.size)
    images = adapted.images if options.size is None else _resized(adapted.images, options.size)
    exportable = module.exportable(adapted.state, images)
    for parameter in exportable.network.parameters():
        parameter.requires_grad_(False)
    metadata = {
        "model": type(module).__name__,
        "classes": list(adapted.classes),
        "input": f"images: uint8 RGB 0 to 255, {tuple(exportable.images.shape)}; scaling and normalisation are inside",
        "outputs": exportable.says,
        "lightning_fewshot": __version__,
    }
    write = export_torch if options.format == "torch" else export_onnx
    difference = write(exportable, options.out, metadata)
    print(f"{options.out}: {metadata['model']} for {', '.join(adapted.classes)}; takes {metadata['input']}")
    print(f"run and compared with the network: the greatest difference is {difference:.1e}")
    return options.out


def _adapted(module: FewShotModule, folder: Path, size: list[int] | None) -> Adapted:
    if folder.suffix == STATE:
        return _loaded(module, folder, size)
    reader = READERS.get(module.support_needs)
    if reader is None:
        support, query = _class_folders(folder)
        return Adapted(module.adapt_images(support.examples), support.classes, query)
    data = getattr(importlib.import_module("datamodules"), reader)(str(folder))
    data.setup("predict")
    episode = data.episode("predict", 0)
    return Adapted(module.adapt_images(episode.support), episode.classes, episode.query.images[0][None])


def _loaded(module: FewShotModule, path: Path, size: list[int] | None) -> Adapted:
    """Return what ``save_state`` left of a model of this class, and noise to compare answers on."""
    if size is None:
        raise ValueError(f"--size is missing: {path} has no image that would tell the size of those to come")
    kinds = [get_type_hints(method)["return"] for method in (type(module).adapt_images, type(module).adapt)]
    state = load_state(path, like=next(kind for kind in kinds if kind is not Any))
    return Adapted(state.state, state.classes, torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8))


def _class_folders(folder: Path) -> tuple[NamedExamples, Tensor]:
    """Return the images in the folders of classes, and one to compare answers on."""
    paths = sorted(p for p in folder.glob("*/*") if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
    shots = [path for path in paths if path.parent.name != QUERY]
    if not shots:
        raise FileNotFoundError(f"{folder} has no folder of a class with images")
    asked = [path for path in paths if path.parent.name == QUERY] or shots
    return examples(shots, labels=[path.parent.name for path in shots]), as_image(asked[0])[None]


def _tracked(module: TrackingModule, options: argparse.Namespace) -> Adapted:
    if options.box is None:
        raise ValueError("--box is missing: x,y,width,height of the object in the first frame of --support")
    data = importlib.import_module("datamodules").VideoFile(str(options.support), options.box)
    data.setup("predict")
    support: Examples = data.episode("predict", 0).support
    state = module.tracker().init(support.images[0], support.boxes[0][0])
    side = module.crops.search
    patches = torch.randint(0, 256, (SEARCH_PATCHES, 3, side, side), dtype=torch.uint8)
    return Adapted(state.model, ("object",), patches)


def _resized(images: Tensor, size: list[int]) -> Tensor:
    return torch.nn.functional.interpolate(images.float(), tuple(size), mode="bilinear").round().to(torch.uint8)
