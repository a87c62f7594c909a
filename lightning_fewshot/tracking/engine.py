"""A tracker's adapted network run by onnxruntime in place of PyTorch.

The network is exported once for all targets: what was fixed for a target (its template, its predicted filters) is an
input of the exported file, the rest is constant in it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lightning_fewshot.exporting import Exportable


class OnnxRuntimeEngine:
    """What a :class:`~lightning_fewshot.tracking.response.ResponseTracker` may use as its ``predict``.

    Args:
        exportable: Makes the static network of a state; ``network.adapted`` names its tensors that are the state's.

    Raises:
        ValueError: onnxruntime or what exports to it is not installed.
    """

    def __init__(self, exportable: Callable[[Any, Tensor], Exportable]) -> None:
        try:
            import onnxruntime
            import onnxscript  # noqa: F401 torch's exporter needs it
        except ImportError as error:
            raise ValueError(
                f"engine is 'onnxruntime' but {error.name} is missing: pip install -e '.[onnxruntime]'"
            ) from error
        self._runtime = onnxruntime
        self._exportable = exportable
        self._sessions: dict[tuple[torch.Size, ...], Any] = {}
        self._state: Any = None
        self._inputs: dict[str, Any] = {}
        self._session: Any = None

    def __call__(self, state: Any, crops: Tensor) -> Tensor:
        """Return responses ``(1, N, R, R)`` float32 of one target's ``(N, 3, S, S)`` search crops."""
        if state is not self._state:
            self._take(state, crops)
        responses = self._session.run(None, {"images": crops.numpy(), **self._inputs})[0]
        return torch.from_numpy(responses)[None]

    def _take(self, state: Any, crops: Tensor) -> None:
        """Make a state's tensors the inputs; export where none had their shapes before."""
        network = self._exportable(state, crops).network.eval()
        tensors = dict(network.named_parameters()) | dict(network.named_buffers())
        changing = {name: tensors[name].detach().contiguous() for name in network.adapted}
        shapes = (crops.shape, *(t.shape for t in changing.values()))
        if shapes not in self._sessions:
            self._sessions[shapes] = self._exported(_WithInputs(network, tuple(changing)), (crops, *changing.values()))
        self._session = self._sessions[shapes]
        self._inputs = {f"adapted_{i}": t.numpy() for i, t in enumerate(changing.values())}
        self._state = state

    def _exported(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
        names = ["images", *(f"adapted_{i}" for i in range(len(inputs) - 1))]
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(network, inputs, input_names=names, dynamo=True, verbose=False)
            program.save(file)
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        return self._runtime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])


class _WithInputs(nn.Module):
    """A network some of whose tensors are inputs."""

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.names = names

    def forward(self, images: Tensor, *adapted: Tensor) -> Tensor:
        """Call the network with these tensors in place of its own."""
        return functional_call(self.network, dict(zip(self.names, adapted, strict=True)), (images,))
