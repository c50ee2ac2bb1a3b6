"""Replace your hand-written retry loop: the client of an SDK, over `http.client` and `sansio_client`.

Before. Every SDK has had this loop, with most of these bugs:

    def request(method, url, data=None):
        for attempt in range(5):
            try:
                request = urllib.request.Request(url, data, method=method)
                with urllib.request.urlopen(request) as answer:  # no time limit: one silent server, one caller gone
                    return answer.read()  # a body that breaks off is an IncompleteRead, which nobody here expects
            except urllib.error.HTTPError as error:
                if error.code not in (429, 500, 502, 503, 504):
                    raise
                wait = int(error.headers.get("Retry-After", 0))  # ValueError when it is a date, which is as valid
                time.sleep(min(wait or 2**attempt, 10))  # earlier than asked, and at the same instant as all others
            except urllib.error.URLError:
                time.sleep(2**attempt)  # also after the last attempt
        raise RuntimeError("gave up")  # the server's last answer is lost

It also repeats a POST that may have been processed, and sends five times the load to a server that is down.

After: `Client`. What is left to write is one attempt, and a loop that has no opinion of its own.

    python examples/sdk_client.py api.example.com:80 /v1/things
"""

import random as chance
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead, InvalidURL
from math import inf
from typing import NamedTuple, cast

from sansio_client import (
    CANCELLATION,
    FINISH,
    SEND,
    Attempt,
    Core,
    Outcome,
    Policy,
    Rejected,
    classify,
    classify_failure,
    may_repeat,
)
from sansio_client.errors import ERRORS
from sansio_client.idempotency import header_value

CHUNK = 65536


class Answer(NamedTuple):
    """What the server said last; the status may well be an error."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Client:
    """Calls to one host, one at a time; a client for several threads is `adapters.threads`.

    Args:
        host: with its port, if need be.
        policy: how many attempts, how long, how patient.
        clock: monotonic seconds.
        sleep: waits as many of them.
        random: numbers from 0 to below 1.

    """

    def __init__(
        self,
        host: str,
        policy: Policy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = chance.random,
    ) -> None:
        self.host = host
        self.core = Core(policy or Policy(attempt_timeout=30.0), random=random)
        self.clock = clock
        self.sleep = sleep

    def request(self, method: str, path: str, body: bytes = b"", *, idempotency_key: str | None = None) -> Answer:
        """The server's answer, be it the last of several attempts.

        Raises:
            OSError, HTTPException: the last attempt had no answer.
            CallRejected: nothing was sent, or the time was over.

        """
        headers = {"Idempotency-Key": header_value(idempotency_key)} if idempotency_key else {}
        repeatable = may_repeat(method, idempotency_key=idempotency_key)
        call = self.core.call(self.host, self.clock(), may_repeat=repeatable)
        mask = call.start(self.clock())
        try:
            while not mask & FINISH:
                if mask & SEND and call.attempt is not None:
                    outcome = self._attempt(call.attempt, method, path, body, headers)
                    mask = call.on_done(call.attempt, outcome, self.clock())
                else:
                    self.sleep(max(0.0, call.timer - self.clock()))
                    mask = call.on_timer(self.clock())
        except BaseException:  # a defect of the caller, an interrupt: nothing is held against the server
            call.cancel(self.clock())
            for attempt in tuple(call.flying):
                call.on_done(attempt, CANCELLATION, self.clock())
            raise
        result = cast("Outcome | Rejected", call.result)
        if isinstance(result, Rejected):
            error, message = ERRORS[result.why]
            raise error(message, why=result.why, retry_at=result.retry_at, last=result.last, attempts=call.attempts)
        value: Answer | Exception = result.value
        if isinstance(value, Exception):
            raise value
        return value

    def _attempt(self, attempt: Attempt, method: str, path: str, body: bytes, headers: dict[str, str]) -> Outcome:
        """One request and its answer, body included, and what that means."""
        seconds_left = max(0.001, attempt.deadline - self.clock())
        connection = HTTPConnection(self.host, timeout=seconds_left if seconds_left < inf else None)
        kind = "connect"
        try:
            connection.connect()
            kind = "read"
            connection.request(method, path, body or None, headers)
            with connection.getresponse() as response:
                answer = Answer(response.status, response.getheaders(), self._read(response, attempt.deadline))
        except InvalidURL:
            raise  # another attempt would have the same
        except TimeoutError as error:
            return classify_failure("timeout" if kind == "read" else "connect-timeout").with_value(error)
        except (OSError, HTTPException) as error:
            return classify_failure(kind).with_value(error)
        finally:
            connection.close()
        return classify(answer.status, answer.headers, now_wall=time.time()).with_value(answer)

    def _read(self, response: HTTPResponse, deadline: float) -> bytes:
        """The body, and an error when it is not whole or comes too slowly: the socket's limit is for one read."""
        chunks = []
        while chunk := response.read1(CHUNK):
            chunks.append(chunk)
            if self.clock() >= deadline:
                raise TimeoutError("the body came too slowly")
        if response.length:
            raise IncompleteRead(b"".join(chunks), response.length)
        return b"".join(chunks)


if __name__ == "__main__":
    answer = Client(sys.argv[1]).request("GET", sys.argv[2])
    sys.stdout.write(f"{answer.status}, {len(answer.body)} bytes\n")
