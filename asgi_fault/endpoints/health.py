"""`GET /health`: whether the server lives. Never limited, delayed, failed or guarded: it answers while all fails."""

from datetime import UTC, datetime

from asgi_fault.asgi import Response, json_response
from asgi_fault.exchange import Exchange
from asgi_fault.version import __version__


def get_health(exchange: Exchange) -> Response:
    """Answer `{"status":"ok", ...}`; the word can be changed with `SERVER_HEALTH_STATUS`."""
    context = exchange.context
    now = datetime.fromtimestamp(context.wall_clock(), UTC)
    return json_response(
        200,
        {
            "status": context.settings.health_status,
            "uptime_seconds": round(context.uptime(), 2),
            "version": __version__,
            "timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        },
    )
