"""The training benchmarks at toy sizes, and the parts that they are made of."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from benchmarks.flops import distinct_draws, interest_trend_example_flops, mind_step_flops, softmax_example_flops
from benchmarks.peer_environment import peer_python
from benchmarks.sequence_training_speed import parse_arguments, peer_setting
from benchmarks.synthetic import synthetic_sequences, synthetic_sessions, write_comirec_files
from benchmarks.training_speed import REFERENCE, rate, run_contender, shared_setting, summarize
from tests.programs import run_program
from tfmi.config import SplitConfig
from tfmi.core.errors import ConfigError, TfmiError
from tfmi.data.public.comirec import load_comirec
from tfmi.layers.sequence_encoders.transformer_encoder import TransformerEncoder
from tfmi.models.systems import load_config

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(name: str, *options: str) -> dict[str, Any]:
    with mock.patch("benchmarks.common.limit_threads"):  # which has to come before the first op of a process
        done = run_program(BENCHMARKS / name, *options)
    assert done.code == 0, done.err
    result: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    return result


@pytest.mark.slow
def test_training_speed_measures_ours_against_the_matrix_product() -> None:
    sizes = ["--users", "120", "--items", "150", "--steps", "8", "--rounds", "1", "--repeats", "1", "--matrix-size", "64"]
    result = run("training_speed.py", "--no-peer", *sizes)
    assert result["benchmark"] == "training_speed"
    assert result["setting"]["num_items"] == 150
    assert result["examples_per_second"]["tfmi"] > 0
    assert result["share_of_float32_matmul"] > 0
    assert result["targets"] == {}  # there is nobody to be compared with


@pytest.mark.slow
@pytest.mark.long
def test_step_time_by_catalogue_measures_both_optimizers() -> None:
    sizes = ["--small", "100", "--large", "300", "--users", "60", "--steps", "4", "--repeats", "1", "--peer-steps", "1"]
    result = run("step_time_by_catalogue.py", *sizes, "--peer-items", "200")
    assert set(result["milliseconds_per_step"]) == {"100", "300"}
    small, large = (result["milliseconds_per_step"][size] for size in ("100", "300"))
    assert result["large_over_small"] == pytest.approx(large / small, rel=0.01)
    assert result["keras_adam_milliseconds_per_step"]["200"] > 0
    assert len(result["targets"]) == 1


@pytest.mark.slow
def test_sequence_training_speed_measures_both_orders() -> None:
    sizes = ["--users", "30", "--items", "40", "--targets", "20", "--num-sampled", "10", "--steps", "1", "--repeats", "1"]
    result = run("sequence_training_speed.py", "--no-peer", "--lengths", "4", "--dimension", "8", *sizes)
    found = result["targets_per_processor_second"]["4"]
    assert found["prefixes"] > 0
    assert found["times_prefixes"] == pytest.approx(found["sequences"] / found["prefixes"], abs=0.02)
    assert result["targets"] == {}  # there is nobody to be compared with


def test_the_plain_peer_is_told_the_sizes_of_our_recipe() -> None:
    options = parse_arguments(["--dimension", "8", "--targets", "40", "--items", "30"])
    setting = peer_setting(4, options)
    assert setting["batch_size"] * setting["length"] == 40
    assert (setting["num_rows"], setting["dimension"], setting["feed_forward"]) == (32, 8, 32)
    encoder = TransformerEncoder.from_config(TransformerEncoder().get_config() | config_of_encoder())
    assert (encoder.norm, encoder.activation, encoder.dropout) == ("post", "gelu", setting["dropout"])
    assert (encoder.num_blocks, encoder.num_heads) == (setting["blocks"], setting["heads"])


def config_of_encoder() -> dict[str, Any]:
    """What the recipe says of its encoder."""
    described = load_config(system="sasrec").model.extractor["encoder"]
    return {name: value for name, value in described.items() if name != "name"}


def result(name: str, work: int, *seconds: float) -> dict[str, Any]:
    slower = [2 * value for value in seconds]
    return {
        "work_per_round": work,
        "seconds": slower,
        "processor_seconds": list(seconds),
        **({"tensorflow": "x"} if name == "deepmatch" else {}),
    }


def test_a_rate_is_of_the_median_round_of_all_runs() -> None:
    runs = [result("tfmi", 100, 1.0, 9.0), result("tfmi", 100, 4.0)]
    assert rate(runs, "processor_seconds") == 25.0
    assert rate(runs, "seconds") == 12.5


def test_the_summary_relates_the_contenders() -> None:
    results = {
        "tfmi": [result("tfmi", 600, 2.0)],
        "deepmatch": [result("deepmatch", 200, 2.0)],
        "float32_matmul": [result("float32_matmul", 8000, 1.0)],
    }
    summary = summarize(results, flops_per_example=4.0)
    assert summary["examples_per_second"] == {"tfmi": 150, "deepmatch": 50}
    assert summary["share_of_core"] == {"tfmi": 0.5, "deepmatch": 0.5}
    assert summary["times_deepmatch"] == summary["times_deepmatch_by_processor_time"] == 3.0
    assert summary["share_of_float32_matmul"] == summary["share_of_float32_matmul_by_processor_time"] == 0.15


def test_both_contenders_get_the_setting_of_the_reference_configuration() -> None:
    setting = shared_setting(load_config(REFERENCE), num_items=12_101)
    assert (setting["batch_size"], setting["dimension"], setting["history_length"]) == (128, 64, 20)
    assert (setting["num_interests"], setting["num_sampled"], setting["adaptive"]) == (4, 1280, True)
    for other in ("model.objective={name: full_softmax}", "model.extractor.iterations=2"):
        with pytest.raises(ConfigError, match="expected capsule_routing with 3 iterations and sampled_softmax"):
            shared_setting(load_config(REFERENCE, settings=[other]), num_items=12_101)


def test_a_contender_that_fails_says_why() -> None:
    with pytest.raises(TfmiError, match="no such contender"):
        run_contender([sys.executable, "-c", "raise SystemExit('no such contender')"], threads=1)


def test_flops_of_a_step_counted_by_hand() -> None:
    """B 1, L 2, d 3, K 1, 2 iterations, one hidden layer of 5, 1 draw from 1 item."""
    forwards = 3 * (2 * 2 * 3) + 2 * 3**3 + 2 * (2 * 3 * 3)  # two sums and an agreement; G; G and S applied
    backwards = 2 * 2 * 3 + 2 * (2 * 3 * 3)
    tower = 3 * (2 * 3 * 5 + 2 * 5 * 3)
    softmax = 3 * (2 * 2 * 3)  # the target and one negative
    setting = {"batch_size": 1, "history_length": 2, "dimension": 3, "num_interests": 1, "iterations": 2}
    counted = mind_step_flops(**setting, hidden=[5], num_items=1, num_sampled=1)
    assert counted == forwards + backwards + tower + 2 * 3 + softmax
    assert mind_step_flops(**setting, hidden=[], num_items=1, num_sampled=1) == counted - tower


def test_distinct_draws_agree_with_drawing() -> None:
    drawn = [len(set(row)) for row in np.random.default_rng(0).integers(0, 30, (4000, 20))]
    assert distinct_draws(20, 30) == pytest.approx(np.mean(drawn), rel=0.01)


def test_synthetic_sequences_have_their_shape() -> None:
    sequences = synthetic_sequences(2000, 300, np.random.default_rng(0))
    assert sequences.lengths().min() == 5
    assert sequences.lengths().mean() == pytest.approx(9, rel=0.05)
    counts = np.bincount(sequences.items, minlength=302)
    assert len(counts) == 302
    assert counts[:2].sum() == 0
    assert counts[2:32].sum() > 3 * counts[272:].sum()
    even = np.bincount(synthetic_sequences(2000, 300, np.random.default_rng(0), skewed=False).items, minlength=302)
    assert even[2:32].sum() < 1.3 * even[272:].sum()


def test_written_files_are_read_as_comirecs(tmp_path: Path) -> None:
    write_comirec_files(tmp_path, users=30, items=40, random=np.random.default_rng(1))
    dataset = load_comirec(tmp_path, SplitConfig())
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (30, 3, 3)
    assert len(dataset.catalogue.vocabulary) == 40
    assert dataset.train.in_memory().lengths().min() >= 5


def test_a_finished_peer_environment_is_used_as_it_is(tmp_path: Path) -> None:
    requirements = tmp_path / "peer_requirements.txt"
    requirements.write_text("peer==1.0\n", encoding="utf-8")
    folder = tmp_path / "environment"
    folder.mkdir()
    (folder / requirements.name).write_text("peer==1.0\n", encoding="utf-8")
    assert peer_python(folder, requirements, "3.11") == folder / "bin" / "python"


def test_a_peer_without_its_python_is_refused(tmp_path: Path) -> None:
    requirements = tmp_path / "peer_requirements.txt"
    requirements.write_text("peer==1.0\n", encoding="utf-8")
    with pytest.raises(TfmiError, match=r"the peer needs Python 2\.99.*--no-peer"):
        peer_python(tmp_path / "environment", requirements, "2.99")


@pytest.mark.slow
@pytest.mark.long
def test_session_training_speed_relates_both_objectives_to_the_matrix_product() -> None:
    sizes = ["--sessions", "60", "--items", "90", "--steps", "2", "--repeats", "1", "--matrix-size", "32", "--products", "1"]
    result = run("session_training_speed.py", *sizes, "--batch-sizes", "8", "--num-sampled", "20", "--set", "model.dimension=8")
    assert set(result["cases"]) == {"full_softmax, batch 8", "sampled_softmax, batch 8"}
    for case in result["cases"].values():
        assert case["dimension"] == 8
        assert case["processor_milliseconds_per_step"] > 0
        assert case["share_of_float32_matmul"] > 0
    full, sampled = result["cases"].values()
    assert full["useful_gflop_per_step"] >= sampled["useful_gflop_per_step"]
    assert len(result["targets"]) == 1


def test_flops_of_sessions_counted_by_hand() -> None:
    """Histories of one and three items, d 2: pairs 1 and 6."""
    tracking = np.mean([3 * 2 * 1 * 4 + 2 * 2 * 2 * 1, 3 * 2 * 3 * 4 + 2 * 2 * 2 * 6])
    enhancing = np.mean([2 * 4 + 2 * 2 * 2 * 1, 2 * 4 + 2 * 2 * 2 * 3])
    assert interest_trend_example_flops(np.array([1, 3]), 2) == 3 * (tracking + enhancing)
    assert softmax_example_flops(5, 2) == 3 * 5 * 2 * 2


def test_synthetic_sessions_have_the_shape_of_tmalls() -> None:
    lengths = synthetic_sessions(20_000, 100, np.random.default_rng(0)).lengths()
    assert (lengths.min(), lengths.max()) == (2, 40)
    assert lengths.mean() == pytest.approx(6.38, rel=0.02)
