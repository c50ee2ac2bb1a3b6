"""Routing: which operation a path and a method name. Exact paths first, in one dictionary; then templates, in order.

Routes are data (`Route`, listed in `routes`); a `Router` turns them into `Resource`s (one path) with an `Operation` for
every method, also for those that are answered 405. A path without a trailing slash is served with one as well.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from asgi_fault.asgi import Response
from asgi_fault.observe.metrics import Traffic
from asgi_fault.parameters import Parameter

if TYPE_CHECKING:
    from asgi_fault.exchange import Exchange
    from asgi_fault.partitions import Partition

Handler: TypeAlias = "Callable[[Exchange], Response | Awaitable[Response]]"
"""Answers one exchange. A plain function where nothing has to wait: a coroutine costs half a microsecond more."""

Refusal: TypeAlias = Callable[[str], Handler]
"""Makes a handler that needs to know the `Allow` of its resource."""

Quick: TypeAlias = "Callable[[Partition, bytes | None, float], Response | None]"
"""Answers a plain GET with 200 at once, given the partition, the `X-Request-ID` and the instant; or leaves it, with
None and nothing done, to the handler."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
OTHER_METHOD = "other"
"""The metric label of a method outside `METHODS`: labels are bounded, methods are not."""

UNMATCHED = "unmatched"
"""The metric label of every path that no surface has."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One documented answer of a route: what it means, and an example that the documents show.

    Attributes:
        schema: of the body; without it what `example` looks like.
        also: the other content types that `Accept` can ask for, each with an example or None. Their bodies are text.
        headers: names in `docs.components.HEADERS`, beside those of every answer.
    """

    description: str
    example: Any = None
    content_type: str = "application/json"
    schema: Mapping[str, Any] | None = None
    also: Mapping[str, str | None] = field(default_factory=dict)
    headers: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Body:
    """The JSON that a route takes.

    Attributes:
        schema: may refer to `docs.components.SCHEMAS`.
        examples: bodies that the server takes, by what they are for; the first fills the form.
    """

    description: str
    schema: Mapping[str, Any]
    examples: Mapping[str, Any]


@dataclass(frozen=True)
class Route:
    """One row of the table: a method on a path, its handler, and what the documents say of it.

    Attributes:
        control: the route steers or watches the server: it takes no slot and no fault, and `SERVER_ADMIN_TOKEN` guards
            it when set.
        public: a control route that answers whatever else is going on: without token, partition or body.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    summary: str
    description: str = ""
    parameters: Sequence[Parameter] = ()
    body: Body | None = None
    replies: Mapping[int, Reply] = field(default_factory=dict)
    control: bool = False
    public: bool = False
    documented: bool = True
    quick: "Quick | None" = None


class Operation:
    """One method of one resource, ready to run, with what was counted of it."""

    __slots__ = ("control", "guarded", "handler", "method", "path", "public", "traffic")

    def __init__(self, method: str, path: str, handler: Handler, *, control: bool, public: bool) -> None:
        self.method = method
        self.path = path
        self.handler = handler
        self.control = control
        self.public = public
        self.guarded = control and not public and method != "OPTIONS"
        self.traffic = Traffic()


class QuickOperation(NamedTuple):
    """A GET that can be answered in the quick lane, and where it is counted."""

    path: str
    answer: Quick
    traffic: Traffic


class Resource:
    """One path (or template) and its operations.

    Attributes:
        path: as written in the table; the metric label.
        operations: by method, complete for `METHODS`; any other method is `other`.
    """

    __slots__ = ("_pattern", "operations", "other", "path")

    def __init__(self, path: str, routes: Sequence[Route], refuse: Refusal, options: Refusal) -> None:
        self.path = path
        handlers = {route.method: route.handler for route in routes}
        if "GET" in handlers:
            handlers.setdefault("HEAD", handlers["GET"])
        allow = ", ".join(method for method in METHODS if method in handlers or (routes and method == "OPTIONS"))
        handlers.setdefault("OPTIONS", options(allow))
        refused = refuse(allow)
        control = any(route.control for route in routes)
        public = any(route.public for route in routes)

        def operation(method: str) -> Operation:
            handler = handlers.get(method, refused)
            return Operation(method, path, handler, control=control, public=public)

        self.operations = {method: operation(method) for method in METHODS}
        self.other = operation(OTHER_METHOD)
        self._pattern = _compile(path) if "{" in path else None

    def match(self, path: str) -> dict[str, str] | None:
        """The path parameters when `path` fits this template, else None."""
        found = self._pattern.fullmatch(path) if self._pattern is not None else None
        return found.groupdict() if found is not None else None


class Router:
    """All resources of a table, and the one for paths that are not in it.

    Args:
        routes: the table.
        refuse: makes, for the `Allow` of a resource, the handler of the methods it does not have; `Allow` is empty for
            a path that is not in the table.
        options: the same for OPTIONS.

    Attributes:
        quick: the exact paths that have a quick way to be answered.
        static: the exact paths, with and without their trailing slash. The hot path reads it directly.
        resources: everything countable, for the metrics.
    """

    def __init__(self, routes: Iterable[Route], *, refuse: Refusal, options: Refusal) -> None:
        by_path: dict[str, list[Route]] = {}
        for route in routes:
            by_path.setdefault(route.path, []).append(route)
        self.static: dict[str, Resource] = {}
        self._templates: list[Resource] = []
        for path, rows in by_path.items():
            resource = Resource(path, rows, refuse, options)
            if "{" in path:
                self._templates.append(resource)
            else:
                self.static[path] = self.static[path.rstrip("/") + "/"] = resource
        self.quick = {
            path: QuickOperation(route.path, route.quick, self.static[path].operations["GET"].traffic)
            for rows in by_path.values()
            for route in rows
            if route.quick is not None
            for path in (route.path, route.path.rstrip("/") + "/")
        }
        self.unmatched = Resource(UNMATCHED, (), refuse, options)
        self.resources = [*dict.fromkeys(self.static.values()), *self._templates, self.unmatched]

    def find(self, path: str) -> tuple[Resource, Mapping[str, str]]:
        """The resource for `path`, and its path parameters, still as text."""
        resource = self.static.get(path)
        if resource is not None:
            return resource, {}
        bare = path[:-1] if len(path) > 1 and path.endswith("/") else path
        for template in self._templates:
            params = template.match(bare)
            if params is not None:
                return template, params
        return self.unmatched, {}


def _compile(template: str) -> re.Pattern[str]:
    """A pattern for `/fail/count/{n}`: a parameter is one segment, and not an empty one."""
    pieces = re.split(r"\{(\w+)\}", template)
    pattern = "".join(f"(?P<{piece}>[^/]+)" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))
    return re.compile(pattern, re.DOTALL)
