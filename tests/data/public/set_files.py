"""Tiny files in the form of each public set: twelve users who each take six of eight items, at moments that the set could have."""

from __future__ import annotations

import datetime
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

USERS, EVENTS, ITEMS = 12, 6, 8
EXPECTED_EVENTS = USERS * EVENTS


@dataclass(frozen=True)
class Made:
    """What a set's files hold beside the ``EXPECTED_EVENTS`` events.

    Attributes:
        write: Makes the files in a folder.
        year: Of the first event; None without times.
        features: Of items.
        profiles: Columns of users.
        left_out: Rows of other types, or of none.
        negatives: Events that turn an item down.
        earlier: Events of a column of earlier ones.
    """

    write: Callable[[Path], None]
    year: int | None = None
    features: frozenset[str] = frozenset()
    profiles: frozenset[str] = frozenset()
    left_out: int = 0
    negatives: int = 0
    earlier: int = 0
    extra: dict[str, object] = field(default_factory=dict)


def events() -> Iterator[tuple[int, int, int]]:
    """User, item and place, both counted from 1."""
    for user in range(1, USERS + 1):
        for place in range(EVENTS):
            yield user, 1 + (user + place) % ITEMS, place


def moment(year: int, place: int, user: int = 0) -> datetime.datetime:
    """Times that rise within each user."""
    return datetime.datetime(year, 6, 1, 10, tzinfo=datetime.UTC) + datetime.timedelta(days=place, minutes=user)


def stamp(year: int, place: int, user: int = 0) -> int:
    """The same as seconds since 1970."""
    return int(moment(year, place, user).timestamp())


def lines(rows: Iterator[str] | list[str], header: str | None = None) -> str:
    """Rows as text."""
    return "".join(f"{row}\n" for row in ([] if header is None else [header]) + list(rows))


def write_gz(path: Path, text: str) -> None:
    """A gzipped text file."""
    path.write_bytes(gzip.compress(text.encode("utf-8")))


def ml_100k(folder: Path) -> None:
    (folder / "u.data").write_text(lines(f"{u}\t{i}\t3\t{stamp(1997, p, u)}" for u, i, p in events()))
    flags = ["|".join("1" if genre == item else "0" for genre in range(19)) for item in range(1, ITEMS + 1)]
    movies = [f"{i}|Amélie {i} (1995)|01-Jan-1995||http://us.imdb.com/{i}|{flags[i - 1]}" for i in range(1, ITEMS + 1)]
    (folder / "u.item").write_bytes(lines(movies).encode("latin-1"))
    (folder / "u.user").write_text(lines(f"{u}|{20 + u}|{'MF'[u % 2]}|writer|0850{u}" for u in range(1, USERS + 1)))


def ml_dat(year: int, encoding: str, users: bool) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        inner = folder / "ml-x"
        inner.mkdir()
        (inner / "ratings.dat").write_text(lines(f"{u}::{i}::4::{stamp(year, p, u)}" for u, i, p in events()))
        movies = [f'{i}::Café "{i}" (1990)::Drama|Comedy{i}' for i in range(1, ITEMS + 1)]
        (inner / "movies.dat").write_bytes(lines(movies).encode(encoding))
        if users:
            (inner / "users.dat").write_text(lines(f"{u}::{'MF'[u % 2]}::25::{u}::55117" for u in range(1, USERS + 1)))

    return write


