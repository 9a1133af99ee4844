"""The examples of docs/serving.md: found, and run by the program that makes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from docs.make_serving_examples import PAGE, SYSTEMS, Example, find_examples, main, merged, training_commands


def test_the_examples_of_a_page() -> None:
    page = """\
text

    $ python serving/client.py recommend \\
          --top 2
    after a:
        1. b
    $ curl -d '{"a":
        [1]}'

```python
print(1)
print(2)
```

    1
    2
"""
    first, second, third = find_examples(page)
    assert (first.code.split(), first.shown) == (["python", "serving/client.py", "recommend", "--top", "2"], ["after a:", "    1. b"])
    assert (second.code, second.shown) == ("curl -d '{\"a\":[1]}'", [])
    assert (third.code, third.is_python, third.shown) == ("print(1)\nprint(2)", True, ["1", "2"])


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        (["a 1"], ["a 2"], ["a 2"]),
        (["…", "c"], ["a", "b", "d"], ["…", "d"]),
        (["a", "…", "z"], ["b"], None),
        (["10 users (1.5 s)"], ["10 users (2.5 s)"], ["10 users (1.5 s)"]),
        (['{"a": [1, 1, 1, …]}'], ['{"a": [2, 3, 4, 5]}'], ['{"a": [2, 3, 4, …]}']),
        (['… "b": {"c": 1} …'], ['{"a": 0, "b": {"c": 1}, "d": 2}'], ['… "b": {"c": 1} …']),
        (['… "b": {"c": 1} …'], ['{"a": 0, "b": {"c": 2}}'], None),
    ],
)
def test_what_is_left_out_stays_left_out(shown: list[str], printed: list[str], expected: list[str] | None) -> None:
    assert merged(Example("", False, 0, 0, shown), printed) == expected


def test_the_page_has_one_model_of_each_system() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert list(training_commands(page)) == list(SYSTEMS)
    examples = find_examples(page)
    assert len(examples) >= 20
    assert all(example.shown for example in examples if "client.py" in example.code)


@pytest.mark.long
def test_every_example_of_the_page_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the page's examples need curl")
    assert main(["--folder", str(tmp_path), "--steps", "8"]) == 0, capsys.readouterr().out
