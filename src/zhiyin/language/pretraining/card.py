"""What a pre-trained model says about itself."""

from __future__ import annotations

from typing import Any

from zhiyin import __version__
from zhiyin.language.pretraining.settings import PretrainingConfig


def model_card(facts: dict[str, Any], config: PretrainingConfig) -> str:
    """Return Markdown: what the model was made of, how well it did before and after, what it is for."""
    lines = [
        "---",
        "library_name: sentence-transformers",
        "tags: [zhiyin, domain-pretraining]",
        "---",
        f"# {facts['base']}, pre-trained on a catalogue",
        "",
        f"Made by Zhiyin {__version__} from `{facts['base']}` with {facts['n_documents']:,} texts; "
        f"{facts['n_parameters']:,} parameters, {len(facts['new_words']):,} words added to the tokenizer.",
        "",
        "| objective | numbers trained | figure | before | after | epoch kept | seconds |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, stage in facts.items():
        if isinstance(stage, dict):
            lines.append(
                f"| {name} | {stage['n_trained']:,} | {stage['metric']} | {_figure(stage['before'])} | "
                f"{_figure(stage['best_validation'])} | {stage['best_epoch']} | {stage['seconds']:.0f} |"
            )
    lines += [
        "",
        "`log_likelihood` is the mean logarithm of the chance given to the right word, `pairs_found` the",
        "share of texts whose partner is the nearest of its batch, `next_found` of events whose item is;",
        "all on what was held out.",
        "",
        "It knows the words of the shop it was trained on, and what its reviews say, prejudices included.",
        "Use it by naming this folder as the encoder: `--set encoder=FOLDER`.",
        "",
        "## Settings",
        "",
        "```json",
        config.model_dump_json(indent=2),
        "```",
        "",
    ]
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
