"""Every reader of photos and annotations, each with a whole file for it."""

import json

import numpy as np
from makers import load
from PIL import Image

from datamodules.characters.omniglot_files import read_run
from datamodules.detection.folder import FolderDetection
from datamodules.detection.imagenet_loc import plan_published, read_classes
from datamodules.detection.voc import read_xml
from datamodules.images.coco import read_coco
from datamodules.images.davis import read_sequences
from datamodules.images.reading import SkippedItems
from datamodules.images.tiny_imagenet import read_tiny_imagenet, read_titles
from datamodules.images.yolo import read_yolo_photos
from datamodules.segmentation.camvid import CamVid
from datamodules.segmentation.coco20i import Coco20i
from datamodules.segmentation.coco_panoptic import CocoPanoptic
from datamodules.segmentation.folder_masks import FolderMasks
from datamodules.segmentation.fss1000 import FSS1000
from datamodules.segmentation.pascal5i import read_entries
from lightning_fewshot.images import image_size, read_image, read_mask
from lightning_fewshot.sampling import read_episodes
from lightning_fewshot.text import read_json

PHOTOS = {wnid: [f"{wnid}_{i}" for i in range(12)] for wnid in read_classes()["novel"].values()}


def read_voc(path):
    read_xml(path, path.parent / "a.jpg", SkippedItems())


def read_published(path):
    plan_published(read_json(path), PHOTOS, str(path))


def of_photos(make, root):
    """Return a reader that reads all photos of a data set and the masks or boxes of one."""

    def read(path):
        data = make(str(root))
        photos = list(data.catalog.photos.values())
        for photo in photos[:2]:
            data.photos.read(photo) if hasattr(data, "read_mask") else data.read(photo, photo.boxes, None)

    return read


def write_image(path, image):
    image.save(path)
    return path


