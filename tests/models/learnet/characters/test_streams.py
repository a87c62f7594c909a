"""What the streams of characters add to the paper's three convolutions."""

import torch
from torch import nn

from lightning_fewshot.models.learnet.characters.network import LearnetNetwork


def _images(seed):
    return torch.randint(0, 256, (3, 1, 28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_residual_blocks_add_to_what_comes_in():
    """A block whose second convolution is 0 is the identity behind a ReLU, and the paper's network has none."""
    plain, network = LearnetNetwork("siamese_shared"), LearnetNetwork("siamese_shared", residual_blocks=2)
    missing, _ = network.load_state_dict(plain.state_dict(), strict=False)
    assert len(missing) == 4 * 2 * 6  # blocks, convolutions in each, entries of a convolution with its norm
    assert all("blocks" in name for name in missing)
    for block in [block for each in network.stream.blocks for block in each]:
        nn.init.zeros_(block.norms[1].weight)
    z, x = _images(0), _images(1)
    same = [net.eval().predict(net.adapt(z), x) for net in (plain, network)]
    torch.testing.assert_close(*same)
    nn.init.ones_(network.stream.blocks[0][1].norms[1].weight)
    assert not torch.allclose(network.predict(network.adapt(z), x), same[0])
