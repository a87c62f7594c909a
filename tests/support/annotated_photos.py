"""Photos with one red rectangle, and what annotates it."""

import json

import numpy as np
from PIL import Image

BOX = [8, 6, 30, 26]
IMAGE = {"id": 1, "file_name": "a.jpg", "width": 80, "height": 60}
ROW = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 6, 22, 20]}


def photo(path, size=(80, 60), exif=None):
    """Write a grey photo with a red rectangle at BOX."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((size[1], size[0], 3), 90, np.uint8)
    values[BOX[1] : BOX[3], BOX[0] : BOX[2]] = (200, 30, 30)
    Image.fromarray(values).save(path)
    return path


def coco(root, images, rows, names=("bolt",)):
    categories = [{"id": 1 + i, "name": name} for i, name in enumerate(names)]
    record = {"images": images, "annotations": rows, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(record))
    return root / "annotations.json"


def mask(path, size=(60, 80)):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros(size, np.uint8)
    values[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    Image.fromarray(values).save(path)
