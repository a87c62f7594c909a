"""A GPU on machines that have none: tensors in main memory that count as lying on ``cuda:0``.

The device belongs to a tensor's storage, so that views share it. Every call from Python is seen (a TorchFunctionMode:
what asks for a device, or for a tensor's), and so is every operation below it, those of the backward pass as well (a
TorchDispatchMode: what mixes devices, and what lets the host wait until the device has computed).

What waits was read from PyTorch's CUDA code: reading a value, operations whose result's size is data, copies between
the devices that are not asked to be ``non_blocking``.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
SIZE_IS_DATA = {"nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount", "nms"}
WAITING = {*SIZE_IS_DATA, "_local_scalar_dense", "equal"}
MOVES = {"to", "cpu", "cuda", "type_as"}
BETWEEN_DEVICES = {"copy_", "_to_copy", "set_"}  # operations that may take tensors of both
GROUPING = "_group_tensors_by_device_and_dtype"
JOINS = {"cat", "stack"}  # that take not even a number from the CPU
GETTERS = {"device": lambda gpu: GPU if gpu else CPU, "is_cuda": bool, "is_cpu": lambda gpu: not gpu}
NAMES = ("cpu", "cuda", "cuda:0")
SOURCES = ("/lightning_fewshot/", "/datamodules/")


class SimulatedDevice:
    """A context in which ``cuda:0`` exists.

    Attributes:
        mixed: What took tensors of both devices, and where; CUDA would refuse it.
        waits: How often the host waited, by (phase, place).
    """

    def __init__(self) -> None:
        self.mixed: Counter[str] = Counter()
        self.waits: Counter[tuple[str, str]] = Counter()
        self.phase: str | None = None
        self.inside = False  # whether a call that works on the GPU is being carried out
        self.fills = False  # whether a number is being written, which needs no copy
        self._storages: dict[int, StorageWeakRef] = {}  # a weak reference keeps the number from being given anew

    def __enter__(self) -> SimulatedDevice:
        self._stack = ExitStack()
        self._stack.enter_context(patch.object(torch._C, GROUPING, self._grouped(getattr(torch._C, GROUPING))))
        self._stack.enter_context(_Kernels(self))
        self._stack.enter_context(_Calls(self))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def count(self, phase: str) -> int:
        """Return how often the host waited in a phase."""
        return sum(n for (where, _), n in self.waits.items() if where == phase)

    def _grouped(self, group: Callable) -> Callable:
        """Return what optimisers sort parameters by device with, which looks at the true one otherwise."""

        def call(*args: Any) -> dict:
            found = group(*args)
            return {(self.place(lists[0][0]), dtype): (lists, i) for (_, dtype), (lists, i) in found.items()}

        return call

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Count what waits in this context as that of ``phase``."""
        before, self.phase = self.phase, phase
        try:
            yield
        finally:
            self.phase = before

    def counted(self, phase: str, function: Callable) -> Callable:
        """Return a function whose waits count."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.during(phase):
                return function(*args, **kwargs)

        return call

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor lies on the GPU."""
        return _storage(tensor) in self._storages

    def place(self, tensor: Tensor) -> torch.device:
        """Return where a tensor lies."""
        return GPU if self.holds(tensor) else CPU

    def put(self, tensor: Tensor, gpu: bool) -> None:
        """Let a tensor, and all its views, lie on the GPU or not."""
        if not gpu:
            self._storages.pop(_storage(tensor), None)
        elif not self.holds(tensor):
            self._storages[_storage(tensor)] = StorageWeakRef(tensor.untyped_storage())

    def wait(self, what: str) -> None:
        """Note that the host waits."""
        if self.phase is not None:
            self.waits[self.phase, f"{what} in {_place()}"] += 1

    def refuse(self, what: str) -> None:
        """Note what CUDA would refuse."""
        self.mixed[f"{what} in {_place()}"] += 1

    def forget_freed(self) -> None:
        """Let go of the numbers of storages that are no more."""
        self._storages = {key: ref for key, ref in self._storages.items() if not ref.expired()}


