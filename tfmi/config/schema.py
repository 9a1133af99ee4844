"""One typed, validated description of a run: YAML in, YAML out.

Built from, in rising precedence: the defaults below, the system's recipe, a YAML file, ``section.key=value`` settings. Unknown keys,
wrong types and impossible combinations raise ``ConfigError`` naming the key, what was expected and the nearest right spelling.
"""

from __future__ import annotations

import codecs
import datetime
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from tfmi.config.earlier_forms import in_current_form
from tfmi.config.yaml_text import parse_value, parse_yaml
from tfmi.core.errors import ConfigError, nearest
from tfmi.core.plugins import import_plugins
from tfmi.core.validation import as_texts, describe_value_problem

ComponentSpec = dict[str, Any]
DatasetName = Literal["embedded", "log", "prepared", "movielens", "lastfm", "sequences", "comirec", "sessions"]

# What stands in URLs, configuration files of servers and folder names alike.
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _check_name(name: str) -> str:
    if not NAME_PATTERN.fullmatch(name):
        raise ValueError("expected letters, digits, '.', '_' and '-', the first a letter or digit, because folders are named after it")
    return name


def _sorted_distinct(values: list[int]) -> list[int]:
    if len(set(values)) != len(values):
        raise ValueError("expected each number once")
    return sorted(values)


def _check_time_format(time_format: str) -> None:
    if "%" not in time_format:
        raise ValueError(f"time_format: expected strptime's directives, e.g. %Y%m%d for yyyymmdd, got {time_format!r}")
    try:
        datetime.datetime.strptime("", time_format)
    except ValueError as error:
        if "does not match" not in str(error):
            raise ValueError(f"time_format: {error}; expected strptime's directives, e.g. %Y%m%d") from None


Name = Annotated[str, pydantic.AfterValidator(_check_name)]
PositiveInteger = Annotated[int, Field(ge=1)]
NonNegativeFloat = Annotated[float, Field(ge=0)]


class Section(pydantic.BaseModel):
    """Base of every section: no unknown keys, no silent conversions, no NaN and no infinity.

    The one conversion is that of whole numbers where texts are meant: YAML reads a column called 0, or event types [0, 2], as numbers.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _numbers_as_texts(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        fields = cls.model_fields
        return {name: as_texts(value, fields[name].annotation) if name in fields else value for name, value in values.items()}


class EmbeddedImpressionsConfig(Section):
    """What users of the embedded shop are shown, and how far clicks tell what they like."""

    page_size: int = Field(4, ge=1, description="items shown per visit")
    missed: float = Field(0.5, ge=0, lt=1, description="share of the liked items shown that get no click, less at a page's top")
    false_clicks: float = Field(0.02, ge=0, lt=1, description="share of the other items shown that get one")


class EmbeddedConfig(Section):
    """The embedded generator (``dataset: embedded``)."""

    users: int = Field(4000, ge=10, description="users to generate")
    items: int = Field(2000, ge=10, description="items to generate")
    mean_events: float = Field(24.0, gt=1, description="mean events per user")
    max_interests: int = Field(6, ge=1, description="a user has 1 to this many interests")
    seed: int = Field(7, ge=0, description="seed of the generator; independent of the training seed")
    impressions: EmbeddedImpressionsConfig = Field(EmbeddedImpressionsConfig(), description="for models that rank")


class LogColumns(Section):
    """The user's column names of the log file."""

    user: str = "user"
    item: str = "item"
    time: str | None = Field("time", description="None: the file's order is the time order")
    event: str | None = Field(None, description="event type; None if there is none")
    weight: str | None = Field(None, description="event weight, a number")
    offset: str | None = Field(None, description="a number in time_unit that is added to the time, such as the moment within a session")
    history: str | None = Field(
        None, description="a list of what the user did before the log, such as history[]; of each user the earliest row's counts"
    )
    part: str | None = Field(None, description="which part an event belongs to: train, valid or test; a split of your own")

    @pydantic.model_validator(mode="after")
    def _check_offset(self) -> Self:
        if self.offset is not None and self.time is None:
            raise ValueError("offset is added to a time; name its column in time")
        return self


class VectorFile(Section):
    """Vectors of items that another program made, such as embeddings of texts or pictures."""

    vectors: str = Field(description="an .npy file: a table of numbers, a row for each id")
    ids: str = Field(description="a text file: an item's id a line, in the order of the rows")


