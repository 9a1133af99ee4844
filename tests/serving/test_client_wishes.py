"""What the client sends to ``recommend_filtered`` and ``rank``: widths that meet in a server's batch, and nothing that restricts less."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from tfmi.serving.client import Client, ServingError, Signature, TensorInfo

STRINGS, NUMBERS = TensorInfo("DT_STRING", (-1, -1)), TensorInfo("DT_FLOAT", (-1,))
HISTORY = {"history": TensorInfo("DT_STRING", (-1, 3))}
WISHES = {"exclude": TensorInfo("DT_STRING", (-1, 2)), "diversity": NUMBERS}
FILTERS = {
    "num_results": TensorInfo("DT_INT32", (-1,)),
    **dict.fromkeys(("allow_items", "allow_brand_name", "deny_brand_name"), STRINGS),
    **dict.fromkeys(("min_price", "max_price"), NUMBERS),
}


class Recording:
    """A transport that keeps the last request and answers with nothing found."""

    def __init__(self, filtered: bool = True) -> None:
        self.signatures = {"serving_default": HISTORY, "recommend": {**HISTORY, **WISHES}, "rank": {**HISTORY, "candidates": STRINGS}}
        if filtered:
            self.signatures["recommend_filtered"] = {**HISTORY, **WISHES, **FILTERS}
        self.asked = ""
        self.sent: dict[str, Any] = {}

    def predict(self, signature_name: str, signature: Signature, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.asked, self.sent = signature_name, dict(inputs)
        rows = len(inputs["history"])
        scores = [[0.0] * len(row) for row in inputs.get("candidates", [])]
        return {"item_ids": [[]] * rows, "scores": scores or [[]] * rows, "interests": [[]] * rows}

    def metadata(self) -> dict[str, Any]:
        def info(each: TensorInfo) -> dict[str, Any]:
            return {"dtype": each.dtype, "tensor_shape": {"dim": [{"size": str(size)} for size in each.shape]}}

        signatures = {
            name: {
                "inputs": {key: info(each) for key, each in inputs.items()},
                "outputs": {},
                "method_name": "tensorflow/serving/predict",
            }
            for name, inputs in self.signatures.items()
        }
        return {"model_spec": {"name": "m", "version": "1"}, "metadata": {"signature_def": {"signature_def": signatures}}}

    def status(self) -> dict[str, Any]:
        return {}


def connected(filtered: bool = True) -> tuple[Client, Recording]:
    client = Client()
    client._transport = recording = Recording(filtered)
    return client, recording


def test_filters_become_inputs_of_every_row() -> None:
    client, recording = connected()
    client.recommend(
        [["a"], ["b"]],
        num_results=7,
        filters=[{"brand name": "x", "price": {"min": 2}}, {"brand name": {"deny": ["y", "z"]}}],
        allow_items=[None, list("abcdefghi")],
    )
    assert recording.asked == "recommend_filtered"
    assert recording.sent.keys() == {**HISTORY, **WISHES, **FILTERS}.keys()
    assert recording.sent["num_results"] == [7, 7]
    assert recording.sent["allow_brand_name"] == [["x"] + [""] * 7, [""] * 8]
    assert recording.sent["deny_brand_name"] == [[""] * 8, ["y", "z"] + [""] * 6]
    assert recording.sent["allow_items"] == [[""] * 16, list("abcdefghi") + [""] * 7]
    assert recording.sent["min_price"][0] == 2.0
    assert all(math.isnan(value) for value in (recording.sent["min_price"][1], *recording.sent["max_price"]))


def test_without_wishes_old_signatures_are_asked() -> None:
    client, recording = connected()
    client.recommend([["a"]])
    assert recording.asked == "serving_default"
    client.recommend([["a"]], exclude=[["b"]])
    assert (recording.asked, recording.sent.keys()) == ("recommend", {**HISTORY, **WISHES}.keys())


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"filters": {"colour": "red"}}, "no column 'colour' to filter by; it has: brand_name, price"),
        ({"filters": {"price": {"allow": ["3"]}}}, "column 'price' takes max and min, got 'allow'"),
        ({"filters": {"price": {"max": "3"}}}, "max takes a number, got '3'"),
        ({"filters": {"brand name": []}}, "allow is empty; leave it out"),
        ({"filters": {"price": {"max": True}}}, "max takes a number, got True"),
        ({"filters": {"brand name": None}}, "allow takes a list of strings, got None"),
        ({"filters": {"brand name": 3}}, "allow takes a list of strings, got 3"),
        ({"filters": "x"}, "filters: expected columns and what is asked of each, .* got 'x'"),
        ({"filters": ["x"]}, "filters: expected columns and what is asked of each, .* got 'x'"),
        ({"filters": {3: ["x"]}}, "filters: expected columns and what is asked of each"),
        ({"filters": {"brand name": [3]}}, r"allow takes a list of strings, got \[3\]"),
        ({"filters": [{}, {}]}, r"filters: expected one for all, or one per history \(1\), got 2"),
        ({"allow_items": [[]]}, "allow_items: a list is empty; None restricts nothing"),
        ({"num_results": -1}, r"num_results: expected whole numbers of at least 0, below 2\^31, got -1"),
        ({"num_results": 2**40}, "num_results: expected whole numbers"),
        ({"num_results": 2.5}, "num_results: expected whole numbers"),
        ({"num_results": "3"}, "num_results: expected whole numbers"),
        ({"num_results": True}, "num_results: expected whole numbers"),
    ],
)
def test_wishes_that_cannot_be_sent_are_refused(wishes: dict[str, Any], message: str) -> None:
    client, recording = connected()
    with pytest.raises(ValueError, match=message):
        client.recommend([["a"]], **wishes)
    assert not recording.asked


def test_a_model_without_filters_says_so() -> None:
    client, _ = connected(filtered=False)
    with pytest.raises(ServingError, match="no signature 'recommend_filtered'"):
        client.recommend([["a"]], num_results=3)
    assert client.metadata().filter_columns == {}


def test_candidates_are_padded_to_few_widths() -> None:
    client, recording = connected()
    widths = set()
    for count in range(1, 65):
        (ranked,) = client.rank([["a"]], [[f"i{number}" for number in range(count)]])
        assert [found.item for found in ranked] == [f"i{number}" for number in range(count)]
        widths.add(len(recording.sent["candidates"][0]))
    assert widths == {8, 16, 32, 64}
