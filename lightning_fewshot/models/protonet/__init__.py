"""Prototypical networks for few-shot learning (NIPS 2017)."""

from lightning_fewshot.models.protonet.module import PrototypicalNetwork

__all__ = ["PrototypicalNetwork"]
