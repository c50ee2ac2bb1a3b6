"""Thin shells that drive `sansio_client` in one world each: asyncio, trio, threads, httpx.

| module | what it is for |
|---|---|
| `asyncio`, `trio`, `threads` | any callable, in that world: `Resilient.run`, a decorator, `guard` and `attempts` |
| `httpx` | httpx and httpx2: transports for their clients, and `ResilientClient` |
| `observe` | what is decided, as log lines and callbacks |
| `otel` | calls and attempts as OpenTelemetry spans |

The name `adapters` is also that of an unrelated distribution; the two cannot share one environment. The sentinel
below lets a caller find out which one was imported.
"""

__sansio_adapters__ = True