class CatalogueColumns(Section):
    """The user's column names of the catalogue file. A column set to None is not read.

    With ``property`` and ``value`` the catalogue is in long format: a row holds one property of an item, and the other columns name
    properties.
    """

    item: str = "item"
    title: str | None = "title"
    category: str | None = "category"
    brand: str | None = "brand"
    tags: str | None = Field("tags", description="multi-valued: separated by tag_separator, each 'tag' or 'tag:weight'")
    numbers: list[str] = Field(default_factory=list, description="columns with a number each")
    vectors: list[str] = Field(
        default_factory=list, description="columns with a list of floats each, such as an embedding of the item's text"
    )
    vector_files: dict[str, VectorFile] = Field(
        default_factory=dict, description="by a feature's name: {vectors: FILE.npy, ids: FILE.txt}, for vectors that no column holds"
    )
    property: str | None = Field(None, description="long format: the column with a property's name")
    value: str | None = Field(None, description="long format: the column with its value")
    time: str | None = Field(None, description="long format: the column with the value's time; the last value counts")

    @pydantic.model_validator(mode="after")
    def _check_long_format(self) -> Self:
        if (self.property is None) != (self.value is None) or (self.time is not None and self.property is None):
            raise ValueError("the long format needs both property and value; time belongs to it")
        return self


class FileConfig(Section):
    """How the files of one table are written."""

    format: Literal["auto", "csv", "tsv", "jsonl", "json", "parquet"] = Field("auto", description="auto: by the name's suffix")
    header: bool = Field(True, description="CSV and TSV: the first line names the columns; off: they are called 1, 2, 3 ...")
    column_names: list[str] | None = Field(None, min_length=1, description="names instead of numbers, with header: false")
    delimiter: str | None = Field(
        None,
        min_length=1,
        description="one or more characters; None: a comma in .csv, a tab in .tsv, for .txt and .dat by the first line",
    )
    quoting: bool = Field(True, description="CSV and TSV: double quotes enclose cells; off: they are ordinary characters")
    encoding: str = Field("utf-8", description="of text files, such as latin-1, cp1252, utf-16")
    decimal: Literal[".", ","] = Field(".", description="',': numbers are written 1.234,5")

    @pydantic.model_validator(mode="after")
    def _check_file(self) -> Self:
        if self.delimiter is not None and set(self.delimiter) & set('"\n\r'):
            raise ValueError("delimiter cannot be a double quote or a line end")
        if self.column_names is not None:
            if self.header:
                raise ValueError("column_names names the columns of files without a header; set header: false, too")
            if len(set(self.column_names)) != len(self.column_names):
                raise ValueError("column_names must name each column once")
        try:
            known = codecs.lookup(self.encoding)
            "".encode(self.encoding)
        except (LookupError, ValueError):
            raise ValueError(f"encoding: expected the name of a text encoding, such as latin-1 or utf-16, got {self.encoding!r}") from None
        if known.name in {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"}:
            raise ValueError(f"encoding: {self.encoding!r} is not an encoding of text files; expected e.g. latin-1 or utf-16")
        return self


class LogConfig(FileConfig):
    """A user's own files (``dataset: log``): a log, and optionally a catalogue and user profiles. The first keys are of the log."""

    name: Name = Field("log", description="what reports and run folders call the data")
    file: str | None = Field(
        None, description="the log's name, or a pattern, in the folder data.path or one below; None: log.* and the like"
    )
    valid_path: str | None = Field(None, description="a file of validation events; the log itself then holds training events")
    test_path: str | None = Field(None, description="a file of test events; the log itself then holds training events")
    columns: LogColumns = LogColumns()
    catalogue_path: str | None = Field(
        None, description="a file, also one beside the log; default: the file named catalogue.* beside the log, if any"
    )
    catalogue_columns: CatalogueColumns = CatalogueColumns()
    catalogue_file: FileConfig | None = Field(
        None, description="how the catalogue is written; None: with the log's delimiter, quoting, encoding and decimal"
    )
    repeated_items: Literal["reject", "first"] = Field(
        "reject",
        description="further rows of an item in the catalogue; first: the first counts, as where the catalogue is the log itself",
    )
    optional_files: bool = Field(False, description="a catalogue or users file that is named but not there is done without")
    users_path: str | None = Field(
        None, description="a file, here or beside the log; default: the file named users.* beside the log, if any"
    )
    users_file: FileConfig | None = Field(None, description="how the users file is written; None: as for the catalogue")
    user_column: str = Field("user", description="the user id's column in the users file")
    profile_columns: list[str] = Field(default_factory=list, description="profile columns, in the users file or in the log itself")
    profile_numbers: list[str] = Field(default_factory=list, description="profile columns with a number each, in the same file")
    time_unit: Literal["seconds", "milliseconds", "microseconds", "nanoseconds"] = Field(
        "seconds", description="unit of times that are numbers; never guessed"
    )
    time_format: str | None = Field(
        None, description="strptime's format of times that are neither numbers nor ISO 8601, such as '%d/%m/%Y %H:%M' or '%Y%m%d'"
    )
    list_separator: str | None = Field(None, min_length=1, description="between the elements of a text cell read as column[]; None: blanks")
    element_fields: list[str] | None = Field(
        None, min_length=2, description="what the parts of a text element are called: column[].item, column[].label for N1-1"
    )
    element_separator: str = Field("-", min_length=1, description="between the parts of an element; the last ones are cut off first")
    tag_separator: str = Field("|", min_length=1)
    event_types: list[str] | None = Field(None, description="keep only these event types; None keeps all")
    event_weights: dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None, min_length=1, description="weight of an event by its type, 1 if it is not named; with columns.weight it multiplies that"
    )
    negative_events: list[str] | None = Field(
        None, min_length=1, description="events of these types say that a user turned the item down: no positives, but explicit negatives"
    )
    unknown_items: Literal["keep", "reject"] = Field("keep", description="events of items that the catalogue lacks")
    min_join_share: float = Field(
        0.05, ge=0, le=1, description="stop when a smaller share of the events is of items in the catalogue, or of users in the users file"
    )
    duplicates: Literal["drop", "keep"] = Field("drop", description="rows equal in user, item, time and event type")
    max_reject_share: float = Field(0.05, ge=0, le=1, description="stop when more than this share of rows is rejected")
    streaming: bool = Field(False, description="for logs larger than memory: one pass into sharded TFRecord files")
    shards: int = Field(16, ge=1, description="TFRecord shards when streaming")

    @pydantic.model_validator(mode="after")
    def _check_combinations(self) -> LogConfig:
        if self.time_format is not None:
            _check_time_format(self.time_format)
        if self.columns.part is not None and (self.valid_path or self.test_path):
            raise ValueError("columns.part and valid_path or test_path are two ways to say a split; give one of them")
        if self.valid_path and not self.test_path:
            raise ValueError("valid_path needs test_path, a file of test events")
        for name in ("event_types", "event_weights", "negative_events"):
            if getattr(self, name) is not None and self.columns.event is None:
                raise ValueError(f"{name} needs columns.event, the column that holds the event type")
        both = sorted(set(self.event_weights or ()) & set(self.negative_events or ()))
        if both:
            raise ValueError(f"negative_events: {', '.join(both)} cannot have a weight in event_weights, too")
        profile = [*self.profile_columns, *self.profile_numbers]
        if len(set(profile)) != len(profile):
            raise ValueError("profile_columns and profile_numbers must name each column once")
        return self

    def log_file(self) -> FileConfig:
        """How the log is written."""
        return FileConfig(**{name: getattr(self, name) for name in FileConfig.model_fields})

    def side_file(self, own: FileConfig | None) -> FileConfig:
        """How a table beside the log is written: by its own section, or as the log as far as a delimiter and the like go."""
        shared = ("delimiter", "quoting", "encoding", "decimal")
        return own or FileConfig(**{name: getattr(self, name) for name in shared})

    @property
    def has_weights(self) -> bool:
        """Whether events have weights, by a column or by their type."""
        return self.columns.weight is not None or self.event_weights is not None

    def kept_types(self) -> list[str] | None:
        """The event types that are read, negative ones included; None: all."""
        return None if self.event_types is None else [*self.event_types, *(self.negative_events or ())]