class _Calls(TorchFunctionMode):
    """Calls from Python: what names a device, and what asks for one."""

    def __init__(self, device: SimulatedDevice) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs, name, gpu = kwargs or {}, getattr(func, "__name__", ""), self.device
        if name == "__get__" and (getter := GETTERS.get(getattr(func.__self__, "__name__", ""))):
            return getter(gpu.holds(args[0]))
        if name == "_parse_to" or func is torch.device:
            return func(*args, **kwargs)
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        on_gpu = any(gpu.holds(t) for t in given)
        target = _target(args, kwargs)
        if name in MOVES and given:
            return self._move(func, args, kwargs, {"cpu": CPU, "cuda": GPU}.get(name, target))
        if on_gpu and name in ("tolist", "numpy", "__array__"):
            (gpu.wait if name == "tolist" else gpu.refuse)(name)
        before, gpu.inside = gpu.inside, target == GPU if target is not None else on_gpu
        gpu.fills = name == "__setitem__" and not isinstance(args[2], Tensor)
        self._check_generator(kwargs)
        try:
            out = func(*_on_cpu(args), **_on_cpu(kwargs))
        finally:
            gpu.inside, gpu.fills = before, False
        return self._placed(name, out, given, target if name != "new_tensor" or target else on_gpu and GPU)

    def _check_generator(self, kwargs: dict[str, Any]) -> None:
        generator = kwargs.get("generator")
        if self.device.inside and isinstance(generator, torch.Generator):
            self.device.refuse("random numbers of the GPU from a generator of the CPU")

    def _move(self, func: Callable, args: tuple, kwargs: dict, target: torch.device | None) -> Tensor:
        """Copy to the other device where that is asked for."""
        gpu, source = self.device, args[0]
        others = [a for a in (*args[1:], kwargs.get("other")) if isinstance(a, Tensor)]
        wanted = gpu.holds((others or [source])[0]) if target is None else target.type == "cuda"
        out = func(*_on_cpu(args), **_on_cpu(kwargs))
        if wanted != gpu.holds(source):
            out = out.clone() if _storage(out) == _storage(source) else out
            gpu.put(out, wanted)
            if not kwargs.get("non_blocking"):
                gpu.wait("a copy to the GPU" if wanted else "a copy to the CPU")
        return out

    def _placed(self, name: str, out: Any, given: list[Tensor], target: Any) -> Any:
        """Put what a call made for a device there."""
        if not target:
            return out
        if target == GPU and name in ("tensor", "as_tensor", "new_tensor"):
            self.device.wait("a copy to the GPU")
        known = {_storage(t) for t in given}
        if isinstance(out, Tensor) and _storage(out) in known and self.device.holds(out) != (target == GPU):
            out = out.clone()  # as_tensor of a tensor that lies elsewhere
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and _storage(tensor) not in known:
                self.device.put(tensor, target == GPU)
        return out


class _Kernels(TorchDispatchMode):
    """Operations: where their results lie, what mixes devices, what waits."""

    def __init__(self, device: SimulatedDevice) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs, gpu = kwargs or {}, self.device
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        places = [gpu.holds(t) for t in given]
        name = func._schema.name.partition("::")[2]
        if any(places):
            self._check(name, args, kwargs, given, places)
        out = func(*args, **kwargs)
        if any(places) or (not given and gpu.inside):
            known = {_storage(t) for t in given}
            for tensor in tree_leaves(out):
                if isinstance(tensor, Tensor) and _storage(tensor) not in known:
                    gpu.put(tensor, True)
        return out

    def _check(self, name: str, args: tuple, kwargs: dict, given: list[Tensor], places: list[bool]) -> None:
        gpu = self.device
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            return self._check_indexing(name, args)
        if name in WAITING or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            gpu.wait(name)
        if name == "copy_":
            non_blocking = kwargs.get("non_blocking") or (len(args) > 2 and args[2])
            if places[0] != places[1] and not (gpu.fills or non_blocking):
                gpu.wait("a copy between the devices")
        elif name not in BETWEEN_DEVICES and any(
            not p and (t.dim() or name in JOINS) for t, p in zip(given, places, strict=True)
        ):
            sides = [f"{'gpu' if p else 'cpu'}{tuple(t.shape)}" for t, p in zip(given, places, strict=True)]
            gpu.refuse(f"{name} of {', '.join(sides)}")
        return None

    def _check_indexing(self, name: str, args: tuple) -> None:
        """Indices may lie on the CPU, which copies them; those of the GPU do not index a tensor of the CPU."""
        gpu, indices = self.device, [i for i in args[1] if i is not None]
        if not gpu.holds(args[0]):
            return gpu.refuse(f"{name} of a tensor of the CPU with one of the GPU")
        is_mask = [i.dtype in (torch.bool, torch.uint8) for i in indices]
        fills = name != "index" and len(indices) == 1 and args[2].numel() == 1  # done as masked_fill
        if any(is_mask) and not fills:
            gpu.wait("indexing with a mask")
        if not all(gpu.holds(i) for i in indices):
            gpu.wait("a copy to the GPU")
        if name != "index" and args[2].dim() and not gpu.holds(args[2]):
            gpu.refuse("index_put of values of the CPU")
        return None


def _storage(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage()._cdata
    except (RuntimeError, NotImplementedError):  # of a tensor without one
        return 0


def _target(args: tuple, kwargs: dict[str, Any]) -> torch.device | None:
    """Return the device that a call names."""
    values = (*args, kwargs.get("device"))
    named = [x for x in values if isinstance(x, torch.device) or (isinstance(x, str) and x in NAMES)]
    return torch.device(named[0]) if named else None


def _on_cpu(values: Any) -> Any:
    """Name the CPU where the GPU is named."""
    values = tree_map_only(torch.device, lambda d: CPU if d.type == "cuda" else d, values)
    return tree_map_only(str, lambda s: "cpu" if s.startswith("cuda") else s, values)


def _place() -> str:
    """Return the innermost line of the project that is being carried out."""
    for frame in reversed(traceback.extract_stack()[:-3]):
        for source in SOURCES:
            if source in frame.filename:
                return f"{source.strip('/')}/{frame.filename.rpartition(source)[2]}:{frame.lineno}"
    return "no file of the project"
