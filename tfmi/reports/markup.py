"""HTML and SVG as values: whatever is not ``Markup`` already is escaped, so that no text of a data set becomes a tag."""

from __future__ import annotations

import html
from collections.abc import Iterable

from tfmi.core.text import printable

# Joiners do not show, but decide how Persian, Hindi and emoji do.
KEPT = "\n\t\u200c\u200d"
VOID = frozenset({"meta", "br", "col"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = Markup | str | int | float | None | Iterable["Child"]
Attribute = str | int | float | bool | None


def escaped(text: str) -> Markup:
    """Text as HTML. Characters that do not show, such as those that turn the direction of text around, are written as escapes."""
    return Markup(html.escape(printable(text, keep=KEPT), quote=True))


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """One element.

    Args:
        name: Of the element.
        *children: ``Markup`` stays as it is, everything else is escaped; None and nested sequences are left out and flattened.
        **attributes: ``class_`` is ``class``, and ``stroke_width`` is ``stroke-width``. True is an attribute without a value; None and
            False leave it out.
    """
    opened = "".join([f"<{name}", *(_attribute(key, value) for key, value in attributes.items()), ">"])
    return Markup(opened) if name in VOID else Markup(f"{opened}{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Elements and texts one after the other."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, str):
            parts.append(escaped(child))
        elif isinstance(child, int | float):
            parts.append(str(child))
        else:
            parts.append(join(*child))
    return Markup("".join(parts))


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = "viewBox" if key == "viewBox" else key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {name}="{escaped(shown)}"'