def make_readers(root):
    """What is read, and by what: name -> (file that is damaged, reader)."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    parts = (read_pictures, read_masks, read_boxes, read_lists, read_characters)
    return {name: pair for part in parts for name, pair in part(root, picture).items()}


def read_pictures(root, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(root / "a.jpg", exif=exif)
    picture.convert("P").save(root / "a.gif")
    paths = {"jpeg": root / "a.jpg", "gif": root / "a.gif"}
    for name, suffix in (("png", "png"), ("tiff", "tif"), ("webp", "webp"), ("bmp", "bmp")):
        paths[name] = write_image(root / f"a.{suffix}", picture)
    return {name: (path, lambda p: (read_image(p), image_size(p))) for name, path in paths.items()}


def read_masks(root, picture):
    masks = load("masks")
    own = masks.make_folder_masks(root / "own")
    for mask in sorted((own / "masks").iterdir())[3:]:
        mask.unlink()
    coco = make_coco_masks(root / "coco")
    panoptic = write_panoptic(root / "panoptic/coco", picture)
    return {
        "mask": (own / "masks/mine0.png", lambda p: (read_mask(p), of_photos(FolderMasks, own)(p))),
        "masked photo": (own / "images/mine0.png", of_photos(FolderMasks, own)),
        "classes.txt": (own / "classes.txt", of_photos(FolderMasks, own)),
        "coco20i": (coco / "annotations/instances_train2017.json", of_photos(coco20i, coco)),
        "panoptic": (panoptic / "annotations/panoptic_train2017.json", of_photos(CocoPanoptic, panoptic)),
        "camvid": camvid(root / "camvid", masks),
        "fss1000": fss1000(root / "fss", picture),
    }


def make_coco_masks(root):
    coco = load("photos").make_coco(root, ["a", "b"], 1) / "coco"
    for part in ("train", "val"):
        path = coco / f"annotations/instances_{part}2017.json"
        record = json.loads(path.read_text())
        for i, row in enumerate(record["annotations"]):
            row["segmentation"] = [[1, 1, 20, 1, 20, 20]] if i else {"counts": [1, 59, 40 * 60 - 60], "size": [40, 60]}
        path.write_text(json.dumps(record))
    return coco


def read_boxes(root, picture):
    photos = load("photos")
    voc = photos.make_voc(root / "voc", ["bird"], 1) / "VOCdevkit/VOC2007"
    picture.save(voc / "Annotations/a.jpg")
    folder = photos.make_folder(root / "folder", ["a", "b"], 2)
    yolo = photos.make_yolo(root / "yolo", ["person"], 1)
    tiny = root / "tiny/train/n01443537"
    (tiny / "images").mkdir(parents=True)
    picture.resize((64, 64)).save(tiny / "images/a.JPEG")
    (tiny / "n01443537_boxes.txt").write_text("a.JPEG\t1\t2\t30\t40\nb.JPEG\t1\t2\t30\t40\n")
    (root / "tiny/words.txt").write_text("n01443537\tgoldfish, Carassius\n")
    return {
        "coco": (folder / "annotations.json", lambda p: read_coco(p, folder)),
        "folder": (folder / "annotations.json", of_photos(FolderDetection, folder)),
        "voc": (voc / "Annotations/2007_000000.xml", read_voc),
        "yolo labels": (next(yolo.rglob("train20170.txt")), lambda p: read_yolo_photos(str(yolo))),
        "yolo names": (yolo / "coco128/object_detection/config.yaml", lambda p: read_yolo_photos(str(yolo))),
        "tiny imagenet": (tiny / "n01443537_boxes.txt", lambda p: read_tiny_imagenet(root / "tiny")),
        "titles": (root / "tiny/words.txt", lambda p: read_titles(root / "tiny")),
    }


def read_lists(root, picture):
    (root / "davis.txt").write_text("/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png\nbike\n")
    (root / "fold0.txt").write_text("2007_000032__01\n2007_000033__20\n")
    plan = {"classes": ["a", "b"], "support": [["x"], ["y"]], "query": [["u", 3], ["v"]]}
    (root / "episodes.json").write_text(json.dumps({"episodes": [plan, plan]}))
    number = str(next(iter(read_classes()["novel"])))
    published = {"epi_cats": [int(number)], "train_nImg": {number: [7]}, "query_images": {number: [8, 9]}}
    (root / "published.json").write_text(json.dumps([published]))
    return {
        "davis": (root / "davis.txt", read_sequences),
        "pascal5i": (root / "fold0.txt", read_entries),
        "episodes": (root / "episodes.json", read_episodes),
        "published episodes": (root / "published.json", read_published),
    }


def read_characters(root, picture):
    run = root / "run01"
    run.mkdir()
    Image.new("L", (105, 105), 255).save(run / "a.png")
    (run / "class_labels.txt").write_text("run01/a.png run01/a.png\n")
    return {"omniglot run": (run / "class_labels.txt", lambda p: read_run(p.parent, 28))}


def coco20i(root):
    return Coco20i(root, year="2017")


def camvid(root, masks):
    for part in ("train", "val"):
        values = masks.draw(root / part / "a.png", 0, 3)
        masks.write(root / f"{part}annot/a.png", values)
    return root / "trainannot/a.png", of_photos(CamVid, root)


def fss1000(root, picture):
    (root / "cup").mkdir(parents=True)
    picture.save(root / "cup/1.jpg")
    picture.convert("L").save(root / "cup/1.png")
    return root / "cup/1.png", of_photos(FSS1000, root)


def write_panoptic(root, picture):
    (root / "annotations").mkdir(parents=True)
    for part in ("train2017", "val2017"):
        (root / part).mkdir()
        (root / f"annotations/panoptic_{part}").mkdir()
        picture.save(root / part / f"{part}.png")
        Image.new("RGB", picture.size, (7, 0, 0)).save(root / f"annotations/panoptic_{part}/{part}.png")
        segment = {"id": 7, "category_id": 1, "area": 700, "iscrowd": 0}
        record = {
            "images": [{"id": 1, "file_name": f"{part}.png", "width": 32, "height": 24}],
            "annotations": [{"image_id": 1, "file_name": f"{part}.png", "segments_info": [segment]}],
            "categories": [{"id": 1, "name": "cup", "isthing": 1}],
        }
        (root / f"annotations/panoptic_{part}.json").write_text(json.dumps(record))
    return root
