"""A world drawn in code: object classes, scenes and videos, in numpy and OpenCV alone; nothing is downloaded.

`make_class` gives an object class, `draw_scene` a picture of some objects with boxes and masks, `draw_video` a video.
"""

from datamodules.world.appearance import ObjectClass, class_seeds, make_class
from datamodules.world.draw import Scene, draw_scene
from datamodules.world.motion import Motion
from datamodules.world.sprite import Variation
from datamodules.world.video import Frame, Video, draw_video

__all__ = [
    "Frame",
    "Motion",
    "ObjectClass",
    "Scene",
    "Variation",
    "Video",
    "class_seeds",
    "draw_scene",
    "draw_video",
    "make_class",
]