class SplitConfig(Section):
    """How events become training sequences and test users. ``auto`` is each dataset's customary split."""

    method: Literal["auto", "by_user", "leave_one_out", "by_time", "session_prefixes", "given"] = "auto"
    seed: int = Field(1230, ge=0)
    valid_share: float = Field(0.1, gt=0, lt=1)
    test_share: float = Field(0.1, gt=0, lt=1)
    history_share: float = Field(0.8, gt=0, lt=1, description="by_user: the first int(share x length) events are history")
    min_user_events: int = Field(5, ge=1, description="k-core: users with fewer events are left out")
    min_item_events: int = Field(5, ge=1, description="k-core: items with fewer events are left out")
    max_user_events: int | None = Field(None, ge=2, description="of a user with more events, the newest so many count; None: all")
    cold_items: Literal["auto", "candidates", "left_out"] = Field(
        "auto",
        description="catalogue items with fewer than min_item_events are candidates by their features; auto: in a log",
    )
    iterate_core: bool = Field(False, description="repeat the two filters until nothing changes; off: once, items first (ComiRec)")

    @pydantic.model_validator(mode="after")
    def _leave_something_to_train_on(self) -> SplitConfig:
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share and test_share must add up to less than 1, so that something is left to train on")
        return self


class ImpressionsConfig(Section):
    """What was shown and what was clicked, for models that rank. Data of clicks alone needs ``sampled_negatives``."""

    positive_weight: float | None = Field(
        None, gt=0, description="events of at least this weight are clicks, others are not; None: 4 for movielens, unused for a log"
    )
    positive_events: list[str] | None = Field(None, min_length=1, description="log: events of these types are clicks, others are not")
    sampled_negatives: int = Field(0, ge=0, description="per click, so many items drawn that the user has not clicked up to then")
    seed: int = Field(1230, ge=0, description="of what is drawn")

    @pydantic.model_validator(mode="after")
    def _check_combinations(self) -> ImpressionsConfig:
        if self.positive_weight is not None and self.positive_events is not None:
            raise ValueError("positive_weight and positive_events are two ways to tell clicks; give one of them")
        return self


TagColumn = Literal["tags", "category", "brand"]


