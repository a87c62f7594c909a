"""Few-shot vision in PyTorch Lightning: look at a few labelled examples, then predict.

Public names are loaded when they are used (PEP 562), so that importing the package stays cheap and
``class_path: lightning_fewshot.RepMetDetector`` works in a yaml. A paper is found by its folder: every module
``lightning_fewshot.models.<paper>`` offers the names in its ``__all__``.
"""

import importlib
import pkgutil

__version__ = "0.2.0"
API = {  # functions by the module that has them
    "load": "lightning_fewshot.api",
    "load_data": "lightning_fewshot.api",
    "examples": "lightning_fewshot.api",
    "save_state": "lightning_fewshot.states",
    "load_state": "lightning_fewshot.states",
    "merge_states": "lightning_fewshot.states",
}


def _public_modules() -> list[str]:
    models = importlib.import_module("lightning_fewshot.models")
    papers = [f"{models.__name__}.{module.name}" for module in pkgutil.iter_modules(models.__path__)]
    return [*papers, "lightning_fewshot.tracking"]


def __getattr__(name: str):
    if name in API:
        return getattr(importlib.import_module(API[name]), name)
    if name[:1].isupper():
        for module_name in _public_modules():
            module = importlib.import_module(module_name)
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module 'lightning_fewshot' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *API, *(n for m in _public_modules() for n in importlib.import_module(m).__all__)})
