"""Thin shells that drive `sansio_client` in one world each: asyncio, trio, threads, httpx.

The name `adapters` is also that of an unrelated distribution; the two cannot share one environment. The sentinel
below lets a caller find out which one was imported.
"""

__sansio_adapters__ = True