class TaggingConfig(Section):
    """Labelled items with tags, and what is known of users, for models of kind user_tags."""

    tasks: dict[Name, float] | None = Field(
        None,
        min_length=1,
        description="the least weight of an event of each task; None: watched and liked (4) for movielens, one task that every event is of "
        "for the others",
    )
    label_space: Literal["all", "conditional"] = Field(
        "all", description="all: every task is labelled on every row; conditional: only where the task before it has happened"
    )
    negatives: int = Field(4, ge=0, description="per event, so many items that the user has not acted on by then")
    negative_sampling: Literal["auto", "uniform", "popular", "tags"] = Field(
        "auto",
        description="from what had occurred by then: uniform, any item; popular, an item as often as it occurred; tags, as many tags, each "
        "uniformly, as the event's item has; "
        "auto: tags where users give them, else uniform",
    )
    tag_columns: list[TagColumn] = Field(
        default_factory=lambda: list[TagColumn](["tags"]), min_length=1, description="columns of the catalogue whose values are tags"
    )
    max_item_tags: int = Field(10, ge=1, description="N: the heaviest tags of an item")
    max_values: int = Field(30, ge=1, description="values of a multi-valued field of users, the heaviest or newest")
    min_tag_count: int = Field(5, ge=1, description="a tag of fewer training events is unknown")
    min_value_count: int = Field(5, ge=1, description="a field's value that occurs less often in training is unknown")
    value_weights: Literal["log", "count", "one"] = Field(
        "log", description="how a value counts that occurred n times: log2(1 + n), n or 1"
    )
    seed: int = Field(1230, ge=0, description="of the negatives")


class DataConfig(Section):
    """Where examples come from."""

    dataset: DatasetName = "embedded"
    path: str | None = Field(None, description="file or folder of the data (--data)")
    embedded: EmbeddedConfig = EmbeddedConfig()
    log: LogConfig = LogConfig()
    split: SplitConfig = SplitConfig()
    impressions: ImpressionsConfig = ImpressionsConfig()
    tagging: TaggingConfig = TaggingConfig()
    history_length: int = Field(20, ge=1, description="L: items of history a model sees, the newest ones")
    min_history: int = Field(1, ge=1, description="a training target has at least this many items before it")
    examples: Literal["prefixes", "random_position", "sequences"] = Field(
        "prefixes",
        description="prefixes: every position once per epoch; random_position: random user, random position (ComiRec); sequences: whole "
        "histories, a target after each of their items, in one pass (batch_size counts histories)",
    )
    cache: str | None = Field(None, description="folder for downloads and TFRecord shards; default: data_cache")

    @property
    def name(self) -> str:
        """What reports and run folders call the data."""
        return self.log.name if self.dataset == "log" else self.dataset

    def holds_sessions(self) -> bool:
        """Whether prefixes of sessions are tested on their next item, so that results are reported as for sessions."""
        return self.dataset == "sessions" or self.split.method == "session_prefixes"


class ItemTowerConfig(Section):
    """From an item's features to its vector."""

    features: list[str] | Literal["auto"] = Field(
        "auto", description="catalogue features beside the id; auto: every one the catalogue has; []: the id alone"
    )
    use_id: bool = True
    combine: Literal["mean", "sum", "concat"] = Field("mean", description="mean is MIND's; concat needs hidden layers or projects")
    hidden: list[PositiveInteger] = Field(default_factory=list, description="widths of ReLU layers before the last, linear one")
    dropout: float = Field(0.0, ge=0, lt=1)
    id_dropout: float = Field(
        0.0, ge=0, lt=1, description="how often training scores an item without its id, so that features alone give vectors to new items"
    )
    initializer_deviation: float | None = Field(None, gt=0, description="deviation of embeddings; None: 1/sqrt(dimension)")
    propagation: ComponentSpec | None = Field(None, description="message passing among items, such as {name: hypergraph, layers: 3}")


class UserTowerConfig(Section):
    """From each interest, joined with the profile, to a user vector. No hidden layers and no profile: the interest itself."""

    profile_features: list[str] | Literal["auto"] = "auto"
    join_profile: bool = Field(True, description="join the profile to every interest; off: only the extractor reads it")
    profile_dimension: int = Field(8, ge=1, description="width of each profile embedding")
    hidden: list[PositiveInteger] = Field(default_factory=list, description="widths of ReLU layers applied to every interest")
    project: bool = Field(False, description="end in a linear layer to the model's dimension even without hidden layers or profile")
    final_activation: Literal["linear", "relu"] = "linear"
    dropout: float = Field(0.0, ge=0, lt=1)


class RetrieverConfig(Section):
    """What finds the candidates that a ranker ranks, for an export: a system that is trained on the clicks of the same split."""

    system: Name = Field("comirec_sa", description="a named system that retrieves")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="its configuration where it differs from the named one, such as {training: {max_epochs: 5}}"
    )
    run: str | None = Field(None, description="folder of a finished run on the same clicks, RANKER_RUN/retriever, to use instead")

    @pydantic.model_validator(mode="after")
    def _check_combinations(self) -> RetrieverConfig:
        if self.run is not None and self.settings:
            raise ValueError("settings do nothing to a run that is finished")
        return self


