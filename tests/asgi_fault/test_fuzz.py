"""Whatever a client sends, and whatever an ASGI server makes of it: a clear answer or a clean close, never a crash."""

import asyncio
import json
from collections.abc import Iterator, MutableMapping
from itertools import count
from typing import Any, TypeVar

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error, positive_data_acceptance

from asgi_fault.application import Application
from asgi_fault.config import Settings
from asgi_fault.context import Context
from asgi_fault.observe.logs import Log
from asgi_fault.partitions import NAME
from tests.processes import RUNNERS, Server, running
from tests.sockets import Reply, connected, exchange, request
from tests.virtual_time import run_virtual

REPRODUCIBLE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
METHODS = ["GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"]
PATHS = [
    "/", "/msg", "/msg/", "/health", "/metrics", "/docs", "/redoc", "/openapi.json", "/fail/status", "/fail/reset",
    "/fail/count/3", "/fail/count/-1", "/fail/count/", "/fail/count/%31", "/fail/duration/0", "/fail/duration/x",
    "/~p/msg", "/%7Ep/msg", "/~/msg", "/~p", "/~p/~q/msg", "/~default/msg", "/nope", "//msg", "/./msg", "*", "",
]  # fmt: skip
DELAYS = ["", "?delay=0", "?delay=1", "?delay=-1", "?delay=x", "?delay=1&delay=", "?delay=%00", "?", "?&=&", "?delay"]
NAMES = [
    "x-request-id", "x-fault-partition", "x-correlation-id", "accept", "authorization", "origin", "connection",
    "access-control-request-method", "access-control-request-headers", "content-type", "expect", "upgrade", "te",
    "range", "if-none-match", "x-forwarded-for", "x-forwarded-proto", "forwarded", "cookie", "host", "x-thing",
]  # fmt: skip
VALUES = [
    "", "a", "default", "p", "close", "keep-alive", "websocket", "100-continue", "text/html", "GET", "*", "bytes=0-5",
    "application/problem+json", "application/openmetrics-text", "Bearer x", "http://a.example", "x" * 300, "é",
]  # fmt: skip


T = TypeVar("T")


