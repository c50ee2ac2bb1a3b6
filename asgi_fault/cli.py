"""The command line: `asgi-fault serve`, `asgi-fault config-info` and `asgi-fault demo`.

The options of the settings are made from `config.Settings`, so a new setting is a new option without a line here.
"""

import errno
import json
import os
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from asgi_fault.config import ConfigError, Settings, expectation, variable_of
from asgi_fault.version import __version__

KEEP_ALIVE = 75  # seconds, nginx's default; uvicorn's 5 s end while a client is backing off
STOP_AFTER = 10  # seconds that running requests get when the server is told to stop
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # as shells report a command that SIGINT has ended

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="asgi-fault")
def main() -> None:
    """A server that misbehaves on command and remembers what every client did."""


def setting_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add one option for every server setting."""
    for setting in reversed(fields(Settings)):
        name = "--" + setting.name.replace("_", "-")
        is_switch = isinstance(setting.default, bool)
        declaration = f"{name}/--no-{name[2:]}" if is_switch else name
        default = ",".join(setting.default) if isinstance(setting.default, tuple) else setting.default
        words = f"{setting.metadata['help']}; {expectation(setting)}"
        if not setting.metadata["secret"]:
            words += f" [default: {default if default != '' else 'none'}]"
        kind = click.STRING if isinstance(setting.default, tuple) else type(setting.default)
        choices = setting.metadata["choices"]
        option = click.option(
            declaration,
            setting.name,
            default=None,
            type=click.Choice(choices, case_sensitive=False) if choices else None if is_switch else kind,
            help=words,
        )
        function = option(function)
    return function


@main.command()
@setting_options
@click.option("--reload", is_flag=True, help="restart when the code changes")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="worker processes")
@click.option("--ssl-certfile", type=click.Path(exists=True, dir_okay=False), help="certificate, for HTTPS")
@click.option("--ssl-keyfile", type=click.Path(exists=True, dir_okay=False), help="its private key")
@click.option(
    "--http",
    type=click.Choice(["auto", "h11", "httptools"]),
    default="auto",
    show_default=True,
    help="HTTP parser",
)
@click.option(
    "--loop",
    type=click.Choice(["auto", "asyncio", "uvloop"]),
    default="auto",
    show_default=True,
    help="event loop",
)
def serve(
    *,
    reload: bool,
    workers: int,
    ssl_certfile: str | None,
    ssl_keyfile: str | None,
    http: str,
    loop: str,
    **overrides: Any,
) -> None:
    """Run the server. Every setting is also an environment variable, SERVER_<NAME>, and may stand in .env."""
    import uvicorn
    from uvicorn.supervisors import ChangeReload, Multiprocess

    settings = _load(overrides)
    if reload and workers > 1:
        raise click.UsageError("--reload and --workers exclude each other.")
    _check_certificate(ssl_certfile, ssl_keyfile)
    _check_proxy(settings)
    listener = _listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    shown_host = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104
    url = f"{'https' if ssl_certfile else 'http'}://{shown_host}:{port}"
    # Workers and reloaded processes read the environment again: the command line goes there.
    for setting in fields(Settings):
        value = getattr(settings, setting.name)
        os.environ[variable_of(setting.name)] = ",".join(value) if isinstance(value, tuple) else str(value)
    os.environ[variable_of("port")] = str(port)
    os.environ[variable_of("url")] = settings.url or url
    config = uvicorn.Config(
        "asgi_fault:app",
        host=settings.host,
        port=port,
        http=_protocol(http),
        loop=loop,
        access_log=False,
        # The answers of an upstream have a date and a server already.
        date_header=not settings.proxy,
        server_header=not settings.proxy,
        log_level="warning",
        use_colors=False if "NO_COLOR" in os.environ else None,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=STOP_AFTER,
        reload=reload,
        workers=workers,
        ssl_certfile=ssl_certfile,
        ssl_keyfile=ssl_keyfile,
    )
    server = uvicorn.Server(config)
    _greet(url, settings, workers)
    try:
        if reload:
            ChangeReload(config, target=server.run, sockets=[listener]).run()
        elif workers > 1:
            Multiprocess(config, sockets=[listener]).run()
        else:
            server.run(sockets=[listener])
    except KeyboardInterrupt:
        return
    finally:
        listener.close()
    if not server.started and not reload and workers == 1:
        sys.exit(3)


@main.command("config-info")
@setting_options
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def config_info(*, as_json: bool, **overrides: Any) -> None:
    """Print the settings in force, secrets masked, after reading command line, environment and .env."""
    shown = _load(overrides).shown()
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    width = max(map(len, shown))
    for setting in fields(Settings):
        name = variable_of(setting.name)
        value = shown[name]
        text = ",".join(value) if isinstance(value, tuple) else str(value)
        click.echo(f"{name:<{width}}  {text:<12}  {setting.metadata['help']} ({expectation(setting)})")


@main.group()
def demo() -> None:
    """Show what the patterns do, live: real clients, this server, and its journal as the witness."""


@demo.command("client")
@click.option("--chapter", "names", multiple=True, metavar="NAME", help="play this one only; may be repeated")
@click.option("--list", "only_list", is_flag=True, help="name the chapters and play none")
@click.option("--seed", type=int, default=0, show_default=True, help="what all randomness begins with")
@click.option("--no-color", is_flag=True, help="no colours; so does NO_COLOR")
@click.option("--force-color", is_flag=True, help="colours even where the output is no terminal")
def demo_client(*, names: tuple[str, ...], only_list: bool, seed: int, no_color: bool, force_color: bool) -> None:
    """Walk through every pattern of the client: the fault, the code, and what the server saw.

    Each chapter checks its own claims against the server's journal; the exit code is 1 when one does not hold.
    """
    if no_color and force_color:
        raise click.UsageError("--no-color and --force-color exclude each other.")
    color = True if force_color else False if no_color or "NO_COLOR" in os.environ else None
    # The client is an ordinary one, and would go to the user's proxy even for this machine.
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"
    try:
        holds = _perform(names, seed, only_list=only_list, write=lambda text: click.echo(text, color=color))
    except ImportError as error:
        if error.name not in ("httpx", "httpx2"):
            raise
        click.echo("Error: the demo needs httpx: pip install 'asgi-fault[httpx]'", err=True)
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        click.echo("\nStopped.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(0 if holds else 1)


def _perform(names: tuple[str, ...], seed: int, *, only_list: bool, write: Callable[[str], None]) -> bool:
    """List or play the chapters of `demo client`; whether all they claim holds."""
    from asgi_fault.demo import ASCII_MARKS, Marks, UnknownChapterError, chosen, listing, perform

    try:
        chapters = chosen(names)
    except UnknownChapterError as error:
        raise click.UsageError(str(error)) from None
    if only_list:
        write(listing())
        return True
    marks = Marks()
    try:
        f"{marks.good}{marks.bad}".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        marks = ASCII_MARKS
    return perform(chapters, seed, write, marks)


def _load(overrides: dict[str, Any]) -> Settings:
    if isinstance(overrides.get("cors_origins"), str):
        overrides["cors_origins"] = tuple(part.strip() for part in overrides["cors_origins"].split(",") if part.strip())
    try:
        return Settings.load(overrides)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, so that the port is known before anything starts, and a taken one is a clear error."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named: without it an answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            reason = f"Port {port} is taken. Use another one (--port {port + 1}), or any free one (--port 0)."
        elif error.errno == errno.EACCES:
            reason = f"Port {port} needs privileges. Use one from 1024 up, or any free one (--port 0)."
        else:
            reason = f"Cannot listen on {host}:{port}: {error.strerror}. --host names the address."
        raise click.ClickException(reason) from None
    listener.set_inheritable(True)
    return listener


def _check_certificate(certfile: str | None, keyfile: str | None) -> None:
    """Load what TLS needs once, so that a mistake is a clear error and not uvicorn's traceback."""
    if keyfile and not certfile:
        raise click.UsageError("--ssl-keyfile needs --ssl-certfile.")
    if certfile:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certfile, keyfile)
        except (ssl.SSLError, OSError) as error:
            raise click.ClickException(
                f"Cannot use {certfile}{f' with {keyfile}' if keyfile else ''}: {error}. "
                "--ssl-certfile takes a PEM certificate, --ssl-keyfile its private key."
            ) from None


