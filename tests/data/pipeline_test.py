"""Batches: what they hold depends on the seed and the position only."""

import functools
import json
import subprocess
import sys

import grain
import numpy as np
import pytest

from multibodies_jax import programs
from multibodies_jax.data import pipeline


def _source(count, first=0):
    """Examples with consecutive numbers. Of a handful of them Grain takes milliseconds to draw one: dozens are faster."""
    return [{"number": first + i} for i in range(count)]


def _row(record, rng):
    return {"number": np.int32(record["number"]), "draw": rng.random(), "valid": np.float32(1)}


def _stream(sources, batches, batch_size=8, seed=0, weights=None, **options):
    weights = weights or (1.0,) * len(sources)
    iterator = pipeline.train_batches(sources, weights, batch_size, seed, _row, **options)
    rows = [next(iterator) for _ in range(batches)]
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def test_each_epoch_holds_every_example_once_in_another_order():
    numbers = _stream([_source(24)], 9)["number"].reshape(3, 24)
    np.testing.assert_array_equal(np.sort(numbers), np.tile(np.arange(24), (3, 1)))
    assert len({tuple(epoch) for epoch in numbers}) == 3
    assert not np.array_equal(numbers[0], np.arange(24))


def test_batches_go_on_over_the_end_of_an_epoch():
    numbers = _stream([_source(5)], 5, batch_size=8)["number"].ravel()
    np.testing.assert_array_equal(np.bincount(numbers), [8] * 5)


@pytest.mark.slow
def test_every_position_draws_anew():
    draws = _stream([_source(100)], 50)["draw"]
    assert len(np.unique(draws)) == 400 and 0.45 < draws.mean() < 0.55


