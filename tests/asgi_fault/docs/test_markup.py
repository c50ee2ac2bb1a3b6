"""The element builder: text cannot become markup, and what is opened is closed."""

import pytest

from asgi_fault.docs.markup import Markup, element, fragment, inline, prose, raw

HOSTILE = "<script>alert(1)</script>&\"'"


def test_text_is_escaped() -> None:
    assert element("p", HOSTILE) == "<p>&lt;script&gt;alert(1)&lt;/script&gt;&amp;\"'</p>"


def test_an_attribute_cannot_end_early() -> None:
    assert element("a", href='" onclick="x') == '<a href="&quot; onclick=&quot;x"></a>'


def test_markup_is_not_escaped_twice() -> None:
    assert element("p", element("b", "x & y"), ["1", "<"]) == "<p><b>x &amp; y</b>1&lt;</p>"


def test_attribute_names_and_values() -> None:
    made = element("input", class_="a", aria_label="b", required=True, hidden=False, value=None, tabindex=0)
    assert made == '<input class="a" aria-label="b" required tabindex="0">'


def test_void_elements_have_no_end_tag() -> None:
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_a_script_cannot_be_left() -> None:
    assert raw("script", "a < b && c") == "<script>a < b && c</script>"
    with pytest.raises(ValueError, match="must not contain"):
        raw("script", "'</script>'")


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("plain", "plain"),
        ("a `b` **c**", "a <code>b</code> <strong>c</strong>"),
        ("`**a**`", "<code>**a**</code>"),
        ("`<b>`", "<code>&lt;b&gt;</code>"),
        ("one ` only", "one ` only"),
        ("2 ** 3", "2 ** 3"),
    ],
)
def test_inline_markdown(text: str, html: str) -> None:
    assert inline(text) == html
    assert isinstance(inline(text), Markup)


def test_prose_has_paragraphs() -> None:
    assert prose("a\n\nb") == "<p>a</p><p>b</p>"
    assert prose("") == ""
    assert fragment() == ""
