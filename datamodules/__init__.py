"""Concrete data, one file a data set. They follow ``lightning_fewshot.base.EpisodicDataModule``.

``class_path: datamodules.<Class>`` finds a class in whichever module of this package defines it.
"""

import importlib
import pkgutil


def __getattr__(name: str):
    if name[:1].isupper():
        for module in pkgutil.iter_modules(__path__):
            if not module.ispkg:
                found = vars(importlib.import_module(f"{__name__}.{module.name}")).get(name)
                if found is not None and found.__module__ == f"{__name__}.{module.name}":
                    return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
