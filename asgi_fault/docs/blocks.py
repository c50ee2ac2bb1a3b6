"""The pieces of the pages that say what an operation is: heading, parameters, body, replies, curl line, form."""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from asgi_fault.docs.markup import Markup, element, fragment, inline, prose
from asgi_fault.docs.tables import type_of

HOST = "localhost:8000"
"""Where a server started with the defaults listens. With JavaScript the page puts its own address in."""

LINE_MAX = 56  # characters of JSON
ROWS_MAX = 24  # lines of a body that a form shows without scrolling


@dataclass(frozen=True)
class Described:
    """One operation of the document, and what has to be known to show it."""

    document: Mapping[str, Any]
    method: str
    path: str
    operation: Mapping[str, Any]

    @property
    def anchor(self) -> str:
        """Its id on the page."""
        return str(self.operation["operationId"])

    @property
    def parameters(self) -> list[Mapping[str, Any]]:
        """Its parameters, references resolved."""
        return [resolve(self.document, parameter) for parameter in self.operation.get("parameters", ())]

    @property
    def needs_path(self) -> bool:
        """Whether its URL is not known before a path parameter is."""
        return any(parameter["in"] == "path" for parameter in self.parameters)

    @property
    def body(self) -> tuple[str, Mapping[str, Any]] | None:
        """The content type of its body with schema and examples, when it takes one."""
        content: Mapping[str, Any] = self.operation.get("requestBody", {}).get("content", {})
        return next(iter(content.items()), None)

    @property
    def body_text(self) -> str:
        """The first example of its body, or nothing."""
        return "" if self.body is None else next((_json(one["value"]) for one in _examples(self.body[1])), "")


