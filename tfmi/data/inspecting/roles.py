"""What the columns of a log or a catalogue are likely to be, by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Names by role, the likeliest first; compared without case, separators and a leading "#".
LOG_NAMES: dict[str, tuple[str, ...]] = {
    "user": (
        *("user", "userid", "useridhash", "uid", "userkey", "username", "customer", "customerid", "custid", "visitor", "visitorid"),
        *("reviewerid", "member", "memberid", "accountid", "clientid", "buyerid", "playerid", "listenerid", "person", "personid"),
        *("userpseudoid", "email", "customeremail", "useremail"),
        *("session", "sessionid", "sid"),
    ),
    "item": (
        *("item", "itemid", "iid", "product", "productid", "sku", "article", "articleid", "parentasin", "asin", "movie", "movieid"),
        *("video", "videoid", "news", "newsid", "song", "songid", "track", "trackid", "artist", "artistid", "book", "bookid", "isbn"),
        *("appid", "gameid", "aid", "contentid", "offerid", "adid", "poi", "poiid", "locationid", "venueid", "placeid", "eventsaid"),
        *("eventsitem", "eventsitemid", "items", "history", "impressionsitem", "stockcode", "lineitemsku"),
    ),
    "time": (
        *("time", "timestamp", "timestampms", "ts", "unixtime", "unixreviewtime", "eventtime", "datetime", "createdat", "clickedat"),
        *("timems", "date", "day", "eventdate", "tdat", "reviewtime", "created", "occurredat", "eventsts", "eventstime"),
        *("eventtimestamp", "invoicedate", "orderdate", "purchasedate", "orderedat"),
    ),
    "event": (
        *("event", "eventtype", "eventname", "action", "actiontype", "behavior", "behaviour", "behaviortype", "behaviourtype", "kind"),
        *("interactiontype", "activity", "type", "eventstype"),
    ),
    "weight": ("weight", "rating", "score", "overall", "stars", "value", "count", "plays"),
}
CATALOGUE_NAMES: dict[str, tuple[str, ...]] = {
    "item": LOG_NAMES["item"],
    "title": ("title", "name", "prodname", "productname", "itemname", "movietitle", "headline"),
    "category": ("category", "categoryid", "maincategory", "maincat", "categoryname", "department", "producttypename", "genre", "catid"),
    "brand": ("brand", "brandid", "brandname", "manufacturer", "store", "seller", "sellerid", "publisher", "label"),
    "tags": ("tags", "genres", "keywords", "categories", "labels", "topics"),
}
USER_COLUMNS = LOG_NAMES["user"]
_NAMED_WITHIN = ("user", "item")


@dataclass(frozen=True)
class Guess:
    """A column that is likely to have a role.

    Attributes:
        column: Its name.
        certain: Whether no other column could as well have it.
        others: Those that could.
    """

    column: str
    certain: bool
    others: tuple[str, ...] = ()


def plain(name: str) -> str:
    """A name without case, separators and signs."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def plain_names(column: str, role: str, message: str = "") -> list[str]:
    """What a column may be called, the whole name first; of users and items also what a path into lists and objects ends in.

    Other roles' names, such as ``created`` and ``name``, say too little where they stand in an object, unless it is the event's
    ``message``: the object in which both the user and the item stand, as "value." MongoDB writes the types of values as keys,
    ``user.$oid``, which are no part of a name.
    """
    parts = [part for part in column.removeprefix(message).split(".") if not part.startswith("$")]
    last = len(parts) if role in _NAMED_WITHIN else 1
    return list(dict.fromkeys(plain(".".join(parts[first:])) for first in range(last)))


def guess_roles(columns: Sequence[str], names: Mapping[str, Sequence[str]]) -> dict[str, Guess]:
    """The likely column of each role that any column's name fits.

    Of several columns that fit one role, the one whose name stands first in ``names`` is taken, and the guess is not certain; but a column
    of users wins for certain over one of sessions, which users have too, and an exact name ("item") over any other.
    """
    guesses: dict[str, Guess] = {}
    taken: set[str] = set()
    for role, known in names.items():
        rank = {name: place for place, name in enumerate(known)}
        fitting = []
        for place, column in enumerate(columns):
            name = next((name for name in plain_names(column, role, _message(guesses)) if name in rank), None)
            if name is not None:
                fitting.append((rank[name], place, column))
        fitting.sort()
        fitting = [each for each in fitting if each[2] not in taken]
        if not fitting:
            continue
        column = fitting[0][2]
        others = [each[2] for each in fitting[1:] if not _is_session(each[2]) or _is_session(column)]
        guesses[role] = Guess(column, not others or plain(column) == role, tuple(others))
        taken.add(column)
    return guesses


def _message(guesses: Mapping[str, Guess]) -> str:
    """The path to the object that holds the user and the item, with its dot; "" where they stand in columns or in different objects."""
    outer = {guesses[role].column.rpartition(".")[0] for role in _NAMED_WITHIN if role in guesses}
    return f"{outer.pop()}." if len(outer) == 1 and outer != {""} else ""


def _is_session(column: str) -> bool:
    return plain(column) in ("session", "sessionid", "sid")
