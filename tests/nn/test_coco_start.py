"""Torchvision's Faster R-CNN in our detector: the same maps and proposals, and errors that say what does not fit."""

import pytest
import torch
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from lightning_fewshot.models.repmet import ExternalMetricDetector, PlainDetector
from lightning_fewshot.nn import coco_start
from lightning_fewshot.nn.coco_start import read_torchvision
from lightning_fewshot.nn.two_stage import Proposals, Pyramid, RoiHead
from lightning_fewshot.settings import BackboneSettings

FULL = Pyramid(anchor_sizes=(32, 64, 128, 256, 512), coarsest=True)


def detector(path, cls=PlainDetector, backbone="resnet50", pyramid=FULL):
    module = cls(
        BackboneSettings(backbone),
        pyramid,
        Proposals(train=20, test=20, before_nms=1000),  # 1000 as torchvision
        RoiHead(widths=(16,)),
        init_from=str(path),
    )
    module.set_classes(("a", "b"))
    module.print = lambda text: None  # Lightning prints through a trainer
    return module.eval()


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    network = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, rpn_post_nms_top_n_test=20)
    for module in network.modules():  # as if it were trained: no two maps alike
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def path(theirs, tmp_path_factory):
    file = tmp_path_factory.mktemp("torchvision") / "fasterrcnn.pth"
    saved = dict(theirs.state_dict())
    older = {
        k.replace("blocks.0.0.", "blocks.0.").replace("rpn.head.conv.0.0.", "rpn.head.conv."): v
        for k, v in saved.items()
    }
    torch.save(older, file)
    return file


@torch.no_grad()
def test_maps_and_proposals_are_torchvisions(theirs, path):
    module = detector(path)
    module.load_initial(str(path))
    image = torch.randint(0, 255, (1, 3, 128, 192), dtype=torch.uint8)
    maps = module.network.maps(image)
    normalised = theirs.transform.normalize(image[0] / 255)[None]
    expected = theirs.backbone(normalised)
    assert list(maps.pyramid) == list(expected) == ["0", "1", "2", "3", "pool"]
    for name, wanted in expected.items():
        assert (maps.pyramid[name] - wanted).abs().max() < 1e-2 * wanted.std()
    proposed, _ = theirs.rpn(maps.images, maps.pyramid)
    torch.testing.assert_close(module.network.propose(maps).boxes[0], proposed[0], rtol=1e-3, atol=1e-2)


@torch.no_grad()
def test_deformable_convolutions_start_as_the_plain_ones(theirs, path):
    module = detector(path, pyramid=Pyramid(anchor_sizes=(32, 64, 128, 256, 512), coarsest=True, deformable=True))
    module.load_initial(str(path))
    image = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)
    expected = theirs.backbone(theirs.transform.normalize(image[0] / 255)[None])
    torch.testing.assert_close(module.network.maps(image).pyramid["3"], expected["3"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"backbone": "resnet18"}, r"backbone\.backbone\.body\.layer1\.0\.conv1\.weight \(64, 64, 3, 3\) here"),
        ({"backbone": "resnet101"}, r"255 parameters are not in it \(backbone\.backbone\.body\.layer3\.6\."),
        ({"pyramid": Pyramid(channels=64)}, r"backbone\.pyramid\.inner_blocks\.0\.0\.weight \(64, 256, 1, 1\) here"),
        (
            {"pyramid": Pyramid(strides=(8, 16, 32), anchor_sizes=(32, 64, 128))},
            r"4 parameters of it have no place here \(backbone\.fpn\.inner_blocks\.3",
        ),
    ],
    ids=["shallower", "deeper", "narrower", "fewer maps"],
)
def test_what_does_not_fit_is_listed(path, settings, said):
    module = detector(path, **settings)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ValueError, match=said) as error:
        module.load_initial(str(path))
    assert "set backbone.name to resnet50" in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_what_cannot_be_downloaded_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def unreachable(*args, **kwargs):
        raise coco_start.URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    with pytest.raises(FileNotFoundError) as error:
        read_torchvision("COCO_V1")
    assert "no network" in str(error.value)
    assert str(tmp_path / "checkpoints/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth") in str(error.value)


def test_the_hubs_cache_is_used(theirs, tmp_path, monkeypatch):
    """A file of the published name in the cache is read, without a network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save({"a": torch.ones(1)}, tmp_path / "checkpoints/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth")
    assert read_torchvision("COCO_V1")["a"] == 1


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_torchvision(str(tmp_path / "none.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ValueError, match="is no file of weights"):
        read_torchvision(str(tmp_path / "text.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="it holds no tensors by name"):
        read_torchvision(str(tmp_path / "list.pth"))


def test_the_external_baseline_needs_a_trained_detector(path):
    module = detector(path, cls=ExternalMetricDetector)
    with pytest.raises(ValueError, match="no checkpoint: it has no 'state_dict'"):
        module.load_initial(str(path))
