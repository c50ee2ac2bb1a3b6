"""The documents about one route table, each made when it is first asked for and kept as bytes.

What makes them is imported then, too: a server that nobody asks for a page starts a third faster.
"""

from collections.abc import Sequence
from functools import cached_property

from asgi_fault.asgi import to_json
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
        from asgi_fault.docs.openapi import openapi

        return to_json(openapi(self._routes))

    @cached_property
    def docs_html(self) -> bytes:
        """The page with forms."""
        from asgi_fault.docs.openapi import openapi
        from asgi_fault.docs.pages import docs_page

        return docs_page(openapi(self._routes)).encode()

    @cached_property
    def reference_html(self) -> bytes:
        """The page to read."""
        from asgi_fault.docs.openapi import openapi
        from asgi_fault.docs.pages import reference_page

        return reference_page(openapi(self._routes)).encode()

    @cached_property
    def index_html(self) -> bytes:
        """The index for a browser."""
        from asgi_fault.docs.openapi import openapi
        from asgi_fault.docs.pages import index_page

        return index_page(openapi(self._routes)).encode()

    def index_json(self, prefix: str) -> bytes:
        """The index for a program; `prefix` is what the client's URLs begin with, such as `/~NAME`."""
        from asgi_fault.docs.openapi import openapi

        document = openapi(self._routes)
        return to_json(
            {
                "name": document["info"]["title"],
                "version": document["info"]["version"],
                "description": document["info"]["summary"],
                "docs": f"{prefix}/docs",
                "health": f"{prefix}/health",
                "metrics": f"{prefix}/metrics",
                "openapi": f"{prefix}/openapi.json",
                "surfaces": [
                    {"method": route.method, "path": prefix + route.path, "summary": route.summary}
                    for route in self._routes
                ],
            }
        )