class RankerConfig(Section):
    """``kind: ranking``: a backbone that predicts clicks, and coarse heads beside it; ``coarse_features: []`` is the bare backbone."""

    backbone: ComponentSpec = Field(default_factory=lambda: {"name": "din"})
    dimension: int = Field(16, ge=1, description="d: width of every field's embedding")
    features: list[str] | Literal["auto"] = Field("auto", description="catalogue features beside the id; auto: every one; []: the id alone")
    use_id: bool = True
    use_popularity: bool = Field(True, description="how often an item was shown in training is a field, too")
    profile_features: list[str] | Literal["auto"] = "auto"
    initializer_deviation: float = Field(0.05, gt=0, description="deviation of embeddings at the start")
    hidden: list[PositiveInteger] = Field(default_factory=lambda: [256, 128], description="widths of the fine head's network")
    coarse_features: list[str] | Literal["auto"] = Field("auto", description="catalogue features of one value per item; auto: every one")
    coarse_hidden: list[PositiveInteger] = Field(default_factory=lambda: [128, 64], description="widths of each coarse head's network")
    soft: bool = Field(True, description="rows that were not clicked count less in coarse losses; off: like clicked ones")
    partial_interest: float = Field(0.2, ge=0, le=1, description="how much a row counts that was not clicked, but others of its kind were")
    no_interest: float = Field(0.1, ge=0, le=1, description="how much a row counts of whose kind nothing was clicked")
    fine_weight: float = Field(1.0, ge=0, description="how much the fine head's own loss counts")
    coarse_weight: float = Field(0.2, ge=0, description="how much each coarse loss counts")
    detach: bool = Field(False, description="coarse heads leave embeddings and shared layers alone")
    fusion: bool = Field(True, description="predict by all heads together; off: by the fine head")
    fusion_bias: bool = False
    shuffle_coarse: bool = Field(False, description="for an ablation: coarse labels permuted among the rows of each user")
    retriever: RetrieverConfig = Field(RetrieverConfig(), description="the stage before it in an export")


class UserTagsConfig(Section):
    """``kind: user_tags``: two towers for users and tags; see ``tfmi.models.user_tags.user_tag_model.UserTagModel``."""

    encoder: ComponentSpec = Field(default_factory=lambda: {"name": "attention_fusion"}, description="from a user's fields to vectors")
    task_loss: ComponentSpec = Field(default_factory=lambda: {"name": "independent"})
    dimension: int = Field(16, ge=1, description="d: width of the vectors that users and tags are scored with")
    field_dimension: int | None = Field(None, ge=1, description="width of the embeddings of fields; None: dimension")
    fields: list[str] | Literal["auto"] = Field("auto", description="fields of users; auto: every one that the data has")
    share_field_tables: bool = Field(True, description="fields whose values are tags have one table of embeddings")
    share_tag_table: bool = Field(False, description="and the tags that are scored have it, too")
    tag_hidden: list[PositiveInteger] | None = Field(
        None, description="widths of ReLU layers from a tag's embedding to its vector, before a linear one; None: no network"
    )
    tag_networks: Literal["per_task", "shared"] = Field("per_task", description="with tag_hidden: a network for each task, or one for all")
    tag_dimension: int | None = Field(None, ge=1, description="width of the embeddings of tags, with tag_hidden; None: dimension")
    tag_reduce: Literal["sum", "mean"] = Field("sum", description="an item is the sum or the mean of its tags")
    scoring: Literal["dot", "expert_cosine", "cosine"] = "dot"
    initial_scale: float = Field(8.0, gt=0, description="what cosines are multiplied with, at the start")
    global_bias: bool = Field(False, description="logits of dot have an offset, too; those of cosines always have")
    per_tag_labels: bool = Field(False, description="an ablation: every tag of an item has its label")
    tag_dropout_to_one: float = Field(0.0, ge=0, le=1, description="probability in training that an item is only one of its tags")
    initializer_deviation: float = Field(0.05, gt=0, description="deviation of embeddings at the start")


class VotesConfig(Section):
    """What a heuristic model adds to a trained one's scores when it answers and, if that is to be learned, while it learns."""

    # A power below the cosine's 0.5 is better on all data that it was tried on (docs/results.md).
    heuristic: ComponentSpec = Field(
        default_factory=lambda: {"name": "item_knn", "power": 0.25}, description="the heuristic model, as in kind: heuristic"
    )
    weight: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="of its best candidate, on the scale of scores; auto: what is best on the validation users once training has ended, 0 "
        "included",
    )
    exponent: float = Field(
        0.5, gt=0, description="of a candidate's share of the best one's score; below 1 those far behind are heard, too"
    )
    candidates: int = Field(1000, ge=1, description="how many of its best candidates get votes")
    learned: bool = Field(False, description="train with the votes; their weights for each user are learned from weight and exponent on")
    answer_weight: float = Field(
        1.0, gt=0, description="learned: multiplies the votes when the model answers; choose it on validation users"
    )
    own_offset: float = Field(0.0, description="learned: added to a repetition's scores when the model answers; likewise")