def ml_csv(year: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        rows = (f"{u},{i},3.5,{stamp(year, p, u)}" for u, i, p in events())
        (folder / "ratings.csv").write_text(lines(rows, "userId,movieId,rating,timestamp"))
        (folder / "movies.csv").write_text(
            lines([f'{i},"A film, {i} (1999)",Drama|Sci-Fi' for i in range(1, ITEMS + 1)], "movieId,title,genres")
        )

    return write


def retailrocket(folder: Path) -> None:
    kinds = ("view", "view", "addtocart", "view", "view", "transaction")
    rows = (f"{stamp(2015, p, u)}000,{u},{kinds[p]},{i},{u if p == 5 else ''}" for u, i, p in events())
    (folder / "events.csv").write_text(lines(rows, "timestamp,visitorid,event,itemid,transactionid"))
    for part in (1, 2):
        properties = [
            f"1435460400000,{i},{name},{value}"
            for i in range(part, ITEMS + 1, 2)
            for name, value in (("categoryid", 1000 + i % 3), ("790", "n5.000"))
        ]
        (folder / f"item_properties_part{part}.csv").write_text(lines(properties, "timestamp,itemid,property,value"))


def yoochoose(folder: Path) -> None:
    rows = (f"{u},{moment(2014, p, u):%Y-%m-%dT%H:%M:%S}.277Z,{i},{'S' if i % 2 else i}" for u, i, p in events())
    (folder / "yoochoose-clicks.dat").write_text(lines(rows))


def diginetica(folder: Path) -> None:
    rows = [f"{u};NA;{i};{1000 * (p + 1)};2016-05-09" for u, i, p in events()]
    (folder / "train-item-views.csv").write_text(lines(rows[::-1], "sessionId;userId;itemId;timeframe;eventdate"))
    (folder / "product-categories.csv").write_text(lines([f"{i};{i % 3}" for i in range(1, ITEMS + 1)], "itemId;categoryId"))


def taobao(folder: Path) -> None:
    rows = [f"{u},{i},{10 + i % 3},pv,{stamp(2017, p, u)}" for u, i, p in events()] + ["1,2,12,buy,1511600000"]
    (folder / "UserBehavior.csv").write_text(lines(rows))


def amazon_2014(folder: Path) -> None:
    rows = [
        {"reviewerID": f"A{u}", "asin": f"B00{i}", "reviewText": 'It\'s "good"', "overall": 5.0, "unixReviewTime": stamp(2013, p, u)}
        for u, i, p in events()
    ]
    write_gz(folder / "reviews_Beauty_5.json.gz", lines(map(json.dumps, rows)))


def amazon_2014_ratings(folder: Path) -> None:
    (folder / "ratings_Beauty.csv").write_text(lines(f"A{u},B00{i},4.0,{stamp(2013, p, u)}" for u, i, p in events()))


def amazon_2018(folder: Path) -> None:
    rows = [{"overall": 5.0, "reviewerID": f"A{u}", "asin": f"B00{i}", "unixReviewTime": stamp(2016, p, u)} for u, i, p in events()]
    write_gz(folder / "All_Beauty_5.json.gz", lines(map(json.dumps, rows)))
    meta = [
        {"category": ["Hair", "Oil"], "title": f"Oil {i}", "brand": "Nord", "main_cat": "Beauty", "price": "$3", "asin": f"B00{i}"}
        for i in range(1, ITEMS + 1)
    ]
    write_gz(folder / "meta_All_Beauty.json.gz", lines(map(json.dumps, [*meta, meta[0]])))  # the files repeat some items


def amazon_2023(folder: Path) -> None:
    rows = [
        {"rating": 5.0, "user_id": f"A{u}", "asin": "X", "parent_asin": f"B00{i}", "timestamp": stamp(2020, p, u) * 1000 + 7}
        for u, i, p in events()
    ]
    write_gz(folder / "All_Beauty.jsonl.gz", lines(map(json.dumps, rows)))
    meta = [
        {"main_category": "All Beauty", "title": f"Oil {i}", "store": None, "price": None, "categories": ["Hair"], "parent_asin": f"B00{i}"}
        for i in range(1, ITEMS + 1)
    ]
    write_gz(folder / "meta_All_Beauty.jsonl.gz", lines(map(json.dumps, meta)))


def otto(folder: Path) -> None:
    sessions: dict[int, list[dict[str, object]]] = {}
    for u, i, p in events():
        sessions.setdefault(u, []).append({"aid": i, "ts": stamp(2022, p, u) * 1000, "type": ("clicks", "carts", "orders")[p % 3]})
    (folder / "otto-recsys-train.jsonl").write_text(lines(json.dumps({"session": u, "events": rows}) for u, rows in sessions.items()))


def hm(folder: Path) -> None:
    rows = (f"{moment(2019, p):%Y-%m-%d},{'0' * 60}{u:04},010877501{i},0.05,2" for u, i, p in events())
    (folder / "transactions_train.csv").write_text(lines(rows, "t_dat,customer_id,article_id,price,sales_channel_id"))
    articles = [f"010877501{i},Strap top,Vest top,Black,Jersey Basic" for i in range(1, ITEMS + 1)]
    (folder / "articles.csv").write_text(lines(articles, "article_id,prod_name,product_type_name,colour_group_name,department_name"))
    customers = [
        f"{'0' * 60}{u:04},,1.0,ACTIVE,NONE,{'' if u == 1 else 30 + u}.0,52043ee2".replace(",.0,", ",,") for u in range(1, USERS + 1)
    ]
    (folder / "customers.csv").write_text(
        lines(customers, "customer_id,FN,Active,club_member_status,fashion_news_frequency,age,postal_code")
    )


def gowalla(folder: Path) -> None:
    rows = (f"{u}\t{moment(2010, p, u):%Y-%m-%dT%H:%M:%SZ}\t30.2359\t-97.7951\t{22847 + i}" for u, i, p in events())
    write_gz(folder / "loc-gowalla_totalCheckins.txt.gz", lines(rows))


def tmall(folder: Path) -> None:
    rows = [f"{u},{i},{800 + i % 3},{2000 + i % 2},26{i},08{10 + p},0" for u, i, p in events()] + ["1,2,802,2000,262,0829,3"]
    (folder / "user_log_format1.csv").write_text(lines(rows, "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type"))
    (folder / "user_info_format1.csv").write_text(
        lines([f"{u},{'' if u == 1 else u % 8},1" for u in range(1, USERS + 1)], "user_id,age_range,gender")
    )


def lastfm_1k(folder: Path) -> None:
    rows = (f'user_00000{u}\t{moment(2008, p, u):%Y-%m-%dT%H:%M:%SZ}\t\tThe "{i}\t\tA track' for u, i, p in events())
    (folder / "userid-timestamp-artid-artname-traid-traname.tsv").write_text(lines(rows))
    (folder / "userid-profile.tsv").write_text(
        lines([f"user_00000{u}\tm\t\tJapan\tAug 13, 2006" for u in range(1, USERS + 1)], "#id\tgender\tage\tcountry\tregistered")
    )


def mind_news(folder: Path) -> None:
    rows = [
        f"{n}\tU{u}\t{moment(2019, p, u):%m/%d/%Y %I:%M:%S %p}\tN{1 + u % ITEMS} N2\tN{i}-1 N{1 + i % ITEMS}-0"
        for n, (u, i, p) in enumerate(events())
    ]
    (folder / "behaviors.tsv").write_text(lines(rows))
    news = [f'N{i}\tsports\tgolf\tA "title\tAbstract\thttps://x.y\t[]\t[]' for i in range(1, ITEMS + 1)]
    (folder / "news.tsv").write_text(lines(news))


def steam(folder: Path) -> None:
    rows = [f"{i},0,0,{moment(2021, p):%Y-%m-%d},true,36.3,{u},{n}" for n, (u, i, p) in enumerate(events())]
    rows += [f"{1 + u % ITEMS},0,0,2021-06-02,false,1.0,{u},9{u}" for u in (1, 2)]
    (folder / "recommendations.csv").write_text(lines(rows, "app_id,helpful,funny,date,is_recommended,hours,user_id,review_id"))
    games = [f"{i},Game {i},2008-04-21,true,false,false,Positive,90,20,9.99,9.99,0.0,true" for i in range(1, ITEMS + 1)]
    header = "app_id,title,date_release,win,mac,linux,rating,positive_ratio,user_reviews,price_final,price_original,discount,steam_deck"
    (folder / "games.csv").write_text(lines(games, header))


def kuairec(folder: Path) -> None:
    inner = folder / "data"
    inner.mkdir()
    rows = (f"{u},{i},13838,10867,{moment(2020, p, u):%Y-%m-%d %H:%M:%S}.051,20200705,{stamp(2020, p, u)}.051,0.0" for u, i, p in events())
    (inner / "big_matrix.csv").write_text(lines(rows, "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio"))
    (inner / "item_categories.csv").write_text(lines([f'{i},"[{i}, 9]"' for i in range(1, ITEMS + 1)], "video_id,feat"))
    columns = "user_id,user_active_degree,follow_user_num_range,fans_user_num_range,friend_user_num_range,register_days_range"
    (inner / "user_features.csv").write_text(lines([f'{u},high_active,"(10,50]","[1,10)",0,730+' for u in range(1, USERS + 1)], columns))


GENRES = frozenset({"tags"})
ML_100K = frozenset(
    ["Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical"]
) | frozenset(["Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"])
MADE: dict[str, Made] = {
    "ml-100k": Made(ml_100k, 1997, ML_100K, frozenset({"gender", "occupation", "age"})),
    "ml-1m": Made(ml_dat(2001, "latin-1", True), 2001, GENRES, frozenset({"gender", "age", "occupation"})),
    "ml-10m": Made(ml_dat(2005, "utf-8", False), 2005, GENRES),
    "ml-20m": Made(ml_csv(2010), 2010, GENRES),
    "ml-25m": Made(ml_csv(2019), 2019, GENRES),
    "ml-32m": Made(ml_csv(2022), 2022, GENRES),
    "retailrocket": Made(retailrocket, 2015, frozenset({"category"})),
    "yoochoose": Made(yoochoose, 2014, frozenset()),
    "diginetica": Made(diginetica, 2016, frozenset({"category"})),
    "taobao": Made(taobao, 2017, frozenset({"category"}), left_out=1),
    "amazon-2014": Made(amazon_2014, 2013),
    "amazon-2014-ratings": Made(amazon_2014_ratings, 2013),
    "amazon-2018": Made(amazon_2018, 2016, frozenset({"category", "brand", "tags"})),
    "amazon-2023": Made(amazon_2023, 2020, frozenset({"category", "brand", "tags"})),
    "otto": Made(otto, 2022),
    "hm": Made(hm, 2019, frozenset({"category", "brand", "tags"}), frozenset({"club_member_status", "fashion_news_frequency", "age"})),
    "gowalla": Made(gowalla, 2010),
    "tmall": Made(tmall, 1900, frozenset({"category", "brand"}), frozenset({"age_range", "gender"}), left_out=1),
    "lastfm-1k": Made(lastfm_1k, 2008, frozenset(), frozenset({"gender", "country"})),
    "mind-news": Made(mind_news, 2019, frozenset({"category", "tags"}), left_out=EXPECTED_EVENTS, earlier=2 * USERS),
    "steam": Made(steam, 2021, frozenset({"category", "positive_ratio", "price_final"}), negatives=2),
    "kuairec": Made(
        kuairec,
        2020,
        frozenset({"category"}),
        frozenset({"user_active_degree", "follow_user_num_range", "fans_user_num_range", "friend_user_num_range", "register_days_range"}),
    ),
}
