"""The routes on one page: no script, no other server, readable without a network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from zhiyin.policy import filters
from zhiyin.serving.examples import Example, curl

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #0b7a75; }
body { font: 16px/1.55 system-ui, "Noto Sans CJK SC", sans-serif; max-width: 60rem; margin: 0 auto;
  padding: 2rem 1rem 6rem; }
h1 { margin-bottom: .2rem; } h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem;
  font-size: 1.15rem; }
code, pre { font: .875rem/1.45 ui-monospace, monospace; }
pre { background: var(--soft); padding: .7rem .9rem; border-radius: .4rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; } td:first-child { width: 9rem; }
td, th { text-align: left; padding: .3rem .6rem .3rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; }
nav { display: grid; grid-template-columns: 11rem 1fr; gap: .2rem .6rem; margin-top: 1.5rem; }
nav a { display: inline-block; margin: 0 1rem .2rem 0; } a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
summary { cursor: pointer; color: var(--accent); margin: .8rem 0 .4rem; }
@media (max-width: 40rem) { nav { grid-template-columns: 1fr; } td:first-child { width: 7rem; } }
.verb { color: var(--accent); display: inline-block; min-width: 5rem; }
.quiet { opacity: .75; }
"""


def docs_page(document: Mapping[str, Any], base_url: str, *, with_key: bool = False) -> str:
    """Turn an OpenAPI document into a page of HTML.

    Args:
        document: The description of the routes.
        base_url: Where the service is reached, for lines to paste into a shell.
        with_key: Whether those lines show a key, the one in the variable KEY.
    """
    routes = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    shell = _Shell(base_url, with_key)
    sections = "".join("".join(_section(document, shell, *route)) for route in routes)
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1><p>{escape(document['info']['description'])} The machine-readable description is "
        f'<a href="openapi.json">openapi.json</a>.</p><nav>{_links(routes)}</nav>{sections}'
        f"{_filters()}</body></html>"
    )


@dataclass(frozen=True)
class _Shell:
    """Where lines to paste into a shell lead."""

    base_url: str
    with_key: bool

    def line(self, method: str, path: str, operation: Mapping[str, Any], example: Mapping[str, Any]) -> str:
        place = path.replace("{item_id}", "new-item").replace("{user_id}", "new-user")
        place = place.replace("{name}", "more-variety").replace("{version}", "VERSION")
        if "value" in example:
            told = Example(example.get("summary", ""), place, example["value"])
            return curl(method, told, self.base_url, with_key=self.with_key)
        is_open = not operation.get("security")
        key = ' -H "Authorization: Bearer $KEY"' if self.with_key and not is_open else ""
        kinds = operation.get("requestBody", {}).get("content", {})
        body = f" -H 'Content-Type: {next(iter(kinds))}' --data-binary @lines.ndjson" if kinds else ""
        verb = f" -X {method}" if method != "GET" and not body else ""
        return f"curl -s{verb} '{self.base_url.rstrip('/')}{place}'{key}{body}"


def _links(routes: Iterable[tuple[str, str, Mapping[str, Any]]]) -> str:
    """Links to all routes, one line a tag."""
    by_tag: dict[str, list[str]] = {}
    for method, path, operation in routes:
        link = f'<a href="#{_anchor(method, path)}"><code>{method} {escape(path)}</code></a>'
        by_tag.setdefault(next(iter(operation.get("tags", ())), "others"), []).append(link)
    by_tag["rules"] = ['<a href="#filters"><code>filters</code></a>']
    return "".join(f"<b>{escape(tag)}</b><div>{''.join(links)}</div>" for tag, links in by_tag.items())


def _filters() -> str:
    """The grammar of filters, from where it is defined."""
    title, _, grammar = (filters.__doc__ or "").partition("\n")
    return f'<section id="filters"><h2>{escape(title)}</h2><pre>{escape(grammar.strip())}</pre></section>'


def _section(
    document: Mapping[str, Any], shell: _Shell, method: str, path: str, operation: Mapping[str, Any]
) -> Iterator[str]:
    yield f'<section id="{_anchor(method, path)}"><h2><span class="verb">{method}</span> {escape(path)}</h2>'
    for paragraph in operation.get("description", "").split("\n\n"):
        yield f"<p>{_code(escape(paragraph))}</p>"
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    for model in _models(document, content.get("schema", {})):
        yield _fields(model)
    for example in content.get("examples", {}).values() or [{}]:
        summary = f"<p>{escape(example['summary'])}</p>" if "summary" in example else ""
        yield f"{summary}<pre>{escape(shell.line(method, path, operation, example))}</pre>"
    yield from _answers(document, operation["responses"])
    yield "</section>"


def _answers(document: Mapping[str, Any], responses: Mapping[str, Any]) -> Iterator[str]:
    """What comes back when it works; what else may come is opened by whoever asks."""
    rows: dict[bool, list[str]] = {True: [], False: []}
    for status, response in sorted(responses.items()):
        row = f"<tr><td><code>{status}</code></td><td>{_meaning(response)}</td></tr>"
        rows[status < "300"].append(row)
        if status < "300":
            for content in response.get("content", {}).values():
                for model in _models(document, content.get("schema", {})):
                    rows[True] += _field_rows(model, says_needed=False)
    yield f"<table><tr><th>answer</th><th></th></tr>{''.join(rows[True])}</table>"
    if rows[False]:
        yield f"<details><summary>errors</summary><table>{''.join(rows[False])}</table></details>"


def _models(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The objects a body may be."""
    for part in schema.get("oneOf", schema.get("anyOf", [schema])):
        name = part.get("$ref", "").rpartition("/")[2]
        if name:
            yield document["components"]["schemas"][name]
        elif "properties" in part:
            yield part


def _fields(model: Mapping[str, Any]) -> str:
    rows = "".join(_field_rows(model, says_needed=True))
    return f"<p>{escape(model.get('description', ''))}</p><table>{rows}</table>"


def _field_rows(model: Mapping[str, Any], *, says_needed: bool) -> list[str]:
    required = model.get("required", []) if says_needed else []
    return [
        f"<tr><td><code>{escape(name)}</code>{' <b>needed</b>' if name in required else ''}</td>"
        f"<td>{escape(field.get('description', ''))}{_default(field) if says_needed else ''}</td></tr>"
        for name, field in model.get("properties", {}).items()
    ]


def _default(field: Mapping[str, Any]) -> str:
    if field.get("default") in (None, []):
        return ""
    return f' <span class="quiet">Default <code>{escape(json.dumps(field["default"]))}</code>.</span>'


def _meaning(response: Mapping[str, Any]) -> str:
    examples = response.get("content", {}).get("application/problem+json", {}).get("examples", {})
    said = [
        f"{example['summary']}: <q>{escape(example['value']['detail'])}</q>" for example in examples.values()
    ]
    return "<br>".join(said) or _code(escape(response.get("description", "")))


def _code(text: str) -> str:
    """Backticks to code."""
    parts = text.split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))


def _anchor(method: str, path: str) -> str:
    return method.lower() + path.replace("/", "-").replace("{", "").replace("}", "")
