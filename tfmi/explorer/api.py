"""The page and its questions as a function from method, path and body to an answer; no sockets here.

GET  /, /page/<file>                    the page
GET  /api/models                        what there is to explore
GET  /api/search?model=M&q=WORDS        items, or tags
GET  /api/users?model=M&user=N          the history and profile of a sample user
GET  /api/map?model=M                   the items on the map
POST /api/explore, /api/tags, /api/reasons, /api/audience
"""

from __future__ import annotations

import json
import logging
import urllib.parse
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from pydantic import ValidationError

from tfmi.core.errors import TfmiError
from tfmi.core.text import printable, shorten
from tfmi.explorer import tags
from tfmi.explorer.items import map_points
from tfmi.explorer.retrieval import ExploreRequest, explore, user_profile
from tfmi.explorer.versions import OpenVersion, Versions
from tfmi.serving.client import ServingError
from tfmi.serving.errors import Code, RequestError, invalid
from tfmi.serving.rest import RestResponse

logger = logging.getLogger(__name__)

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
MOST_QUERY = 200
_SHOWN_CHARACTERS = 200
# What the server that is asked says becomes what this one says; whatever is missing here is a 502.
_STATUSES = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504}


class ExplorerApi:
    """Answers the page's requests.

    Args:
        versions: What there is to explore.
        pictures: Whether the page may load pictures from other servers.
    """

    def __init__(self, versions: Versions, *, pictures: bool = False) -> None:
        self._versions = versions
        self._headers = _security_headers(pictures)
        self._files = _page_files()
        self._get: dict[str, Callable[[Mapping[str, str]], Any]] = {
            "/api/models": lambda _: {"models": versions.describe(), "server": versions.address},
            "/api/search": self._search,
            "/api/users": self._user,
            "/api/map": self._map,
        }
        self._post: dict[str, Callable[[bytes], Any]] = {
            "/api/explore": self._explore,
            "/api/tags": lambda body: tags.user_tags(*self._tags(body)),
            "/api/reasons": lambda body: tags.reasons(*self._tags(body)),
            "/api/audience": self._audience,
        }

    def handle(self, method: str, path: str, body: bytes, deadline: float | None = None) -> RestResponse:
        """Answer one request. Never raises: whatever goes wrong becomes ``{"error": ...}`` with the status for it."""
        del deadline  # each question to the server that is asked has one of its own
        try:
            return self._answer(method, path, body)
        except RequestError as error:
            return self._error(error.http_status, error.message)
        except ServingError as error:
            return self._error(_STATUSES.get(error.code, 502), str(error))
        except ValidationError as error:
            return self._error(400, _first_problem(error))
        except (TfmiError, ValueError) as error:
            return self._error(400, str(error))
        except Exception as error:
            logger.exception("%s %s failed", method, shorten(printable(path), _SHOWN_CHARACTERS))
            return self._error(500, f"internal error: {type(error).__name__}")

    def _answer(self, method: str, path: str, body: bytes) -> RestResponse:
        name, _, query = path.partition("?")
        known = name in self._files or name in self._get
        if method in ("GET", "HEAD") and name in self._files:
            content, content_type = self._files[name]
            return RestResponse(200, content, content_type, self._headers)
        if method in ("GET", "HEAD") and name in self._get:
            return self._json(self._get[name](_parameters(query)))
        if method == "POST" and name in self._post:
            return self._json(self._post[name](body))
        if known or name in self._post:
            return self._error(405, f"{method} is not what {name} takes")
        return self._error(404, f"nothing here is called {shorten(printable(name), _SHOWN_CHARACTERS)}")

    def _json(self, value: Any) -> RestResponse:
        return RestResponse(200, json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace"), headers=self._headers)

    def _error(self, status: int, message: str) -> RestResponse:
        return RestResponse(status, json.dumps({"error": message}).encode("ascii"), headers=self._headers)

    # Questions

    def _search(self, parameters: Mapping[str, str]) -> Any:
        words = parameters.get("q", "")
        if len(words) > MOST_QUERY:
            raise invalid(f"q: at most {MOST_QUERY} characters are searched for")
        version = self._version(parameters)
        return {"tags": version.tags.search(words)} if version.knows_tags else {"items": version.items.search(words)}

    def _user(self, parameters: Mapping[str, str]) -> Any:
        version, number = self._version(parameters), parameters.get("user", "")
        known = version.profiles if version.knows_tags else version.sample_users
        if not number.isascii() or not number.isdigit() or len(number) > 6 or int(number) >= len(known):
            raise RequestError(Code.NOT_FOUND, f"no such user; there are {len(known)}")
        if version.knows_tags:
            profile = version.profiles[int(number)]
            return {"name": profile.name, "fields": user_profile(profile.fields)}
        name, user = version.sample_users[int(number)]
        items = [version.items.describe(item) for item in user.history]
        return {"name": name, "history": items, "timestamps": user.timestamps, "profile": user_profile(user.profile)}

    def _map(self, parameters: Mapping[str, str]) -> Any:
        found = self._version(parameters).items.map
        if found is None:
            raise RequestError(Code.NOT_FOUND, "this version has no map of its items; export it again with export.item_details: true")
        return {"places": map_points(found.places.tolist())}

    def _explore(self, body: bytes) -> Any:
        asked = ExploreRequest.model_validate_json(body)
        version = self._versions.open(asked.model)
        if version.knows_tags:
            raise invalid(f"{asked.model} is a model of users' tags: it has no items to find")
        return explore(version, asked)

    def _tags(self, body: bytes) -> tuple[OpenVersion, tags.TagsRequest]:
        asked = tags.TagsRequest.model_validate_json(body)
        version = self._versions.open(asked.model)
        if not version.knows_tags:
            raise invalid(f"{asked.model} is no model of users' tags")
        return version, asked

    def _audience(self, body: bytes) -> Any:
        version, asked = self._tags(body)
        return tags.audience(version, asked.tag)

    def _version(self, parameters: Mapping[str, str]) -> OpenVersion:
        return self._versions.open(parameters.get("model", ""))


def _security_headers(pictures: bool) -> tuple[tuple[str, str], ...]:
    sources = "img-src 'self' https: http:" if pictures else "img-src 'self'"
    policy = f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; {sources}; base-uri 'none'; form-action 'none'"
    return (
        ("Content-Security-Policy", f"{policy}; frame-ancestors 'none'"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
    )


def _page_files() -> dict[str, tuple[bytes, str]]:
    """The page's files by path: all there is to be read."""
    files: dict[str, tuple[bytes, str]] = {}
    for entry in resources.files("tfmi.explorer").joinpath("page").iterdir():
        suffix = f".{entry.name.rpartition('.')[2]}"
        if suffix in CONTENT_TYPES:
            path = "/" if entry.name == "index.html" else f"/page/{entry.name}"
            files[path] = (entry.read_bytes(), CONTENT_TYPES[suffix])
    return files


def _parameters(query: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(query, max_num_fields=10))


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else str(problem["msg"])
