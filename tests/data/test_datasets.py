"""Public datasets: the counts of the real files, small files of every format, and what is said of damaged ones."""

from __future__ import annotations

import functools
import gzip
import http.server
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tfmi.config import DataConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data import loading as datasets
from tfmi.data.dataset import CategoricalFeature, InteractionDataset, MultiValuedFeature, NumericFeature, Sequences
from tfmi.data.loading import load_dataset, rejects_folder
from tfmi.data.pipeline import examples_per_epoch
from tfmi.data.public import download
from tfmi.data.public.download import fetch_movielens

SharedData = Callable[[str], Path]
SMALL_SPLIT = {"min_user_events": 1, "min_item_events": 1}
LEAVE_ONE_OUT = {**SMALL_SPLIT, "method": "leave_one_out"}


def load(name: str, path: Path | None = None, **settings: object) -> InteractionDataset:
    return load_dataset(DataConfig.model_validate({"dataset": name, "path": None if path is None else str(path), **settings}))


def ids(dataset: InteractionDataset, sequences: Sequences) -> list[list[str]]:
    return [[dataset.catalogue.vocabulary.identifier(i) for i in sequences.row(r)] for r in range(len(sequences))]


def write(folder: Path, **files: str) -> Path:
    """Write files, ``a__txt`` being ``a.txt``."""
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content, encoding="utf-8")
    return folder


class TestRealFiles:
    @pytest.mark.slow
    def test_beauty_in_comirecs_split(self, shared_data: SharedData) -> None:
        dataset = load("comirec", shared_data("beauty"))
        assert len(dataset.catalogue.vocabulary) == 12_101
        assert (len(dataset.train), len(dataset.train.in_memory().items)) == (17_890, 158_485)
        assert (len(dataset.valid), len(dataset.valid.targets.items)) == (2_236, 4_803)
        assert (len(dataset.test), len(dataset.test.targets.items)) == (2_237, 4_823)
        assert dataset.report["test"]["targets_not_in_train"] == 1
        # The files' numbering is kept: item 1, the most frequent, was item 301.
        assert dataset.catalogue.vocabulary.ids[:2] == ["301", "775"]
        history, targets = dataset.test.histories.row(0), dataset.test.targets.row(0)
        assert ((history - 1).tolist(), (targets - 1).tolist()) == ([4, 1262, 1535, 865], [3225])

    @pytest.mark.slow
    def test_beauty_has_one_of_six_categories_per_item(self, shared_data: SharedData) -> None:
        catalogue = load("comirec", shared_data("beauty")).catalogue
        category, tags = catalogue.features["category"], catalogue.features["tags"]
        assert isinstance(category, CategoricalFeature)
        assert isinstance(tags, MultiValuedFeature)
        assert len(category.vocabulary) == 6
        assert (category.values[2:] >= 2).all()
        assert len(tags.vocabulary) == 637
        assert (tags.values > 0).sum() / 12_101 == pytest.approx(3.7, abs=0.05)

    def test_video_games_in_comirecs_split(self, shared_data: SharedData) -> None:
        dataset = load("comirec", shared_data("video_games"))
        assert len(dataset.catalogue.vocabulary) == 12_111
        assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (20_202, 2_525, 2_526)
        assert (len(dataset.valid.targets.items), len(dataset.test.targets.items)) == (5_872, 5_580)
        assert dataset.catalogue.features == {}

    def test_video_games_from_its_sequences_gives_the_same_sizes(self, shared_data: SharedData) -> None:
        dataset = load("sequences", shared_data("video_games"))
        assert dataset.report["read"] == {"file": "sequences.txt", "rows": 31_013}
        assert dataset.report["events"] == 240_745
        # The given split also numbers two items that no remaining user has.
        assert len(dataset.catalogue.vocabulary) == 12_109
        assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (20_202, 2_525, 2_526)

    @pytest.mark.slow
    def test_tmall_sessions(self, shared_data: SharedData) -> None:
        dataset = load("sessions", shared_data("tmall_sessions"))
        assert dataset.report["examples_of_all_sessions"] == 351_268
        assert len(dataset.test) == 25_898
        assert len(dataset.catalogue.vocabulary) == 40_727
        assert len(dataset.train) == 65_286 - 6_528
        assert examples_per_epoch(dataset.train, 1) + len(dataset.valid) == 351_268
        assert dataset.test.histories.lengths().max() == 39
        # The share of targets that the prefix already holds, as published.
        again = [target in prefix for prefix, (target,) in zip(rows(dataset.test.histories), rows(dataset.test.targets), strict=True)]
        assert np.mean(again) == pytest.approx(0.454, abs=0.001)

    def test_movielens(self, shared_data: SharedData, tmp_path: Path) -> None:
        dataset = load("movielens", shared_data("movielens_latest_small"), cache=str(tmp_path))
        assert dataset.report["read"]["rows"] == 100_004
        assert dataset.report["read"]["rejected"] == 0
        assert dataset.report["split"] == "leave_one_out"
        assert (len(dataset.train), len(dataset.test)) == (671, 671)
        catalogue = dataset.catalogue
        forrest_gump = catalogue.vocabulary.index("356")
        assert catalogue.titles is not None
        assert catalogue.titles[forrest_gump] == "Forrest Gump (1994)"
        year, category = catalogue.features["year"], catalogue.features["category"]
        assert isinstance(year, NumericFeature)
        assert isinstance(category, CategoricalFeature)
        assert year.values[forrest_gump] == 1994
        assert category.vocabulary.identifier(int(category.values[forrest_gump])) == "Comedy"
        for row in range(len(dataset.test)):
            timestamps = dataset.test.histories.timestamps
            assert timestamps is not None
            assert dataset.test.targets.timestamps is not None
            assert timestamps[dataset.test.histories.offsets[row + 1] - 1] <= dataset.test.targets.timestamps[row]

    def test_lastfm(self, shared_data: SharedData) -> None:
        dataset = load("lastfm", shared_data("lastfm_2k"))
        assert dataset.report["read"] == {"file": "user_taggedartists.dat", "rows": 186_479, "impossible_dates_left_out": 5}
        assert dataset.report["events"] + dataset.report["events_left_out_as_rare"] == 85_011
        assert dataset.catalogue.titles is not None
        assert dataset.catalogue.titles[dataset.catalogue.vocabulary.index("289")] == "Britney Spears"
        tags = dataset.catalogue.features["tags"]
        assert isinstance(tags, MultiValuedFeature)
        assert tags.vocabulary.ids[0] == "rock"