class ModelConfig(Section):
    """A system: see docs/architecture.md. ``kind: interests`` retrieves and trains by gradient, ``heuristic`` counts; ``ranking`` ranks
    candidates, and of this section reads ``ranker`` alone; ``user_tags`` says which tags a user likes, and reads ``user_tags`` alone."""

    kind: Literal["interests", "heuristic", "ranking", "user_tags"] = "interests"
    dimension: int = Field(64, ge=1, description="d: width of item and interest vectors")
    encoder: ComponentSpec | None = Field(
        None, description="reads the history before the extractor, such as {name: transformer}: interests of states that know more"
    )
    extractor: ComponentSpec = Field(default_factory=lambda: {"name": "capsule_routing"})
    readout: ComponentSpec = Field(default_factory=lambda: {"name": "label_aware"})
    # Enough negatives to be the full softmax on catalogues of up to this size, and a bounded cost on larger ones.
    objective: ComponentSpec = Field(default_factory=lambda: {"name": "sampled_softmax", "num_sampled": 16384})
    weighting: ComponentSpec = Field(default_factory=lambda: {"name": "cross_entropy"}, description="how the loss weighs examples")
    repetition: ComponentSpec | None = Field(None, description="scores the items of a user's own history apart; None: like all others")
    votes: VotesConfig | None = Field(
        None, description="what counts add to the scores of the items that stand beside the user's when the model answers; None: nothing"
    )
    regularizers: dict[str, ComponentSpec] = Field(default_factory=dict, description="auxiliary losses by a name of your choice")
    heuristic: ComponentSpec | None = Field(None, description="kind: heuristic only")
    ranker: RankerConfig = RankerConfig()
    user_tags: UserTagsConfig = UserTagsConfig()
    item_tower: ItemTowerConfig = ItemTowerConfig()
    user_tower: UserTowerConfig = UserTowerConfig()
    normalize: bool = Field(True, description="L2-normalise user and item vectors")
    temperature: float = Field(0.07, gt=0, description="training scores are divided by it")
    negatives_weight: NonNegativeFloat = Field(
        1.0, description="weight of the loss by which a target stands above what its user has turned down (data.log.negative_events)"
    )
    history_dropout: float = Field(0.2, ge=0, lt=1, description="dropout on the history's item vectors in training")


class OptimizerConfig(Section):
    """Adam: row-sparse for embedding tables, plain for dense weights."""

    learning_rate: float = Field(2e-3, gt=0)
    schedule: Literal["constant", "cosine", "exponential"] = "constant"
    warmup_steps: int = Field(0, ge=0, description="linear warm-up from 0")
    decay_steps: int | None = Field(
        None, ge=1, description="cosine: steps to reach the floor, None: max_steps; exponential: steps per decay_rate"
    )
    decay_rate: float = Field(0.1, gt=0, le=1, description="exponential: factor per decay_steps; cosine: the floor as a share")
    clip_norm: float | None = Field(None, gt=0, description="global-norm clipping")
    weight_decay: float = Field(
        0.0, ge=0, description="per step, the share of learning_rate by which matrices and the rows of tables that it touches shrink"
    )
    beta_1: float = Field(0.9, ge=0, lt=1)
    beta_2: float = Field(0.999, ge=0, lt=1)
    epsilon: float = Field(1e-7, gt=0)


class TrainingConfig(Section):
    """The loop."""

    batch_size: int = Field(512, ge=1)
    max_epochs: int = Field(30, ge=1, description="an epoch is one pass over the training examples")
    max_steps: int | None = Field(None, ge=1, description="stop after this many steps, whatever max_epochs says")
    evaluate_every: int | None = Field(None, ge=1, description="steps between validations; None: once per epoch")
    monitor: str = Field(
        "auto",
        description="validation metric for early stopping and for the best weights; auto: recall@50 or, where that could not tell models "
        "apart, what can; auc of models of tags and rankers",
    )
    patience: int = Field(3, ge=1, description="validations without improvement before stopping")
    warm_start: str | None = Field(
        None, description="folder of an earlier run on older data: its weights and optimizer are where this one starts (--warm-start)"
    )
    mixed_precision: bool = Field(False, description="mixed_bfloat16 on CPU, mixed_float16 on GPU")
    steps_per_execution: int = Field(8, ge=1, description="steps per call of the compiled loop; Ctrl-C waits for them")
    tensorboard: bool = Field(True, description="scalars of every validation and, of retrievers, item vectors for the projector")
    strategy: Literal["none", "mirrored", "multi_worker", "parameter_server"] | None = Field(
        None,
        description="devices and processes that train together (--strategy); null: as TF_CONFIG says, parameter_server or multi_worker, "
        "and this process alone without it",
    )
    replicas: int | None = Field(None, ge=1, description="mirrored: copies of the model in this process; null: one for each GPU")


