"""Run every example of docs/serving.md on freshly trained models, and put what they print into the page.

    python docs/make_serving_examples.py --folder /tmp/examples            run them, and say which lines of the page have changed
    python docs/make_serving_examples.py --folder /tmp/examples --write    write what was printed into the page

The models are those of the page's own commands, one retriever for all examples of retrieval; what the folder holds already is not trained
again. An example is a line that begins with ``$``, or a Python block with its output below. Where the page leaves something out, it
shows ``…``: in a list of numbers, for the lines in between, or before and after what is quoted of a long line. Exit code 1: an example
failed, or, without ``--write``, the page shows something else.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "serving.md"
SYSTEMS = ("mind", "mgipf", "mvke")
PROGRAMS = ("training", "serving")
OMITTED = "…"
INDENT = "    "
LONGEST_LIST = 3
# What differs from run to run though nothing has changed.
TIMES = re.compile(r"\d[\d,.]* (?:s|ms|users/s)\b")
REST, GRPC = 8501, 8500


@dataclass
class Example:
    """A command or a Python block, and what the page shows of its output.

    Attributes:
        code: The command line, or the Python code.
        is_python: Which of the two.
        start, stop: The lines of the page with the output, counted from 0.
        shown: These lines, without their indentation.
    """

    code: str
    is_python: bool
    start: int
    stop: int
    shown: list[str]

    @property
    def starts_server(self) -> bool:
        """Whether it goes on until it is stopped."""
        return "local_server.py" in self.code

    @property
    def trains(self) -> bool:
        """Whether it makes a model."""
        return "train.py" in self.code


def find_examples(page: str) -> list[Example]:
    """The examples of a page, in order."""
    lines = page.splitlines()
    examples: list[Example] = []
    place = 0
    while place < len(lines):
        line = lines[place]
        if line == "```python":
            end = lines.index("```", place)
            start = end + 2  # behind a blank line
            stop = _end_of_block(lines, start)
            examples.append(_example(lines, "\n".join(lines[place + 1 : end]), True, start, stop))
            place = max(stop, end + 1)
        elif line.startswith(f"{INDENT}$ "):
            code, place = _command(lines, place)
            stop = _end_of_block(lines, place)
            examples.append(_example(lines, code, False, place, stop))
            place = stop
        else:
            place += 1
    return examples


def _command(lines: Sequence[str], place: int) -> tuple[str, int]:
    """The command that begins in a line, and the line behind it: backslashes and open quotes go on."""
    code = lines[place].removeprefix(f"{INDENT}$ ")
    while True:
        place += 1
        if code.endswith("\\"):
            code = code[:-1]
        else:
            try:
                shlex.split(code)
            except ValueError:
                pass
            else:
                return code, place
        code += lines[place].strip()


def _end_of_block(lines: Sequence[str], start: int) -> int:
    stop = start
    while stop < len(lines) and lines[stop].startswith(INDENT) and not lines[stop].startswith(f"{INDENT}$ "):
        stop += 1
    return stop


def _example(lines: Sequence[str], code: str, is_python: bool, start: int, stop: int) -> Example:
    return Example(code, is_python, start, stop, [line.removeprefix(INDENT) for line in lines[start:stop]])


def training_commands(page: str) -> dict[str, str]:
    """The command of the page that makes each of ``SYSTEMS``: the first one that says how many steps."""
    commands = re.findall(r"python training/train\.py[^\n`]*--max-steps[^\n`]*", page)
    found: dict[str, str] = {}
    for command in commands:
        words = shlex.split(command)
        system = words[words.index("--system") + 1] if "--system" in words else SYSTEMS[0]
        found.setdefault(system, command)
    missing = sorted(set(SYSTEMS) - set(found))
    if missing:
        raise SystemExit(f"{PAGE.name} says of none of its commands that it trains {', '.join(missing)} for so many steps")
    return found


def merged(example: Example, printed: Sequence[str]) -> list[str] | None:
    """What the page should show of an output, with ``…`` where it has it now; None if what it quotes is no longer printed."""
    shown = example.shown
    if OMITTED in shown:
        before, after = shown.index(OMITTED), len(shown) - shown.index(OMITTED) - 1
        if len(printed) < before + after:
            return None
        printed = [*printed[:before], OMITTED, *printed[len(printed) - after :]]
    elif shown and f", {OMITTED}]" in shown[0]:
        printed = [_shortened(line) for line in printed]
    elif any(OMITTED in line for line in shown):
        return list(shown) if _quotes(shown, printed) else None
    if len(printed) != len(shown):
        return list(printed) if shown else []
    return [_unless_times(old, new) for old, new in zip(shown, printed, strict=True)]


def _quotes(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether the parts that ``…`` leaves of a text are in it, in their order; blanks do not count."""
    whole, place = re.sub(r"\s+", "", "\n".join(printed)), 0
    for part in re.sub(r"\s+", "", "\n".join(shown)).split(OMITTED):
        place = whole.find(part, place)
        if place < 0:
            return False
    return True


def _unless_times(old: str, new: str) -> str:
    """The old line if only durations differ."""
    return old if TIMES.sub("", old) == TIMES.sub("", new) else new


def _shortened(line: str) -> str:
    """JSON on one line, with lists of numbers and texts cut to their beginning."""

    def text(value: object) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(key)}: {text(inner)}" for key, inner in value.items()) + "}"
        if isinstance(value, list):
            parts = [text(inner) for inner in value[:LONGEST_LIST]]
            return "[" + ", ".join([*parts, *([OMITTED] if len(value) > LONGEST_LIST else [])]) + "]"
        return json.dumps(value)

    return text(json.loads(line))