def operations(document: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], list[Described]]]:
    """Every tag with its operations, both in the order of the document."""
    described = [
        Described(document, method.upper(), path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    for tag in document.get("tags", ()):
        yield tag, [one for one in described if one.operation["tags"][0] == tag["name"]]


def resolve(document: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    """`node`, or what it refers to within the document."""
    reference = node.get("$ref")
    if reference is None:
        return node
    found: Any = document
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return resolve(document, found)


def relative(path: str) -> str:
    """A link to `path` that holds below a mount point and below `/~NAME/`."""
    return "." + path


def badge(method: str) -> Markup:
    """The method as a coloured word."""
    return element("span", method, class_=f"method {method.lower()}")


def heading(one: Described) -> Markup:
    """Method, path and summary."""
    return element(
        "header",
        element(
            "h3",
            badge(one.method),
            element("span", one.path, class_="path"),
            element("span", one.operation["summary"], class_="what"),
        ),
        element("a", "#", class_="anchor", href=f"#{one.anchor}", aria_label=f"Link to {one.method} {one.path}"),
    )


def description(one: Described) -> Markup:
    """The description, when there is one."""
    return prose(one.operation.get("description", ""))


def parameter_table(one: Described) -> Markup:
    """The parameters that are the operation's own, then links to those that it shares with others."""
    listed = one.operation.get("parameters", ())
    own = [parameter for parameter in listed if "$ref" not in parameter]
    shared = [parameter["$ref"] for parameter in listed if "$ref" in parameter]
    links = [
        element("a", resolve(one.document, {"$ref": reference})["name"], href=f"#{_anchor(reference)}")
        for reference in shared
    ]
    table = _table(own, f"Parameters of {one.method} {one.path}") if own else ""
    also = element("p", "Also, as on other operations: ", links, class_="also") if links else ""
    return fragment(element("h4", "Parameters"), table, also) if listed else Markup()


def _table(parameters: Iterable[Mapping[str, Any]], label: str) -> Markup:
    rows = [
        element(
            "tr",
            element("th", element("code", parameter["name"]), scope="row"),
            element("td", parameter["in"]),
            element(
                "td",
                element("span", type_of(parameter["schema"]), class_="kind"),
                inline(parameter.get("description", "")),
                element("span", " required", class_="needed") if parameter["required"] else "",
            ),
        )
        for parameter in parameters
    ]
    head = element("tr", [element("th", name, scope="col") for name in ("Name", "In", "What")])
    return element("table", element("thead", head), element("tbody", rows), aria_label=label)


def request_body(one: Described) -> Markup:
    """What the body has to be, and its examples."""
    if one.body is None:
        return Markup()
    content_type, media = one.body
    about = element(
        "p",
        type_of(media["schema"]),
        ": ",
        inline(one.operation["requestBody"].get("description", "")),
        element("span", " ", content_type, class_="type"),
    )
    examples = [
        fragment(
            element("p", inline(example.get("summary", "")), class_="also"),
            element("pre", element("code", _json(example["value"])), tabindex=0),
        )
        for example in _examples(media)
    ]
    return fragment(element("h4", "Body"), about, examples)


def _examples(media: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    examples: Mapping[str, Mapping[str, Any]] = media.get("examples", {})
    return examples.values()


def replies(one: Described) -> Markup:
    """The replies that are the operation's own with their examples, then links to those that all share."""
    own: list[Markup] = []
    links: list[Markup] = []
    for status, response in one.operation["responses"].items():
        if "$ref" in response:
            links.append(element("a", status, href=f"#{_anchor(response['$ref'])}"))
        else:
            own.append(reply(status, response))
    also = element("p", "Also, as on other operations: ", links, class_="also") if links else ""
    return fragment(element("h4", "Answers"), own, also)


def reply(status: str, response: Mapping[str, Any]) -> Markup:
    """One answer: status, meaning, content types, example."""
    content: Mapping[str, Any] = response.get("content", {})
    examples = {name: _json(media["example"]) for name, media in content.items() if "example" in media}
    return element(
        "div",
        element(
            "p",
            element("span", status, class_="status" if status < "400" else "status bad"),
            inline(response["description"]),
            element("span", " ", " or ".join(content), class_="type") if content else "",
        ),
        [
            fragment(
                element("p", name, class_="also") if len(examples) > 1 else "",
                element("pre", element("code", example), tabindex=0),
            )
            for name, example in examples.items()
        ],
        class_="reply",
    )


def shared(document: Mapping[str, Any]) -> Markup:
    """The parameters and answers that operations refer to, each where their links lead."""
    statuses: dict[str, str] = {}
    parameters: dict[str, Mapping[str, Any]] = {}
    for item in document["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                if "$ref" in parameter:
                    parameters[parameter["$ref"]] = resolve(document, parameter)
            for status, response in operation["responses"].items():
                if "$ref" in response:
                    statuses[response["$ref"]] = status
    articles = [
        element("article", _table([parameter], "Shared parameter"), id=_anchor(reference))
        for reference, parameter in parameters.items()
    ]
    articles += [
        element("article", reply(status, resolve(document, {"$ref": reference})), id=_anchor(reference))
        for reference, status in sorted(statuses.items(), key=lambda item: (item[1], item[0]))
    ]
    text = "What operations take and answer alike; each links here to what applies to it."
    title = element("h2", "All operations", id="shared-title")
    return element("section", title, prose(text), articles, class_="group", id="shared", aria_labelledby="shared-title")


def curl_line(one: Described) -> Markup:
    """A command to copy, with example values for what has to be given."""
    path = one.path
    for parameter in one.parameters:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", _example(parameter))
    words = ["curl", "-i"]
    # With a body curl sends POST by itself.
    if one.method != ("GET" if one.body is None else "POST"):
        words += ["-X", one.method]
    if one.body is not None:
        words += ["-H", f"Content-Type: {one.body[0]}", "-d", one.body_text]
    return command(" ".join(shlex.quote(word) for word in [*words, HOST + path]))


def command(text: str) -> Markup:
    """A command line with a button to copy it."""
    copy = element("button", "Copy", type="button", class_="js-only", data_copy=True)
    return element("div", element("pre", element("code", text), tabindex=0), copy, class_="curl")


def form(one: Described) -> Markup:
    """The form that sends a request.

    Without JavaScript a browser can send neither headers nor path parameters nor JSON; those inputs, or the whole form,
    then stay away.
    """
    inputs = [] if one.body is None else [_body_input(one, one.body[0])]
    inputs += [_input(one, parameter) for parameter in one.parameters]
    if one.operation.get("security"):
        inputs.append(_token_input(one))
    needs_script = one.needs_path or one.body is not None
    buttons = element(
        "div",
        element("button", "Send", type="submit"),
        element("button", "Stop", type="button", data_stop=True, hidden=True),
        class_="buttons",
    )
    made = element(
        "form",
        inputs,
        buttons,
        action=None if needs_script else relative(one.path),
        method="get" if one.method == "GET" else "post",
        aria_label=f"Send {one.method} {one.path}",
        data_method=one.method,
        data_path=one.path,
    )
    answer = element("div", class_="answer", role="status", hidden=True)
    only = "js-only" if needs_script or one.method not in ("GET", "POST") else None
    return element("div", element("h4", "Try it"), made, answer, class_=only)


def _input(one: Described, parameter: Mapping[str, Any]) -> Markup:
    name, where = parameter["name"], parameter["in"]
    # What has neither to be given nor a default stays empty, which is as good as left out.
    known = parameter.get("example") if where == "path" else parameter["schema"].get("default")
    field = element(
        "input",
        id=f"{one.anchor}-{name}",
        # Text, also for numbers: what is wrong on purpose has to get to the server.
        type="text",
        # Only a query can be sent by a form without JavaScript.
        name=name if where == "query" else None,
        value=None if known is None else str(known),
        required=where == "path",
        inputmode="numeric" if parameter["schema"].get("type") == "integer" else None,
        autocomplete="off",
        autocapitalize="off",
        spellcheck="false",
        data_in=where,
        data_name=name,
    )
    return _label(name, f" {where}", field, js_only=where == "header")


def _body_input(one: Described, content_type: str) -> Markup:
    field = element(
        "textarea",
        # A line end right behind the start tag would not count (HTML, section 13.1.2.5).
        "\n" + one.body_text,
        id=f"{one.anchor}-body",
        rows=min(one.body_text.count("\n") + 2, ROWS_MAX),
        autocomplete="off",
        autocapitalize="off",
        spellcheck="false",
        data_in="body",
        data_name=content_type,
    )
    return _label("body", f" {content_type}", field, js_only=False)


def _token_input(one: Described) -> Markup:
    field = element(
        "input",
        id=f"{one.anchor}-token",
        type="password",
        autocomplete="off",
        data_in="header",
        data_name="Authorization",
    )
    return _label("SERVER_ADMIN_TOKEN", " when the server has one", field, js_only=True)


def _label(name: str, hint: str, field: Markup, *, js_only: bool) -> Markup:
    text = element("span", element("span", name, class_="name"), element("span", hint, class_="hint"))
    return element("label", text, field, class_="js-only" if js_only else None)


def _example(parameter: Mapping[str, Any]) -> str:
    schema = parameter["schema"]
    return str(parameter.get("example", schema.get("default", schema.get("minimum", "x"))))


def _anchor(reference: str) -> str:
    """The id of what `#/components/KIND/NAME` refers to."""
    kind, _, name = reference.removeprefix("#/components/").partition("/")
    return f"{kind}-{name}"


def _json(example: object) -> str:
    return example if isinstance(example, str) else _laid_out(example, 0)


def _laid_out(value: object, indent: int) -> str:
    """JSON in which whatever fits stands on one line."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or indent + len(line) <= LINE_MAX:
        return line
    inner = indent + 2
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {_laid_out(one, inner)}" for key, one in value.items()]
    else:
        parts = [_laid_out(one, inner) for one in value]
    start, end = ("{", "}") if isinstance(value, dict) else ("[", "]")
    lines = ",\n".join(f"{' ' * inner}{part}" for part in parts)
    return f"{start}\n{lines}\n{' ' * indent}{end}"
