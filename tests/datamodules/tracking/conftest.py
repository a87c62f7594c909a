"""Tiny data of every set of videos."""

import pytest
from video_sets import maker, masks, photos, tiny


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    base = tmp_path_factory.mktemp("videos")
    for make in (maker.make_otb, maker.make_vot, maker.make_templecolor, maker.make_uav123):
        make(base)
    maker.make_got10k(base)
    maker.make_vid(base)
    maker.make_vid(base, 3, part="val")
    masks.make_davis(base)
    tiny.make(base)
    photos.make_coco(base, ["person", "dog", "cat", "car", "bus", "bird", "zebra"], 8)
    return str(base)