def rows(sequences: Sequences) -> list[list[int]]:
    return [sequences.row(r).tolist() for r in range(len(sequences))]


COMIREC = {
    "comirec_train__txt": "".join(f"{user},{item},{place}\n" for user in range(2) for place, item in enumerate((3, 1, 2, 1, 4))),
    "comirec_valid__txt": "7,2,1\n7,1,0\n7,3,2\n7,4,3\n7,5,4\n",
    "comirec_test__txt": "9,1,0\n9,2,1\n9,3,2\n9,4,3\n9,1,4\n",
}


class TestComiRecFiles:
    def test_positions_decide_the_order_and_numbers_the_index(self, tmp_path: Path) -> None:
        dataset = load("comirec", write(tmp_path, **COMIREC))
        assert dataset.catalogue.vocabulary.ids == ["1", "2", "3", "4", "5"]
        assert dataset.catalogue.counts.tolist() == [0, 0, 4, 2, 2, 2, 0]
        assert ids(dataset, dataset.valid.histories) == [["1", "2", "3", "4"]]
        assert ids(dataset, dataset.valid.targets) == [["5"]]

    def test_a_map_gives_the_original_ids(self, tmp_path: Path) -> None:
        dataset = load("comirec", write(tmp_path, **COMIREC, comirec_item_map__txt="50,5\n10,1\n20,2\n40,4\n30,3\n"))
        assert dataset.catalogue.vocabulary.ids == ["10", "20", "30", "40", "50"]

    def test_attributes_give_tags_and_the_broadest_category(self, tmp_path: Path) -> None:
        # Brand 90 before the path 7 > 8; the bare path; a brand alone; no list at all.
        attributes = '{"1": [90, 7, 8], "2": [7, 9], "3": [90], "4": []}'
        catalogue = load("comirec", write(tmp_path, **COMIREC, item_attributes__json=attributes)).catalogue
        category, tags = catalogue.features["category"], catalogue.features["tags"]
        assert isinstance(category, CategoricalFeature)
        assert isinstance(tags, MultiValuedFeature)
        assert [category.vocabulary.identifier(int(v)) for v in category.values] == ["", "", "7", "7", "", "", ""]
        assert tags.vocabulary.ids == ["7", "90", "8", "9"]
        assert (tags.values > 0).sum(axis=1).tolist() == [0, 0, 3, 2, 1, 0, 0]

    @pytest.mark.parametrize(
        ("file", "content", "message"),
        [
            ("comirec_test__txt", "9,1,0\n9,2\n", r"comirec_test.txt, line 2: expected 3 fields separated by ',', got 2"),
            ("comirec_test__txt", "9,1,0\n9,x,1\n", r"comirec_test.txt, line 2: expected whole numbers, got 'x'"),
            ("comirec_test__txt", "9,1,0\n9,0,1\n", r"comirec_test.txt, line 2: items are numbered from 1, got 0"),
            ("comirec_test__txt", "", r"comirec_test.txt: the file is empty"),
            ("comirec_item_map__txt", "10,1\n20,2\n", r"expected one 'original,number' row for each of the numbers 1 to 5, got 2"),
            ("comirec_item_map__txt", "1,1\n1,2\n3,3\n4,4\n5,5\n", r"an original id stands in two rows"),
            ("item_attributes__json", "[1]", r"expected a JSON object"),
            ("item_attributes__json", "{", r"not readable as JSON"),
        ],
    )
    def test_damage_is_named(self, tmp_path: Path, file: str, content: str, message: str) -> None:
        folder = write(tmp_path, **{**COMIREC, file: content})
        with pytest.raises(DataError, match=message):
            load("comirec", folder)

    def test_a_missing_file_is_named_with_what_is_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"needs the file comirec_train.txt there; the folder holds: other.txt"):
            load("comirec", write(tmp_path, other__txt="x"))
        with pytest.raises(DataError, match="not a folder"):
            load("comirec", tmp_path / "absent")

    def test_another_split_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="'leave_one_out' cannot be had from files that are already split"):
            load("comirec", write(tmp_path, **COMIREC), split={"method": "leave_one_out"})

    @pytest.mark.parametrize("name", ["comirec", "sequences", "sessions", "lastfm", "log"])
    def test_a_path_is_needed(self, name: str) -> None:
        with pytest.raises(ConfigError, match=f"dataset '{name}' needs its files; give --data PATH"):
            load(name)


