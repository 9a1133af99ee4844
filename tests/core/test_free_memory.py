"""How much memory is left, as the system says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfmi.core import free_memory


@pytest.mark.parametrize(
    ("contents", "left"),
    [
        (("MemTotal: 99 kB\nMemAvailable:    2000 kB\n", None, None), 2_048_000),
        (("MemAvailable: 2000 kB\n", "max\n", "5\n"), 2_048_000),
        (("MemAvailable: 2000 kB\n", "1000\n", "400\n"), 600),
        ((None, "1000\n", "400\n"), 600),
        (("Something: else\n", "max\n", "5\n"), None),
    ],
)
def test_what_is_left(
    contents: tuple[str | None, str | None, str | None], left: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in zip(("MEMINFO", "GROUP_LIMIT", "GROUP_USE"), contents, strict=True):
        path = tmp_path / name
        if text is not None:
            path.write_text(text, encoding="ascii")
        monkeypatch.setattr(free_memory, name, path)
    assert free_memory.free_memory() == left
