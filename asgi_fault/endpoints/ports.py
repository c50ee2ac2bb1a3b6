"""`/ports`: open ports that belong to a partition, look at them, have them refuse for a time, close them.

A request that names a partition (by prefix, header, or by coming in at its port) sees the ports of that one only.
"""

from typing import Any

from asgi_fault.asgi import Response, json_response
from asgi_fault.errors import NotFound, NotSupported, Unavailable, ValidationFailed, require_json
from asgi_fault.exchange import Exchange
from asgi_fault.faults.documents import read_json
from asgi_fault.faults.openings import read_port, read_refusal
from asgi_fault.faults.wire import Wired
from asgi_fault.parameters import Integer, Violation
from asgi_fault.partitions import DEFAULT
from asgi_fault.ports import Port, PortTaken

PORT = Integer(name="port", where="path", low=1, high=65535, description="The number of the port.")


def post_ports(exchange: Exchange) -> Response:
    """Open a port."""
    wanted = read_port(_document(exchange, "Ports"))
    wire, context = exchange.wire, exchange.context
    if wire is None:
        raise NotSupported(
            "Ports need this project's connections: run `asgi-fault serve`, or uvicorn with "
            "`--http asgi_fault.faults.wire:HttpTools` (or `:H11`)."
        )
    siblings = wire.siblings()
    if siblings.workers > 1:
        raise NotSupported(
            f"A port belongs to one process, and this server has {siblings.workers}: run it with --workers 1."
        )
    if context.stopping.begun:
        raise Unavailable("The server is stopping.")
    name = wanted.partition or _named(exchange)
    while not name:
        fresh = context.ports.fresh_name()
        name = "" if fresh in context.partitions else fresh
    port = context.ports.open(wanted, siblings, name)
    return json_response(201, port.to_json(), (b"location", f"{exchange.prefix}/ports/{port.number}".encode()))


def get_ports(exchange: Exchange) -> Response:
    """List the ports, in the order they were opened."""
    return json_response(200, {"ports": [port.to_json() for port in _listed(exchange)]})


def get_port(exchange: Exchange) -> Response:
    """Show one port."""
    return json_response(200, _port(exchange).to_json())


def delete_ports(exchange: Exchange) -> Response:
    """Close all ports and their connections."""
    listed = _listed(exchange)
    for port in listed:
        _close(exchange, port)
    return json_response(200, {"deleted": len(listed)})


def delete_port(exchange: Exchange) -> Response:
    """Close one port and its connections."""
    _close(exchange, _port(exchange))
    return json_response(200, {"deleted": 1})


def refuse_port(exchange: Exchange) -> Response:
    """Have a port refuse connections for a time."""
    port = _port(exchange)
    seconds, drop = read_refusal(_document(exchange, "Refusals"))
    try:
        port.refuse(seconds)
    except OSError:
        exchange.context.ports.close(port)
        raise PortTaken(f"Somebody else has port {port.number} now; it is closed here.") from None
    if drop:
        port.drop(drop, _own_protocol(exchange))
    return json_response(200, port.to_json())


def _document(exchange: Exchange, what: str) -> Any:
    """The JSON of the request, an empty object when there is no body at all."""
    if not exchange.body:
        return {}
    require_json(exchange.headers.get(b"content-type", b""), what)
    return read_json(exchange.body)


def _named(exchange: Exchange) -> str:
    """The partition that the request names, else nothing."""
    name = exchange.partition.name
    return "" if name == DEFAULT else name


def _listed(exchange: Exchange) -> list[Port]:
    return exchange.context.ports.of(_named(exchange))


def _port(exchange: Exchange) -> Port:
    text = exchange.params["port"]
    violations: list[Violation] = []
    number = PORT.read(text, violations)
    if violations:
        raise ValidationFailed(violations)
    port = exchange.context.ports.get(number, _named(exchange))
    if port is None:
        raise NotFound(f"No port {number} is open here.", details={"port": number})
    return port


def _close(exchange: Exchange, port: Port) -> None:
    exchange.context.ports.close(port, _own_protocol(exchange))


def _own_protocol(exchange: Exchange) -> Wired | None:
    """What the answer to this very request goes out by: it is not cut off by what it asks for."""
    return exchange.wire.protocol if exchange.wire is not None else None
