"""What the page's questions have in common: nothing unforeseen, and bounded texts."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Of an item, a value or a column.
Identifier = Annotated[str, Field(max_length=1000)]


class Question(BaseModel):
    """Refuses keys that it does not know, and numbers that are none."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