@pytest.mark.slow
@pytest.mark.parametrize("weights", [(0.7, 0.3), (7.0, 3.0), (1.0, 2.0, 3.0)])
def test_sources_are_mixed_by_weight_whatever_their_sizes(weights):
    sources = [_source(50 + 20 * i, first=1000 * i) for i in range(len(weights))]
    numbers = _stream(sources, 100, weights=weights)["number"].ravel()
    shares = np.bincount(numbers // 1000) / 800
    np.testing.assert_allclose(shares, np.array(weights) / sum(weights), atol=0.01)
    # Also locally: no source waits for another to end.
    np.testing.assert_allclose(np.bincount(numbers[:80] // 1000) / 80, np.array(weights) / sum(weights), atol=0.05)


@pytest.mark.slow
def test_sources_read_as_one_share_by_size():
    joined = pipeline.Concatenated([_source(30), _source(1, 1000), _source(9, 2000)])
    assert [joined[i]["number"] for i in (0, 29, 30, 31, 39)] == [0, 29, 1000, 2000, 2008] and len(joined) == 40
    numbers = _stream([joined, _source(60, 3000)], 100, weights=(0.4, 0.6))["number"].ravel()
    np.testing.assert_array_equal(np.bincount(numbers // 1000), [240, 8, 72, 480])


def test_sources_read_as_one_end_somewhere_and_hold_something():
    with pytest.raises(IndexError, match="There are 3 examples, no example 3"):
        pipeline.Concatenated([_source(3)])[3]
    with pytest.raises(ValueError, match="source 1 of 2 that are read as one has no examples"):
        pipeline.Concatenated([_source(3), []])


@pytest.mark.slow
def test_threads_change_nothing_and_seeds_change_everything():
    sources = [_source(11), _source(7, first=100)]
    alone = _stream(sources, 10, threads=0)
    for threads in (1, 3):
        both = _stream(sources, 10, threads=threads)
        assert all(np.array_equal(both[key], alone[key]) for key in alone)
    other = _stream(sources, 10, seed=1)
    assert not np.array_equal(other["number"], alone["number"]) and not np.any(other["draw"] == alone["draw"])


def test_batches_are_finished_as_a_whole():
    def double(rows):
        return {key: 2 * value for key, value in rows.items()}

    plain, doubled = (_stream([_source(24)], 3, finish=finish) for finish in (None, double))
    np.testing.assert_array_equal(doubled["number"], 2 * plain["number"])


@pytest.mark.parametrize("at", [0, 1, 7])
def test_a_restored_state_continues_exactly_there(at):
    make = functools.partial(pipeline.train_batches, [_source(11), _source(7, 100)], (0.6, 0.4), 4, 3, _row)
    iterator = make()
    for _ in range(at):
        next(iterator)
    state = json.dumps(iterator.get_state())
    assert len(state) < 200
    expected = [next(iterator) for _ in range(6)]
    restored = make()
    next(restored)
    restored.set_state(json.loads(state))
    for batch in expected:
        again = next(restored)
        assert all(np.array_equal(batch[key], again[key]) for key in batch)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_shards_together_are_the_batches_of_one_process(count):
    sources = [_source(13), _source(7, first=100)]
    whole = _stream(sources, 6, batch_size=4 * count)
    shards = [_stream(sources, 6, batch_size=4, shard_index=k, shard_count=count) for k in range(count)]
    for key in whole:
        joined = np.stack([shard[key] for shard in shards], axis=-1).reshape(6, 4 * count)
        np.testing.assert_array_equal(joined, whole[key])


def _evaluation_row(record):
    return {"number": np.int32(record["number"]), "valid": np.float32(1), "example_id": f"id {record['number']}"}


@pytest.mark.parametrize(
    "count, max_examples, expected", [(10, None, 10), (8, None, 8), (1, None, 1), (10, 5, 5), (10, 99, 10)]
)
def test_evaluation_is_in_order_once_and_padded(count, max_examples, expected):
    batches = list(pipeline.evaluation_batches(_source(count), 4, _evaluation_row, max_examples=max_examples))
    assert len(batches) == -(-expected // 4) and all(batch["number"].shape == (4,) for batch in batches)
    numbers, valid = (np.concatenate([batch[key] for batch in batches]) for key in ("number", "valid"))
    np.testing.assert_array_equal(numbers[:expected], np.arange(expected))
    np.testing.assert_array_equal(valid, np.arange(len(valid)) < expected)
    assert np.all(numbers[expected:] == expected - 1)
    assert batches[0]["example_id"][0] == "id 0"


def test_evaluation_shards_take_the_batches_of_one_process_in_turns_and_are_equally_long():
    shards = [
        list(pipeline.evaluation_batches(_source(7), 2, _evaluation_row, shard_index=k, shard_count=3))
        for k in range(3)
    ]
    assert {len(batches) for batches in shards} == {2}
    found = [batch for turn in zip(*shards, strict=True) for batch in turn]
    whole = list(pipeline.evaluation_batches(_source(7), 2, _evaluation_row))
    for batch, its in zip(found, whole, strict=False):
        np.testing.assert_array_equal(batch["number"], its["number"])
        np.testing.assert_array_equal(batch["valid"], its["valid"])
    assert len(whole) == 4 and not any(batch["valid"].any() for batch in found[4:])


@pytest.mark.parametrize(
    "sources, weights, options, message",
    [
        ([], (), {}, "One weight per source"),
        ([_source(3)], (1.0, 2.0), {}, "got 1 sources and 2 weights"),
        ([_source(3), []], (1.0, 1.0), {}, "training source 1 has no examples"),
        ([_source(3)], (0.0,), {}, "weights must be > 0"),
        ([_source(3)], (float("nan"),), {}, "weights must be > 0"),
        ([_source(3)], (1.0,), {"shard_index": 2, "shard_count": 2}, "shard 2 of 2"),
        ([_source(3)], (1.0,), {"batch_size": 0}, "batch size must be at least 1"),
    ],
)
def test_bad_mixtures_are_refused(sources, weights, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline.train_batches(sources, weights, **{"batch_size": 2, "seed": 0, "make_example": _row} | options)


def test_an_empty_evaluation_set_is_refused():
    with pytest.raises(ValueError, match="the evaluation set has no examples"):
        pipeline.evaluation_batches([], 2, _evaluation_row)


def test_an_unusable_record_stops_the_stream_with_its_own_error():
    def refuse(record, rng):
        raise ValueError(f"record {record['number']} is broken")

    iterator = pipeline.train_batches([_source(1)], (1.0,), 2, 0, refuse)
    with pytest.raises(ValueError, match="record 0 is broken"):
        next(iterator)


@pytest.mark.slow
def test_command_line_flags_need_not_be_parsed():
    code = (
        "from multibodies_jax.data import pipeline\n"
        "row = lambda record, rng: {'x': record['x']}\n"
        "print(next(pipeline.train_batches([[{'x': 5}]], (1.0,), 2, 0, row))['x'].tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stdout == "[5, 5]\n"


@pytest.mark.parametrize(("cores", "threads"), [(3, 3), (64, 16)])
def test_as_many_threads_read_as_the_process_has_cores_up_to_a_limit(cores, threads, monkeypatch):
    asked, options = [], grain.ReadOptions
    monkeypatch.setattr(programs, "cores", lambda: cores)
    monkeypatch.setattr(grain, "ReadOptions", lambda **given: asked.append(given["num_threads"]) or options(**given))
    _stream([_source(24)], 1)
    list(pipeline.evaluation_batches(_source(24), 8, lambda record: _row(record, np.random.default_rng(0))))
    assert asked == [threads, threads]
