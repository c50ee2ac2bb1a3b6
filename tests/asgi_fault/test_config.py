"""Settings: command line over environment over .env over default, and every mistake named before anything starts."""

from dataclasses import fields
from pathlib import Path

import pytest

from asgi_fault.config import ConfigError, Settings, variable_of


def test_the_contracts_defaults() -> None:
    shown = Settings.load(environ={}, dotenv_path=None).shown()
    assert {
        "SERVER_HOST": "0.0.0.0",
        "SERVER_PORT": 8000,
        "SERVER_MAX_CONCURRENCY": 50,
        "SERVER_REQUEST_TIMEOUT": 30,
        "SERVER_CACHE_MAX_SIZE": 1000,
        "SERVER_CACHE_TTL_SECONDS": 300,
        "SERVER_LOG_LEVEL": "INFO",
        "SERVER_LOG_FORMAT": "json",
        "SERVER_ENABLE_DOCS": True,
        "SERVER_CORS_ENABLED": False,
        "SERVER_CORS_ORIGINS": ("*",),
        "SERVER_QUEUE_TIMEOUT": 30,
        "SERVER_QUEUE_LIMIT": 1000,
        "SERVER_MAX_BODY": 1048576,
    }.items() <= shown.items()


def test_precedence(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text('SERVER_PORT=1\nexport SERVER_QUEUE_LIMIT="2" # a comment\nSERVER_MAX_BODY=3\nOTHER=x\n')
    environ = {"SERVER_PORT": "4", "SERVER_QUEUE_LIMIT": "5"}
    settings = Settings.load({"port": 6, "queue_limit": None}, environ=environ, dotenv_path=dotenv)
    assert (settings.port, settings.queue_limit, settings.max_body, settings.max_concurrency) == (6, 5, 3, 50)


def test_an_absent_file_is_no_mistake(tmp_path: Path) -> None:
    assert Settings.load(environ={}, dotenv_path=tmp_path / ".env") == Settings()


RANGES = [
    ("SERVER_PORT", 0, 65535),
    ("SERVER_MAX_CONCURRENCY", 1, 1000),
    ("SERVER_REQUEST_TIMEOUT", 1, 300),
    ("SERVER_CACHE_MAX_SIZE", 1, 100000),
    ("SERVER_CACHE_TTL_SECONDS", 1, 86400),
]


@pytest.mark.parametrize(("variable", "low", "high"), RANGES)
def test_both_ends_of_a_range_are_in_it_and_what_is_beyond_is_named(variable: str, low: int, high: int) -> None:
    for inside in (low, high):
        Settings.load(environ={variable: str(inside)}, dotenv_path=None)
    for outside in (low - 1, high + 1, "nan", "inf", "many", "", "1_0x"):
        with pytest.raises(ConfigError) as caught:
            Settings.load(environ={variable: str(outside)}, dotenv_path=None)
        message = str(caught.value)
        assert message.startswith(f"{variable}={outside}: expected a")
        assert f"from {low}" in message
        assert f"to {high}" in message


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("SERVER_LOG_LEVEL", "LOUD", "one of DEBUG, INFO, WARNING, ERROR"),
        ("SERVER_LOG_FORMAT", "xml", "one of json, console"),
        ("SERVER_ENABLE_DOCS", "perhaps", "true or false"),
        ("SERVER_MAX_CONCURRENCY", "1.5", "a whole number"),
    ],
)
def test_a_value_that_is_none_of_the_choices_is_named(variable: str, value: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"^{variable}={value}: expected {expected}"):
        Settings.load(environ={variable: value}, dotenv_path=None)


def test_all_mistakes_are_reported_at_once() -> None:
    environ = {"SERVER_PORT": "-1", "SERVER_LOG_FORMAT": "xml", "SERVER_ENABLE_DOCS": "?"}
    with pytest.raises(ConfigError) as caught:
        Settings.load(environ=environ, dotenv_path=None)
    assert {line.partition("=")[0] for line in str(caught.value).splitlines()} == set(environ)


@pytest.mark.parametrize(
    ("text", "value"), [("TRUE", True), ("1", True), ("yes", True), ("On", True), ("false", False), ("0", False)]
)
def test_words_for_yes_and_no(text: str, *, value: bool) -> None:
    assert Settings.load(environ={"SERVER_CORS_ENABLED": text}, dotenv_path=None).cors_enabled is value


def test_lists_and_choices_are_forgiving() -> None:
    environ = {"SERVER_CORS_ORIGINS": " http://a, ,http://b ", "SERVER_LOG_LEVEL": " debug "}
    settings = Settings.load(environ=environ, dotenv_path=None)
    assert settings.cors_origins == ("http://a", "http://b")
    assert settings.log_level == "DEBUG"


def test_a_secret_is_never_shown() -> None:
    settings = Settings(admin_token="hush")
    assert settings.shown()["SERVER_ADMIN_TOKEN"] == "***"
    assert "hush" not in repr(settings)


def test_settings_made_by_hand_are_checked_too() -> None:
    with pytest.raises(ConfigError, match="SERVER_MAX_CONCURRENCY=0"):
        Settings(max_concurrency=0)
    with pytest.raises(ConfigError, match="SERVER_PORT=True"):
        Settings(port=True)
    with pytest.raises(ConfigError, match="SERVER_CORS_ORIGINS"):
        Settings(cors_origins="*")  # type: ignore[arg-type]


def test_every_setting_says_what_it_is() -> None:
    for setting in fields(Settings):
        assert setting.metadata["help"]
        assert variable_of(setting.name) == "SERVER_" + setting.name.upper()