class TestSequencesFile:
    def test_ids_are_any_strings(self, tmp_path: Path) -> None:
        dataset = load("sequences", write(tmp_path, sequences__txt="Zoë ω α β γ\n2 ω β α δ\n"), split=LEAVE_ONE_OUT)
        assert ids(dataset, dataset.test.histories) == [["ω", "α", "β"], ["ω", "β", "α"]]
        assert ids(dataset, dataset.test.targets) == [["γ"], ["δ"]]

    def test_the_file_itself_may_be_given(self, tmp_path: Path) -> None:
        path = write(tmp_path, mine__txt="u a b c d\nv a b c d\n") / "mine.txt"
        assert len(load("sequences", path, split=LEAVE_ONE_OUT).test) == 2

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("u a b\n\nv a b\n", "line 2: expected 'user item item"),
            ("u a b\nv a\nu c\n", "line 3: user 'u' also stands in line 1"),
        ],
    )
    def test_damage_is_named(self, tmp_path: Path, content: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            load("sequences", write(tmp_path, sequences__txt=content))


class TestSessionFiles:
    TRAIN = "".join(f"{n} {n + 1} {n % 3}\n" for n in range(20))

    def test_the_last_sessions_validate_with_every_prefix(self, tmp_path: Path) -> None:
        dataset = load("sessions", write(tmp_path, train_sessions__txt=self.TRAIN, test_examples__txt="5 6\t7\n99\t5\n"))
        assert len(dataset.train) == 18
        assert ids(dataset, dataset.valid.histories) == [["18", "19"], ["18"], ["19", "20"], ["19"]]
        assert ids(dataset, dataset.valid.targets) == [["0"], ["19"], ["1"], ["20"]]
        assert ids(dataset, dataset.test.histories) == [["5", "6"], ["99"]]
        assert ids(dataset, dataset.test.targets) == [["7"], ["5"]]
        # 20 stands only in validation, 99 only in test: candidates all the same.
        assert {dataset.catalogue.counts[dataset.catalogue.vocabulary.index(item)] for item in ("20", "99")} == {0}
        assert dataset.catalogue.vocabulary.ids[0] in {"0", "1", "2"}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("1 2 3\n", "line 1: expected 2 fields"),
            ("1\t2\n\t3\n", "line 2: expected item numbers separated by blanks, got none"),
            ("1 two\t3\n", "line 1: expected whole numbers, got 'two'"),
            ("1\t2\n4 -3\t3\n", "line 2: expected item numbers, got -3"),
        ],
    )
    def test_damage_is_named(self, tmp_path: Path, content: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            load("sessions", write(tmp_path, train_sessions__txt=self.TRAIN, test_examples__txt=content))

    def test_another_split_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="come with a test part"):
            load("sessions", tmp_path, split={"method": "by_user"})


