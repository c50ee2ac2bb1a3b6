"""Documents made from the route table: OpenAPI 3.1, and pages that need no network and no JavaScript to be read."""

from asgi_fault.docs.documents import Documents

__all__ = ["Documents"]