def _check_proxy(settings: Settings) -> None:
    """Make the proxy once, so that a mistake is a clear error here and not one in each worker."""
    if settings.proxy:
        from asgi_fault.context import Context
        from asgi_fault.startup import proxy_application

        try:
            proxy_application()(Context(settings))
        except ConfigError as error:
            raise click.UsageError(str(error)) from None


def _protocol(http: str) -> Any:
    """Our variant of the parser; `auto` takes httptools when it is installed."""
    from asgi_fault.faults import wire

    if http == "h11":
        return wire.H11
    try:
        return wire.HttpTools
    except ImportError:
        if http == "httptools":
            raise click.ClickException("httptools is not installed: pip install 'asgi-fault[fast]'") from None
        return wire.H11


def _greet(url: str, settings: Settings, workers: int) -> None:
    """Say where the server is and what to try first; on standard error, because log lines go to standard output."""
    color = False if "NO_COLOR" in os.environ else None

    def say(text: str) -> None:
        click.echo(text, err=True, color=color)

    bold = click.style(url, bold=True)
    say(f"asgi-fault {__version__} listens on {bold}   (Ctrl-C stops it)")
    if settings.proxy:
        rule = """-H 'Content-Type: application/json' -d '{"script": [{"status": 503}]}'"""
        say(f"  passes on  to {settings.proxy}")
        say(f"  break it   curl {url}{settings.control_prefix}/faults {rule} && curl -i {url}/")
    else:
        if settings.enable_docs:
            say(f"  read       {url}/docs")
        say(f"  break it   curl -X POST {url}/fail/count/3 && curl -i {url}/msg")
    if settings.log_level == "DEBUG":
        say("  requests   one line each, here")
    else:
        metrics = f"{url}{settings.control_prefix if settings.proxy else ''}/metrics"
        say(f"  requests   --log-level debug has a line for each; {metrics} counts them")
    if workers > 1:
        say(
            click.style("  warning    ", fg="yellow")
            + f"{workers} workers share nothing: each counts its own faults and ids. One worker is exact."
        )