ARTISTS = "id\tname\turl\tpictureURL\n1\tОдин\tu\tp\n2\tTwo\tu\tp\n3\tThree\tu\tp\n"
TAGS = "tagID\ttagValue\n7\trock\n8\tjazz\n"
ASSIGNMENTS = "userID\tartistID\ttagID\tday\tmonth\tyear\n"


class TestLastFmFiles:
    def folder(self, path: Path, *assignments: str) -> Path:
        rows = "".join("\t".join(row.split()) + "\n" for row in assignments)
        return write(path, artists__dat=ARTISTS, tags__dat=TAGS, user_taggedartists__dat=ASSIGNMENTS + rows)

    def test_days_are_events_and_tags_come_from_training(self, tmp_path: Path) -> None:
        first_user = ["5 3 8 9 3 2009", "5 1 7 1 3 2009", "5 1 8 1 3 2009", "5 2 7 2 3 2009", "5 1 7 8 3 2009", "5 1 7 1 6 1956"]
        second_user = ["6 1 7 30 2 2009", "6 1 7 1 2 2009", "6 2 8 2 2 2009"]
        dataset = load("lastfm", self.folder(tmp_path, *first_user, *second_user), split=SMALL_SPLIT)
        # Two tags on one day are one event; 30 February and 1956 are no days.
        assert dataset.report["read"]["impossible_dates_left_out"] == 2
        assert ids(dataset, dataset.train.in_memory()) == [["1", "2"], ["1", "2"]]
        assert ids(dataset, dataset.test.histories) == [["1", "2", "1"]]
        assert ids(dataset, dataset.test.targets) == [["3"]]
        assert dataset.catalogue.titles == ["", "", "Один", "Two", "Three"]
        tags = dataset.catalogue.features["tags"]
        assert isinstance(tags, MultiValuedFeature)
        named = [
            {tags.vocabulary.identifier(int(v)): float(w) for v, w in zip(values, weights, strict=True) if v}
            for values, weights in zip(tags.values, tags.weights, strict=True)
        ]
        # What user 5 said of artist 1 again, on the day that validates, is not known in training.
        assert named == [{}, {}, {"rock": 2.0, "jazz": 1.0}, {"rock": 1.0, "jazz": 1.0}, {}]

    def test_damage_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"tag 9 has no name in tags\.dat"):
            load("lastfm", self.folder(tmp_path, "5 1 9 1 3 2009"))
        with pytest.raises(DataError, match=r"user_taggedartists\.dat, line 3: expected whole numbers, got 'May'"):
            load("lastfm", self.folder(tmp_path, "5 1 7 1 3 2009", "5 1 7 1 May 2009"))
        with pytest.raises(DataError, match=r"artists\.dat, line 1: expected the header"):
            load("lastfm", write(self.folder(tmp_path), artists__dat="1\tOne\tu\tp\n"))


RATINGS = "userId,movieId,rating,timestamp\n" + "".join(
    f"{user},{movie},4.0,{1000 + 10 * place + user}\n" for user in (1, 2) for place, movie in enumerate((10, 20, 30, 40))
)
MOVIES = (
    "movieId,title,genres\n"
    '10,"Ten, The (1990)",Comedy|Drama\n'
    "20,Twenty,(no genres listed)\n"
    "30,Thirty (1930) ,Film-Noir\n"
    "40,Forty (2040),Sci-Fi|Comedy\n"
)
MOVIE_TAGS = "userId,movieId,tag,timestamp\n1,10, Funny ,1\n2,10,funny,1\n1,40,leaked,1\n1,10,late,1021\n3,10,stranger,1\n"
MOVIELENS = {"ratings__csv": RATINGS, "movies__csv": MOVIES, "tags__csv": MOVIE_TAGS}


