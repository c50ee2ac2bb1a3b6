"""`/fail/*`: make `/msg` fail for a number of requests or for a time, look at it, and stop it."""

from asgi_fault.asgi import Response, json_response
from asgi_fault.errors import ValidationFailed
from asgi_fault.exchange import Exchange
from asgi_fault.faults.induced import InducedFailures
from asgi_fault.parameters import Integer, Violation

COUNT = Integer(name="n", where="path", low=0, high=1000, description="How many requests are to fail.")
SECONDS = Integer(name="s", where="path", low=0, high=3600, description="For how many seconds requests are to fail.")


def fail_count(exchange: Exchange) -> Response:
    """Fail the next n requests; replaces an earlier count."""
    count = _path_parameter(exchange, COUNT)
    _induced(exchange).fail_count(count)
    _log_set(exchange, fail_requests_count=count)
    return json_response(200, {"message": f"Server will fail the next {count} requests", "fail_requests_count": count})


def fail_duration(exchange: Exchange) -> Response:
    """Fail every request for s seconds from now on."""
    seconds = _path_parameter(exchange, SECONDS)
    context = exchange.context
    _induced(exchange).fail_until(exchange.arrived_at + seconds, context.wall_clock() + seconds)
    _log_set(exchange, duration_seconds=seconds)
    return json_response(
        200,
        {"message": f"Server will fail requests for the next {seconds} seconds", "duration_seconds": seconds},
    )


def fail_reset(exchange: Exchange) -> Response:
    """Stop failing."""
    exchange.partition.induced = None
    exchange.context.log.info("fault.reset", "Failure modes reset", partition=exchange.partition.name)
    return json_response(200, {"message": "All failure modes have been reset", "status": "normal_operation"})


def fail_status(exchange: Exchange) -> Response:
    """Tell what is still going to fail; uses nothing up."""
    induced = exchange.partition.induced or InducedFailures()
    failing = induced.is_active(exchange.arrived_at)
    status = {
        "fail_requests_count": induced.remaining,
        "fail_until_timestamp": induced.until_timestamp,
        "duration_remaining_seconds": round(induced.seconds_left(exchange.arrived_at), 3),
        "currently_failing": failing,
    }
    return json_response(200, {"failure_status": status, "currently_failing": failing})


def _induced(exchange: Exchange) -> InducedFailures:
    """The failure modes of the partition, made when there are none."""
    partition = exchange.partition
    if partition.induced is None:
        partition.induced = InducedFailures()
    return partition.induced


def _path_parameter(exchange: Exchange, parameter: Integer) -> int:
    violations: list[Violation] = []
    number = parameter.read(exchange.params[parameter.name], violations)
    if violations:
        raise ValidationFailed(violations)
    return number


def _log_set(exchange: Exchange, **fields: int) -> None:
    exchange.context.log.info("fault.set", "Failure mode set", partition=exchange.partition.name, **fields)
