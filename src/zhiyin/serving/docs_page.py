"""The routes on one page: no script, no other server, readable without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
nav a { display: inline-block; margin: 0 1rem .3rem 0; } a { color: var(--accent); }
.verb { color: var(--accent); display: inline-block; min-width: 5rem; }
.quiet { opacity: .75; }
"""


def docs_page(document: Mapping[str, Any], base_url: str) -> str:
    """Turn an OpenAPI document into a page of HTML.

    Args:
        document: The description of the routes.
        base_url: Where the service is reached, for lines to paste into a shell.
    """
    routes = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    links = '<a href="#filters"><code>filters</code></a>' + "".join(
        f'<a href="#{_anchor(method, path)}"><code>{method} {escape(path)}</code></a>'
        for method, path, _ in routes
    )
    sections = "".join("".join(_section(document, base_url, *route)) for route in routes)
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1><p>{escape(document['info']['description'])} The machine-readable description is "
        f'<a href="openapi.json">openapi.json</a>.</p><nav>{links}</nav>{sections}{_filters()}</body></html>'
    )


def _filters() -> str:
    """The grammar of filters, from where it is defined."""
    title, _, grammar = (filters.__doc__ or "").partition("\n")
    return f'<section id="filters"><h2>{escape(title)}</h2><pre>{escape(grammar.strip())}</pre></section>'


def _section(
    document: Mapping[str, Any], base_url: str, method: str, path: str, operation: Mapping[str, Any]
) -> Iterator[str]:
    yield f'<section id="{_anchor(method, path)}"><h2><span class="verb">{method}</span> {escape(path)}</h2>'
    for paragraph in operation.get("description", "").split("\n\n"):
        yield f"<p>{_code(escape(paragraph))}</p>"
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    for model in _models(document, content.get("schema", {})):
        yield _fields(model)
    for example in content.get("examples", {}).values():
        place = path.replace("{item_id}", "new-item").replace("{user_id}", "new-user")
        line = curl(method, Example(example["summary"], place, example["value"]), base_url)
        yield f"<p>{escape(example['summary'])}</p><pre>{escape(line)}</pre>"
    yield "<table><tr><th>answer</th><th></th></tr>"
    for status, response in operation["responses"].items():
        yield f"<tr><td><code>{status}</code></td><td>{_meaning(response)}</td></tr>"
    yield "</table></section>"


def _models(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The objects a body may be."""
    for part in schema.get("oneOf", schema.get("anyOf", [schema])):
        name = part.get("$ref", "").rpartition("/")[2]
        if name:
            yield document["components"]["schemas"][name]


def _fields(model: Mapping[str, Any]) -> str:
    required = model.get("required", [])
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{' <b>needed</b>' if name in required else ''}</td>"
        f"<td>{escape(field.get('description', ''))}{_default(field)}</td></tr>"
        for name, field in model.get("properties", {}).items()
    )
    return f"<p>{escape(model.get('description', ''))}</p><table>{rows}</table>"


def _default(field: Mapping[str, Any]) -> str:
    if field.get("default") in (None, []):
        return ""
    return f' <span class="quiet">Default <code>{escape(json.dumps(field["default"]))}</code>.</span>'


def _meaning(response: Mapping[str, Any]) -> str:
    examples = response.get("content", {}).get("application/problem+json", {}).get("examples", {})
    said = [
        f"{example['summary']}: <q>{escape(example['value']['detail'])}</q>" for example in examples.values()
    ]
    return "<br>".join(said) or escape(response.get("description", ""))


def _code(text: str) -> str:
    """Backticks to code."""
    parts = text.split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))


def _anchor(method: str, path: str) -> str:
    return method.lower() + path.replace("/", "-").replace("{", "").replace("}", "")
