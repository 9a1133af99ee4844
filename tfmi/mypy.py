"""A plugin for mypy, which tells it that a ``ConfiguredLayer``'s constructor arguments are its attributes.

In ``pyproject.toml``: ``[tool.mypy]`` and ``plugins = ["tfmi.mypy"]``. Other type checkers take such attributes for ``Any``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from mypy.nodes import AssignmentStmt, Decorator, FuncDef, MemberExpr, NameExpr, Statement
from mypy.plugin import ClassDefContext, Plugin
from mypy.plugins.common import add_attribute_to_class
from mypy.types import CallableType

_BASE = "tfmi.layers.base.ConfiguredLayer"


class ConfiguredLayerPlugin(Plugin):
    """Gives every subclass of ``ConfiguredLayer`` the attributes that its own constructor records."""

    def get_customize_class_mro_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        """Look at every class once its bases are known."""
        return _declare_arguments


def plugin(version: str) -> type[ConfiguredLayerPlugin]:
    """What mypy calls to find the plugin."""
    return ConfiguredLayerPlugin


def _declare_arguments(context: ClassDefContext) -> None:
    info, body = context.cls.info, context.cls.defs.body
    if info.fullname == _BASE or not info.has_base(_BASE):
        return
    for constructor in body:
        if isinstance(constructor, FuncDef) and constructor.name == "__init__" and isinstance(constructor.unanalyzed_type, CallableType):
            described = constructor.unanalyzed_type
            known = {*_assigned(constructor.body.body), *_assigned(body), *(each.name for each in body if isinstance(each, Decorator))}
            for argument, kind, annotation in zip(constructor.arguments[1:], described.arg_kinds[1:], described.arg_types[1:], strict=True):
                name = argument.variable.name
                if kind.is_star() or name in known or info.get(name) is not None:
                    continue
                analyzed = context.api.anal_type(annotation)
                if analyzed is None:
                    context.api.defer()
                    return
                add_attribute_to_class(context.api, context.cls, name, analyzed)


def _assigned(statements: Iterable[Statement]) -> Iterator[str]:
    """The attributes that a class or its constructor assigns itself, whose types are those of what is assigned."""
    for statement in statements:
        if isinstance(statement, AssignmentStmt):
            yield from (target.name for target in statement.lvalues if isinstance(target, NameExpr | MemberExpr))
