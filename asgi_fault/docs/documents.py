"""The documents about one route table, each made when it is first asked for and kept as bytes."""

from collections.abc import Sequence
from functools import cached_property

from asgi_fault.asgi import to_json
from asgi_fault.docs.openapi import openapi
from asgi_fault.docs.pages import docs_page, index_page, reference_page
from asgi_fault.routing import Route


class Documents:
    """What `/`, `/docs`, `/redoc` and `/openapi.json` answer.

    Args:
        routes: the table; routes that are not `documented` are left out.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [route for route in routes if route.documented]

    @cached_property
    def openapi_json(self) -> bytes:
        """The OpenAPI document."""
        return to_json(openapi(self._routes))

    @cached_property
    def docs_html(self) -> bytes:
        """The page with forms."""
        return docs_page(openapi(self._routes)).encode()

    @cached_property
    def reference_html(self) -> bytes:
        """The page to read."""
        return reference_page(openapi(self._routes)).encode()

    @cached_property
    def index_html(self) -> bytes:
        """The index for a browser."""
        return index_page(openapi(self._routes)).encode()

    @cached_property
    def index_json(self) -> bytes:
        """The index for a program."""
        document = openapi(self._routes)
        return to_json(
            {
                "name": document["info"]["title"],
                "version": document["info"]["version"],
                "description": document["info"]["summary"],
                "docs": "/docs",
                "health": "/health",
                "metrics": "/metrics",
                "openapi": "/openapi.json",
                "surfaces": [
                    {"method": route.method, "path": route.path, "summary": route.summary} for route in self._routes
                ],
            }
        )
