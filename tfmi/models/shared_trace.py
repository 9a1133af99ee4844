"""One trace of what several traced functions have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


class SharedTrace:
    """A function that others call while they are traced: traced once for all of them, with the same shapes, instead of once in each.

    A SavedModel then holds it once, which is what most of the time of tracing, writing and loading goes by. Answers take as long as
    before, since TensorFlow writes the graphs of called functions into their callers' before it runs them. Outside of traced functions
    the function is called as it is.

    Args:
        function: Of tensors, in any structure that ``tf.function`` knows, and of nothing else that could change.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        # Shapes that differ from caller to caller are traced as one that fits all.
        self._traced = tf.function(function, autograph=False, reduce_retracing=True)

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns."""
        return (self._traced if tf.inside_function() else self._function)(*arguments)
