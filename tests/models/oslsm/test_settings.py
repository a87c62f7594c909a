"""Settings that cannot be, or cannot be together, are refused when a segmenter is made."""

import inspect

import pytest

from lightning_fewshot.models import oslsm
from lightning_fewshot.models.oslsm.settings import (
    ImageSides,
    NewLayers,
    PixelLoss,
    Prototypes,
    SegmentationBranchSettings,
    SupportEncoder,
)

ALIGNED = ImageSides(align_corners=True)


@pytest.mark.parametrize(
    ("group", "changes", "message"),
    [
        (SupportEncoder, {"conditioning": "none"}, "conditioning is 'none' but must be one of masked, channel"),
        (SupportEncoder, {"conditioning": "channel", "pooling": Prototypes()}, "conditioning is 'channel' but pooling"),
        (SupportEncoder, {"size": 8}, "size is 8 pixels but must be at least 32"),
        (SupportEncoder, {"prototype_init": True, "hashing": False}, "prototype_init needs hashing"),
        (SupportEncoder, {"scales": (1.5,)}, r"scales is \(1.5,\) but needs crop"),
        (SupportEncoder, {"scales": (0.5, 1.0), "crop": True}, "must hold numbers of at least 1"),
        (SupportEncoder, {"scales": (), "crop": True}, "must hold numbers of at least 1"),
        (SupportEncoder, {"dropout": 1.0}, "dropout is 1.0 but must be at least 0 and below 1"),
        (SupportEncoder, {"lr_factor": -1.0}, "lr_factor is -1.0 but must be at least 0"),
        (Prototypes, {"background": 2.0}, "background is 2.0 but must be 0 to 1"),
        (PixelLoss, {"reduction": "max"}, "reduction is 'max' but must be one of mean, sum"),
        (PixelLoss, {"dice": 2.0}, "dice and contrast are 2.0 and 0.0 but must be at least 0 and together at most 1"),
        (PixelLoss, {"dice": 0.6, "contrast": 0.5}, "dice and contrast are 0.6 and 0.5 but must be"),
        (PixelLoss, {"positive_weight": 0.0}, "positive_weight is 0.0 but must be above 0"),
        (ImageSides, {"query_size": 8}, "query_size is 8 pixels but must be at least 32"),
        (ImageSides, {"max_side": 8}, "max_side is 8 pixels but must be at least 32"),
        (NewLayers, {"kernel_size": 2}, "kernel_size is 2 but must be odd"),
        (NewLayers, {"features": 0}, "features is 0 but must be at least 1"),
        (SegmentationBranchSettings, {"output_stride": 12}, "output_stride is 12 but must be a power of two up to 32"),
        (SegmentationBranchSettings, {"dropout": -0.1}, "dropout is -0.1 but must be"),
    ],
)
def test_a_group_names_what_is_out_of_range(group, changes, message):
    with pytest.raises(ValueError, match=message):
        group(**changes)


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("OSLSMSegmenter", {"shot_aggregation": "and"}, "shot_aggregation is 'and' but must be one of or, mean"),
        ("OSLSMSegmenter", {"bias_lr_factor": 0.0}, "bias_lr_factor is 0.0 but must be above 0"),
        ("OSLSMSegmenter", {"threshold": 1.0}, "threshold is 1.0 but must lie between 0 and 1"),
        (
            "PrototypeSegmenter",
            {"sides": ImageSides(100, align_corners=True)},
            "query_size is 100 but align_corners needs a multiple of output_stride, 16, plus 1, such as 97",
        ),
        (
            "OSLSMSegmenter",
            {"sides": ALIGNED, "encoder": SupportEncoder(size=64, pooling=Prototypes())},
            "size is 64 but align_corners needs a multiple of its network's stride, 32, plus 1, such as 65",
        ),
        (
            "OSLSMSegmenter",
            {"encoder": SupportEncoder(size=64, prototype_init=True)},
            "prototype_init needs fc: null in branch",
        ),
        ("LogisticSegmenter", {"c": 0.0}, "c is 0.0 but must be above 0"),
        ("FineTuningSegmenter", {"steps": 0}, "steps is 0 but must be at least 1"),
        ("FineTuningSegmenter", {"lr": 0.0}, "lr is 0.0 but must be above 0"),
    ],
)
def test_a_segmenter_names_what_cannot_be(segmenter, method, changes, message):
    with pytest.raises(ValueError, match=message):
        segmenter(method, **changes)


def test_no_constructor_has_more_than_twelve_arguments():
    for name in oslsm.__all__:
        named = {p for cls in getattr(oslsm, name).__mro__[:3] for p in inspect.signature(cls).parameters}
        assert len(named - {"options"}) <= 12, name
