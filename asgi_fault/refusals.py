"""The handlers of requests that no endpoint is for: an unknown path, a wrong method, OPTIONS."""

from collections.abc import Awaitable

from asgi_fault.asgi import Response
from asgi_fault.cors import Cors
from asgi_fault.errors import MethodNotAllowed, NotFound
from asgi_fault.exchange import Exchange
from asgi_fault.routing import Handler


def refuse(allow: str) -> Handler:
    """The handler of every method that a resource with this `Allow` does not have; of an unknown path, without any."""

    def not_found(exchange: Exchange) -> Response:
        details = {"path": exchange.path[:200], "hint": "GET / lists what there is."}
        raise NotFound("Not Found", details=details)

    def not_allowed(_: Exchange) -> Response:
        raise MethodNotAllowed("Method Not Allowed", headers=[(b"allow", allow.encode())])

    return not_allowed if allow else not_found


def answer_options(cors: Cors | None, allow: str) -> Handler:
    """The handler of OPTIONS: a preflight on any path, else what methods there are."""
    not_found = refuse("")

    def options(exchange: Exchange) -> Response | Awaitable[Response]:
        headers = exchange.headers
        if cors is not None and b"origin" in headers and b"access-control-request-method" in headers:
            return cors.preflight(headers)
        if not allow and exchange.path != "*":
            return not_found(exchange)
        return 204, [(b"allow", (allow or "GET, HEAD, POST, OPTIONS").encode())], b""

    return options
