"""The OpenAPI document as HTML: a page with forms, a page to print, and the index.

Each page is one file that needs nothing else: style and script stand in it, and its content security policy allows
nothing but them. Links are relative, so a page is the same at the root, below a mount point and below `/~NAME/`.
"""

from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from asgi_fault.docs.blocks import (
    HOST,
    badge,
    command,
    curl_line,
    description,
    form,
    heading,
    operations,
    parameter_table,
    relative,
    replies,
    request_body,
    shared,
)
from asgi_fault.docs.markup import Child, Markup, element, prose, raw
from asgi_fault.docs.tables import reachable, schema_article

CRACK = Markup(
    '<svg class="crack" viewBox="0 0 4000 36" preserveAspectRatio="xMinYMid slice" aria-hidden="true">'
    '<path d="M0 20H150l10-9 9 19 12-26 9 21 6-7h40M246 24h70l8-8 7 13 9-17 6 11H4000"></path></svg>'
)
"""A line with a fault in it."""

NO_SCRIPT = (
    "Without JavaScript the forms send no headers, and those with a path parameter or a body are left out: use the "
    "curl lines, and open `/~NAME/docs` to work in a partition."
)

INTRODUCTION = (
    "This server answers well until it is told not to. Point a client at it, tell it how to fail, and see what the "
    "client makes of it: whether it retries, how often, and whether it gives up in time. Put `/~NAME` in front of any "
    "path for a world of your own, with faults that nobody else sees."
)


def docs_page(document: Mapping[str, Any]) -> str:
    """The documentation with a form for every operation."""
    groups = [
        _group(
            tag,
            [
                element(
                    "article",
                    heading(one),
                    element(
                        "div",
                        element("div", description(one), parameter_table(one), request_body(one), replies(one)),
                        element("div", element("h4", "curl"), curl_line(one), form(one)),
                        class_="halves",
                    ),
                    id=one.anchor,
                )
                for one in members
            ],
        )
        for tag, members in operations(document)
    ]
    main = element(
        "main",
        prose(document["info"].get("description", "")),
        element("noscript", prose(NO_SCRIPT)),
        groups,
        shared(document),
        _schemas(document, _taken(document), "What bodies are made of. The reference has the other schemas, too."),
        id="main",
    )
    body = element("div", _contents(document), main, class_="columns")
    return _page(document, "docs", "Documentation", body)


def reference_page(document: Mapping[str, Any]) -> str:
    """The same to read and to print: no forms, and the schemas at the end."""
    groups = [
        _group(
            tag,
            [
                element(
                    "article",
                    heading(one),
                    description(one),
                    parameter_table(one),
                    request_body(one),
                    replies(one),
                    element("h4", "curl"),
                    curl_line(one),
                    id=one.anchor,
                )
                for one in members
            ],
        )
        for tag, members in operations(document)
    ]
    main = element(
        "main",
        prose(document["info"].get("description", "")),
        _contents(document),
        groups,
        shared(document),
        _schemas(document, list(document["components"]["schemas"]), with_json=True),
        id="main",
        class_="narrow reference",
    )
    return _page(document, "reference", "Reference", main)


def index_page(document: Mapping[str, Any]) -> str:
    """What there is, for somebody who has just opened the server in a browser."""
    has_docs = "/docs" in document["paths"]
    groups: list[Markup] = []
    for tag, members in operations(document):
        rows: list[Markup] = []
        for one in members:
            opens = one.method == "GET" and not one.needs_path
            path = element("span", one.path, class_="path")
            summary: Child = one.operation["summary"]
            if has_docs:
                summary = element("a", summary, href=f"{relative('/docs')}#{one.anchor}")
            rows.append(
                element(
                    "li",
                    element("span", badge(one.method)),
                    element("a", path, href=relative(one.path)) if opens else path,
                    element("span", summary, class_="what"),
                )
            )
        groups.append(_group(tag, [element("ul", rows, class_="surfaces")]))
    main = element(
        "main",
        prose(INTRODUCTION),
        element("h2", "Break something"),
        command(f"curl -X POST {HOST}/fail/count/3"),
        prose("The next three requests to `/msg` are answered 500, the fourth is answered well."),
        groups,
        element("h2", "The same list as JSON"),
        command(f"curl {HOST}/"),
        id="main",
        class_="narrow",
    )
    return _page(document, "index", None, main)


def _page(document: Mapping[str, Any], kind: str, title: str | None, body: Markup) -> str:
    """A whole page around `body`."""
    info = document["info"]
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; connect-src 'self'; "
        "form-action 'self'; img-src data:; base-uri 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="description", content=info.get("summary", "")),
        element("title", f"{title} · {info['title']}" if title else info["title"]),
        # Browsers ask for /favicon.ico unless they are told that there is none.
        element("link", rel="icon", href="data:,"),
        raw("style", style),
    )
    banner = element(
        "header",
        CRACK,
        element("h1", info["title"], element("span", info["version"], class_="version")),
        element("p", info.get("summary", ""), class_="summary"),
        _bar(document, kind),
        class_="top",
    )
    skip = element("a", "Skip to the content", class_="skip", href="#main")
    whole = element("body", skip, banner, body, raw("script", script), data_page=kind)
    return f"<!doctype html>\n{element('html', head, whole, lang='en')}\n"


def _bar(document: Mapping[str, Any], kind: str) -> Markup:
    """Links to the other pages that this server has."""
    pages = (
        ("index", "/", "Index"),
        ("docs", "/docs", "Documentation"),
        ("reference", "/redoc", "Reference"),
        ("", "/openapi.json", "OpenAPI document"),
        ("", "/metrics", "Metrics"),
        ("", "/health", "Health"),
    )
    links = [
        element("li", element("a", text, href=relative(path), aria_current="page" if name == kind else None))
        for name, path, text in pages
        if path in document["paths"]
    ]
    return element("nav", element("ul", links, class_="bar"), aria_label="Pages")


def _contents(document: Mapping[str, Any]) -> Markup:
    groups = [
        element(
            "div",
            element("h2", tag["name"]),
            element(
                "ul",
                [
                    element("li", element("a", badge(one.method), element("span", one.path), href=f"#{one.anchor}"))
                    for one in members
                ],
            ),
        )
        for tag, members in operations(document)
    ]
    more = element(
        "div",
        element("h2", element("a", "all operations", href="#shared")),
        element("h2", element("a", "schemas", href="#schemas")),
    )
    return element("nav", groups, more, class_="contents", aria_label="Contents")


def _group(tag: Mapping[str, Any], content: Child) -> Markup:
    anchor = f"tag-{tag['name']}"
    title = element("h2", tag["name"], id=anchor)
    about = prose(tag.get("description", ""))
    return element("section", title, about, content, class_="group", aria_labelledby=anchor)


def _taken(document: Mapping[str, Any]) -> list[str]:
    """The names of the schemas that bodies of requests are made of."""
    bodies = [
        operation["requestBody"]
        for item in document["paths"].values()
        for operation in item.values()
        if "requestBody" in operation
    ]
    return reachable(document, bodies)


def _schemas(document: Mapping[str, Any], names: list[str], text: str = "", *, with_json: bool = False) -> Markup:
    schemas = document["components"]["schemas"]
    articles = [schema_article(name, schemas[name], with_json=with_json) for name in names]
    title = element("h2", "Schemas", id="schemas-title")
    return element(
        "section", title, prose(text), articles, class_="group", id="schemas", aria_labelledby="schemas-title"
    )


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """The source expression that allows exactly this inline style or script (CSP level 3, section 2.3.1)."""
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
