"""Sizes of candidate trackers that run in a blink: scenes of 160 pixels, four channels."""

from lightning_fewshot.models.metartt.settings import SimulatedEpisode
from lightning_fewshot.tracking.candidates.network import CandidateNetwork
from lightning_fewshot.tracking.candidates.settings import (
    Batches,
    CandidateNetworkSettings,
    EpisodeSettings,
    TrackerSettings,
)

NETWORK = CandidateNetworkSettings((3, 4, 5), 6, 40, 4.0)


def tiny_network():
    return CandidateNetwork(NETWORK)


def tiny(simulated=True):
    """Return the keywords of a tiny module: of MetaRTT's kind, or of RT-MDNet's."""
    return {
        "network": NETWORK,
        "episode": SimulatedEpisode((6, 8), frame=(4, 6)) if simulated else EpisodeSettings((6, 8)),
        "batches": Batches(4, 6, 8),
        "tracking": TrackerSettings(
            candidates=64, first=(20, 60), first_scenes=2, frame=(6, 12), every=3, regression_samples=40
        ),
    }
