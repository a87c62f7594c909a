"""Class images in folders of their own, and how a data set reads them."""

from makers import load

from datamodules import ImageFolder
from datamodules.classification.settings import ClassSplits, ImageSettings

make = load("classes")
SMALL = ImageSettings(size=32)
NOVEL = ClassSplits(val_classes=3, test_classes=3)
CLOSED = ClassSplits("closed", val_images=0.2, test_images=0.34)
TASK = {"n_way": 3, "k_shot": 1, "n_query": 2}


def folder_data(folder, **options):
    return ImageFolder(root=str(folder), **{"images": SMALL, "splits": NOVEL, **TASK, **options})
