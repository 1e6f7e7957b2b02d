"""The page of documentation: an OpenAPI document as plain HTML, with no script and nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 20%, transparent) }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font: .875em/1.45 ui-monospace, monospace }
pre { overflow-x: auto; padding: .75rem; border: 1px solid var(--line); border-radius: .4rem }
section { border-top: 1px solid var(--line); margin-top: 2rem; padding-top: .5rem }
h2 code { font-size: 1em }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line) }
.scroll { overflow-x: auto }
"""

POLICY = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)
"""The Content-Security-Policy of the page."""


def document(api: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    info = api["info"]
    parts = [f"<h1>{escape(info['title'])}</h1>", _text(info.get("description", ""))]
    parts.append('<p>The same for programs: <a href="openapi.json">openapi.json</a></p>')
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            parts.append("<section>")
            parts += _operation(f"{method.upper()} {path}", operation, api)
            parts.append("</section>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}: the API</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<main>{''.join(parts)}</main></body></html>"
    )


def _operation(heading: str, operation: Mapping[str, Any], api: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{escape(heading)}</code></h2>{_text(operation.get('description', ''))}"
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if schema := content.get("schema"):
        yield f"<h3>Body</h3>{_fields(schema, api)}"
    for name, example in content.get("examples", {}).items():
        value = json.dumps(example["value"], indent=2, ensure_ascii=False)
        yield f"<p>For example, to <code>{escape(name)}</code>:</p><pre>{escape(value)}</pre>"
    for status, response in operation.get("responses", {}).items():
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        yield f"<h3>{escape(status)}: {escape(response['description'])}</h3>"
        if status.startswith("2"):
            yield _fields(schema, api)
    if any(not status.startswith("2") for status in operation.get("responses", {})):
        yield '<p>An error is <code>{"error": {"code", "message", "request_id"}}</code>.</p>'


def _fields(schema: Mapping[str, Any], api: Mapping[str, Any]) -> str:
    """Return the fields of an object as a table."""
    schema = _resolved(schema, api)
    rows = []
    for name, field in schema.get("properties", {}).items():
        needed = "" if name in schema.get("required", ()) else ", optional"
        about = field.get("description", "")
        rows.append(f"<tr><td><code>{escape(name)}</code><td>{escape(_type(field) + needed)}<td>{escape(about)}")
        for inner in _objects(field, api):
            for key, part in inner.get("properties", {}).items():
                place, about = f"{name}.{key}", part.get("description", "")
                rows.append(f"<tr><td><code>{escape(place)}</code><td>{escape(_type(part))}<td>{escape(about)}")
    return f'<div class="scroll"><table><tr><th>field<th>type<th>{"".join(rows)}</table></div>' if rows else ""


def _objects(field: Mapping[str, Any], api: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the schemas that a field refers to directly, or of which it is a list."""
    for one in (field, *field.get("anyOf", ()), field.get("items", {})):
        if "$ref" in one:
            yield _resolved(one, api)


def _resolved(schema: Mapping[str, Any], api: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    found: Mapping[str, Any] = api["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _type(field: Mapping[str, Any]) -> str:
    """Return the type of a field in words."""
    if "anyOf" in field:
        return " or ".join(filter(None, (_type(one) for one in field["anyOf"] if one.get("type") != "null")))
    if "$ref" in field:
        return str(field["$ref"].rpartition("/")[2])
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {})) or 'anything'}"
    return str(field.get("type", ""))


def _text(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n") if part.strip())
