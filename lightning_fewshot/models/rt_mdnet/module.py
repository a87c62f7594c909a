"""RT-MDNet (Jung et al., ECCV 2018) as a LightningModule: the base of MetaRTT and the baseline of its tables."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from lightning_fewshot.episodes import Episode
from lightning_fewshot.models.rt_mdnet.loss import instance_loss
from lightning_fewshot.models.rt_mdnet.settings import Domains, SGDAdaptation
from lightning_fewshot.settings import BackboneSettings, Optimization
from lightning_fewshot.tracking.candidates.head import POSITIVE, Head, classification_loss, head_maps
from lightning_fewshot.tracking.candidates.module import CandidateModule
from lightning_fewshot.tracking.candidates.samples import Samples
from lightning_fewshot.tracking.candidates.scenes import clips_of, collect
from lightning_fewshot.tracking.candidates.settings import (
    Batches,
    CandidateNetworkSettings,
    EpisodeSettings,
    TrackerSettings,
)
from lightning_fewshot.tracking.candidates.sgd import adapt_sgd
from lightning_fewshot.tracking.candidates.strategy import SmallerNetwork

DOMAINS_COMPARED = 100  # by the instance embedding loss


class RTMDNet(CandidateModule):
    """Learn common features with a last layer of its own for every video, then adapt by SGD with momentum.

    An episode holds P clips; ``episode.class_ids`` are the numbers of their videos, which choose the last layers.

    Args:
        network: Widths and sizes of the network.
        backbone: A pretrained network for the first layers, instead of VGG-M's two convolutions.
        episode: Numbers of samples in training.
        batches: Numbers of samples of a gradient step.
        tracking: Numbers of the tracker.
        adaptation: Gradient steps in tracking.
        drop: Dropout before fc5 and fc6, in training and in adaptation.
        domains: Pretraining on many videos.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint to start training from, as far as names and shapes agree.
    """

    def __init__(
        self,
        network: CandidateNetworkSettings = CandidateNetworkSettings(),
        backbone: BackboneSettings | None = None,
        episode: EpisodeSettings = EpisodeSettings(),
        batches: Batches = Batches(),
        tracking: TrackerSettings = TrackerSettings(),
        adaptation: SGDAdaptation = SGDAdaptation(),
        drop: float = 0.5,
        domains: Domains = Domains(),
        optimization: Optimization = Optimization(),
        init_from: str | None = None,
    ) -> None:
        super().__init__(
            network=network,
            backbone=backbone,
            episode=episode,
            batches=batches,
            tracking=tracking,
            optimization=optimization,
            init_from=init_from,
        )
        if not 0 <= drop < 1:
            raise ValueError(f"drop is {drop} but must be at least 0 and below 1")
        self.adaptation = adaptation
        self.drop = drop
        self.domains = domains
        hidden = self.network.fc6.in_features
        self.branches = nn.Parameter(torch.randn(domains.count, 2, hidden) * 0.01)
        self.branch_biases = nn.Parameter(torch.zeros(domains.count, 2))
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
        return self._sgd(head, data, self.adaptation.k_init, self.adaptation.init_lr)

    def adapt_online(self, initial: Head, head: Head, data: Samples, pruned: SmallerNetwork | None) -> Head:
        """Adapt the present head to remembered samples."""
        return self._sgd(head, data, self.adaptation.k_on, self.adaptation.online_lr)

    def adaptation_settings(self) -> dict[str, Any]:
        """Return what tells one tracker's results from another's."""
        return {"adaptation": self.adaptation, "drop": self.drop}

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the classification loss of every video's own layer, and the instance embedding loss.

        Raises:
            ValueError: The episode does not say which videos its clips are of.
        """
        if episode.class_ids is None:
            raise ValueError("RT-MDNet learns a layer for every video, but the episode has no class_ids")
        data = self._training_samples(episode)
        videos = torch.tensor(episode.class_ids) % self.domains.count
        domain = videos.to(data.positives.device, non_blocking=True)
        embedded = head_maps(self.network.head(len(domain)), data.joined(), drop=self.drop)["fc5"]
        embedded = dropout(embedded, self.drop, self.training)
        logits = torch.baddbmm(self.branch_biases[domain][:, None], embedded, self.branches[domain].mT)
        positives = data.positives.shape[1]
        losses = {"classification": classification_loss(logits, positives).mean()}
        if self.domains.instance_weight and self.domains.count > 1:
            instance = self._instance_loss(embedded[:, :positives], videos)
            losses["instance"] = self.domains.instance_weight * instance
        return losses

    def _training_samples(self, episode: Episode) -> Samples:
        """Return samples of all frames of every clip, together as many as of a first frame."""
        clips = clips_of(self.network, episode)
        frames = clips.scenes.shape[1]
        data, _ = collect(
            network=self.network,
            maps=clips.maps(self.network),
            clips=clips,
            targets=clips.boxes,
            counts=tuple(-(-total // frames) for total in self.episode_settings.first),
            generator=torch.default_generator,
        )
        return data

    def _instance_loss(self, embedded: Tensor, domain: Tensor) -> Tensor:
        """Compare a video's positive samples ``(P, A, hidden)`` by the layers of about 100 videos and its own."""
        others = torch.randperm(self.domains.count, generator=torch.default_generator)[:DOMAINS_COMPARED]
        chosen = torch.cat((domain, others)).unique()
        own = torch.searchsorted(chosen, domain).to(embedded.device, non_blocking=True)
        chosen = chosen.to(embedded.device, non_blocking=True)
        scores = embedded @ self.branches[chosen, POSITIVE].T + self.branch_biases[chosen, POSITIVE]
        return instance_loss(scores, own)

    def _sgd(self, head: Head, data: Samples, steps: int, lr: float) -> Head:
        return adapt_sgd(
            head, data, batches=self.batches, generator=torch.default_generator, steps=steps, lr=lr, drop=self.drop
        )
