"""What a port does to a connection before there is a request, as `POST /ports` takes it: the schema and the values."""

import ipaddress
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from asgi_fault.faults.checks import Findings, Loc, check
from asgi_fault.faults.schema import BASE64, SECONDS_MAX, Schema

STEPS_MAX = 1000
SEND_MAX = 64 * 1024  # bytes
TLS_FAULTS = ("expired", "wrong-host", "self-signed", "handshake-stall")
ENDS = ("accept", "silence_s", "close", "reset")
LOCALHOST = "127.0.0.1"

_SECONDS: Schema = {"type": "number", "minimum": 0, "maximum": SECONDS_MAX}

OPENING: Schema = {
    "description": "What happens to one connection before its first request, and before a TLS handshake. An empty "
    "object: it is served.",
    "type": "object",
    "properties": {
        "delay_s": {"description": "Seconds before anything else; what the client sends waits.", **_SECONDS},
        "send": {
            "description": "Bytes nobody asked for.",
            "type": "object",
            "properties": {
                "text": {"type": "string", "maxLength": SEND_MAX},
                "base64": {"type": "string", "pattern": BASE64, "maxLength": (SEND_MAX + 2) // 3 * 4},
            },
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        },
        "accept": {"description": "Serve it, which is also the default.", "type": "string", "pattern": "^(serve)$"},
        "silence_s": {
            "description": "Say nothing for so many seconds, then close; null: until the client leaves.",
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": SECONDS_MAX,
        },
        "close": {"description": "End it with FIN.", "type": "boolean"},
        "reset": {"description": "End it with RST.", "type": "boolean"},
    },
    "additionalProperties": False,
}

PORT: Schema = {
    "description": "A port that belongs to a partition.",
    "type": "object",
    "properties": {
        "partition": {
            "description": "Left out: the one the request names, else a fresh one, port-1, port-2, ...",
            "type": "string",
            "pattern": "^[A-Za-z0-9._-]{1,64}$",
        },
        "host": {
            "description": "An address of this machine, or localhost. Left out: SERVER_HOST, or the loopback address "
            "where that is every address.",
            "type": "string",
            "maxLength": 64,
        },
        "port": {"description": "0: a free one.", "type": "integer", "minimum": 0, "maximum": 65535, "default": 0},
        "tls": {
            "description": "HTTPS with a certificate of this server's throw-away CA, or with something wrong about it.",
            "type": ["boolean", "object"],
            "properties": {"fault": {"type": "string", "pattern": f"^({'|'.join(TLS_FAULTS)})$"}},
            "additionalProperties": False,
        },
        "connections": {
            "description": "One step for each connection, in order.",
            "type": "array",
            "items": OPENING,
            "maxItems": STEPS_MAX,
        },
        "then": OPENING,
        "refuse_s": {"description": "Refuse connections for so many seconds from now.", **_SECONDS},
    },
    "additionalProperties": False,
}

REFUSAL: Schema = {
    "description": "An outage of a port.",
    "type": "object",
    "properties": {
        "seconds": {"description": "New connections are refused for so long, from now; 0 ends it.", **_SECONDS},
        "drop": {
            "description": "What happens to the connections there are. Left out: nothing.",
            "type": "string",
            "pattern": "^(close|reset)$",
        },
    },
    "required": ["seconds"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Opening:
    """One step.

    Attributes:
        delay: seconds before anything else.
        data: bytes sent unasked.
        end: `serve`, `silence`, `close` or `reset`.
        silence: seconds, then it is closed.
    """

    delay: float = 0.0
    data: bytes = b""
    end: str = "serve"
    silence: float = inf


SERVE: Final = Opening()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A port somebody asks for; `partition` and `host` are empty where they are left out."""

    partition: str = ""
    host: str = ""
    port: int = 0
    tls: bool = False
    tls_fault: str = ""
    script: tuple[Opening, ...] = ()
    then: Opening = SERVE
    refuse: float = 0.0


def read_port(document: object) -> Wanted:
    """The port that `document`, a JSON value, asks for.

    Raises:
        ValidationFailed: it breaks the schema, or contradicts itself; every mistake with its path.
    """
    findings = Findings()
    check(document, PORT, ("body",), findings)
    findings.raise_any()
    assert isinstance(document, dict)  # noqa: S101 - the schema says so
    for index, step in enumerate(document.get("connections", ())):
        _contradictions(step, ("body", "connections", index), findings)
    _contradictions(document.get("then", {}), ("body", "then"), findings)
    host = document.get("host", "")
    if host and _address(host) is None:
        findings.contradiction(("body", "host"), "it is neither an IP address nor localhost", host)
    findings.raise_any()
    tls = document.get("tls", False)
    return Wanted(
        partition=document.get("partition", ""),
        host=(_address(host) or "") if host else "",
        port=int(document.get("port", 0)),
        tls=tls is not False,
        tls_fault=tls.get("fault", "") if isinstance(tls, dict) else "",
        script=tuple(map(_opening, document.get("connections", ()))),
        then=_opening(document.get("then", {})),
        refuse=float(document.get("refuse_s", 0)),
    )


def read_refusal(document: object) -> tuple[float, str]:
    """The seconds and the `drop` of an outage, `""` for none.

    Raises:
        ValidationFailed: `document` breaks the schema.
    """
    findings = Findings()
    check(document, REFUSAL, ("body",), findings)
    findings.raise_any()
    assert isinstance(document, dict)  # noqa: S101 - the schema says so
    return float(document["seconds"]), document.get("drop", "")


def _address(host: str) -> str | None:
    """`host` as an address; None when it is a name, which nobody looks up for this."""
    if host.lower() == "localhost":
        return LOCALHOST
    if "%" in host:  # the zone of an IPv6 address, which stands in no certificate
        return None
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _contradictions(step: Mapping[str, Any], loc: Loc, findings: Findings) -> None:
    ends = [key for key in ENDS if step.get(key, False) is not False]
    if len(ends) > 1:
        findings.contradiction((*loc, ends[1]), f"{ends[0]} and {ends[1]} exclude each other", step[ends[1]])


def _opening(step: Mapping[str, Any]) -> Opening:
    send = step.get("send", {})
    data = b64decode(send["base64"]) if "base64" in send else send.get("text", "").encode()
    silence = step.get("silence_s")
    end = "silence" if "silence_s" in step else next((key for key in ("close", "reset") if step.get(key)), "serve")
    opening = Opening(float(step.get("delay_s", 0)), data, end, inf if silence is None else float(silence))
    return SERVE if opening == SERVE else opening
