"""RT-MDNet (Jung et al., ECCV 2018), the base tracker and the baseline of table 2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from lightning_fewshot.episodes import Episode
from lightning_fewshot.models.metartt.adaptation import Samples, adapt_sgd
from lightning_fewshot.models.metartt.base_module import CandidateModule
from lightning_fewshot.models.metartt.loss import POSITIVE, classification_loss, instance_loss
from lightning_fewshot.models.metartt.network import Head, head_maps
from lightning_fewshot.models.metartt.pruning import Pruned
from lightning_fewshot.models.metartt.simulation import clips_of, collect

DOMAINS_COMPARED = 100  # by the instance embedding loss


class RTMDNet(CandidateModule):
    """Learn common features with a last layer of its own for every video, then adapt by SGD with momentum.

    An episode holds P clips; ``episode.class_ids`` are the numbers of their videos, which choose the last layers.

    Args:
        k_init: Gradient steps in the first frame; table 2 has 50 and 5.
        k_on: Gradient steps of an online update; table 2 has 15 and 5.
        init_lr: Learning rate of the first frame; that of the last layer is ten times as large.
        online_lr: Learning rate of online updates.
        drop: Dropout before fc5 and fc6, in training and in adaptation.
        domains: Last layers; video i has layer ``i mod domains``.
        instance_weight: Weight of the instance embedding loss.
        kwargs: See :class:`CandidateModule`.
    """

    def __init__(
        self,
        k_init: int = 50,
        k_on: int = 15,
        init_lr: float = 1e-4,
        online_lr: float = 3e-4,
        drop: float = 0.5,
        domains: int = 1000,
        instance_weight: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, count in {"k_init": k_init, "k_on": k_on, "domains": domains}.items():
            if count < 1:
                raise ValueError(f"{name} is {count} but must be at least 1")
        self.k_init, self.k_on, self.init_lr, self.online_lr = k_init, k_on, init_lr, online_lr
        self.drop, self.domains, self.instance_weight = drop, domains, instance_weight
        hidden = self.network.fc6.in_features
        self.branches = nn.Parameter(torch.randn(domains, 2, hidden) * 0.01)
        self.branch_biases = nn.Parameter(torch.zeros(domains, 2))
        self.network.fc6.requires_grad_(False)  # a fresh last layer is drawn for every target

    def start(self, clips: int = 1) -> Head:
        """Return learned features and a fresh last layer."""
        head = self.network.head(clips)
        bound = self.network.fc6.in_features**-0.5
        for name in ("fc6.weight", "fc6.bias"):
            drawn = torch.empty(head[name].shape).uniform_(-bound, bound, generator=torch.default_generator)
            head[name] = drawn.to(head[name].device)
        return head

    def adapt_first(self, head: Head, data: Samples) -> Head:
        """Adapt to the first frame."""
        return self._sgd(head, data, self.k_init, self.init_lr)

    def adapt_online(self, initial: Head, head: Head, data: Samples, pruned: Pruned | None) -> Head:
        """Adapt the present head to remembered samples."""
        return self._sgd(head, data, self.k_on, self.online_lr)

    def settings(self) -> dict[str, Any]:
        """Return what tells one tracker's results from another's."""
        rates = {"k_init": self.k_init, "k_on": self.k_on, "init_lr": self.init_lr, "online_lr": self.online_lr}
        return {**super().settings(), **rates, "drop": self.drop}

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the classification loss of every video's own layer, and the instance embedding loss.

        Raises:
            ValueError: The episode does not say which videos its clips are of.
        """
        if episode.class_ids is None:
            raise ValueError("RT-MDNet learns a layer for every video, but the episode has no class_ids")
        clips = clips_of(self.network, episode)
        count, frames = clips.scenes.shape[:2]
        maps = self.network.shared(clips.scenes.flatten(0, 1)).unflatten(0, (count, frames))
        counts = tuple(-(-total // frames) for total in self.episode_settings.first)
        data, _ = collect(self.network, maps, clips, clips.boxes, counts, torch.default_generator)
        own = torch.tensor(episode.class_ids, device=maps.device) % self.domains
        embedded = head_maps(self.network.head(count), data.joined(), drop=self.drop)["fc5"]
        embedded = dropout(embedded, self.drop, self.training)
        logits = torch.baddbmm(self.branch_biases[own][:, None], embedded, self.branches[own].mT)
        positives = data.positives.shape[1]
        losses = {"classification": classification_loss(logits, positives).mean()}
        if self.instance_weight and self.domains > 1:
            losses["instance"] = self.instance_weight * self._instance_loss(embedded[:, :positives], own)
        return losses

    def _instance_loss(self, embedded: Tensor, own: Tensor) -> Tensor:
        """Compare a video's positive samples ``(P, A, hidden)`` by the layers of about 100 videos and its own."""
        others = torch.randperm(self.domains, generator=torch.default_generator)[:DOMAINS_COMPARED].to(own.device)
        chosen = torch.cat((own, others)).unique()
        scores = embedded @ self.branches[chosen, POSITIVE].T + self.branch_biases[chosen, POSITIVE]
        return instance_loss(scores, torch.searchsorted(chosen, own))

    def _sgd(self, head: Head, data: Samples, steps: int, lr: float) -> Head:
        return adapt_sgd(head, data, self.batches, torch.default_generator, steps, lr, drop=self.drop)
