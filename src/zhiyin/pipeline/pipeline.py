"""Sources, merge and policy, trained, evaluated, saved and served as one."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from zhiyin.contracts import (
    CHANCE,
    SCORE,
    CandidateSource,
    TrainingData,
    best_of,
)
from zhiyin.data.dataset import Dataset
from zhiyin.domain import (
    NO_TIMESTAMP,
    BoolArray,
    Candidates,
    Catalogue,
    Examples,
    Histories,
    IndexArray,
    Queries,
    Recommendation,
    Vocabulary,
    Wishes,
)
from zhiyin.domain.errors import NotFitted
from zhiyin.domain.memory import free_all_unused
from zhiyin.language.catalogue import Language
from zhiyin.pipeline.chances import Chances, scores_unseen
from zhiyin.pipeline.circumstances import Circumstances
from zhiyin.pipeline.content import Content
from zhiyin.pipeline.explaining import explained
from zhiyin.pipeline.gather import ONLY_NEW, ask_reasons, candidates_of, without_new
from zhiyin.pipeline.merge import Merge
from zhiyin.pipeline.moments import FROM_THE_CLOCK
from zhiyin.pipeline.ranker_files import fit_ranker_stage
from zhiyin.pipeline.ranker_stage import RANK, RANKER, RankerStage
from zhiyin.pipeline.registry import source_class
from zhiyin.pipeline.reranking import LANGUAGE, Reranking
from zhiyin.pipeline.reranking_files import open_reranking
from zhiyin.pipeline.settings import PipelineConfig
from zhiyin.pipeline.stages import Stages
from zhiyin.pipeline.timing import timed
from zhiyin.pipeline.trends import Trends
from zhiyin.policy.diversity import diversified
from zhiyin.policy.item_counts import ItemCounts
from zhiyin.policy.masks import barred_items
from zhiyin.policy.new_items import NewItems
from zhiyin.stores.events import BATCH_SCHEMA
from zhiyin.training.selection import sample_examples

_SCORES_AT_ONCE = 4_000_000
"""Scores (queries × items × sources) held in memory at once: 16 MB of float32."""
_QUERIES_AT_ONCE = 256
"""At most, however small the catalogue: slates of great diversity compare vectors of every candidate."""
_EVENTS_AT_ONCE = 8_192
"""Events of histories looked at together: each may lead to thousands of items before they are added up."""
_ITEMS_THAT_LEAVE_MUCH = 1_000
"""From so many on, it is worth some tenths of a second to look for what the parts of a training left."""
_DIVERSITY_POOL = 100
_FALLBACK_PLACES = 20
"""Items a fallback proposes where others propose enough: as many while the merge is fitted as for a slate."""
NO_WISHES = Wishes()


class Pipeline:
    """Answers queries with slates.

    Args:
        config: Sources, merge and their settings.
        language: The catalogue as texts and vectors; made from the settings when not given.

    Attributes:
        catalogue: What can be recommended, items added later included.
        removed: (I,) bool, items that are never shown.
        users: Ids of the users whose histories the pipeline remembers.
        histories: Row ``u`` is what user index ``u`` did.
        event_kinds: Names of the event kinds in the histories.
        counts: How many events each item has had.
        early: Events of a log on items that the catalogue does not hold; they count when the items arrive.
        reranking: The language model that judges the best candidates, where there is one.
        ranker: Predicts clicks, purchases, ratings and the like, where tasks were given.
        stages: Run and time what a slate can be made without; serving tolerates that it fails or is slow.
    """

    def __init__(self, config: PipelineConfig, language: Language | None = None) -> None:
        self.config = config
        self.language = language or Language(config.encoder)
        self.sources: list[CandidateSource[Any]] = [
            source_class(name)(**settings) for name, settings in config.sources.items()
        ]
        self.merge = Merge(
            [source.name for source in self.sources],
            fallback=config.merge.fallback,
            n_horizons=len(config.merge.trend_days),
        )
        self.trends: Trends | None = None
        self.counts = ItemCounts()
        self.chances: Chances | None = None
        self.reranking: Reranking | None = None
        self.ranker: RankerStage | None = None
        self.new_items = NewItems(config.new_items)
        self.new_items.refuse_unknown_source(self.merge.sources)
        self.catalogue: Catalogue | None = None
        self.removed: BoolArray = np.zeros(0, dtype=np.bool_)
        self.users = Vocabulary([])
        self.histories = Histories.empty(0)
        self.event_kinds: tuple[str, ...] = ()
        self.early = pl.DataFrame(schema=BATCH_SCHEMA)
        self.stages = Stages()
        self._content: Content | None = None

    @property
    def reads_text(self) -> bool:
        """Whether any source looks at text vectors, so that a language model is needed."""
        return any(source.reads_vectors for source in self.sources)

    @property
    def reads_of_users(self) -> frozenset[str]:
        """Columns that ranker and re-ranking may read from attributes of users.

        What they learned of items or of the clock is not among them: one word would stand for all items.
        """
        of_items = () if self.catalogue is None else self.catalogue.table.columns
        found: set[str] = set()
        if self.ranker is not None:
            others = {*FROM_THE_CLOCK, RANK, *of_items} - set(self.ranker.people.columns)
            found |= set(self.ranker.config.network.context) - others
        if self.reranking is not None:
            others = set(FROM_THE_CLOCK) - set(self.reranking.people.columns)
            found |= set(self.reranking.judge.state_columns) - others
        return frozenset(found)

    @property
    def content(self) -> Content:
        """What the catalogue says, indexed when first asked for."""
        if self._content is None:
            catalogue = self.catalogue_or_raise()
            vectors = self.language.vectors(catalogue) if self.reads_text else None
            self._content = Content.of(catalogue, vectors)
        return self._content

    def fit(self, training: TrainingData) -> None:
        """Train every source and the ranker, then fit the merge on validation examples.

        The language model of the settings is loaded first; a re-ranking or a ranker that was handed over is
        kept.
        """
        if self.reranking is None and self.config.rerank.is_on:
            self.reranking = open_reranking(self.config.rerank, training.dataset)
        self.catalogue = training.dataset.catalogue
        self.removed = np.zeros(len(self.catalogue), dtype=np.bool_)
        self.remember(training.dataset)
        for source in self.sources:
            source.fit(training)
            self._free_unused()
        self.trends = Trends.of(training.dataset, self.config.merge.trend_days)
        self.counts = ItemCounts(training.dataset.item_counts)
        if self.ranker is None and self.config.ranker.is_on:
            vectors = self.content.vectors if self.reads_text else None
            self.ranker = fit_ranker_stage(self.config.ranker, training, vectors)
        if training.validation is not None:
            self._fit_on_validation(training)
        self._free_unused()

    def only(self, name: str) -> Pipeline:
        """Return this pipeline with a single one of its trained sources, to see what it does alone."""
        alone = copy(self)
        alone.sources = [source for source in self.sources if source.name == name]
        alone.merge, alone.new_items = Merge([name]), NewItems()
        alone.trends = alone.chances = alone.reranking = alone.ranker = None
        return alone

    def remember(self, dataset: Dataset) -> None:
        """Take over the users of a dataset and what they did, so that they can be asked for by id."""
        self.users, self.histories, self.event_kinds = dataset.users, dataset.histories, dataset.event_kinds

    def name_early(self, named: Callable[[list[str]], list[str]]) -> None:
        """Give the users of early events other names."""
        names = pl.Series("user_id", named(self.early["user_id"].to_list()), dtype=pl.String)
        self.early = self.early.with_columns(names)

    def recommend(self, queries: Queries, n: int, wishes: Wishes = NO_WISHES) -> Candidates:
        """Return up to ``n`` items a query, best first.

        Args:
            queries: B queries.
            n: Places of a slate.
            wishes: Rules of the request.

        Returns:
            (B, n) candidates with ``score``; each source's own score under its name, and what it added
            under ``<source>:part``; under ``item:events`` how many events each item has had. Padding where
            fewer items may be shown. ``chance`` says how probable it is that an item comes next; it is
            missing where no validation taught it, under a filter and with repeats, for which it was not
            fitted. ``predicted:<task>`` is what the ranker says.
        """
        at_once = self._queries_at_once(queries, len(self.catalogue_or_raise()))
        chunks = queries.chunks(at_once) if len(queries) > at_once else [queries]
        return Candidates.stacked([self._slate(part, n, wishes) for part in chunks], n)

    def similar(self, item_index: IndexArray, n: int, wishes: Wishes = NO_WISHES) -> Candidates:
        """Return up to ``n`` items that go with each given item (B,), best first, without chances.

        Re-ranking and ranker are not asked: they know users, not items.
        """
        unjudged = copy(self)
        unjudged.reranking = unjudged.ranker = None
        alone = Histories.of_items([np.array([item]) for item in item_index])
        slates = unjudged.recommend(Queries.of_histories(alone), n, wishes)
        columns = {name: column for name, column in slates.columns.items() if name != CHANCE}
        return Candidates(slates.item_index, columns)

    def warm_up(self) -> None:
        """Load the language model now, which takes seconds, and not when somebody searches or an item is new.

        Raises:
            ConfigError: when the model is not on this machine.
            MissingExtra: when the packages for language models are not installed.
        """
        if self.reads_text:
            self.language.encoder.encode(["warm"])

    def search(self, texts: list[str], n: int, wishes: Wishes = NO_WISHES) -> Candidates:
        """Return up to ``n`` items for each free text, best first, by words and, where there is one, by
        the language model.
        """
        scores = self.content.match(texts, self.language.encoder if self.reads_text else None)
        barred = barred_items(Histories.empty(len(texts)), wishes, removed=self.removed).dense()
        if wishes.boost is not None:
            scores = scores + wishes.boost
        return best_of(np.where(barred, np.float32(np.nan), scores), n, column=SCORE)

    def explain(self, queries: Queries, slate: Candidates) -> list[list[Recommendation]]:
        """Put a slate into the shop's words, with reasons and what each source added.

        Args:
            queries: B queries.
            slate: What `recommend` answered them.
        """
        asked = [source for source in self.sources if source.name not in self.config.merge.fallback]
        because = ask_reasons(asked, queries, slate.item_index, self.stages)
        return explained(self.catalogue_or_raise(), slate, self.merge.sources, because)

    def queries_for(self, user_ids: list[str]) -> Queries:
        """Return queries of remembered users, made now; an unknown user has an empty history."""
        users = self.users.indices(user_ids)
        starts = self.histories.offsets[np.maximum(users, 0)]
        # One below the first user there is offset 0, so a stranger, at -1, has a run of no length.
        histories = self.histories.runs(starts, self.histories.offsets[users + 1] - starts)
        return Queries(users, histories, np.full(len(users), NO_TIMESTAMP))

    def add_items(self, table: pl.DataFrame) -> None:
        """Add items, or describe known ones anew; both can be recommended at once.

        What sources learned about a known item stays; its text, attributes and place in search change.

        Either all of it happens, or nothing: an error leaves the pipeline as it was.

        Args:
            table: One row an item, with ``item_id``.
        """
        catalogue = self.catalogue_or_raise()
        is_new = catalogue.items.indices(table["item_id"]) < 0
        content, removed = self.content, self.removed.copy()
        reranking, ranker = self.reranking, self.ranker
        # Adding replaces the arrays of a source and writes into none, so a shallow copy is a draft.
        sources = [copy(source) for source in self.sources]
        if (~is_new).any():
            changed = Catalogue.from_table(table.filter(pl.Series(~is_new)))
            places = catalogue.items.indices(changed.items.ids)
            content = content.changed(places, changed, self.language)
            reranking = None if reranking is None else reranking.with_changes(places, changed)
            catalogue = catalogue.changed(places, changed)
            if ranker is not None:
                texts = None if content.vectors is None else content.vectors[places]
                ranker = ranker.with_changes(places, texts)
            removed[places] = False
        if is_new.any():
            new = Catalogue.from_table(table.filter(pl.Series(is_new)))
            content = content.extended(new, self.language)
            reranking = None if reranking is None else reranking.with_items(new)
            catalogue = catalogue.extended(new)
            if ranker is not None:
                ranker = ranker.with_items(
                    len(new), None if content.vectors is None else content.vectors[-len(new) :]
                )
            for source in sources:
                source.add_items(new, self.language)
            removed = np.concatenate([removed, np.zeros(len(new), dtype=np.bool_)])
        self.sources, self.removed, self.catalogue, self._content = sources, removed, catalogue, content
        self.reranking, self.ranker = reranking, ranker

    def remove_items(self, item_index: IndexArray) -> None:
        """Never show these items (M,) again."""
        removed = self.removed.copy()
        removed[item_index] = True
        self.removed = removed

    def _slate(self, queries: Queries, n: int, wishes: Wishes) -> Candidates:
        candidates = self._candidates(queries, n, wishes)
        with timed("merge", self.stages.observe):
            scored = self._merged(queries, candidates)
        scored = self._valued(queries, self._judged(queries, scored), wishes)
        with timed("policy", self.stages.observe):
            slate = self._ordered(queries, scored, n, wishes)
        return self._foretold(queries, slate)

    def _valued(self, queries: Queries, scored: Candidates, wishes: Wishes) -> Candidates:
        """Add chances, and put the best candidates in the order of what the ranker expects them to bring."""
        if self.chances is None:
            return scored
        is_usual, orders = wishes.allowed is None and not wishes.repeat, self.config.ranker.orders
        chances = self.chances.of(scored) if is_usual or orders else None
        if chances is not None and is_usual:
            scored = scored.with_column(CHANCE, chances)
        if self.ranker is None or chances is None or not orders:
            return scored
        value = partial(self.ranker.ordered, queries, scored, chances, self.catalogue_or_raise())
        valued = self.stages.run(RANKER, value)
        return scored if valued is None else valued

    def _foretold(self, queries: Queries, slate: Candidates) -> Candidates:
        """Add what the ranker predicts of every item that is shown."""
        if self.ranker is None:
            return slate
        told = partial(self.ranker.with_predictions, queries, slate, self.catalogue_or_raise())
        foretold = self.stages.run(RANKER, told, label=f"{RANKER}: slate")
        return slate if foretold is None else foretold

    def _ordered(self, queries: Queries, scored: Candidates, n: int, wishes: Wishes) -> Candidates:
        """Settle the order by what the shop and the request want."""
        if wishes.boost is not None:
            places = np.where(scored.is_item, scored.item_index, 0)
            boosted = (scored.column(SCORE) + wishes.boost[places]).astype(np.float32)
            scored = scored.with_column(SCORE, boosted)
        scored = self.new_items.apply(queries, scored)
        if wishes.diversity == 0:
            return scored.top(n, by=SCORE)
        pool = scored.top(max(_DIVERSITY_POOL, n), by=SCORE)
        return diversified(pool, self.content.similarity(pool.item_index), n, diversity=wishes.diversity)

    def _judged(self, queries: Queries, scored: Candidates) -> Candidates:
        """Let the language model judge the best candidates; while serving, in the time there is for it."""
        if self.reranking is None:
            return scored
        judge = partial(self.reranking.apply, queries, scored, self.stages.tolerated)
        judged = self.stages.run(LANGUAGE, judge, is_needed=True)  # it has milliseconds of its own
        return scored if judged is None else judged

    def _candidates(self, queries: Queries, n: int, wishes: Wishes) -> Candidates:
        barred = barred_items(queries.histories, wishes, removed=self.removed)
        usual = max(n, self.config.merge.n_candidates)
        # Under a boost or diversity the order is settled afterwards, by more than a fallback's first places.
        is_final = wishes.boost is None and wishes.diversity == 0
        few = min(usual, max(n, _FALLBACK_PLACES)) if is_final else usual
        fallback = dict.fromkeys(self.config.merge.fallback, few)
        candidates = candidates_of(
            self.sources,
            queries,
            usual,
            barred,
            self.stages,
            n_of_fallback=fallback,
            of_new=self.new_items.barred_but_new(barred, self.counts),
        )
        return self.counts.beside(candidates)

    def _fit_on_validation(self, training: TrainingData) -> None:
        """Fit the weights of the merge, what chances follow from scores, how much a language model is
        listened to, and what new items may cost.
        """
        if not (self.merge.learns or self.new_items.is_on or self.reranking is not None):
            return
        with training.progress.stage("merge: fitting weights"):
            queries, candidates, targets = self._known_answers(training)
            if not len(targets):
                return
            usual = without_new(candidates)
            circumstances = self._circumstances(queries, usual)
            self._free_unused()
            if self.merge.learns:
                self.merge.fit(usual, targets, circumstances, penalty=self.config.merge.penalty)
                self._free_unused()
            self.chances = self._fitted_chances(usual, targets, circumstances, seed=training.seed)
        if self.reranking is not None:
            merged = self.merge.apply(usual, circumstances)
            self.reranking = self.reranking.fitted(
                queries, merged, targets, seed=training.seed, progress=training.progress
            )
        if self.new_items.is_on:
            with training.progress.stage("new items: what they may cost"):
                self.new_items.fit(self._merged(queries, candidates), targets)

    def _fitted_chances(
        self, candidates: Candidates, targets: IndexArray, circumstances: Circumstances, *, seed: int
    ) -> Chances | None:
        unseen = scores_unseen(
            self.merge, candidates, targets, circumstances, penalty=self.config.merge.penalty, seed=seed
        )
        is_target = candidates.item_index == targets[:, None]
        return Chances.fitted(unseen, candidates.is_item, is_target)

    def _merged(self, queries: Queries, candidates: Candidates) -> Candidates:
        """Score all candidates; those that stand there for kept places alone move none of the others."""
        circumstances = self._circumstances(queries, candidates)
        scored = self.merge.apply(candidates, circumstances)
        if ONLY_NEW not in candidates.columns:
            return scored
        usual = self.merge.apply(without_new(candidates), circumstances)
        is_new = candidates.column(ONLY_NEW) == 1
        merged = {
            name: np.where(is_new, column, usual.column(name)) for name, column in scored.columns.items()
        }
        return Candidates(candidates.item_index, merged)

    def _circumstances(self, queries: Queries, candidates: Candidates) -> Circumstances:
        trends = self.trends
        demand = None if trends is None else trends.at(candidates.item_index, queries.timestamp)
        return Circumstances.of(queries, candidates, demand)

    def _free_unused(self) -> None:
        """Free what a part of the training left; with a small catalogue that takes longer than the part."""
        if len(self.catalogue_or_raise()) >= _ITEMS_THAT_LEAVE_MUCH:
            free_all_unused()

    def _known_answers(self, training: TrainingData) -> tuple[Queries, Candidates, IndexArray]:
        """Return queries of validation examples, candidates, and (B,) int32 what came next."""
        assert training.validation is not None
        examples = sample_examples(training.validation, self.config.merge.n_examples, seed=training.seed)
        has_target = examples.targets.lengths > 0
        examples = examples.take(np.flatnonzero(has_target))
        targets = np.asarray(examples.targets.values)[examples.targets.offsets[:-1]].astype(np.int32)
        candidates = self._candidates_in_parts(examples, training.dataset.n_items)
        return examples.queries, candidates, targets

    def _candidates_in_parts(self, examples: Examples, n_items: int) -> Candidates:
        chunks = examples.chunks(self._queries_at_once(examples.queries, n_items))
        parts = [self._candidates(part.queries, 1, NO_WISHES) for part in chunks]
        return Candidates.stacked(parts, max((part.n_per_query for part in parts), default=0))

    def _queries_at_once(self, queries: Queries, n_items: int) -> int:
        n_dense = sum(source.is_dense for source in self.sources)
        by_scores = _SCORES_AT_ONCE // max(n_items * n_dense, 1)
        by_events = _EVENTS_AT_ONCE * len(queries) // max(queries.histories.n_events, 1)
        return max(1, min(_QUERIES_AT_ONCE, by_scores, by_events))

    def take_over(self, catalogue: Catalogue, content: Content, *, removed: BoolArray) -> None:
        """Use a catalogue that sources restored from a bundle were trained on."""
        self.catalogue, self._content, self.removed = catalogue, content, removed

    def catalogue_or_raise(self) -> Catalogue:
        """Return the catalogue.

        Raises:
            NotFitted: before training.
        """
        if self.catalogue is None:
            raise NotFitted(
                "The pipeline has not been trained.",
                remedy="Call fit(), or load a bundle with load_bundle().",
            )
        return self.catalogue
