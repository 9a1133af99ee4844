"""Named components: how a recipe's ``{name: capsule_routing, num_interests: 4}`` becomes an object.

A component registers itself with a decorator in its own file; the registry imports every file of its package on first use. A new
layer or loss is therefore one new file, and its constructor's signature *is* its configuration schema: parameter names, types and
defaults are checked from the annotations. That file may also be somebody else's: see ``tfmi.core.plugins``.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import typing
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import pydantic

from tfmi.core.errors import ConfigError, nearest
from tfmi.core.plugins import import_installed_plugins, is_outside
from tfmi.core.validation import describe_value_problem

T = TypeVar("T")

# Every registry there is, to find out where a configuration's components come from.
_registries: list[Registry[Any]] = []


class Registry(Generic[T]):
    """The components of one kind, by name.

    Args:
        kind: What the components are called in messages, e.g. ``"extractor"``.
        package: The package whose modules register components of this kind, e.g. ``"tfmi.layers"``.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        _registries.append(self)
        self._components: dict[str, type[T]] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator that makes the class available under ``name``. Raises ``ValueError`` on a name that is taken."""

        def decorate(component: type[T]) -> type[T]:
            taken = self._components.get(name)
            # A module that is executed twice registers its class twice.
            if taken is not None and (taken.__module__, taken.__qualname__) != (component.__module__, component.__qualname__):
                raise ValueError(f"{self.kind} {name!r} is already registered by {taken.__module__}.{taken.__qualname__}")
            self._components[name] = component
            return component

        return decorate

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        self._discover()
        return sorted(self._components)

    def get(self, name: str) -> type[T]:
        """The class registered under ``name``; raises ``ConfigError`` naming the nearest one if there is none."""
        self._discover()
        if name not in self._components:
            broken = "".join(f". An installed plugin: {problem}" for problem in import_installed_plugins())
            raise ConfigError(
                f"unknown {self.kind} {name!r}{nearest(name, self._components)}; available: {', '.join(self.names())}; "
                f"one of your own needs its module named in the configuration, plugins: [my_package.my_module]{broken}"
            )
        return self._components[name]

    def registered(self, name: str) -> type[T] | None:
        """The class registered under ``name`` by what has been imported so far, or None."""
        return self._components.get(name)

    def name_of(self, component: T) -> str:
        """The name under which the class of ``component`` is registered; raises ``KeyError`` if it is not."""
        self._discover()
        return {registered: name for name, registered in self._components.items()}[type(component)]

    def parameters(self, name: str) -> dict[str, inspect.Parameter]:
        """The constructor parameters that a recipe may set, by name."""
        signature = inspect.signature(self.get(name).__init__)
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {key: p for key, p in signature.parameters.items() if key != "self" and p.kind in named}

    def validate(self, spec: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Check ``spec`` (``{"name": ..., parameter: value, ...}``) against the component's constructor.

        Args:
            spec: The component's description.
            path: Where it stands in the configuration, for messages, e.g. ``"model.extractor"``.

        Returns:
            The parameters without ``name``, converted to their annotated types.

        Raises:
            ConfigError: An unknown component or parameter, a value of the wrong type, or a missing parameter.
        """
        if "name" not in spec:
            raise ConfigError(f"{path}: expected a 'name', one of: {', '.join(self.names())}")
        name = spec["name"]
        component = self.get(name)
        parameters = self.parameters(name)
        hints = typing.get_type_hints(component.__init__)
        values: dict[str, Any] = {}
        for key, value in spec.items():
            if key == "name":
                continue
            if key not in parameters:
                inner = next((part for part, described in spec.items() if _takes(described, key)), None)
                instead = f", but its {inner} takes it: {path}.{inner}.{key}" if inner else nearest(key, parameters)
                raise ConfigError(
                    f"{path}.{key}: unknown parameter of {self.kind} {name!r}{instead}; it takes: {', '.join(parameters) or 'none'}"
                )
            try:
                values[key] = pydantic.TypeAdapter(hints.get(key, Any)).validate_python(value, strict=True)
            except pydantic.ValidationError as error:
                raise ConfigError(f"{path}.{key}: {describe_value_problem(error.errors()[0])}") from None
            if isinstance(value, float) and math.isnan(value):
                raise ConfigError(f"{path}.{key}: expected a number, got nan")
        for key, parameter in parameters.items():
            if parameter.default is inspect.Parameter.empty and key not in values:
                raise ConfigError(f"{path}.{key}: required by {self.kind} {name!r}, but not given")
        return values

    def build(self, spec: Mapping[str, Any], path: str, **offered: Any) -> T:
        """Construct the component that ``spec`` describes.

        Args:
            spec: The component's description.
            path: Where it stands in the configuration, for messages.
            offered: What only the run or the data knows: values of parameters that the component may take; what ``spec`` sets is stronger.

        Raises:
            ConfigError: ``spec`` is not valid, or the constructor raised a ``ValueError``.
        """
        if "name" in spec:
            taken = self.parameters(spec["name"])
            spec = {**{name: value for name, value in offered.items() if name in taken}, **spec}
        values = self.validate(spec, path)
        try:
            return self.get(spec["name"])(**values)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        package = importlib.import_module(self.package)
        for module in pkgutil.walk_packages(package.__path__, f"{self.package}."):
            importlib.import_module(module.name)
        import_installed_plugins()


def _takes(described: Any, parameter: str) -> bool:
    """Whether a described component, of whatever registry, takes a parameter."""
    if not isinstance(described, Mapping) or not isinstance(described.get("name"), str):
        return False
    name = described["name"]
    return any(registry.registered(name) is not None and parameter in registry.parameters(name) for registry in _registries)


def outside_modules(described: Any) -> set[str]:
    """The modules from outside of tfmi that define components of a description: of every ``{name: ...}`` anywhere in it."""
    if isinstance(described, Mapping):
        found = set().union(*(outside_modules(value) for value in described.values())) if described else set()
        name = described.get("name")
        if isinstance(name, str):
            registered = [registry.registered(name) for registry in _registries]
            found |= {component.__module__ for component in registered if component is not None and is_outside(component.__module__)}
        return found
    if isinstance(described, list | tuple):
        return set().union(*(outside_modules(value) for value in described)) if described else set()
    return set()
