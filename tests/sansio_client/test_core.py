"""The registry of targets: made on first use, forgotten when nobody would notice; and the package as a whole."""

import subprocess
import sys
import tracemalloc

import pytest

import sansio_client
from sansio_client.backoff import FullJitter
from sansio_client.core import Core
from sansio_client.errors import SettingError
from sansio_client.outcome import FAILURE, SUCCESS
from sansio_client.policy import Policy
from tests.sansio_client.driving import Driven


def test_a_target_is_made_once() -> None:
    driven = Driven(Policy())
    assert driven.core.target("a", 0.0) is driven.core.target("a", 5.0)
    assert driven.core.target("b", 0.0) is not driven.core.target("a", 0.0)


def test_healthy_idle_targets_are_forgotten_beyond_the_spare_ones() -> None:
    driven = Driven(Policy(), spare_targets=10)
    for number in range(1000):
        driven.done(driven.sent(f"host-{number}"))
    assert len(driven.core.targets) <= 10


def test_p48_targets_that_remember_trouble_or_are_in_use_stay() -> None:
    driven = Driven(Policy(), spare_targets=10)
    in_use = [driven.sent(f"busy-{number}") for number in range(20)]
    driven.fail(1, "shaken")
    waiting = driven.sent("backing-off")
    driven.done(waiting, FAILURE)
    troubled = driven.core.targets["shaken"]
    for number in range(5000):
        driven.done(driven.sent(f"host-{number}"))
    assert driven.core.targets["shaken"] is troubled
    assert driven.core.targets["backing-off"] is waiting.call.target
    assert all(driven.core.targets[f"busy-{number}"] is in_use[number].call.target for number in range(20))
    assert len(driven.core.targets) <= 32


def test_p48_trouble_is_forgotten_after_a_long_idle_time() -> None:
    driven = Driven(Policy(), spare_targets=10, idle_seconds=600.0)
    for number in range(50):
        driven.fail(1, f"shaken-{number}")
    driven.now = 599.0
    for number in range(200):
        driven.done(driven.sent(f"host-{number}"))
    assert len([key for key in driven.core.targets if key.startswith("shaken")]) == 50
    driven.now = 600.0
    for number in range(200, 400):
        driven.done(driven.sent(f"host-{number}"))
    assert not [key for key in driven.core.targets if key.startswith("shaken")]


def test_p48_even_trouble_has_a_bound() -> None:
    driven = Driven(Policy(), spare_targets=10, max_targets=100)
    for number in range(1000):
        driven.fail(1, f"shaken-{number}")
    assert len(driven.core.targets) <= 101


def test_p48_a_million_hosts_of_which_one_in_a_hundred_is_ill_fit_into_a_few_megabytes() -> None:
    core = Core(Policy(), random=lambda: 0.5)
    tracemalloc.start()
    try:
        for number in range(100_000):  # a tenth of the million: what grows is the ill ones, a tenth of the bound
            key = f"host-{number}"
            target = core.target(key, 0.0)
            generation = target.enter()
            if number % 100:
                target.leave(generation)
            else:
                attempt = core.adopt(target, generation, 0.0, 0.0, max_attempts=1)
                attempt.call.on_done(attempt, FAILURE, 0.0)
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    ill = [target for target in core.targets.values() if target.breaker is not None and not target.breaker.healthy]
    assert len(ill) == 1000
    per_spare = 900
    assert size - core.spare_targets * per_spare < 1000 * 900, f"{size} bytes"


def test_p24_p49_one_policy_serves_calls_that_come_between_each_other() -> None:
    policy = Policy(backoff=FullJitter(base_seconds=1.0, cap_seconds=20.0), breaker=None, budget=None, max_attempts=6)
    driven = Driven(policy)

    def schedule(calls: int) -> list[list[float]]:
        attempts = [driven.sent(f"{calls}-{number}") for number in range(calls)]
        delays: list[list[float]] = [[] for _ in attempts]
        for _ in range(5):
            for number, attempt in enumerate(attempts):
                before = driven.now
                attempt.call.on_done(attempt, FAILURE, before)
                delays[number].append(attempt.call.timer - before)
            driven.now += 100.0
            for number, attempt in enumerate(attempts):
                attempt.call.deadline = driven.now + 1000.0
                attempt.call.on_timer(driven.now)
                assert attempt.call.attempt is not None
                attempts[number] = attempt.call.attempt
        return delays

    alone = schedule(1)[0]
    assert alone == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert schedule(100) == [alone] * 100


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"spare_targets": 0}, "spare_targets"),
        ({"idle_seconds": -1.0}, "idle_seconds"),
        ({"max_targets": 5}, "max_targets"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, float], field: str) -> None:
    with pytest.raises(SettingError, match=field):
        Core(random=lambda: 0.5, **options)  # type: ignore[arg-type]


def test_the_public_names_are_those_of_the_modules() -> None:
    for name in sansio_client.__all__:
        assert getattr(sansio_client, name) is not None
    assert sansio_client.Core is Core
    assert sansio_client.SUCCESS is SUCCESS


def test_importing_the_core_brings_nothing_that_talks_waits_or_tells_the_time() -> None:
    code = (
        "import sys; before = set(sys.modules); import sansio_client; "
        "print(*sorted({'datetime', 'logging', 'asyncio', 'socket', 'ssl', 'email', 'uuid', 'secrets', 'time'} "
        "& (set(sys.modules) - before)), 'simulator' in str(sorted(sys.modules)))"
    )
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {sys.path[0]!r}); {code}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout
    assert out.strip() == "False"
