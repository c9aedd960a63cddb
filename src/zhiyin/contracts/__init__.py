"""The promises that hold the house together."""

from zhiyin.contracts.component import Component, Config, Probability, Setting, settings_of
from zhiyin.contracts.language import CatalogueLanguage, ReadsWithModel, TextEncoder
from zhiyin.contracts.opinions import DenseOpinion, Edges, Opinion, SparseOpinion
from zhiyin.contracts.scores import best_of, best_positions, scores_at
from zhiyin.contracts.searching import AnyOf, Between, SearchRange
from zhiyin.contracts.source import CandidateSource
from zhiyin.contracts.stages import CHANCE, SCORE, PolicyStep, Recommender
from zhiyin.contracts.training import ComponentState, TrainingData
from zhiyin.contracts.updating import Continuing, Growth, Steps
from zhiyin.domain.progress import Progress, Silent

__all__ = [
    "CHANCE",
    "SCORE",
    "AnyOf",
    "Between",
    "CandidateSource",
    "CatalogueLanguage",
    "Component",
    "ComponentState",
    "Config",
    "Continuing",
    "DenseOpinion",
    "Edges",
    "Growth",
    "Opinion",
    "PolicyStep",
    "Probability",
    "Progress",
    "ReadsWithModel",
    "Recommender",
    "SearchRange",
    "Setting",
    "Silent",
    "SparseOpinion",
    "Steps",
    "TextEncoder",
    "TrainingData",
    "best_of",
    "best_positions",
    "scores_at",
    "settings_of",
]
