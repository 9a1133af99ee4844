"""YAML as configurations are written in: safe, bounded, and without what surprises people.

Beside YAML 1.1's safe tags: ``1e-3`` is a number; dates, numbers with colons and octal ones, as which YAML reads ``12:30`` and ``010``, are
texts; a key that stands twice, deep nesting, and aliases that grow are refused with their line.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from tfmi.core.errors import ConfigError

# Far beyond any configuration, and harmless.
DEEPEST = 50
MOST_NODES = 100_000
LONGEST_NUMBER = 400

_INTEGER, _FLOAT, _TIMESTAMP = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")


class _Loader(yaml.SafeLoader):
    """The safe loader with bounds. What YAML 1.1 takes for numbers and dates is narrowed to what people mean by them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > DEEPEST:
            problem = f"more than {DEEPEST} brackets or levels within each other"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.peek_event().start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return self.construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                problem = f"the key {key.value!r} stands twice, first in line {seen[key.value]}; remove one"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if node.tag in {_INTEGER, _FLOAT} and len(node.value) > LONGEST_NUMBER:
            raise yaml.MarkedYAMLError(problem=f"a number of {len(node.value):,} characters", problem_mark=node.start_mark)
        return super().construct_scalar(node)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in {_INTEGER, _FLOAT, _TIMESTAMP}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INTEGER, re.compile(r"^[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"^([-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+0123456789."),
)


_BARE_TEXT = re.compile(r"[%@`]|[,;:|&*!>^#?-]+\Z")


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML safely; raises ``ConfigError`` naming ``source`` and the line."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader subclass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        context = f" ({error.context})" if error.context else ""
        problem = error.problem or "cannot be read"
        hint = "; put quotes around the text" if "cannot start any token" in problem or "directive" in context else ""
        raise ConfigError(f"{source}: not valid YAML: {where}{problem}{context}{hint}") from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from None


def parse_value(text: str, source: str) -> Any:
    """Parse one value that stands alone, such as one of the command line; raises as ``parse_yaml``.

    What YAML has another use for or refuses, but nobody means so, is taken as it stands: a format of times (``%Y%m%d``), and text of
    punctuation alone, such as a delimiter (``|``, ``::``, ``,``).
    """
    return text if _BARE_TEXT.match(text) else parse_yaml(text, source)


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """The nodes that ``node`` becomes, aliases written out; raises ``MarkedYAMLError`` where they are too many or contain themselves."""
    if id(node) in known:
        if not known[id(node)]:
            raise yaml.MarkedYAMLError(problem="an alias of what it stands in", problem_mark=node.start_mark)
        return known[id(node)]
    known[id(node)] = 0
    total = 1
    if isinstance(node, yaml.MappingNode):
        total += sum(_count(key, known) + _count(value, known) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_count(element, known) for element in node.value)
    if total > MOST_NODES:
        raise yaml.MarkedYAMLError(problem=f"aliases that stand for more than {MOST_NODES:,} values", problem_mark=node.start_mark)
    known[id(node)] = total
    return total
