"""/metrics, read by the official parsers: the names of the contract, true counts, bounded series."""

import asyncio

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from asgi_fault.observe.metrics import BOUNDS, Family, render
from tests.in_process import World, in_world

OPENMETRICS = [("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")]


async def scrape(world: World, *, openmetrics: bool = False) -> dict[str, Metric]:
    answer = await world.client.get("/metrics", headers=OPENMETRICS if openmetrics else ())
    assert answer.status == 200
    kind = "application/openmetrics-text" if openmetrics else "text/plain"
    assert answer.headers["content-type"].startswith(kind)
    parse = parse_openmetrics if openmetrics else parse_prometheus
    return {family.name: family for family in parse(answer.body.decode())}


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    found = [s for f in families.values() for s in f.samples if s.name == sample and labels.items() <= s.labels.items()]
    assert len(found) == 1, (sample, labels, found)
    return float(found[0].value)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_requests_are_counted_by_template_method_and_status(*, openmetrics: bool) -> None:
    async def test(world: World) -> None:
        await world.client.post("/fail/count/2")
        for _ in range(5):
            await world.client.get("/msg")
        await world.client.get("/msg?delay=x")
        await world.client.request("HEAD", "/msg")
        families = await scrape(world, openmetrics=openmetrics)
        counted = {"method": "GET", "endpoint": "/msg"}
        assert value(families, "http_requests_total", **counted, status="200") == 3
        assert value(families, "http_requests_total", **counted, status="500") == 2
        assert value(families, "http_requests_total", **counted, status="422") == 1
        assert value(families, "http_requests_total", method="HEAD", endpoint="/msg", status="200") == 1
        assert value(families, "http_requests_total", method="POST", endpoint="/fail/count/{n}", status="200") == 1
        assert value(families, "http_errors_total", error_type="InducedFailure", status_code="500") == 2
        assert value(families, "http_errors_total", error_type="ValidationError", status_code="422") == 1
        assert value(families, "app_info", name="asgi-fault") == 1

    in_world(test)


def test_latency_lands_in_the_contracts_buckets() -> None:
    async def test(world: World) -> None:
        for delay in (0, 5, 6, 750, 2600, 11_000):
            await world.client.get(f"/msg?delay={delay}")
        families = await scrape(world)
        labels = {"method": "GET", "endpoint": "/msg"}
        counts = {
            sample.labels["le"]: sample.value
            for sample in families["http_request_duration_seconds"].samples
            if sample.name.endswith("_bucket") and sample.labels["endpoint"] == "/msg"
        }
        assert list(counts) == [*map(str, BOUNDS), "+Inf"]
        assert [counts[le] for le in ("0.005", "0.01", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf")] == [
            pytest.approx(2, abs=1), 3, 3, 4, 4, 5, 5, 6,
        ]  # fmt: skip
        assert value(families, "http_request_duration_seconds_count", **labels) == 6
        assert value(families, "http_request_duration_seconds_sum", **labels) == pytest.approx(14.361)

    in_world(test)


def test_what_is_in_progress_and_who_left() -> None:
    async def test(world: World) -> None:
        leave = asyncio.Event()
        inside = [asyncio.create_task(world.client.get("/msg?delay=9000", leave=leave)) for _ in range(3)]
        await asyncio.sleep(1)
        families = await scrape(world)
        assert value(families, "http_requests_in_progress", method="GET", endpoint="/msg") == 3
        assert value(families, "asgi_fault_slots_in_use") == 2
        assert value(families, "asgi_fault_queue_length") == 1
        leave.set()
        await asyncio.gather(*inside)
        families = await scrape(world)
        assert value(families, "http_requests_in_progress", method="GET", endpoint="/msg") == 0
        assert value(families, "asgi_fault_slots_in_use") == 0
        assert value(families, "asgi_fault_queue_length") == 0
        assert value(families, "http_requests_total", endpoint="/msg", status="0") == 3

    in_world(test, max_concurrency=2)


@pytest.mark.parametrize(("method", "target"), [("CONNECT", "a:1"), ("GET", "/~bad name/msg"), ("GET", "/%zz")])
def test_what_is_refused_before_it_is_found_is_counted_and_over(method: str, target: str) -> None:
    async def test(world: World) -> None:
        await world.client.get("/nowhere")
        for _ in range(3):
            assert (await world.client.request(method, target)).status == 400
        families = await scrape(world)
        assert value(families, "http_requests_total", endpoint="unmatched", method="other", status="400") == 3
        assert value(families, "http_requests_in_progress", endpoint="unmatched", method="other") == 0

    in_world(test)


def test_cache_hits_and_partitions_are_counted() -> None:
    async def test(world: World) -> None:
        for _ in range(3):
            await world.client.get("/msg", headers=[("X-Request-ID", "k")])
        await world.client.get("/~a/msg")
        families = await scrape(world)
        assert value(families, "cache_hits_total", endpoint="/msg") == 2
        assert value(families, "cache_misses_total", endpoint="/msg") == 1
        assert value(families, "asgi_fault_partitions") == 2

    in_world(test)


def test_a_thousand_paths_methods_and_partitions_are_a_handful_of_series() -> None:
    async def test(world: World) -> None:
        await world.client.get("/metrics")
        for number in range(1000):
            await world.client.request(f"METHOD{number}", f"/~p{number}/path/{number}")
            await world.client.post(f"/fail/count/{number}")
        families = await scrape(world)
        samples = families["http_requests"].samples if "http_requests" in families else []
        assert 0 < len(samples) < 10
        assert value(families, "http_requests_total", method="other", endpoint="unmatched") == 1000

    in_world(test)


def test_label_values_are_escaped() -> None:
    family = Family("odd", "gauge", "Odd.")
    family.add(1, text='a"b\\c\nd')
    for openmetrics, parse in ((False, parse_prometheus), (True, parse_openmetrics)):
        (parsed,) = parse(render([family], openmetrics=openmetrics).decode())
        assert parsed.samples[0].labels == {"text": 'a"b\\c\nd'}


def test_families_without_samples_are_left_out() -> None:
    assert render([Family("none", "gauge", "None.")], openmetrics=True) == b"# EOF\n"
