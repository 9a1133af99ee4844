"""A whole page from its sections: head, table of contents, style, and a policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from tfmi.reports.markup import Child, Markup, join, tag


@dataclass(frozen=True)
class PageSection:
    """A part of a page.

    Attributes:
        key: Its anchor.
        title: Its heading.
        content: What stands below.
    """

    key: str
    title: str
    content: Markup


def section(key: str, title: str, *content: Child) -> PageSection:
    """A section of elements and texts."""
    return PageSection(key, title, join(*content))


def page(title: str, head: Child, sections: Sequence[PageSection], foot: Child) -> str:
    """One self-contained HTML file: no script, no network, nothing from elsewhere.

    Args:
        title: Of the browser's window.
        head: What stands above the table of contents.
        sections: In order.
        foot: What stands below.
    """
    style = resources.files("tfmi.reports").joinpath("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    contents = tag("nav", tag("ol", [tag("li", tag("a", each.title, href=f"#{each.key}")) for each in sections]), aria_label="Contents")
    body = [
        tag("section", tag("h2", each.title, id=f"{each.key}-title"), each.content, id=each.key, aria_labelledby=f"{each.key}-title")
        for each in sections
    ]
    document = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            tag("style", Markup(style)),
        ),
        tag(
            "body",
            tag("a", "To the content", href="#content", class_="skip"),
            tag("header", head),
            contents,
            tag("main", body, id="content"),
            tag("footer", foot),
        ),
        lang="en",
    )
    return f"<!doctype html>\n{document}\n"