class Workplace:
    """A folder with the programs and the models, and a server of these.

    Args:
        folder: Made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in PROGRAMS:
            link = folder / name
            if not link.exists():
                link.symlink_to(ROOT / name)
        self.folder = folder
        self._ports = {REST: _free_port(), GRPC: _free_port()}
        python_path = os.pathsep.join([str(ROOT), str(ROOT / "serving")])
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PYTHONPATH": python_path, "PATH": programs, "PYTHONUNBUFFERED": "1"}
        self._server: subprocess.Popen[str] | None = None

    def train(self, commands: dict[str, str], steps: int | None) -> None:
        """Make the models that are not there; with other ``steps`` than the page says, if given."""
        for system, command in commands.items():
            if (self.folder / "savedmodels" / system).is_dir():
                continue
            print(f"training {system} ...", flush=True)
            code, lines = self._run([*shlex.split(command), *([] if steps is None else ["--max-steps", str(steps)])])
            if code:
                raise SystemExit("\n".join([f"{command}: exit code {code}", *lines]))
        self._write_users()

    def _write_users(self) -> None:
        """The file that the page's commands for everybody name."""
        import pyarrow as pa
        import pyarrow.parquet

        users = pa.table({"user_id": ["ann", "bob"], "history": [["item-1665", "item-1776"], []], "region": ["north", ""]})
        pyarrow.parquet.write_table(users, self.folder / "users.parquet")

    def run(self, example: Example) -> tuple[int, list[str]]:
        """The exit code of an example and what it printed, as it would be with the customary ports."""
        if example.starts_server:
            return 0, self._serve(example)
        if example.trains:
            return 0, example.shown
        if not example.is_python:
            for output in re.findall(r"--(?:output|plot) (\S+)", example.code):
                (self.folder / output).unlink(missing_ok=True)
        code = self._with_ports(example.code)
        if example.is_python:
            return self._run([sys.executable, "-c", code])
        words = shlex.split(code)
        if words[:2] == ["python", "serving/client.py"]:
            words[3:3] = ["--address", f"http://127.0.0.1:{self._ports[REST]}"]
        return self._run(words)

    def _run(self, words: list[str]) -> tuple[int, list[str]]:
        done = subprocess.run(words, cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False)  # noqa: S603 - the page's own
        printed = done.stdout
        if words[0] == "python" and words[1].startswith("training/"):
            # Its messages are on the error stream, and its last line is for programs.
            printed = done.stderr + "".join(line for line in done.stdout.splitlines(keepends=True) if not line.startswith("{"))
        if done.returncode:
            printed += done.stderr
        return done.returncode, [self._as_on_the_page(line.rstrip()) for line in printed.splitlines() if line.strip()]

    def _serve(self, example: Example) -> list[str]:
        """Start a server of all models, once, and return its greeting, or as much of it as the page shows, where one model is served."""
        if self._server is not None:
            return example.shown
        words = [
            *shlex.split(example.code)[:2],
            "--models-root",
            "savedmodels",
            "--rest-port",
            str(self._ports[REST]),
            "--port",
            str(self._ports[GRPC]),
        ]
        self._server = subprocess.Popen(  # noqa: S603 - the page's own
            words, cwd=self.folder, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        greeting = list(self._greeting())
        return example.shown if set(example.shown) <= set(greeting) else greeting

    def _greeting(self) -> Iterator[str]:
        for line in self._server.stdout or () if self._server is not None else ():
            yield self._as_on_the_page(line.rstrip())
            if "Ctrl-C" in line:
                return
        raise SystemExit("the server has ended")

    def _with_ports(self, text: str) -> str:
        for customary, own in self._ports.items():
            text = text.replace(f":{customary}", f":{own}")
        return text

    def _as_on_the_page(self, text: str) -> str:
        for customary, own in self._ports.items():
            text = text.replace(f":{own}", f":{customary}")
        return text

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(timeout=60)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the examples; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for models and outputs")
    parser.add_argument("--write", action="store_true", help="write what was printed into the page")
    parser.add_argument("--steps", type=int, help="train for so many steps, and look only whether every example runs")
    options = parser.parse_args(arguments)
    page = PAGE.read_text(encoding="utf-8")
    lines = page.splitlines()
    problems: list[str] = []
    replaced: list[tuple[Example, list[str]]] = []
    place = Workplace(options.folder.resolve())
    try:
        place.train(training_commands(page), options.steps)
        for example in find_examples(page):
            started = time.perf_counter()
            code, printed = place.run(example)
            first = example.code.splitlines()[0]
            print(f"{time.perf_counter() - started:5.1f} s  {first[:110]}", flush=True)
            if code:
                problems.append("\n".join([f"line {example.start}: exit code {code}: {first}", *printed[-5:]]))
                continue
            if options.steps is not None:
                if bool(printed) != bool(example.shown):
                    problems.append(f"line {example.start}: printed {len(printed)} lines instead of {len(example.shown)}: {first}")
                continue
            now = merged(example, printed)
            if now is None:
                problems.append("\n".join([f"line {example.start}: what the page quotes is not printed: {first}", *printed[:5]]))
            elif now != example.shown:
                replaced.append((example, now))
                if not options.write:
                    problems.append("\n".join([f"line {example.start}: the page shows something else: {first}", *now]))
    finally:
        place.close()
    if options.write and replaced:
        for example, now in reversed(replaced):
            lines[example.start : example.stop] = [f"{INDENT}{line}" for line in now]
        PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{len(replaced)} outputs written into {PAGE}")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