class EvaluationConfig(Section):
    """Metrics over the full catalogue."""

    cutoffs: Annotated[list[PositiveInteger], pydantic.AfterValidator(_sorted_distinct)] = Field(
        default_factory=lambda: [10, 20, 50], min_length=1, description="the Ns of metrics @N; kept sorted"
    )
    batch_size: int = Field(256, ge=1)
    exclude_history: bool | Literal["auto"] = Field(
        "auto", description="leave out what the user already has; auto: as the export, or where the data hardly repeats items"
    )
    ndcg_ideal: Literal["targets", "hits"] = Field("targets", description="targets: standard; hits: ComiRec's published code")
    best_test_epoch: bool = Field(
        False,
        description="retrievers: look at the test users at every validation too, and report the best value of each metric; chooses nothing",
    )
    report: bool = Field(True, description="write report.html into the run folder, with the simple baselines measured on the same data")
    report_users: int = Field(3, ge=0, le=20, description="worst and best users that the report shows with their histories; 0: nobody's")

    @property
    def leaves_out_history(self) -> bool:
        """``exclude_history``; False where nobody has decided it."""
        return self.exclude_history is True


# The parameters of each kind of index.
INDEX_PARAMETERS: dict[str, tuple[str, ...]] = {
    "exact": (),
    "scann": ("leaves", "leaves_to_search", "reordering_candidates", "dimensions_per_block", "training_iterations", "target_recall"),
    "partitioned": ("partitions", "partitions_to_search", "training_iterations", "target_recall"),
}


class IndexConfig(Section):
    """Nearest-neighbour search inside the SavedModel. None lets tfmi choose from the catalogue's size."""

    kind: Literal["scann", "exact", "partitioned", "auto"] = Field(
        "scann",
        description="partitioned: approximate with stock TensorFlow ops; auto: exact where that is fast enough, else scann, or partitioned "
        "for a stock server (export.server)",
    )
    partitions: int | None = Field(None, ge=1, description="partitioned: of the catalogue")
    partitions_to_search: int | None = Field(None, ge=1, description="partitioned: for each interest")
    leaves: int | None = Field(None, ge=1)
    leaves_to_search: int | None = Field(None, ge=1)
    reordering_candidates: int | None = Field(None, ge=1)
    dimensions_per_block: int | None = Field(None, ge=1)
    training_iterations: int = Field(12, ge=1)
    target_recall: float | None = Field(
        0.97,
        gt=0,
        le=1,
        description="approximate kinds: the export searches further until so much of the exact answers is found on held-out queries, "
        "without touching what is set by hand, and warns if it is not; None: takes what comes",
    )
    integration: Literal["competitive", "allotted"] = Field(
        "competitive",
        description="how interests share an answer: competitive, by score; allotted, by how much each is used (interest_usage learns it)",
    )
    quota_exponent: float = Field(
        1.0, ge=0, description="allotted: places in proportion to usage ** quota_exponent; 0: equally many, large: the most used interest"
    )

    @pydantic.model_validator(mode="after")
    def _check_combinations(self) -> IndexConfig:
        if self.integration == "competitive" and self.quota_exponent != 1.0:
            raise ValueError("quota_exponent does nothing without integration: allotted")
        return self

    def search_parameters(self) -> dict[str, int | None]:
        """The parameters of the index itself."""
        return self.model_dump(exclude={"kind", "target_recall", "integration", "quota_exponent"})

    def allotment(self) -> float | None:
        """The exponent of the quotas, or None where interests compete."""
        return self.quota_exponent if self.integration == "allotted" else None


# Unless it is given, how many times the usual number of results a request may ask for.
RESULTS_BOUND_FACTOR = 10


class ExportConfig(Section):
    """The servable."""

    name: Name | None = Field(None, description="model name under savedmodels/; default: the system's name")
    server: Literal["scann", "stock"] = Field(
        "scann", description="what will serve: a server with ScaNN's ops, or a stock one, which has TensorFlow's own only"
    )
    num_results: int = Field(50, ge=1, description="n: items per answer")
    exclusion_width: int = Field(50, ge=1, description="E: width that clients pad 'exclude' to")
    exclude_history: bool | Literal["auto"] = Field(
        "auto", description="never answer with an item of the request's own history; auto: as the evaluation, or where data hardly repeats"
    )
    audience_size: int = Field(100, ge=0, description="user-tag models: users per answer of tag_users; 0: no user ids in the export")
    filterable: list[str] | None = Field(
        None,
        description="catalogue columns that requests to recommend_filtered may filter by, e.g. [category, brand, tags, price]; []: by "
        "lists of items only; None: there is no such signature",
    )
    most_results: int | None = Field(
        None, ge=1, description="with filterable, results that a request may ask for; None: ten times num_results"
    )
    diversity_pool: int = Field(4, ge=1, description="with diversity, the best diversity_pool x num_results candidates compete")
    ranking_pool: int = Field(4, ge=1, description="with a ranker, it ranks the best ranking_pool x num_results that retrieval finds")
    retrieval_weight: NonNegativeFloat | Literal["auto"] = Field(
        "auto", description="with a ranker, its logit plus this times retrieval's score orders the pool; auto: what is best on validation"
    )
    warmup_batch_sizes: list[PositiveInteger] = Field(default_factory=lambda: [1, 8], min_length=1)
    explain_interests: bool = Field(
        True, description="a signature that says which items of a history each interest comes from, and what each finds by itself"
    )
    item_details: bool = Field(
        True, description="titles, features and a map of the items, or the tags, beside the model, for people and programs"
    )
    state: bool = Field(
        True, description="the trained weights beside the model, as large as the item table, from which training/reindex.py makes versions"
    )
    sample_users: int = Field(
        200,
        ge=0,
        description="held-out users' histories, or of tag models users' fields, beside the model, for comparisons and trials; 0: none",
    )

    @pydantic.model_validator(mode="after")
    def _check_results(self) -> ExportConfig:
        if self.most_results is not None:
            if self.filterable is None:
                raise ValueError("most_results does nothing without filterable; set it to [] for requests without column filters")
            if self.most_results < self.num_results:
                raise ValueError(f"most_results: {self.most_results} is less than num_results ({self.num_results})")
        return self

    def results_bound(self) -> int:
        """The number of results that a request may ask for."""
        return self.most_results or RESULTS_BOUND_FACTOR * self.num_results

    @property
    def leaves_out_history(self) -> bool:
        """``exclude_history``; False where nobody has decided it."""
        return self.exclude_history is True


