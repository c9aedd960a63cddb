"""The two towers: a text becomes the vector of an item, texts of a history the vector of a user."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from zhiyin.domain import FloatArray
from zhiyin.language.whitening import Whitening

FIRST_DECAY = 0.6
"""What each step back in a history counts at the start of training."""
_TIMES_FASTER = 10.0
"""A few single numbers need larger steps than matrices."""
_LEAST = 1e-12


class Towers(nn.Module):
    """Both towers share the encoder; what is learned here is how its vectors are compared.

    With e the encoder's vector of a text, the vector of an item is ``v = (e - mean) P``, scaled to length 1;
    the vector of a user is ``u = Σ_a w_a v[h_a]``, h_0 being the newest event, scaled to length 1; the score
    is their cosine u · v.

    Args:
        whitening: Mean, and the P to start with.
        history_length: Weights ``w``.
        temperature: To start with.
    """

    def __init__(self, whitening: Whitening, history_length: int, temperature: float) -> None:
        super().__init__()
        projection = torch.from_numpy(whitening.projection)
        projection = projection / projection.norm() * projection.shape[1] ** 0.5
        self.mean = nn.Parameter(torch.from_numpy(whitening.mean.copy()), requires_grad=False)
        self.projection = nn.Parameter(projection)
        ages = torch.arange(history_length, dtype=torch.float32)
        decay = torch.tensor(FIRST_DECAY).log() * ages
        self.recency = nn.Parameter(decay / _TIMES_FASTER)
        self.log_temperature = nn.Parameter(torch.tensor(temperature).log() / _TIMES_FASTER)

    @property
    def event_weights(self) -> Tensor:
        """(history_length,) float32 above 0, what an event counts by its age, the newest first."""
        return (self.recency * _TIMES_FASTER).exp()

    @property
    def temperature(self) -> Tensor:
        """() float32, what cosines are divided by."""
        return (self.log_temperature * _TIMES_FASTER).exp()

    def start_from(self, event_weights: Tensor, temperature: float) -> None:
        """Take over what was learned before, as many ages as there are in both."""
        n = min(len(event_weights), len(self.recency))
        with torch.no_grad():
            self.recency[:n] = event_weights[:n].clamp(min=_LEAST).log() / _TIMES_FASTER
            self.log_temperature.fill_(torch.tensor(temperature).log() / _TIMES_FASTER)

    def items(self, encoded: Tensor) -> Tensor:
        """Map (n, D) vectors of texts to (n, d) vectors of items; zeros, no words, stay zeros."""
        has_words = (encoded != 0).any(dim=1, keepdim=True)
        return functional.normalize((encoded - self.mean) @ self.projection, dim=-1, eps=_LEAST) * has_words

    def users(self, items: Tensor, place: Tensor, age: Tensor, row: Tensor, n_users: int) -> Tensor:
        """Add up histories.

        Args:
            items: (n, d) vectors of items.
            place: (T,) int64, which of them each event is on.
            age: (T,) int64, 0 for the newest event of its history.
            row: (T,) int64, whose event it is.
            n_users: B.

        Returns:
            (B, d), each row of length 1, or zeros where a history has no words.
        """
        weighted = items[place] * self.event_weights[age, None]
        sums = torch.zeros(n_users, items.shape[1], dtype=weighted.dtype, device=weighted.device)
        return functional.normalize(sums.index_add(0, row, weighted), dim=-1, eps=_LEAST)


def project(encoded: FloatArray, mean: FloatArray, projection: FloatArray) -> FloatArray:
    """Do what `Towers.items` does, (n, D) float32 to (n, d), rounded to what a bundle keeps."""
    has_words = (encoded != 0).any(axis=1, keepdims=True)
    with torch.inference_mode():
        # Copied, because cached vectors are read-only, which torch cannot express.
        mapped = (torch.tensor(encoded) - torch.from_numpy(mean)) @ torch.from_numpy(projection)
        scaled: FloatArray = functional.normalize(mapped, dim=-1, eps=_LEAST).numpy()
    kept: FloatArray = (scaled * has_words).astype("float16").astype("float32")
    return kept
