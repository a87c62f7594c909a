"""TripletClassifier: the triplet loss, with semi-hard triplets of a batch (Schroff et al., CVPR 2015)."""

from __future__ import annotations

from torch import Tensor

from lightning_fewshot.classification.module import ClassifierModule
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.episodes import Episode
from lightning_fewshot.settings import BackboneSettings, Optimization


class TripletClassifier(ClassifierModule):
    """Train an embedding with the triplet loss; classes are the k-means centres of their training images.

    Args:
        backbone: "conv4", or any timm network.
        embedding: Layers on top of it.
        n_modes: Centres of a class.
        margin: By how much a negative must be farther than a positive, in units of distance.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start from; parameters that it lacks keep their initial values.
    """

    def __init__(
        self,
        backbone: BackboneSettings = BackboneSettings("inception_v3"),
        embedding: EmbeddingHead = EmbeddingHead(),
        n_modes: int = 3,
        margin: float = 0.2,
        optimization: Optimization = Optimization(),
        init_from: str | None = None,
    ) -> None:
        from pytorch_metric_learning.losses import TripletMarginLoss
        from pytorch_metric_learning.miners import TripletMarginMiner

        super().__init__(backbone, embedding, optimization=optimization, init_from=init_from)
        if n_modes < 1:
            raise ValueError(f"n_modes is {n_modes} but must be at least 1")
        if margin <= 0:
            raise ValueError(f"margin is {margin} but must be above 0")
        self.n_modes = n_modes
        self.mine = TripletMarginMiner(margin, type_of_triplets="semihard")
        self.criterion = TripletMarginLoss(margin)

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the mean loss of the semi-hard triplets of a batch."""
        labels = self.training_labels(episode)
        embedded = self.embed(episode.query.images)
        return {"triplet": self.criterion(embedded, labels, self.mine(embedded.detach(), labels))}
