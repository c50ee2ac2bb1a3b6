"""Many clients at once, each in a partition of its own with a script of its own, and what each must get."""

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass, field
from typing import Any

from tests.sockets import TIMEOUT, request

Address = tuple[str, int]
ODDS = 0.3  # of the rule that draws


@dataclass(frozen=True)
class Got:
    """One outcome: status (0 for none), body as far as it came, and how the connection went on."""

    status: int
    body: bytes
    end: str  # "kept", "fin" or "reset"


@dataclass
class Plan:
    """What one partition does.

    Attributes:
        script: steps for /scripted, and beside each what the client must get.
        paths: of the requests, in order.
    """

    name: str
    script: list[dict[str, Any]] = field(default_factory=list)
    expected: list[Got] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def rules(self) -> list[dict[str, Any]]:
        drawn = {"status": 418, "body": {"text": f"{self.name} drew"}}
        return [
            {"id": "script", "match": {"path": "/scripted"}, "script": self.script},
            {"id": "draw", "match": {"path": "/drawn", "probability": ODDS}, "then": drawn},
            {"id": "noise", "match": {"path": "/noise"}, "then": {"garbage": {"bytes": 32}}},
        ]


def plan(number: int, scripted: int, drawn: int, noise: int) -> Plan:
    """The plan of the partition `number`; all of it follows from the number."""
    dice = random.Random(number)
    made = Plan(f"isolated-{number}")
    for step in range(scripted):
        text = f"{made.name} step {step} " + "x" * dice.randrange(200)
        body = text.encode()
        status = dice.choice((200, 404, 429, 500, 503))
        document: dict[str, Any] = {"status": status, "body": {"text": text}}
        got = Got(status, body, "kept")
        match dice.randrange(9):
            case 0:
                cut = dice.randrange(len(body))
                document["truncate"] = {"bytes": cut}
                got = Got(status, body[:cut], "fin")
            case 1:
                document = {"end": {"how": dice.choice(("close", "half-close")), "at": "before-head"}}
                got = Got(0, b"", "fin")
            case 2:
                document = {"end": {"how": "reset", "at": "before-head"}}
                got = Got(0, b"", "reset")
            case 3:
                document["end"] = {"how": "reset", "at": "mid-body"}
                got = Got(status, body[: (len(body) + 1) // 2], "reset")
            case 4:
                document["delay_s"] = dice.choice((0.001, 0.005))
            case 5:
                document["drip"] = {"bytes_per_s": 20_000}
            case _:
                pass
        made.script.append(document)
        made.expected.append(got)
    made.paths = ["/scripted"] * scripted + ["/drawn"] * drawn + ["/noise"] * noise
    dice.shuffle(made.paths)
    return made


class RawClient:
    """One partition's client: one request at a time, on one connection for as long as that lives."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader

    async def ask(self, data: bytes) -> Got:
        """Send a request and read what comes."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._address)
        self._writer.write(data)
        async with asyncio.timeout(TIMEOUT):
            got = await self._read()
        if got.end != "kept":
            await self.close()
        return got

    async def _read(self) -> Got:
        status, body = 0, b""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            status = int(head[9:12])
            fields = dict(line.lower().split(b": ", 1) for line in head[:-4].split(b"\r\n")[1:])
            length = int(fields[b"content-length"])
            while len(body) < length:
                piece = await self._reader.read(length - len(body))
                if not piece:
                    return Got(status, body, "fin")
                body += piece
        except ConnectionResetError:
            return Got(status, body, "reset")
        except asyncio.IncompleteReadError as error:
            return Got(0, error.partial, "fin")
        return Got(status, body, "kept")

    async def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def control(address: Address, method: str, target: str, body: bytes = b"") -> Any:
    """A request to the control plane; the JSON it answers."""
    client = RawClient(address)
    lines = ("content-type: application/json", f"content-length: {len(body)}") if body else ()
    got = await client.ask(request(target, *lines, method=method, body=body))
    await client.close()
    assert got.status in (200, 201), got
    return json.loads(got.body)


async def run(address: Address, plan: Plan) -> list[tuple[str, Got]]:
    """Set the plan's rules, send its requests, return what each got."""
    rules = json.dumps({"rules": plan.rules}).encode() if plan.script else b""
    if rules:
        await control(address, "POST", f"/~{plan.name}/faults", rules)
    client = RawClient(address)
    outcomes = [(path, await client.ask(request(f"/~{plan.name}{path}"))) for path in plan.paths]
    await client.close()
    return outcomes
