"""Recorded sleeps: what a client would have waited, written down and skipped, on the thread of the test alone.

`time.sleep`, `asyncio.sleep`, `anyio.sleep` and `trio.sleep` are replaced wherever a loaded module outside of those
libraries holds them (`from time import sleep` included). A replacement passes on what is not meant: other threads, the
standard library's own sleeps (a subprocess is polled in real time), zero, what is negative, and infinity, which is no
pause. The server's clock is put forward by what was skipped (`clock`), so the gaps in its journal are what the client
meant them to be, and a rate limit's window passes.
"""

import functools
import math
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar

RECORDED_MAX = 1000
LIBRARIES = ("time", "asyncio", "anyio", "trio")


class RecordedSleeps(list[float]):
    """The seconds of each sleep that was skipped, in order; compare it with `pytest.approx([1, 2])`.

    Args:
        too_many: raises what ends a client that sleeps again and again; called with the reason.
    """

    latest: ClassVar["RecordedSleeps | None"] = None

    def __init__(self, too_many: Callable[[str], object] | None = None) -> None:
        super().__init__()
        self._too_many = too_many or _too_many
        self._thread = threading.get_ident()
        self.skipped: list[tuple[float, float]] = []
        """Each sleep as (instant of `clock` at which it began, seconds); `clear` does not forget them."""

    @property
    def total(self) -> float:
        """The sum, in seconds."""
        return math.fsum(self)

    def takes(self, seconds: object) -> bool:
        """Whether a sleep of `seconds`, asked for right here, is to be skipped."""
        if threading.get_ident() != self._thread or not isinstance(seconds, int | float):
            return False
        return 0 < seconds < math.inf

    def record(self, seconds: float) -> None:
        """Write a sleep down and put the clock forward."""
        if len(self.skipped) == RECORDED_MAX:
            self._too_many(
                f"{RECORDED_MAX} sleeps were recorded and skipped, the latest of {self.skipped[-1][1]:g} s. Does the "
                "client wait until some instant? Skipping makes no time pass for it: bound its attempts, or test it "
                "without recorded_sleeps."
            )
        self.skipped.append((clock(), float(seconds)))
        self.append(float(seconds))
        _forward.seconds += seconds


class _Forward:
    seconds = 0.0


_forward = _Forward()
_active: RecordedSleeps | None = None


def clock() -> float:
    """The monotonic clock, plus every second that was skipped in this process. Never goes back."""
    return monotonic() + _forward.seconds


def start(sleeps: RecordedSleeps) -> None:
    """Skip and record the sleeps of this thread from now on; owes a `stop`."""
    global _active  # noqa: PLW0603 - functions of modules are replaced: that is global, whatever it is called
    if _active is not None:
        raise RuntimeError("Sleeps are being recorded already.")
    _active = RecordedSleeps.latest = sleeps
    _replace(_originals())


def stop() -> None:
    """Let everybody sleep again."""
    global _active  # noqa: PLW0603
    _active = None
    _replace({replacement: original for original, replacement in _replacements.items()})


_replacements: dict[Callable[..., Any], Callable[..., Any]] = {}
"""Every original with its replacement, made once: a module may be imported, and keep it, while sleeps are skipped."""


def _originals() -> dict[Callable[..., Any], Callable[..., Any]]:
    for name in LIBRARIES:
        original = getattr(sys.modules.get(name), "sleep", None)
        if original is not None and original not in _replacements and original not in _replacements.values():
            _replacements[original] = _for_thread(original) if name == "time" else _for_loop(original)
    return _replacements


def _replace(functions: dict[Callable[..., Any], Callable[..., Any]]) -> None:
    """Put new functions in the place of old ones, in every module that may hold them."""
    new_by_id = {id(old): new for old, new in functions.items()}
    for name, module in list(sys.modules.items()):
        # `sys.modules` may hold None, or anything that a module has put in its own place.
        namespace: dict[str, Any] = getattr(module, "__dict__", {})
        if _is_inside(name) and name not in LIBRARIES:
            continue
        if new_by_id.keys().isdisjoint(map(id, tuple(namespace.values()))):
            continue
        for key, value in list(namespace.items()):
            if id(value) in new_by_id:
                namespace[key] = new_by_id[id(value)]


def _is_inside(module: str) -> bool:
    """Whether sleeps of `module` are part of how a library works, and no back-off."""
    package = module.partition(".")[0]
    return package in sys.stdlib_module_names or package in LIBRARIES or module == __name__


def _for_thread(original: Callable[[float], None]) -> Callable[..., None]:
    @functools.wraps(original)
    def sleep(*args: Any) -> None:
        sleeps = _active
        caller = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001 - who calls is what has to be known
        if sleeps is None or len(args) != 1 or _is_inside(caller) or not sleeps.takes(args[0]):
            original(*args)
        else:
            sleeps.record(args[0])

    return sleep


def _for_loop(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def sleep(*args: Any, **kwargs: Any) -> Any:
        sleeps = _active
        seconds, *rest = args or (kwargs.get("delay", kwargs.get("seconds")),)
        if sleeps is None or not sleeps.takes(seconds):
            return await original(*args, **kwargs)
        sleeps.record(seconds)
        # Others run meanwhile, and a cancellation is noticed, as in any sleep.
        await original(0)
        return rest[0] if rest else kwargs.get("result")

    return sleep


def _too_many(reason: str) -> None:
    raise RuntimeError(reason)
