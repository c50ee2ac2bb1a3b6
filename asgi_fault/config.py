"""The server's settings: one table of names, defaults, ranges and units, read from the CLI, the environment, `.env`.

Precedence: command line > environment > `.env` > default. A value out of its range stops the start with a message
that names the variable, the value and the range; all mistakes are reported at once.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

PREFIX = "SERVER_"
_CREDENTIALS = re.compile(r"//[^/?#]*@")
TRUE_WORDS = frozenset({"1", "true", "yes", "on", "t", "y"})
FALSE_WORDS = frozenset({"0", "false", "no", "off", "f", "n"})


class ConfigError(ValueError):
    """Settings that cannot be used; the text has one line a mistake, each naming variable, value and expectation."""


def _setting(
    default: Any,
    text: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    return field(
        default=default,
        repr=not secret,
        metadata={
            "help": text,
            "unit": unit,
            "low": low,
            "high": high,
            "choices": choices,
            "secret": secret,
        },
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting of the server. Each is `SERVER_<NAME>` in the environment and `--<name>` of `asgi-fault serve`."""

    host: str = _setting("0.0.0.0", "address to listen on")  # noqa: S104 - documented default; containers need it
    port: int = _setting(8000, "port to listen on; 0 takes a free one", low=0, high=65535)
    max_concurrency: int = _setting(50, "requests of one partition inside at once", low=1, high=1000)
    request_timeout: float = _setting(30.0, "work of one admitted request, then 408", unit="seconds", low=1, high=300)
    queue_limit: int = _setting(1000, "requests of one partition waiting for a slot, then 503", low=0, high=100_000)
    queue_timeout: float = _setting(30.0, "wait for a slot, then 503", unit="seconds", low=0.1, high=3600)
    cache_max_size: int = _setting(1000, "idempotency entries a partition keeps", low=1, high=100_000)
    cache_ttl_seconds: float = _setting(300.0, "life of an idempotency entry", unit="seconds", low=1, high=86_400)
    max_body: int = _setting(1_048_576, "request body, then 413", unit="bytes", low=0, high=1_073_741_824)
    partitions_max: int = _setting(10_000, "partitions kept at once", low=1, high=1_000_000)
    partition_idle_seconds: float = _setting(
        600.0, "idle time after which a partition is forgotten", unit="seconds", low=1, high=86_400
    )
    ports_max: int = _setting(100, "ports that POST /ports opens, at once", low=0, high=1000)
    journal_size: int = _setting(1000, "arrivals a partition's journal keeps; 0 keeps none", low=0, high=100_000)
    seed: int = _setting(0, "what all randomness of the faults begins with", low=0, high=2**53)
    fault_headers: bool = _setting(
        default=False, text="take X-Fault from requests outside named partitions as well; inside they always count"
    )
    proxy: str = _setting(
        "",
        "URL of an upstream that everything but the control plane is passed on to. For tests, not for load: it needs "
        "asgi-fault[proxy], which is httpx, whose connection pool is slow",
    )
    control_prefix: str = _setting("/__fault__", "where the control plane lies in front of an upstream")
    proxy_timeout: float = _setting(60.0, "silence of the upstream, then 504", unit="seconds", low=0.1, high=3600)
    proxy_connections: int = _setting(100, "connections to the upstream, then 503", low=1, high=1000)
    proxy_verify: bool = _setting(default=True, text="refuse an upstream whose certificate is not good")
    log_level: str = _setting(
        "INFO",
        "least level of a log line; DEBUG has one a request",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
    )
    log_format: str = _setting("json", "form of a log line", choices=("json", "console"))
    enable_docs: bool = _setting(default=True, text="serve /docs and /redoc (/openapi.json stays)")
    cors_enabled: bool = _setting(default=False, text="answer cross-origin requests")
    cors_origins: tuple[str, ...] = _setting(("*",), "allowed origins, comma separated")
    url: str = _setting("", "the URL clients use, for the start event; `asgi-fault serve` fills it in")
    health_status: str = _setting("ok", "the word GET /health says when all is well")
    admin_token: str = _setting("", "Bearer token the control plane asks for; empty asks for none", secret=True)

    def __post_init__(self) -> None:
        mistakes = [mistake for setting in fields(self) if (mistake := _check(setting, getattr(self, setting.name)))]
        if mistakes:
            raise ConfigError("\n".join(mistakes))

    @classmethod
    def load(
        cls,
        overrides: Mapping[str, Any] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        dotenv_path: str | os.PathLike[str] | None = ".env",
    ) -> "Settings":
        """Read the settings: `overrides` (by field name), then `environ`, then the `.env` file, then the defaults.

        Raises:
            ConfigError: a value has the wrong type or lies outside its range.
        """
        environ = os.environ if environ is None else environ
        from_file = _read_dotenv(dotenv_path) if dotenv_path is not None else {}
        values: dict[str, Any] = {}
        mistakes: list[str] = []
        for setting in fields(cls):
            if overrides and overrides.get(setting.name) is not None:
                values[setting.name] = overrides[setting.name]
                continue
            variable = variable_of(setting.name)
            text = environ.get(variable, from_file.get(variable))
            if text is None:
                continue
            try:
                values[setting.name] = _parse(setting, text)
            except ValueError as error:
                mistakes.append(f"{variable}={_shown(setting, text)}: {error}")
        try:
            settings = cls(**values)
        except ConfigError as error:
            mistakes.append(str(error))
        if mistakes:
            raise ConfigError("\n".join(mistakes))
        return settings

    def shown(self) -> dict[str, Any]:
        """The settings by variable name, secrets masked."""
        return {
            variable_of(setting.name): _shown(setting, getattr(self, setting.name))
            if setting.metadata["secret"] or isinstance(setting.default, str)
            else getattr(self, setting.name)
            for setting in fields(self)
        }


