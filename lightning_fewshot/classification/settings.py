"""Settings that image classifiers share: frozen, checked when they are made, plain data inside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EmbeddingHead:
    """The layers between pooled features and the embedding (RepMet, section 4.1).

    Args:
        widths: Widths of the layers with batch normalisation and ReLU; none: the last layer alone.
        dim: Width of the last, linear layer, whose output has unit length.

    Raises:
        ValueError: A width is below 1.
    """

    widths: tuple[int, ...] = (2048,)
    dim: int = 1024

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        if min((self.dim, *self.widths)) < 1:
            raise ValueError(f"widths is {self.widths} and dim is {self.dim} but all must be at least 1")
