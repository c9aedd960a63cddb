"""The nouns: standard library, numpy and polars only."""

from zhiyin.domain.arrays import PAD, BoolArray, FloatArray, IndexArray, LongArray, Ragged
from zhiyin.domain.barred import Barred
from zhiyin.domain.candidates import Candidates
from zhiyin.domain.catalogue import Catalogue
from zhiyin.domain.errors import ZhiyinError
from zhiyin.domain.histories import NO_TIMESTAMP, Histories
from zhiyin.domain.progress import Progress, Silent
from zhiyin.domain.queries import Examples, Queries
from zhiyin.domain.recommendation import Recommendation
from zhiyin.domain.vocabulary import Vocabulary
from zhiyin.domain.wishes import Wishes

__all__ = [
    "NO_TIMESTAMP",
    "PAD",
    "Barred",
    "BoolArray",
    "Candidates",
    "Catalogue",
    "Examples",
    "FloatArray",
    "Histories",
    "IndexArray",
    "LongArray",
    "Progress",
    "Queries",
    "Ragged",
    "Recommendation",
    "Silent",
    "Vocabulary",
    "Wishes",
    "ZhiyinError",
]