def check_server(kind: str, server: str) -> None:
    """Raise ``ConfigError`` if an index of this kind needs ops that the server lacks."""
    if kind == "scann" and server == "stock":
        raise ConfigError(
            "export.server: a stock server has none of ScaNN's operations; take another index, e.g. --index partitioned, or --index auto, "
            "which chooses exact or partitioned by the catalogue's size"
        )


class RunConfig(Section):
    """Everything that a run needs to be repeated."""

    system: Name = "mind"
    plugins: list[str] = Field(
        default_factory=list,
        description="modules with components of your own, such as my_package.layers; imported before anything else is read",
    )
    seed: int = Field(1, ge=0)
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    index: IndexConfig = IndexConfig()
    export: ExportConfig = ExportConfig()

    @pydantic.model_validator(mode="after")
    def _check_combinations(self) -> RunConfig:
        check_server(self.index.kind, self.export.server)
        return self


def read_config_file(path: str | Path) -> dict[str, Any]:
    """Read a YAML file into a nested mapping; raises ``ConfigError`` if it is missing or holds something else."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error}") from None
    values = parse_yaml(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected 'section: ...' mappings at the top, got a {type(values).__name__}")
    return values


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Turn ``["model.dimension=32", ...]`` into a nested mapping; values are YAML, see ``parse_value``."""
    result: dict[str, Any] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {setting!r}: expected section.key=value, e.g. model.dimension=32")
        parsed = parse_value(value, f"--set {key}")
        for part in reversed(key.strip().split(".")):
            parsed = {part: parsed}
        result = merge(result, parsed)
    return result


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Deep-merge two mappings. A component given with another ``name`` replaces the base's, parameters and all."""
    # A section that happens to have a name, as export has, is no component.
    sections = RunConfig.model_fields.keys() & base.keys() & override.keys()
    result = _merge_components(base, {key: value for key, value in override.items() if key not in sections})
    for key in sections:
        both = isinstance(base[key], Mapping) and isinstance(override[key], Mapping)
        result[key] = _merge_components(base[key], override[key]) if both else override[key]
    return result


def _merge_components(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in override.items():
        current = result.get(key)
        if isinstance(current, Mapping) and isinstance(value, Mapping):
            replaces = "name" in current and value.get("name", current["name"]) != current["name"]
            result[key] = dict(value) if replaces else _merge_components(current, value)
        else:
            result[key] = value
    return result


def validate_config(values: Mapping[str, Any]) -> RunConfig:
    """Check a nested mapping against ``RunConfig``, and import its plugins.

    Raises:
        ConfigError: One line per problem.
    """
    try:
        config = RunConfig.model_validate(in_current_form(values))
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(_describe(problem) for problem in error.errors())) from None
    import_plugins(config.plugins)
    return config


_UNION_BRANCH = re.compile(r"[\[(]|^(str|int|float|bool|list)$")


def _describe(problem: Any) -> str:
    # Union branches ("features.list[str]", "features.literal['auto']") are pydantic's, not the user's keys; a user's may look like them.
    unknown_key = problem["type"] == "extra_forbidden"
    parts = [str(part) for part in problem["loc"]]
    given = len(parts) - 1 if unknown_key else len(parts)
    location = [part for part in parts[:given] if not _UNION_BRANCH.search(part)] + parts[given:]
    path = ".".join(location)
    if unknown_key:
        section: Any = RunConfig
        for part in location[:-1]:
            section = section.model_fields[part].annotation
        known = list(section.model_fields)
        return f"{path}: unknown key{nearest(location[-1], known)}; this section takes: {', '.join(known)}"
    return f"{path}: {describe_value_problem(problem)}" if path else describe_value_problem(problem)
