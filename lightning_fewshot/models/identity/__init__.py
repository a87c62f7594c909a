"""The floor of tracking: the object never moves."""

from lightning_fewshot.models.identity.lightning_module import IdentityTracking

__all__ = ["IdentityTracking"]