def variable_of(name: str) -> str:
    """The environment variable of the setting `name`."""
    return PREFIX + name.upper()


def expectation(setting: "Field[Any]") -> str:
    """What a value of `setting` has to be, in words: type, range and unit."""
    metadata = setting.metadata
    if metadata["choices"]:
        return "one of " + ", ".join(metadata["choices"])
    kind = {int: "a whole number", float: "a number", bool: "true or false", tuple: "a comma separated list"}
    words = kind.get(type(setting.default), "text")
    if metadata["low"] is not None:
        words += f" from {metadata['low']} to {metadata['high']}"
    return f"{words} {metadata['unit']}".rstrip()


def _shown(setting: "Field[Any]", value: object) -> str:
    if setting.metadata["secret"]:
        return "***" if value else ""
    return f"{value:.15g}" if isinstance(value, float) else _CREDENTIALS.sub("//***@", str(value))


def _parse(setting: "Field[Any]", text: str) -> Any:
    """Turn the text of an environment variable into the type of the setting's default."""
    text = text.strip()
    default = setting.default
    if isinstance(default, bool):
        word = text.lower()
        if word not in TRUE_WORDS and word not in FALSE_WORDS:
            raise ValueError(f"expected {expectation(setting)}")
        return word in TRUE_WORDS
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError:
            raise ValueError(f"expected {expectation(setting)}") from None
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    choices = setting.metadata["choices"]
    return next((choice for choice in choices if choice.lower() == text.lower()), text)


def _check(setting: "Field[Any]", value: Any) -> str | None:
    """Why `value` cannot be used for `setting`, or None when it can."""
    metadata = setting.metadata
    kind = type(setting.default)
    fits = isinstance(value, (int, float) if kind is float else kind)
    if isinstance(value, bool) and kind is not bool:
        fits = False
    if fits and metadata["choices"]:
        fits = value in metadata["choices"]
    # Written so that NaN, which compares False with everything, is refused.
    if fits and metadata["low"] is not None:
        fits = metadata["low"] <= value <= metadata["high"]
    return None if fits else f"{variable_of(setting.name)}={_shown(setting, value)}: expected {expectation(setting)}"


def _read_dotenv(path: "str | os.PathLike[str]") -> dict[str, str]:
    """The assignments of a `.env` file; an absent file has none.

    Imported here because only a server that is being started reads the file.
    """
    from dotenv import dotenv_values

    return {name: value for name, value in dotenv_values(path, interpolate=False).items() if value is not None}
