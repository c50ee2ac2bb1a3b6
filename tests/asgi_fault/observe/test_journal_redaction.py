"""What a client must keep secret is nowhere in the journal: not in headers, targets, names of calls or reports."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_fault.observe.redaction import TARGET_MAX, VALUE_MAX, shown_headers, shown_target
from asgi_fault.observe.timeline import timeline
from tests.asgi_fault.observe.journal_entries import entry, journal_of

SECRET = "hunter2-Zm9v"


@pytest.mark.parametrize(
    "name",
    ["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "apikey", "x-auth-token",
     "x-amz-security-token", "x-csrf-token", "x-client-secret", "x-password", "x-goog-api-key", "x-session-id",
     "x-signature"],
)  # fmt: skip
def test_of_a_secret_header_it_is_only_said_that_it_was_there(name: str) -> None:
    (shown,) = journal_of(entry(1, headers=((name, SECRET),))).entries()
    assert shown["headers"] == {name: "present"}


def test_other_headers_are_chosen() -> None:
    headers = [(b"host", b"x"), (b"accept", b"a"), (b"accept", b"b"), (b"x-stainless-retry-count", b"2")]
    assert shown_headers(headers) == {"accept": "a, b", "x-stainless-retry-count": "2"}
    assert len(shown_headers([(b"user-agent", b"a" * 9000)])["user-agent"]) == VALUE_MAX


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/a?q=1&page=2", "/a?q=1&page=2"),
        ("/a?api_key=S", "/a?api_key=***"),
        ("/a?x=1&PassWord=S&y=2", "/a?x=1&PassWord=***&y=2"),
        ("/a?%70assword=S", "/a?%70assword=***"),
        ("/a?user[passwd]=S", "/a?user[passwd]=***"),
        ("/a?access_token=S=S&b", "/a?access_token=***&b"),
        ("/a?token=S;S&b=1", "/a?token=***&b=1"),
        ("/a?x=1;token=S", "/a?x=1;token=***"),
        ("/a?sig=S&X-Amz-Signature=S", "/a?sig=***&X-Amz-Signature=***"),
        ("/a?client_secret=S?S/S", "/a?client_secret=***"),
        ("/a?auth=S&oauth_nonce=S&authorization=S", "/a?auth=***&oauth_nonce=***&authorization=***"),
        ("/a?author=Woolf", "/a?author=Woolf"),
        ("/a?token", "/a?token"),
        ("/a?private=S&credential=S", "/a?private=***&credential=***"),
        ("/a;token=S;x=1/b", "/a;token=***/b"),
        ("http://user:S@host/a", "http://host/a"),
        ("http://user:S@host/a?token=S", "http://host/a?token=***"),
        ("/a?mail=a@b", "/a?mail=a@b"),
    ],
)
def test_secrets_in_a_target_are_hidden(target: str, shown: str) -> None:
    sent = target.replace("=S", f"={SECRET}").replace(";S", f";{SECRET}").replace(":S@", f":{SECRET}@")
    assert shown_target(sent.encode()) == shown


def test_a_long_target_is_cut() -> None:
    assert len(shown_target(b"/" + b"a" * 60_000)) == TARGET_MAX


@given(
    name=st.sampled_from(["password", "passwd", "secret", "token", "key", "credential", "private", "auth"]),
    before=st.text("abc=&;/?#%+_-", max_size=12),
    around=st.text("abc_.-[]", max_size=6),
    after=st.text("abc=;/?#%+", max_size=12),
)
def test_a_secret_appears_nowhere(name: str, before: str, around: str, after: str) -> None:
    target = f"/a?{before}&{around}{name}={after}{SECRET}{after}"
    headers = (("authorization", f"Bearer {SECRET}"), ("cookie", f"a={SECRET}"))
    journal = journal_of(entry(1, target=target, headers=headers), entry(2, target=target, headers=headers))
    entries = journal.entries()
    assert SECRET not in json.dumps(entries)
    assert SECRET not in timeline(entries)
    assert entries[1]["attempt"] == 2