class TestMovieLensFiles:
    def test_genres_years_and_tags(self, tmp_path: Path) -> None:
        catalogue = load("movielens", write(tmp_path, **MOVIELENS), split=SMALL_SPLIT, cache=str(tmp_path)).catalogue
        assert catalogue.vocabulary.ids == ["10", "20", "30", "40"]
        assert catalogue.titles == ["", "", "Ten, The (1990)", "Twenty", "Thirty (1930)", "Forty (2040)"]
        category, tags, year = (catalogue.features[name] for name in ("category", "tags", "year"))
        assert isinstance(category, CategoricalFeature)
        assert isinstance(tags, MultiValuedFeature)
        assert isinstance(year, NumericFeature)
        assert [category.vocabulary.identifier(int(v)) for v in category.values[2:]] == ["Comedy", "", "Film-Noir", "Sci-Fi"]
        np.testing.assert_array_equal(year.values[2:], [1990, np.nan, 1930, 2040])
        # 40 is everybody's test movie, 3 rated nothing, and user 1's last training event was at 1011.
        assert set(tags.vocabulary.ids) == {"Comedy", "Drama", "Film-Noir", "Sci-Fi", "funny"}
        funny = tags.vocabulary.index("funny")
        assert tags.weights[2][tags.values[2] == funny].tolist() == [2.0]

    def test_the_file_of_tags_may_be_absent(self, tmp_path: Path) -> None:
        files = {name: text for name, text in MOVIELENS.items() if name != "tags__csv"}
        catalogue = load("movielens", write(tmp_path, **files), split=SMALL_SPLIT, cache=str(tmp_path)).catalogue
        tags = catalogue.features["tags"]
        assert isinstance(tags, MultiValuedFeature)
        assert set(tags.vocabulary.ids) == {"Comedy", "Drama", "Film-Noir", "Sci-Fi"}

    def test_files_of_another_set_are_told(self, tmp_path: Path) -> None:
        (tmp_path / "ratings.dat").write_text("1::10::5::978300760\n")
        with pytest.raises(DataError, match=r"needs the file ratings\.csv.*--dataset ml-10m or ml-1m"):
            load("movielens", tmp_path, cache=str(tmp_path / "cache"))

    def test_a_bad_row_stops_the_reading(self, tmp_path: Path) -> None:
        write(tmp_path, **{**MOVIELENS, "ratings__csv": RATINGS + "1,10,4.0,never\n"})
        with pytest.raises(DataError, match="not_a_time: 1"):
            load("movielens", tmp_path, cache=str(tmp_path / "cache"))


README = "It contains {ratings} ratings and {tags} tag applications across {movies} movies."


