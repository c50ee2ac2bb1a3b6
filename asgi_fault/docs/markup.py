"""HTML made of elements: text is escaped where it is put in, and every element that is opened is closed."""

from collections.abc import Iterable
from html import escape
from typing import TypeAlias


class Markup(str):
    """Text that is HTML already, and therefore not escaped again."""

    __slots__ = ()


Attribute: TypeAlias = str | int | bool | None
Child: TypeAlias = "str | Iterable[Child]"
"""A string is text, unless it is `Markup`."""

VOID = frozenset({"br", "input", "link", "meta"})
"""The elements without an end tag that the pages use (HTML, section 13.1.2)."""


def element(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """One element with its children.

    Args:
        name: of the element; an element in `VOID` ignores its children.
        children: text, markup, or iterables of them.
        attributes: a trailing underscore is dropped (`class_`), others become hyphens (`aria_label`). None and False
            leave the attribute out, True writes it without a value.
    """
    start = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{start}>")
    return Markup(f"<{name}{start}>{fragment(*children)}</{name}>")


def fragment(*children: Child) -> Markup:
    """Children one behind the other."""
    return Markup("".join(_html(child) for child in children))


def raw(name: str, content: str) -> Markup:
    """A `style` or `script` element: its content is not HTML, so it cannot be escaped and must not end the element.

    Raises:
        ValueError: it would end the element.
    """
    if "</" in content:
        raise ValueError(f"the content of <{name}> must not contain `</`")
    return Markup(f"<{name}>{content}</{name}>")


def prose(text: str) -> Markup:
    """Text with the little Markdown that descriptions use: paragraphs, `code` and **strong**."""
    return fragment(element("p", inline(paragraph)) for paragraph in text.split("\n\n") if paragraph)


def inline(text: str) -> Markup:
    """One line of such text."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # a backtick without a partner is only a backtick
        return _strong(text)
    return fragment(element("code", piece) if i % 2 else _strong(piece) for i, piece in enumerate(pieces))


def _strong(text: str) -> Markup:
    pieces = text.split("**")
    if len(pieces) % 2 == 0:
        return fragment(text)
    return fragment(element("strong", piece) if i % 2 else piece for i, piece in enumerate(pieces))


def _attribute(key: str, value: Attribute) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def _html(child: Child) -> str:
    if isinstance(child, Markup):
        return child
    return escape(child, quote=False) if isinstance(child, str) else fragment(*child)
