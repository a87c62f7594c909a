"""What RepMet's classifier is compared with: softmax, triplet, Magnet, proxies (SoftTriple), frozen features."""

from lightning_fewshot.models.classification_baselines.magnet import MagnetClassifier
from lightning_fewshot.models.classification_baselines.prototypes import PrototypeClassifier
from lightning_fewshot.models.classification_baselines.proxies import ProxyClassifier
from lightning_fewshot.models.classification_baselines.softmax import SoftmaxClassifier
from lightning_fewshot.models.classification_baselines.triplet import TripletClassifier

__all__ = ["MagnetClassifier", "PrototypeClassifier", "ProxyClassifier", "SoftmaxClassifier", "TripletClassifier"]
