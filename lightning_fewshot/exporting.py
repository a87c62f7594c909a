"""Adapted networks as files: ONNX or torch.export, with class names inside, compared with the network on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

TOLERANCE = {"rtol": 1e-3, "atol": 1e-3}
METADATA_FILE = "metadata.json"  # in a file of torch.export


class Exportable(NamedTuple):
    """An adapted network as an ordinary one: images in, predictions out, nothing to adapt.

    Args:
        network: Maps one tensor of uint8 images to tensors; what is done to images before is part of it.
        images: ``(B, C, H, W)`` uint8, an input of the size that the file will take.
        outputs: Name of each output.
        says: What the outputs mean, for the metadata.
    """

    network: nn.Module
    images: Tensor
    outputs: tuple[str, ...]
    says: str


def export_onnx(exportable: Exportable, path: Path, metadata: dict[str, Any]) -> float:
    """Write an ONNX file and run it with onnxruntime; return the greatest difference from the network.

    Raises:
        ValueError: ONNX is not installed, or the file answers otherwise than the network; it is then removed.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 torch's exporter needs it
    except ImportError as error:
        raise ValueError(f"export needs {error.name}: pip install onnx onnxruntime onnxscript") from error
    options = {"input_names": ["images"], "output_names": list(exportable.outputs), "dynamo": True, "verbose": False}
    program = torch.onnx.export(exportable.network.eval(), (exportable.images,), external_data=False, **options)
    model = program.model_proto
    onnx.helper.set_model_props(model, {key: _as_text(value) for key, value in metadata.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answers = session.run(None, {"images": exportable.images.numpy()})
    return _compared(exportable, [torch.from_numpy(answer) for answer in answers], path)


def export_torch(exportable: Exportable, path: Path, metadata: dict[str, Any]) -> float:
    """Write a file of torch.export and run it; return the greatest difference from the network.

    Raises:
        ValueError: The file answers otherwise than the network; it is then removed.
    """
    program = torch.export.export(exportable.network.eval(), (exportable.images,))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, str(path), extra_files={METADATA_FILE: json.dumps(metadata)})
    answers = torch.export.load(str(path)).module()(exportable.images)
    return _compared(exportable, [answers] if isinstance(answers, Tensor) else list(answers), path)


@torch.no_grad()
def _compared(exportable: Exportable, answers: list[Tensor], path: Path) -> float:
    expected = exportable.network(exportable.images)
    expected = [expected] if isinstance(expected, Tensor) else list(expected)
    try:
        for name, here, there in zip(exportable.outputs, expected, answers, strict=True):
            torch.testing.assert_close(there, here, msg=lambda text, name=name: f"{name}: {text}", **TOLERANCE)
    except (AssertionError, ValueError) as error:
        path.unlink(missing_ok=True)
        raise ValueError(f"the exported file does not answer like the network, and is removed: {error}") from error
    return max(float((there - here).abs().max()) for here, there in zip(expected, answers, strict=True) if here.numel())


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
