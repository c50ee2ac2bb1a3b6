"""The pages: whole, safe, readable without JavaScript, and independent of the network and of where they are mounted."""

import asyncio
import json
import re
import shlex
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode, urljoin

import pytest

from asgi_fault.docs.markup import VOID
from asgi_fault.docs.openapi import openapi
from asgi_fault.docs.pages import docs_page, index_page, reference_page
from asgi_fault.docs.tables import type_of
from asgi_fault.faults.schema import SCHEMA as RULES
from asgi_fault.observe.expectations import SCHEMA as EXPECTATIONS
from asgi_fault.parameters import Integer, Text
from asgi_fault.routes import DOCUMENT_PAGES, ROUTES
from asgi_fault.routing import Body, Reply, Route
from tests.in_process import Answer, World, in_world

BODIES = {(route.method, route.path) for route in ROUTES if route.body is not None}
PAGES = (docs_page, reference_page, index_page)
HOSTILE = "</script><script>alert(1)</script><img src=x onerror='x'>\"&"
NUMBER = Integer(name="n", where="path", low=0, high=9, description="A digit.")


class Page(HTMLParser):
    """A parsed page; parsing fails where an end tag does not fit."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.raw: dict[str, str] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            self.raw[self.open[-1]] = data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(attribute)) is not None]


def handler(_: Any) -> Any:
    raise NotImplementedError


def page_of(render: Any, *routes: Route) -> Page:
    return Page(render(openapi(routes or ROUTES)))


@pytest.fixture(params=PAGES, ids=lambda render: render.__name__)
def page(request: pytest.FixtureRequest) -> Page:
    return page_of(request.param)


def test_every_route_is_there_with_its_summary(page: Page) -> None:
    for route in ROUTES:
        assert route.path in page.text
        assert route.summary in page.text


@pytest.mark.parametrize("render", [docs_page, reference_page])
def test_descriptions_parameters_and_answers_are_there(render: Any) -> None:
    text = page_of(render).text
    for route in ROUTES:
        assert route.description.replace("`", "") in text
        for parameter in route.parameters:
            assert parameter.name in text
            assert parameter.description in text
        for reply in route.replies.values():
            assert reply.description.replace("`", "") in text
            assert all(content_type in text for content_type in (reply.content_type, *reply.also))
        if route.body is not None:
            assert route.body.description in text
            assert all(summary in text for summary in route.body.examples)
    assert '"message_id": "6f1d1b1e' in text
    assert "X-Fault-Partition" in text
    assert "integer, 0 to 1000" in text


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    assert not {"script", "link", "img", "iframe", "object"} & {
        tag for tag, attributes in page.elements if "src" in attributes or "srcset" in attributes
    }
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    assert not [value for name in ("href", "src", "action") for value in page.values(name) if "//" in value]
    assert "url(" not in page.raw["style"]
    assert "@import" not in page.raw["style"]


def test_the_security_policy_allows_this_style_and_this_script_and_nothing_else(page: Page) -> None:
    (policy,) = [one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for kind in ("style", "script"):
        digest = b64encode(sha256(page.raw[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    names = {name for _, attributes in page.elements for name in attributes}
    assert not {name for name in names if name.startswith("on") or name == "style"}, "a policy of hashes forbids those"


@pytest.mark.parametrize("mount", ["", "/~mine", "/mounted/~mine"])
def test_links_and_forms_stay_below_the_prefix(page: Page, mount: str) -> None:
    links = [
        value for name in ("href", "action") for value in page.values(name) if not value.startswith(("#", "data:"))
    ]
    assert links
    paths = {route.path for route in ROUTES}
    for link in links:
        target = urljoin(f"{mount}/docs", link).partition("#")[0]
        assert target.startswith(f"{mount}/")
        assert target.removeprefix(mount) in paths


def test_links_within_the_page_lead_somewhere(page: Page) -> None:
    ids = page.values("id")
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    for link in page.values("href"):
        if link.startswith("#"):
            assert link[1:] in ids


def test_links_of_the_index_lead_into_the_docs() -> None:
    ids = page_of(docs_page).values("id")
    anchors = [link.partition("#")[2] for link in page_of(index_page).values("href") if link.startswith("./docs#")]
    assert len(anchors) == len(ROUTES)
    assert set(anchors) <= set(ids)


def test_the_page_is_accessible_in_what_a_parser_can_see(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("main")) == len(page.all("h1")) == 1
    ids = page.values("id")
    assert all(name in ids for name in page.values("aria-labelledby"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels


def test_every_input_stands_in_a_label() -> None:
    html = docs_page(openapi(ROUTES))
    labels = re.findall(r"<label.*?</label>", html, re.DOTALL)
    for tag in ("<input", "<textarea"):
        assert sum(label.count(tag) for label in labels) == html.count(tag) > 0
    assert all(label.count("<input") + label.count("<textarea") == 1 and ">" in label for label in labels)


def test_every_operation_has_a_form_and_a_curl_line() -> None:
    page = page_of(docs_page)
    sent = {(form["data-method"], form["data-path"]) for form in page.all("form")}
    assert sent == {(route.method, route.path) for route in ROUTES}
    assert "curl -i -X POST localhost:8000/fail/count/3" in page.text
    assert "curl -i localhost:8000/msg" in page.text


def test_without_javascript_a_form_sends_only_what_it_can() -> None:
    page = page_of(docs_page)
    for form in page.all("form"):
        assert form["data-path"] is not None
        has_body = (form["data-method"], form["data-path"]) in BODIES
        needs_script = "{" in form["data-path"] or has_body
        assert form.get("action") == (None if needs_script else "." + form["data-path"])
        assert form["method"] == ("get" if form["data-method"] == "GET" else "post")
    for field in page.all("input") + page.all("textarea"):
        # A header or a body that had a `name` would end up in the query.
        assert ("name" in field) == (field["data-in"] == "query")


@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES if route.method == "GET" and "{" not in route.path],
    ids=lambda route: route.path,
)
def test_without_javascript_the_server_takes_what_a_form_sends(route: Route) -> None:
    """A form sends empty fields too, and an empty number could be a 422, or an empty `follow` a stream without end."""
    fields = [field for field in page_of(docs_page, route).all("input") if "name" in field]
    query = urlencode({str(field["name"]): field.get("value") or "" for field in fields})

    async def test(world: World) -> Answer:
        leave = asyncio.Event()
        asyncio.get_running_loop().call_later(60, leave.set)
        return await world.client.get(f"{route.path}?{query}", leave=leave)

    answer = in_world(test)
    assert (answer.status, answer.complete) == (200, True)
    assert answer.headers["content-type"] != "text/event-stream"


def test_a_body_is_filled_in_and_stands_in_the_curl_line() -> None:
    html = docs_page(openapi(ROUTES))
    fields = re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", html, re.DOTALL)
    commands = [shlex.split(unescape(text)) for text in re.findall(r"<code>(curl -i .*?)</code>", html, re.DOTALL)]
    routes = [route for route in ROUTES if route.body is not None]
    assert len(fields) == len(routes) > 0
    for route, field in zip(routes, fields, strict=True):
        assert route.body is not None
        first = next(iter(route.body.examples.values()))
        assert json.loads(unescape(field)) == first
        path = route.path.replace("{port}", "3")
        (words,) = [words for words in commands if words[-1] == f"localhost:8000{path}" and "-d" in words]
        assert words[:5] == ["curl", "-i", "-H", "Content-Type: application/json", "-d"]
        assert json.loads(words[5]) == first


def test_a_body_with_a_quote_is_quoted_for_the_shell_and_for_html() -> None:
    value = {"it's": "</textarea><b>\n$HOME `id`"}
    route = Route(
        "PUT", "/a", handler, "t", "A", body=Body(description="x", schema={"type": "object"}, examples={"One": value}),
        replies={200: Reply(description="x")},
    )  # fmt: skip
    html = docs_page(openapi([route]))
    assert page_of(docs_page, route).all("b") == []
    (line,) = re.findall(r"<code>(curl .*?)</code>", html, re.DOTALL)
    words = shlex.split(unescape(line))
    assert words[2:4] == ["-X", "PUT"]
    assert json.loads(words[words.index("-d") + 1]) == value
    assert '<div class="js-only"><h4>Try it</h4>' in html


def test_an_example_is_json_with_short_lines() -> None:
    value = {"a": [], "b": {"c": [1, 2, {"long": ["x" * 30, "y" * 30]}], "d": {}}, "é": "x" * 99, "f": None}
    body = Body(description="x", schema={}, examples={"One": value})
    html = docs_page(
        openapi([Route("POST", "/a", handler, "t", "A", body=body, replies={200: Reply(description="x")})])
    )
    (text,) = re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", html, re.DOTALL)
    assert json.loads(unescape(text)) == value
    assert [line for line in unescape(text).splitlines() if len(line) > 60 and "x" * 99 not in line] == []


def described_keys(schema: Any) -> Iterator[tuple[str, str]]:
    """Every key within a schema with its description, whatever lies between."""
    for key, value in schema.items() if isinstance(schema, dict) else ():
        for name, one in value.items() if key == "properties" else ():
            yield name, one.get("description", "")
        yield from described_keys(value)


@pytest.mark.parametrize("render", [docs_page, reference_page])
def test_every_key_of_a_rule_and_of_expectations_is_explained(render: Any) -> None:
    page = page_of(render)
    html = render(openapi(ROUTES))
    for schema in (RULES, EXPECTATIONS):
        keys = list(described_keys(schema))
        assert len(keys) > 10
        for name, description in keys:
            assert re.search(rf"<code>([\w.\[\]]+\.)?{name}</code>", html), name
            assert " ".join(description.replace("`", "").split()) in page.text
    for text in ("before-head, in-head, after-head or mid-body", "301, 302, 303, 307 or 308, default 302"):
        assert text in page.text
    assert {"#schema-FaultStep", "#schema-FaultMatch", "#schema-Expectations"} <= set(page.values("href"))


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({}, "any"),
        ({"type": "integer", "minimum": 0, "maximum": 9, "default": 1}, "integer, 0 to 9, default 1"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 9}, "number, more than 0, at most 9"),
        ({"type": "number", "exclusiveMaximum": 1}, "number, less than 1"),
        ({"type": "string", "maxLength": 5, "pattern": "^a<b$"}, "string, at most 5 characters, matching ^a&lt;b$"),
        ({"type": "string", "pattern": "^(a|b-c|d)$"}, "a, b-c or d"),
        ({"type": "string", "pattern": "^(|a)$", "default": "a"}, "empty or a, default a"),
        ({"type": "boolean", "default": False}, "boolean, default false"),
        ({"type": ["number", "null"]}, "number or null"),
        (
            {"type": ["integer", "array"], "minimum": 1, "items": {"type": "integer", "minimum": 1}, "maxItems": 9},
            "integer, at least 1, or list of those, at most 9 items",
        ),
        ({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}, "list of number, 2 items"),
        ({"type": "array", "items": {}, "minItems": 2, "maxItems": 3}, "list of any, 2 to 3 items"),
        ({"type": "array", "minItems": 2}, "list of any, at least 2 items"),
        ({"type": "object", "minProperties": 1, "maxProperties": 1}, "object with one key"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "object, each value: string"),
        ({"const": "a"}, '"a"'),
        ({"$ref": "#/components/schemas/A"}, '<a href="#schema-A">A</a>'),
    ],
)
def test_a_type_in_words(schema: Any, text: str) -> None:
    assert type_of(schema) == text


def test_without_javascript_a_form_with_a_path_parameter_is_not_shown() -> None:
    route = Route("POST", "/set/{n}", handler, "t", "Set", parameters=(NUMBER,), replies={200: Reply(description="x")})
    assert '<div class="js-only"><h4>Try it</h4>' in docs_page(openapi([route]))
    plain = Route("POST", "/set", handler, "t", "Set", replies={200: Reply(description="x")})
    assert '<div class="js-only"><h4>Try it</h4>' not in docs_page(openapi([plain]))


def test_a_guarded_operation_asks_for_the_token_and_an_open_one_does_not() -> None:
    def passwords(*, control: bool) -> int:
        route = Route("GET", "/a", handler, "t", "A", replies={200: Reply(description="x")}, control=control)
        return sum(field["type"] == "password" for field in page_of(docs_page, route).all("input"))

    assert passwords(control=True) == 1
    assert passwords(control=False) == 0


@pytest.mark.parametrize("render", PAGES)
def test_hostile_text_stays_text(render: Any) -> None:
    parameters = (
        Integer(name=f"n{HOSTILE}", where="query", low=0, high=9, description=HOSTILE),
        Text(name="h", where="header", pattern=HOSTILE, max_length=1, description=f"`{HOSTILE}` **{HOSTILE}**"),
    )
    replies = {200: Reply(description=HOSTILE, example={HOSTILE: HOSTILE}, content_type=HOSTILE)}
    hostile = Route(
        "GET", f"/a{HOSTILE}", handler, HOSTILE, HOSTILE, description=HOSTILE, parameters=parameters, replies=replies
    )
    page = page_of(render, hostile)
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert HOSTILE in "".join(page.texts)


def test_a_server_without_document_pages_does_not_link_to_them() -> None:
    routes = [route for route in ROUTES if route.path not in DOCUMENT_PAGES]
    links = page_of(index_page, *routes).values("href")
    assert not [link for link in links if link.startswith(("./docs", "./redoc"))]
    assert "./openapi.json" in links


def test_the_index_breaks_something_in_one_line() -> None:
    assert "curl -X POST localhost:8000/fail/count/3" in page_of(index_page).text


def test_the_reference_has_no_forms_and_shows_the_schemas() -> None:
    page = page_of(reference_page)
    assert page.all("form") == page.all("input") == page.all("textarea") == []
    assert "schema-ValidationError" in page.values("id")
