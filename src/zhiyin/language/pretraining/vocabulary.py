"""Words of the catalogue that become words of the tokenizer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

FEWEST_TIMES = 5
"""A word that stands in fewer texts would hardly be learned."""
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_CHINESE = re.compile(r"[\u4e00-\u9fff]+")
_LONGEST_CHINESE = 4


def words_to_add(texts: Iterable[str], tokenizer: Any, n: int) -> list[str]:
    """Choose at most ``n`` words that would help most: how many texts hold them times what one spares.

    Spared are pieces, and pieces that the tokenizer does not know at all and that therefore say nothing.
    Chinese has no spaces; its candidates are characters that the tokenizer does not know, and runs of two to
    four characters. Of a run and a longer one that stands in as many texts only the longer is taken.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(set(_candidates(text)))
    frequent = {word: count for word, count in counts.items() if count >= FEWEST_TIMES}
    inside, saved = _inside_longer_runs(frequent), {}
    for word, count in frequent.items():
        if word not in inside:
            pieces = tokenizer.tokenize(word)
            spared = len(pieces) - 1 + pieces.count(tokenizer.unk_token)
            if spared > 0:
                saved[word] = count * spared
    best = sorted(saved, key=lambda word: (-saved[word], word))
    return best[:n]


def add_words(model: Any, tokenizer: Any, words: list[str]) -> int:
    """Add words to a tokenizer and a model in place; each begins as the mean of its pieces.

    For a piece that the tokenizer does not know a vector is drawn that is spread as those of the table: else
    all unknown characters would begin as the same word.

    Returns:
        How many were added: those that were not there.
    """
    pieces = {word: tokenizer.encode(word, add_special_tokens=False) for word in words}
    n_added: int = tokenizer.add_tokens(words)
    if not n_added:
        return 0
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table: nn.Embedding = model.get_input_embeddings()
    with torch.no_grad():
        spread, middle = torch.std_mean(table.weight[:-n_added], dim=0)
        for word, parts in pieces.items():
            if parts:
                row = tokenizer.convert_tokens_to_ids(word)
                vectors = table.weight[parts].clone()
                unknown = torch.tensor(parts) == tokenizer.unk_token_id
                draws = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(row))
                vectors[unknown] = (middle + spread * draws.to(vectors))[unknown]
                table.weight[row] = vectors.mean(dim=0)
    return n_added


def _candidates(text: str) -> Iterable[str]:
    for found in _WORD.finditer(text):
        word = found.group().lower()
        if not _CHINESE.search(word):
            yield word
    for found in _CHINESE.finditer(text):
        run = found.group()
        for size in range(1, _LONGEST_CHINESE + 1):
            for start in range(len(run) - size + 1):
                yield run[start : start + size]


def _inside_longer_runs(frequent: dict[str, int]) -> set[str]:
    """Return the Chinese characters and runs that stand only inside one longer run."""
    runs = [run for run in frequent if _CHINESE.fullmatch(run)]
    return {part for run in runs for part in (run[:-1], run[1:]) if frequent.get(part) == frequent[run]}
