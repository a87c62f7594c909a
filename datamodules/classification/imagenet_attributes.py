"""ImageNet Attributes (Rippel et al., ICLR 2016): classes of ImageNet some of whose images have attributes.

The 25 attributes are those of Russakovsky and Fei-Fei (2010), judged on about 25 images of each class. ``attrann.mat``
holds ``images`` (names without extension, the synset first), ``attributes``, and ``labels`` of images by attributes: 1
yes, -1 no, 0 unclear.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.classification.base import ClassImages
from datamodules.classification.catalog import ClassImage, class_folders
from datamodules.images.matlab import read_mat, texts
from datamodules.images.roots import Download, find_root

DATA = Download(
    "imagenet_attributes",
    ("images", "attrann.mat"),
    "ImageNet's images of the annotated synsets, a folder each below images/, and attrann.mat",
    "its authors (https://image-net.org/download-attributes)",
)


class ImageNetAttributes(ClassImages):
    """Images of the synsets that have attributes; those that were judged tell theirs.

    Args:
        root: Folder that holds ``imagenet_attributes``, or is it; None takes FEWSHOT_DATA.
        options: See :class:`ClassImages`.
    """

    def __init__(self, root: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root

    def list_images(self) -> list[ClassImage]:
        """List the images of the annotated synsets."""
        synsets = {name.partition("_")[0] for name in self._judged}
        return [image for image in class_folders(find_root(self.root, DATA) / "images") if image.label in synsets]

    def attributes_of(self, image: ClassImage) -> frozenset[str]:
        """Return the attributes of which the judges were sure; none where an image was not judged."""
        return self._judged.get(Path(image.name).stem, frozenset())

    @cached_property
    def _judged(self) -> dict[str, frozenset[str]]:
        path = find_root(self.root, DATA) / "attrann.mat"
        content = read_mat(path)
        table = content.get("attrann", content)
        keys = ("images", "attributes", "labels")
        if missing := [key for key in keys if not isinstance(table, dict) or key not in table]:
            raise ValueError(f"{path} has no {missing[0]!r}: is it the file of the attribute labels?")
        names, attributes = (texts(table[key], f"{path}: {key}") for key in keys[:2])
        labels = np.asarray(table["labels"])
        if labels.shape != (len(names), len(attributes)):
            raise ValueError(
                f"{path}: labels have the shape {labels.shape} but there are {len(names)} images and {len(attributes)} "
                "attributes"
            )
        return {
            name: frozenset(a for a, judged in zip(attributes, row, strict=True) if judged == 1)
            for name, row in zip(names, labels, strict=True)
        }
