"""Start a two-stage detector from torchvision's Faster R-CNN, which was trained on COCO: backbone, pyramid, proposals.

Torchvision's ``fasterrcnn_resnet50_fpn`` (Ren et al., NIPS 2015; Lin et al., CVPR 2017) has the parts that
``TwoStageDetector`` has with a ResNet-50 and four maps of 256 channels, under other names. What classifies the rois and
regresses their boxes is left out: those layers are of other shapes, and of COCO's classes.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

COCO = "COCO_V1"  # torchvision's name of the weights
SUFFIX = ".pth"  # of torchvision's files
PARTS = ("backbone.", "rpn.")
PREFIXES = {"backbone.backbone.body.": "backbone.body.", "backbone.pyramid.": "backbone.fpn.", "rpn.": "rpn."}
COUNT = ".num_batches_tracked"  # which no batch normalisation with a momentum needs
NEW_HERE = (COUNT, ".offset.weight", ".offset.bias")  # of deformable convolutions: they start at 0
OLDER_NAMES = (  # of files before torchvision 0.13
    (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2"),
    (r"^(rpn\.head\.conv)\.(weight|bias)$", r"\1.0.0.\2"),
)
SHOWN = 8  # parameters that an error lists of each kind


def is_torchvision(source: str) -> bool:
    """Return whether ``init_from`` names torchvision's weights, or a file of them.

    >>> is_torchvision("COCO_V1"), is_torchvision("mine/fasterrcnn.pth"), is_torchvision("runs/a/best.ckpt")
    (True, True, False)
    """
    return source == COCO or Path(source).suffix == SUFFIX


def read_torchvision(source: str) -> dict[str, Tensor]:
    """Return the weights of a torchvision detector under today's names.

    Args:
        source: ``COCO_V1``, taken from torch hub's cache or downloaded into it; or a ``.pth`` file.

    Raises:
        FileNotFoundError: There is no such file, or it cannot be downloaded; says where to put it.
        ValueError: The file holds no weights.
    """
    saved = _published() if source == COCO else _file(Path(source))
    saved = {key: value for key, value in saved.items() if not key.endswith(COUNT)}
    for pattern, name in OLDER_NAMES:
        saved = {re.sub(pattern, name, key): value for key, value in saved.items()}
    return saved


def load_detector(network: nn.Module, saved: dict[str, Tensor], source: str) -> int:
    """Load backbone, feature pyramid and region proposals into a detector, in place; return how many tensors.

    Args:
        network: A ``TwoStageDetector``.
        saved: From ``read_torchvision``.
        source: Named in errors.

    Raises:
        ValueError: A parameter of these parts has no counterpart of its shape, or one of theirs is not used.
    """
    needed = {k: v for k, v in network.state_dict().items() if k.startswith(PARTS) and not k.endswith(NEW_HERE)}
    names = {name: _counterpart(name, saved) for name in needed}
    lacking = [name for name, theirs in names.items() if theirs not in saved]
    other = [n for n, t in names.items() if t in saved and saved[t].shape != needed[n].shape]
    unused = sorted({name for name in saved if name.startswith(PARTS)} - set(names.values()))
    shapes = [f"{n} {tuple(needed[n].shape)} here, {tuple(saved[names[n]].shape)} there" for n in other]
    problems = {"are not in it": lacking, "have another shape": shapes, "of it have no place here": unused}
    if any(problems.values()):
        said = "; ".join(f"{len(n)} parameters {what} ({_some(n)})" for what, n in problems.items() if n)
        raise ValueError(
            f"init_from {source} is a Faster R-CNN with a ResNet-50, strides (4, 8, 16, 32), 256 channels and P6, but "
            f"{said}: set backbone.name to resnet50 and leave the pyramid's sizes"
        )
    network.load_state_dict({name: saved[theirs] for name, theirs in names.items()}, strict=False)
    return len(names)


def _counterpart(name: str, saved: dict[str, Tensor]) -> str:
    """Return torchvision's name of a parameter; a deformable convolution is one level deeper here."""
    prefix = next((ours for ours in PREFIXES if name.startswith(ours)), "")
    theirs = PREFIXES.get(prefix, "") + name.removeprefix(prefix)
    return theirs if theirs in saved else re.sub(r"\.conv\.(weight|bias)$", r".\1", theirs)


def _published() -> dict[str, Tensor]:
    weights = FasterRCNN_ResNet50_FPN_Weights.COCO_V1
    place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if place.is_file():
        return _file(place)
    try:
        return torch.hub.load_state_dict_from_url(
            weights.url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (URLError, OSError, RuntimeError) as error:  # RuntimeError: the hash of the file is wrong
        raise FileNotFoundError(
            f"init_from is {COCO} but torchvision's weights cannot be had ({error}): download {weights.url} where "
            f"there is a network, and put the file at {place}"
        ) from error


def _file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"init_from is {path}, but there is no such file")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file of another program makes torch's reader stumble over
        raise ValueError(f"init_from {path} is no file of weights") from error
    if not isinstance(saved, dict) or not saved or not all(isinstance(v, Tensor) for v in saved.values()):
        raise ValueError(f"init_from {path} is no file of weights: it holds no tensors by name")
    return dict(saved)


def _some(names: list[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
