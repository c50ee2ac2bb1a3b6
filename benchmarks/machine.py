"""Where a run took place: versions, processor, load; and which core is whose."""

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import asgi_fault

PACKAGES = (
    "uvicorn", "uvloop", "httptools", "starlette", "fastapi", "structlog", "httpx", "httpx-retries", "trio", "hyx",
    "tenacity", "stamina", "backoff", "purgatory", "aiobreaker", "pybreaker",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Everything about this machine that a reader needs to judge the figures."""
    versions = {"CPython": platform.python_version(), "asgi-fault": asgi_fault.__version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def load_average() -> float | None:
    """Runnable processes over the last minute, where the system counts them."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def cores() -> tuple[int, int] | None:
    """The core of the servers and the core of the generator; None where there is only one, or no way to choose."""
    if sys.platform != "linux":
        return None
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
