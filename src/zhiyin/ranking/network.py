"""The network: who, what was done, what is shown, as what → one number a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from zhiyin.ranking.batches import Batch
from zhiyin.training.dropout import Dropout

_START = 0.05
"""Standard deviation of the vectors of users, items and words before training."""
_SPEED_OF_WORDS = 10.0
"""How much faster biases of words learn than anything else: each is met in many rows, and epochs are few."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a network.

    Attributes:
        n_users: Users with a vector of their own.
        n_items: Items with vectors of their own.
        n_kinds: Kinds of events.
        n_words: Words of the context.
        n_signals: Numbers said about a row that are not learned.
        n_tasks: Answers.
        text_dimension: Length of the text vectors; 0 where there are no texts.
        dimension: d.
        hidden: Units of a shared layer.
        n_experts: Copies of the shared layers.
        reads_identity: Whether users and items have vectors of their own at all.
    """

    n_users: int
    n_items: int
    n_kinds: int
    n_words: int
    n_signals: int
    n_tasks: int
    text_dimension: int
    dimension: int
    hidden: int
    n_experts: int
    reads_identity: bool = True


class RankerNetwork(nn.Module):
    """Foretells T labels of a user and an item, from who they are and what the user did.

    A user stands as ``h = p_u + c + (|E| + 1)^(-1/2) Σ_e (g_kind(e) ∘ y_e + v_e z_e)``: the own vector, the
    words of the context, and the events E that are known of them, each with what it was about (y) and how its
    value ``v`` differs from what that item usually gets (z). This is the implicit feedback of SVD++ with the
    ratings of the asymmetric SVD (Koren, "Factorization meets the neighborhood", 2008). An item stands as q.
    The vectors y, z and q are each the sum of one of the item's own and a linear map of its text, so that an
    item without a vector of its own still has a place. Answer t is
    ``b_t + b_ut + b_it + w_t · (h ∘ q) + s_t · signals + head_t(shared([h, q, h ∘ q, signals]))``; the shared
    layers are one or several experts, which each task mixes by a gate of its own (Ma et al., "Modeling task
    relationships in multi-task learning with multi-gate mixture-of-experts", 2018).

    Args:
        shape: Sizes.
        dropout: Share of activations set to zero while training.
        identity_dropout: Share of users and items of a batch whose own vectors are hidden while training.
    """

    speed_of_words: Tensor

    def __init__(self, shape: Shape, *, dropout: float = 0.0, identity_dropout: float = 0.0) -> None:
        super().__init__()
        self.shape, self.identity_dropout = shape, identity_dropout
        d, n_tasks, inputs = shape.dimension, shape.n_tasks, 3 * shape.dimension + shape.n_signals
        self.users = _table(shape.n_users if shape.reads_identity else 0, d, n_tasks)
        self.items = _table(shape.n_items if shape.reads_identity else 0, 3 * d, n_tasks)
        self.text = nn.Linear(shape.text_dimension, 3 * d + n_tasks, bias=False)
        nn.init.normal_(self.text.weight, std=0.01)
        self.words = _table(shape.n_words, d, n_tasks)
        speed = torch.cat([torch.ones(d), torch.full((n_tasks,), _SPEED_OF_WORDS)])
        self.register_buffer("speed_of_words", speed, persistent=False)
        self.kinds = nn.Parameter(torch.ones(shape.n_kinds, d))
        self.product = nn.Parameter(torch.ones(n_tasks, d))
        self.signals = nn.Linear(shape.n_signals, n_tasks)
        nn.init.zeros_(self.signals.weight)
        nn.init.zeros_(self.signals.bias)
        self.first = nn.Linear(inputs, shape.n_experts * shape.hidden)
        self.second = nn.Parameter(torch.empty(shape.n_experts, shape.hidden, shape.hidden))
        nn.init.kaiming_uniform_(self.second, a=5**0.5)
        self.second_bias = nn.Parameter(torch.zeros(shape.n_experts, 1, shape.hidden))
        self.gates = nn.Linear(inputs, n_tasks * shape.n_experts) if shape.n_experts > 1 else None
        self.heads = nn.Parameter(torch.zeros(n_tasks, shape.hidden))
        self.dropout = Dropout(dropout)

    @torch.no_grad()
    def start_from(self, usual: Tensor) -> None:
        """Answer with these (T,) numbers before anything is learned."""
        self.signals.bias.copy_(usual)

    @torch.no_grad()
    def only(self, places: Sequence[int]) -> RankerNetwork:
        """Return a copy that answers some tasks, named by their places, as this one does."""
        old, d, kept = self.state_dict(), self.shape.dimension, list(places)
        weights = {
            name: old[name] for name in ("kinds", "first.weight", "first.bias", "second", "second_bias")
        }
        weights |= {name: old[name][kept] for name in ("product", "signals.weight", "signals.bias", "heads")}
        for name, n_shared in {"users": d, "items": 3 * d, "words": d}.items():
            columns = [*range(n_shared), *(n_shared + place for place in kept)]
            weights[f"{name}.weight"] = old[f"{name}.weight"][:, columns]
        weights["text.weight"] = old["text.weight"][[*range(3 * d), *(3 * d + place for place in kept)]]
        if self.gates is not None:
            by_task = (self.shape.n_tasks, self.shape.n_experts)
            for name in ("gates.weight", "gates.bias"):
                weights[name] = old[name].unflatten(0, by_task)[kept].flatten(0, 1)
        shape = replace(self.shape, n_tasks=len(kept))
        with torch.random.fork_rng(devices=[]):  # nothing is drawn that stays
            copy = RankerNetwork(shape, dropout=self.dropout.share, identity_dropout=self.identity_dropout)
        copy.load_state_dict(weights)
        return copy.train(self.training)

    @torch.no_grad()
    def of_users(self, kept: Tensor) -> RankerNetwork:
        """Return a copy in which the vectors of all users but those in these rows of the table are zero."""
        copy = self.only(range(self.shape.n_tasks))
        if self.shape.reads_identity:
            is_kept = torch.zeros(len(copy.users.weight), 1, dtype=torch.bool)
            is_kept[kept] = True
            copy.users.weight.mul_(is_kept)
        return copy

    @torch.no_grad()
    def with_rows(
        self, n_users: int, n_items: int, *, dropout: float, identity_dropout: float
    ) -> RankerNetwork:
        """Return a copy to train on, with more own vectors; they are zero, so that it answers as this one.

        Args:
            n_users: Users with a vector of their own, no fewer than before.
            n_items: Items with vectors of their own, no fewer than before.
            dropout: As in a new network.
            identity_dropout: As in a new network.
        """
        shape = replace(self.shape, n_users=n_users, n_items=n_items)
        with torch.random.fork_rng(devices=[]):  # nothing is drawn that stays
            copy = RankerNetwork(shape, dropout=dropout, identity_dropout=identity_dropout)
        weights = self.state_dict()
        for name, table in (("users", copy.users), ("items", copy.items)):
            grown, known = torch.zeros_like(table.weight), weights[f"{name}.weight"]
            grown[: len(known)] = known
            weights[f"{name}.weight"] = grown
        copy.load_state_dict(weights)
        return copy

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return (R, T) float32 answers, and () float32, how long the vectors are (see `shrinkage`); 0
        where nothing is trained.
        """
        d = self.shape.dimension
        own_items, of_texts = self._own(self.items, batch.items), self.text(batch.texts)
        of_items = own_items + of_texts
        own_users = self._own(self.users, batch.users)
        words = self.words(batch.words).sum(dim=1) * self.speed_of_words
        y, z, q, item_bias = of_items.split([d, d, d, self.shape.n_tasks], dim=1)
        known = self._known(batch, y, z)
        user = self.dropout(own_users[batch.row_user, :d] + words[:, :d] + known)
        item = q[batch.row_item]
        product = user * item
        signals = batch.signals
        answers = item_bias[batch.row_item] + own_users[batch.row_user, d:] + words[:, d:]
        answers = answers + functional.linear(product, self.product) + self.signals(signals)
        answers = answers + self._shared(torch.cat([user, item, product, signals], dim=1))
        if not self.training:
            return answers.float(), answers.new_zeros(())
        # All weights of the text move in every step. Unless their part of a vector is pulled as the own part
        # is, they learn the rows by heart before biases, met a few times an epoch, have been learned at all.
        squares = own_items.square() + of_texts.square()
        return answers.float(), self._length(batch, own_users, squares, words)

    def _own(self, table: nn.Embedding, rows: Tensor) -> Tensor:
        """Look up own vectors; row 0 of a table stands for whoever has none, and is zero."""
        if not self.shape.reads_identity:
            rows = torch.zeros_like(rows)
        own: Tensor = table(rows)
        if self.training and self.identity_dropout > 0:
            is_shown = torch.rand(len(rows), 1, device=own.device) >= self.identity_dropout
            own = own * is_shown
        return own

    def _known(self, batch: Batch, y: Tensor, z: Tensor) -> Tensor:
        """Sum up the events of each row as differences of running sums, (R, d)."""
        events = self.kinds[batch.event_kind] * y[batch.event_item]
        events = events + batch.event_value[:, None] * z[batch.event_item]
        exact = torch.float32 if events.device.type == "mps" else torch.float64
        padded = functional.pad(events.to(exact), (0, 0, 1, 0))
        total = torch.cumsum(padded, dim=0)
        # Position 0 is nothing, so that a row that does not stand among its events takes nothing off.
        known = total[batch.stop] - total[batch.start] - padded[batch.own]
        return (known / (batch.n_known + 1.0).sqrt()[:, None]).to(events.dtype)

    def _shared(self, inputs: Tensor) -> Tensor:
        n_experts, hidden = self.shape.n_experts, self.shape.hidden
        first = self.dropout(functional.relu(self.first(inputs)))
        by_expert = first.view(-1, n_experts, hidden).transpose(0, 1)
        second = self.dropout(functional.relu(torch.baddbmm(self.second_bias, by_expert, self.second)))
        answers: Tensor = second @ self.heads.T
        if self.gates is None:
            return answers[0]
        gates = self.gates(inputs).view(-1, self.shape.n_tasks, n_experts).softmax(dim=-1)
        mixed: Tensor = torch.einsum("ert,rte->rt", answers, gates)
        return mixed

    def _length(self, batch: Batch, users: Tensor, squares: Tensor, words: Tensor) -> Tensor:
        """Mean squared length of what a row and an event look up; ``squares`` (M, 3d + T) are of items."""
        d = self.shape.dimension
        of_events = squares[:, : 2 * d].sum(dim=1)[batch.event_item].sum() / max(len(batch.event_item), 1)
        of_items = squares[:, 2 * d :].sum(dim=1)[batch.row_item].mean()
        of_users = users.square().sum(dim=1)[batch.row_user].mean()
        return (of_events + of_items + of_users + words.square().sum(dim=1).mean()).float()


def _table(n_rows: int, dimension: int, n_tasks: int) -> nn.Embedding:
    """Make a table of vectors followed by one bias a task; row 0 is zero and stays so."""
    table = nn.Embedding(n_rows + 1, dimension + n_tasks, padding_idx=0)
    with torch.no_grad():
        table.weight[1:, :dimension].normal_(std=_START)
        table.weight[1:, dimension:] = 0.0
    return table