def mostly(common: st.SearchStrategy[T], rare: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """Four of five from `common`: one odd part is enough to have a whole request refused early."""
    return st.integers(0, 4).flatmap(lambda number: common if number else rare)


# On sockets.

visible_bytes = st.binary(max_size=40).map(lambda data: data.translate(None, b"\r\n"))
field_names = mostly(st.sampled_from(NAMES), st.text(TOKEN_CHARACTERS, min_size=1, max_size=12))
field_lines = st.builds(
    lambda name, value: name.encode() + b": " + value,
    field_names.filter(lambda name: name.lower() not in ("content-length", "transfer-encoding")),
    mostly(st.sampled_from(VALUES).map(lambda value: value.encode("latin-1")), visible_bytes),
)
targets = mostly(
    st.builds(str.__add__, st.sampled_from(PATHS), st.sampled_from(DELAYS)).map(str.encode),
    visible_bytes.map(lambda data: b"/" + data)
    | visible_bytes
    | st.sampled_from(PATHS).map(lambda path: b"http://h" + path.encode()),
)
methods = mostly(st.sampled_from(METHODS), st.text(TOKEN_CHARACTERS, min_size=1, max_size=10))
bodies = st.binary(max_size=200)


@st.composite
def framed_requests(draw: st.DrawFn) -> tuple[str, bytes]:
    """A method, and a request with it that says truly where it ends; everything else about it may be wrong."""
    method = draw(methods)
    lines = draw(st.lists(field_lines, max_size=6))
    body = draw(bodies)
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "none":
        body = b""
    elif framing == "length":
        lines.append(b"content-length: %d" % len(body))
    else:
        lines.append(b"transfer-encoding: chunked")
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return method, request(draw(targets), *lines, method=method, body=body)


@st.composite
def broken_requests(draw: st.DrawFn) -> bytes:
    """Any bytes, or a request with pieces cut out, put in or changed, at the end of which the client closes."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=300))
    data = draw(framed_requests())[1]
    at = draw(st.integers(0, len(data)))
    removed = draw(st.integers(0, 20))
    return data[:at] + draw(st.binary(max_size=20) | st.just(b"\r\n")) + data[at + removed :]


@pytest.fixture(scope="module", params=["serve-h11-asyncio", "serve-httptools-uvloop", "uvicorn-httptools-asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    variables = {"SERVER_CORS_ENABLED": "true", "SERVER_LOG_LEVEL": "DEBUG"}
    with running(RUNNERS[request.param], variables=variables) as server:
        yield server


def assert_sane(server: Server, reply: Reply) -> None:
    induced = reply.status == 500 and reply.body in (b'{"detail":"Induced server failure"}', b"")
    assert reply.status < 500 or induced, reply
    assert b"Traceback" not in reply.body
    server.assert_no_defect()


@settings(REPRODUCIBLE, max_examples=400)
@given(sent=framed_requests())
def test_every_request_that_ends_is_answered(server: Server, sent: tuple[str, bytes]) -> None:
    method, data = sent
    with connected(server.address) as connection:
        connection.send(data)
        reply = connection.read_reply(method)
        assert reply.status, "closed without an answer"
        assert_sane(server, reply)
    assert exchange(server.address, request("/health")).status == 200


@settings(REPRODUCIBLE, max_examples=400)
@given(data=broken_requests())
def test_bytes_that_are_no_request_are_refused_or_the_connection_is_closed(server: Server, data: bytes) -> None:
    with connected(server.address) as connection:
        connection.send(data)
        connection.half_close()
        answers = connection.read_to_the_end()
        assert answers == b"" or answers.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")), answers
        assert b"Traceback" not in answers
        server.assert_no_defect()
    assert exchange(server.address, request("/health")).status == 200


# In process: scopes as no server makes them, too.

AWKWARD = "a/~%.;?# \x00\r\n\x7f\x85é\u2028\ud800\udfff\U0001f300"
any_text = st.text(max_size=30) | st.lists(st.sampled_from(AWKWARD), max_size=8).map("".join)
scope_headers = st.lists(
    st.tuples(
        mostly(
            st.sampled_from([*NAMES, "content-length", "transfer-encoding"]).map(str.encode), st.binary(max_size=12)
        ),
        mostly(st.sampled_from(VALUES).map(str.encode), st.binary(max_size=40)),
    ),
    max_size=8,
).map(lambda headers: [(name.lower(), value) for name, value in headers])
scopes: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "type": st.just("http"),
        "asgi": st.just({"version": "3.0", "spec_version": "2.3"}),
        "http_version": st.sampled_from(["1.0", "1.1", "2", "3"]),
        "method": mostly(st.sampled_from(METHODS), any_text),
        "scheme": st.sampled_from(["http", "https"]),
        "path": mostly(st.sampled_from(PATHS), any_text | any_text.map("/".__add__) | any_text.map("/~p/".__add__)),
        "query_string": st.sampled_from([text[1:].encode() for text in DELAYS]) | st.binary(max_size=30),
        "headers": scope_headers,
    },
    optional={
        "raw_path": st.none() | st.sampled_from(PATHS).map(str.encode) | st.binary(max_size=30),
        "root_path": st.sampled_from(["", "/mounted", "/", "/~p"]) | any_text,
        "client": st.none() | st.just(["127.0.0.1", 1]),
        "server": st.none() | st.just(["127.0.0.1", None]),
        "extensions": st.none() | st.just({}),
    },
)


class Conversation:
    """The ASGI messages of one exchange; the client sends `pieces` as the body, and may leave before it is whole."""

    def __init__(self, pieces: list[bytes], *, leaves: bool) -> None:
        last = len(pieces) - 1
        self._incoming: list[dict[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": leaves or number < last}
            for number, piece in enumerate(pieces)
        ]
        self._leaves = leaves
        self.starts: list[MutableMapping[str, Any]] = []
        self.bodies: list[MutableMapping[str, Any]] = []
        self.mistakes: list[MutableMapping[str, Any]] = []

    async def receive(self) -> MutableMapping[str, Any]:
        if self._incoming:
            return self._incoming.pop(0)
        if not self._leaves:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and not self.starts:
            self.starts.append(message)
        elif message["type"] == "http.response.body" and self.starts and not self.complete:
            self.bodies.append(message)
        else:  # not raised: the application may treat what `send` raises as the end of the connection
            self.mistakes.append(message)

    @property
    def complete(self) -> bool:
        return bool(self.bodies) and not self.bodies[-1].get("more_body", False)


def converse(scope: dict[str, Any], conversation: Conversation, **changed: Any) -> list[str]:
    """Run one exchange to its end in virtual time; the log lines it wrote."""
    lines: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        log = Log("DEBUG", "json", lines.append, lambda: 1_700_000_000.0)
        application = Application(Context(Settings(**changed), clock=loop.time, log=log))
        await application(scope, conversation.receive, conversation.send)

    run_virtual(main())
    return "".join(lines).splitlines()


def assert_well_formed(conversation: Conversation, method: str) -> None:
    (start,) = conversation.starts
    assert conversation.complete
    assert not conversation.mistakes
    assert 200 <= start["status"] < 500
    names = [name for name, _ in start["headers"]]
    assert names.count(b"x-request-id") == names.count(b"x-correlation-id") == 1
    for name, value in start["headers"]:
        assert name == name.lower()
        assert not set(name + value) & set(b"\r\n\x00"), "a header that ends early"
    body = b"".join(message.get("body", b"") for message in conversation.bodies)
    if method == "HEAD":
        assert body == b""
    elif start["status"] != 204:
        assert dict(start["headers"])[b"content-length"] == b"%d" % len(body)


@settings(REPRODUCIBLE, max_examples=1000)
@given(scope=scopes, pieces=st.lists(bodies, min_size=1, max_size=3), cors=st.booleans())
def test_any_scope_gets_one_start_and_one_end(scope: dict[str, Any], pieces: list[bytes], cors: bool) -> None:
    conversation = Conversation(pieces, leaves=False)
    lines = converse(scope, conversation, cors_enabled=cors, max_body=300)
    assert_well_formed(conversation, scope["method"])
    events = [json.loads(line) for line in lines]
    assert not [event for event in events if event["level"] in ("warning", "error")]
    (finished,) = (event for event in events if event["event"] == "request.complete")
    headers = dict(conversation.starts[0]["headers"])
    assert finished["request_id"].encode() == headers[b"x-request-id"]
    assert finished["correlation_id"].encode() == headers[b"x-correlation-id"]


@settings(REPRODUCIBLE, max_examples=500)
@given(scope=scopes, pieces=st.lists(bodies, min_size=1, max_size=3))
def test_a_client_that_leaves_gets_one_answer_or_none(scope: dict[str, Any], pieces: list[bytes]) -> None:
    conversation = Conversation(pieces, leaves=True)
    converse(scope, conversation)
    if conversation.starts or conversation.mistakes:
        assert_well_formed(conversation, scope["method"])


# By the document the server publishes of itself.

# Rules may be large, and a schema cannot say that the server takes no larger body.
application = Application(Context(Settings(max_body=64 * 1024 * 1024), log=Log("ERROR", write=lambda _: None)))
schema = schemathesis.openapi.from_asgi("/openapi.json", application)
numbers = count()


# A rule is large, so making one takes long: its own tests make thousands with a generator of their own.
@schema.include(path="/faults", method="POST").parametrize()
@settings(REPRODUCIBLE, max_examples=6)
def test_setting_rules_is_as_the_openapi_document_says(case: schemathesis.Case[Any]) -> None:
    check(case)


# A followed journal does not end by itself; test_journal_endpoints asks for it.
@schema.exclude(path="/faults", method="POST").exclude(path="/journal", method="GET").parametrize()
@settings(REPRODUCIBLE, max_examples=60)
def test_the_server_does_what_its_openapi_document_says(case: schemathesis.Case[Any]) -> None:
    check(case)


def check(case: schemathesis.Case[Any]) -> None:
    """With every check that schemathesis has: statuses, schemas, content types, headers, methods, rejected nonsense."""
    # Failures set by one case must not meet another, and no valid delay has to be long.
    if case.path.startswith(("/fail", "/faults")) and NAME.fullmatch(str(case.headers.get("X-Fault-Partition", "x"))):
        case.headers["X-Fault-Partition"] = f"case-{next(numbers)}"
    # Numbers as numbers, or schemathesis takes the text that it has made of them for the mistake.
    for name in ("delay", "limit", "after"):
        text = str(case.query.get(name)).removesuffix(".0")
        if text.isdecimal() and text.isascii() and len(text) < 20:
            case.query[name] = int(text)
    if case.query.get("delay") in range(30_001):
        case.query["delay"] %= 20
    response = case.call()
    # No schema says which of its keys contradict each other: such a body is valid and refused, and it says why.
    excluded: list[Any] = [positive_data_acceptance] if only_contradictions(response) else []
    # Ports need connections, and there are none here: as documented, and no defect.
    if response.status_code == 501 and case.path == "/ports":
        excluded = [not_a_server_error, positive_data_acceptance]
    case.validate_response(response, excluded_checks=excluded)


def only_contradictions(response: schemathesis.Response) -> bool:
    kinds = {one["type"] for one in violations_of(response)} if response.status_code == 422 else set()
    return "value_error" in kinds and kinds <= {"value_error", "too_many_violations"}


def violations_of(response: schemathesis.Response) -> list[dict[str, Any]]:
    document = response.json()
    found = document["validation_errors"] if "validation_errors" in document else document["detail"]
    return found if isinstance(found, list) else []
