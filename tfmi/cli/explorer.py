"""The command line of ``serving/explorer.py``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tfmi.cli.program import ProgramParser, quiet_libraries, run_program
from tfmi.core.errors import ConfigError

if TYPE_CHECKING:
    from tfmi.explorer.versions import ModelFolder

EXAMPLES = """\
examples:
  one model, with its two newest versions to compare:
    python serving/explorer.py --model-base-path savedmodels/mind
  two models side by side:
    python serving/explorer.py --model-base-path savedmodels/mind --model-base-path savedmodels/comirec_sa
  a server that runs already, TensorFlow Serving say; titles still come from the folders:
    python serving/explorer.py --model-base-path savedmodels/mind --server http://127.0.0.1:8501

exit codes: 0 stopped, 1 it cannot start as asked (standard error says why).
"""
PORT = 8600
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
_MAX_PORT = 65535
_WAIT_SECONDS = 0.2
_GRACE_SECONDS = 3.0
_REQUEST_BYTES = 1 << 20
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Parser(ProgramParser):
    """Mistakes are one message, like every other."""

    def error(self, message: str) -> NoReturn:
        """See ``argparse``."""
        raise ConfigError(f"{message}; {self.prog} --help lists the options")


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = _Parser(
        "serving/explorer.py",
        description="Explore in the browser what a served model makes of a history: its interests, what feeds each and what each finds.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model-base-path",
        type=Path,
        action="append",
        required=True,
        metavar="FOLDER",
        help="folder of a model, with version folders in it; repeatable: further models are there to compare",
    )
    parser.add_argument(
        "--model-name", action="append", default=[], metavar="NAME", help="what the server calls it (default: the folder's name)"
    )
    parser.add_argument("--server", metavar="URL", help="REST address of a server that serves these models (default: start one here)")
    parser.add_argument("--versions", type=int, default=2, metavar="N", help="newest versions of each model (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)")
    parser.add_argument("--port", type=int, default=PORT, help="port of the page; 0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--allow-images",
        nargs="?",
        const="auto",
        metavar="COLUMN",
        help="let the browser load pictures from the addresses in this text column of the catalogue (default: image, image_url, ..); "
        "without the option none is loaded from anywhere",
    )
    parser.add_argument("--verbose", action="store_true", help="log every request")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program until it is stopped; returns the exit code."""
    quiet_libraries()
    return run_program(lambda: _run(build_parser().parse_args(arguments)))


def _run(options: argparse.Namespace) -> int:
    models = models_of(options)
    _check(options)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if options.verbose:
        logging.root.setLevel(logging.DEBUG)
    else:
        logging.getLogger("tfmi.serving").setLevel(logging.WARNING)
    with _stop_signals() as stopping, serving(options, models) as address:
        print(f"Interest explorer: {address}", flush=True)
        if options.host not in ("127.0.0.1", "::1", "localhost"):
            print(f"WARNING: {options.host} can be reached from other machines, and the explorer knows no authentication.", flush=True)
        print("Open it in a browser. Ctrl-C stops.", flush=True)
        while not stopping.wait(_WAIT_SECONDS):
            pass
        print("stopped", flush=True)
    return 0


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; afterwards they do what they did before."""
    stopping = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in _STOP_SIGNALS}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def serving(options: argparse.Namespace, models: Sequence[ModelFolder]) -> Iterator[str]:
    """Serve the page, and the models unless another server does; gives the page's address."""
    from tfmi.explorer.api import ExplorerApi
    from tfmi.explorer.versions import Versions
    from tfmi.serving.http_server import HttpLimits, RestServer
    from tfmi.serving.local_server import LocalServer

    with contextlib.ExitStack() as running:
        address = options.server
        versions = Versions(models, address or "", newest=options.versions, pictures=options.allow_images)
        limits = HttpLimits(request_bytes=_REQUEST_BYTES)
        known_as = LOOPBACK_NAMES if options.host in ("127.0.0.1", "::1", "localhost") else None
        api = ExplorerApi(versions, pictures=options.allow_images is not None)
        # Bound first, so that a taken port is found before a model is loaded.
        page = RestServer(api, options.host, options.port, limits, port_flag="--port", known_as=known_as)
        running.callback(page.stop, _GRACE_SECONDS)
        for model in models:
            versions.open(versions.folders(model)[0]).describe()  # whatever cannot be read is said before anything starts
        if address is None:
            print("Loading the models ...", flush=True)
            local = LocalServer({model.name: model.base for model in models}, rest_port=0, grpc_port=0, num_versions=options.versions)
            versions.address = running.enter_context(local).rest_address
        page.start()
        host = f"[{options.host}]" if ":" in options.host else options.host
        yield f"http://{host}:{page.port}/"


def models_of(options: argparse.Namespace) -> list[ModelFolder]:
    """The models by the options, each with at least one version folder."""
    from tfmi.explorer.versions import ModelFolder
    from tfmi.export.publishing import published_versions

    if len(options.model_name) not in (0, len(options.model_base_path)):
        raise ConfigError(f"--model-name: give it once for each --model-base-path ({len(options.model_base_path)}), or not at all")
    models = []
    for place, base in enumerate(options.model_base_path):
        if not base.is_dir():
            raise ConfigError(f"--model-base-path {base}: no such folder; train and export a model first: python training/train.py")
        if not published_versions(base):
            hint = " (this is a version; give the folder that holds it)" if (base / "saved_model.pb").exists() else ""
            raise ConfigError(
                f"--model-base-path {base}: holds no version folder (1, 2, ...){hint}; export a model first: python training/train.py"
            )
        models.append(ModelFolder(options.model_name[place] if options.model_name else base.resolve().name, base))
    names = [model.name for model in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"--model-base-path: two models are called {twice!r}; name them with --model-name")
    return models


def _check(options: argparse.Namespace) -> None:
    if not 0 <= options.port <= _MAX_PORT:
        raise ConfigError(f"--port {options.port}: expected 0 to {_MAX_PORT}")
    if not 1 <= options.versions < math.inf:
        raise ConfigError(f"--versions {options.versions}: expected at least 1")
    if options.server is not None and not options.server.startswith(("http://", "https://")):
        raise ConfigError(f"--server {options.server}: expected an address such as http://127.0.0.1:8501")