def make_archive(path: Path, **changes: str | None) -> str:
    """Write an archive like MovieLens' and return its URL. A member given as None is left out."""
    members: dict[str, str | None] = {
        "ratings__csv": RATINGS,
        "movies__csv": MOVIES,
        "tags__csv": MOVIE_TAGS,
        "README__txt": README.format(ratings=8, tags=5, movies=4),
        **changes,
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(f"ml-latest-small/{name.replace('__', '.')}", content)
        archive.writestr("../escaped.txt", "a member that would be written outside")
    return path.as_uri()


class TestDownload:
    def test_it_is_fetched_checked_and_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cache = tmp_path / "cache"
        url = make_archive(tmp_path / "a.zip")
        monkeypatch.setattr(datasets, "MOVIELENS_URL", url)
        dataset = load("movielens", split=SMALL_SPLIT, cache=str(cache))
        assert len(dataset.catalogue.vocabulary) == 4
        # Only what is needed was unpacked, and nothing outside; a second time needs no network.
        assert sorted(p.name for p in cache.iterdir()) == ["ml-latest-small"]
        assert not (tmp_path / "escaped.txt").exists()
        (tmp_path / "a.zip").unlink()
        assert fetch_movielens(cache, url) == cache / "ml-latest-small"

    def test_over_http(self, tmp_path: Path) -> None:
        make_archive(tmp_path / "a.zip")
        with Served(tmp_path) as address:
            folder = fetch_movielens(tmp_path / "cache", f"{address}/a.zip")
            assert (folder / "ratings.csv").read_text() == RATINGS
            with pytest.raises(DataError, match="404"):
                fetch_movielens(tmp_path / "other", f"{address}/b.zip")

    def test_without_internet_it_says_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"cannot download .*none\.zip.*Download .* unpack it, and either give its folder with --data"):
            fetch_movielens(tmp_path, (tmp_path / "none.zip").as_uri())
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"tags__csv": None}, "it has no member ml-latest-small/tags.csv"),
            ({"tags__csv": "a,b\n1,2\n"}, "tags.csv has the header 'a,b'"),
            ({"ratings__csv": RATINGS + "1,10,4.0,9\n"}, r"ratings.csv has 9 rows, but README.txt states 8"),
            ({"README__txt": "nothing"}, "README.txt does not state"),
        ],
    )
    def test_another_content_is_refused_and_leaves_nothing(self, tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
        url = make_archive(tmp_path / "a.zip", **changes)
        with pytest.raises(DataError, match=message):
            fetch_movielens(tmp_path / "cache", url)
        assert list((tmp_path / "cache").iterdir()) == []

    def test_what_is_no_archive_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.zip").write_bytes(gzip.compress(b"a login page"))
        with pytest.raises(DataError, match="not the expected archive: File is not a zip file"):
            fetch_movielens(tmp_path / "cache", (tmp_path / "a.zip").as_uri())

    def test_a_damaged_member_is_refused(self, tmp_path: Path) -> None:
        url = make_archive(tmp_path / "a.zip")
        content = bytearray((tmp_path / "a.zip").read_bytes())
        content[60:80] = bytes(20)
        (tmp_path / "a.zip").write_bytes(content)
        with pytest.raises(DataError, match="not the expected archive"):
            fetch_movielens(tmp_path / "cache", url)

    @pytest.mark.parametrize(("limit", "message"), [("MAX_ARCHIVE_BYTES", "the archive"), ("MAX_MEMBER_BYTES", "ml-latest-small/")])
    def test_too_much_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, message: str) -> None:
        monkeypatch.setattr(download, limit, 100)
        with pytest.raises(DataError, match=f"{message}.* is longer than 100 bytes"):
            fetch_movielens(tmp_path / "cache", make_archive(tmp_path / "a.zip"))
        assert list((tmp_path / "cache").iterdir()) == []


class Served:
    """Serves a folder over HTTP on a free port; as a context it gives the address."""

    def __init__(self, folder: Path) -> None:
        handler = functools.partial(QuietHandler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class TestLog:
    def test_a_users_own_files(self, tmp_path: Path) -> None:
        events = "user,item,time,country\n" + "".join(
            f"u{user},{item},2024-01-0{day}T10:00:00Z,c{user % 2}\n" for user in range(12) for day, item in enumerate("abcdef", start=1)
        )
        folder = write(tmp_path, log__csv=events, catalogue__csv="item,title,category\na,Apple,fruit\nb,Bean,\n")
        settings = {"log": {"profile_columns": ["country"]}, "split": {"min_item_events": 1}, "cache": str(tmp_path / "cache")}
        dataset = load("log", folder, **settings)
        assert dataset.report["read"]["rows"] == 72
        assert dataset.report["split"] == "by_user"
        assert dataset.catalogue.titles is not None
        assert dataset.catalogue.titles[dataset.catalogue.vocabulary.index("a")] == "Apple"
        assert dataset.profiles is not None
        assert set(dataset.profiles.features) == {"country"}
        assert all(history == ["a", "b", "c", "d"] for history in ids(dataset, dataset.test.histories))

    def test_rejects_lie_in_the_cache_by_path(self, tmp_path: Path) -> None:
        write(tmp_path, log__csv="user,item,time\n" + "u,i,1\n" * 3 + "u,i,never\n")
        config = DataConfig(dataset="log", path=str(tmp_path), cache=str(tmp_path / "cache"))
        with pytest.raises(DataError, match="not_a_time"):
            load_dataset(config)
        assert (rejects_folder(config) / "log.jsonl").is_file()
        assert rejects_folder(config) != rejects_folder(config.model_copy(update={"path": str(tmp_path / "log.csv")}))
