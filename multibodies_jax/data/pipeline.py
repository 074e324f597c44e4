"""Batches from stored examples, with grain: mixed, shuffled and endless for training; in order for evaluation.

Threads do the work; what they yield depends on the seed and the position only. Sources are random-access sequences of
records: `tfds.data_source(...)` or a list of dictionaries.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from multibodies_jax import programs
from multibodies_jax.data.augment import Example, Record

Rows = dict[str, Any]  # Stacked along a new leading axis, name by name; `batch.batch_of` makes a batch of them.
Source = Sequence[Record]

_BUFFERED_BATCHES, _MOST_THREADS = 4, 16


@runtime_checkable
class Batches(Protocol):
    """An endless iterator over batches that can be told where to continue."""

    def __next__(self) -> Rows: ...

    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...


class Concatenated(Sequence):
    """Several sources as one: shuffled together, each is read in proportion to its size."""

    def __init__(self, sources: Sequence[Source]):
        """Joins sources.

        Raises:
          ValueError: one of them is empty.
        """
        for number, source in enumerate(sources):
            _check_source(source, f"source {number} of {len(sources)} that are read as one")
        self._sources = sources
        self._ends = np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} examples, no example {index}.")
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self._sources[number][int(index) - int(self._ends[number]) + len(self._sources[number])]


def train_batches(
    sources: Sequence[Source],
    weights: Sequence[float],
    batch_size: int,
    seed: int,
    make_example: Callable[[Record, np.random.Generator], Example],
    threads: int | None = None,
    shard_index: int = 0,
    shard_count: int = 1,
    finish: Callable[[Rows], Rows] | None = None,
) -> Batches:
    """Yields training batches for ever.

    Position i of the stream always holds the same example, made with the generator of (seed, i), whatever the threads
    and shards: shard k of K takes the positions k, k + K, ..., so that the b-th batches of all shards are together the
    b-th batch of one process with K times the batch size. Every source is shuffled anew in each of its epochs, and the
    sources take turns in the proportion of the weights.

    Args:
      sources: random-access records.
      weights: share of each source in the stream, > 0; need not sum to 1.
      batch_size: examples per batch of this shard.
      seed: of the order and of all augmentation.
      make_example: record, generator -> row, for instance a partial `augment.training_example`.
      threads: reader threads; each makes whole batches. None: one per core, at most 16; 0 reads in the calling thread.
      shard_index: of this process.
      shard_count: number of processes.
      finish: what is left to do for the stacked rows of a batch, for instance `augment.finish`.

    Returns:
      An iterator with `get_state()`, a small dictionary for JSON, and `set_state(state)`, which continues there.

    Raises:
      ValueError: no or empty sources, weights that do not fit them, or a shard that does not exist.
    """
    import grain  # Late: prediction reads no dataset, and answers half a second sooner.

    if len(sources) == 0 or len(sources) != len(weights):
        raise ValueError(f"One weight per source is needed, got {len(sources)} sources and {len(weights)} weights.")
    if not all(np.isfinite(weight) and weight > 0 for weight in weights):
        raise ValueError(
            f"Mixture weights must be > 0, got {tuple(weights)}. Leave a source out instead of weighting it 0."
        )
    for number, source in enumerate(sources):
        _check_source(source, f"training source {number}")
    _check_batches(batch_size, shard_index, shard_count)
    seeds = np.random.SeedSequence(seed).generate_state(len(sources) + 1)
    # Of numbers: as a source of its own, Grain keeps statistics of each record, which take 50 us.
    streams = [
        grain.MapDataset.range(len(source)).shuffle(seed=int(source_seed)).repeat().map(source.__getitem__)
        for source, source_seed in zip(sources, seeds, strict=False)
    ]
    stream = grain.MapDataset.mix(streams, weights)
    stream = stream.map_with_index(lambda i, record: make_example(record, np.random.default_rng((int(seeds[-1]), i))))

    def batch_of(examples: Sequence[Example]) -> Rows:
        rows = collate(examples)
        return rows if finish is None else finish(rows)

    batches = stream[shard_index::shard_count].batch(batch_size, drop_remainder=True, batch_fn=batch_of)
    return iter(batches.to_iter_dataset(_read_options(threads)))


def evaluation_batches(
    source: Source,
    batch_size: int,
    make_example: Callable[[Record], Example],
    threads: int | None = None,
    max_examples: int | None = None,
    shard_index: int = 0,
    shard_count: int = 1,
) -> Iterator[Rows]:
    """Yields every example once, in order, in batches of one size.

    The last batch is filled up by repeating the last example with `valid` = 0. Shards take the batches in turns, so that
    each batch is the one that it would be without shards, and yield equally many, the last ones of padding alone.

    Args:
      source: random-access records.
      batch_size: examples per batch of this shard.
      make_example: record -> row, for instance a partial `augment.evaluation_example`.
      threads: reader threads; each makes whole batches. None: one per core, at most 16; 0 reads in the calling thread.
      max_examples: only this many from the start; None: all.
      shard_index: of this process.
      shard_count: number of processes.

    Returns:
      An iterator over the batches.

    Raises:
      ValueError: an empty source, or a shard that does not exist.
    """
    import grain  # Late, as above.

    _check_source(source, "the evaluation set")
    _check_batches(batch_size, shard_index, shard_count)
    count = len(source) if max_examples is None else min(len(source), max_examples)
    padded = -(-count // (batch_size * shard_count)) * batch_size * shard_count

    def example_at(position: int) -> Example:
        example = make_example(source[min(position, count - 1)])
        return example if position < count else example | {"valid": np.float32(0)}

    batches = grain.MapDataset.range(padded).map(example_at).batch(batch_size, batch_fn=collate)
    batches = batches[shard_index::shard_count]
    return iter(batches.to_iter_dataset(_read_options(threads)))


def collate(examples: Sequence[Example]) -> Rows:
    """Stacks rows along a new leading axis."""
    return {key: np.stack([example[key] for example in examples]) for key in examples[0]}


def _read_options(threads: int | None) -> Any:
    import grain  # Late, as above.

    if threads is None:  # More would wait for Python's interpreter, which each holds for a part of an example.
        threads = min(programs.cores(), _MOST_THREADS)
    return grain.ReadOptions(
        num_threads=threads, prefetch_buffer_size=max(_BUFFERED_BATCHES, threads) if threads else 0
    )


def _check_source(source: Source, name: str) -> None:
    if len(source) == 0:
        raise ValueError(f"{name} has no examples. Build the dataset again, or choose another split.")


def _check_batches(batch_size: int, shard_index: int, shard_count: int) -> None:
    if batch_size < 1:
        raise ValueError(f"The batch size must be at least 1, got {batch_size}.")
    if not 0 <= shard_index < shard_count:
        raise ValueError(f"Shards are numbered from 0; got shard {shard_index} of {shard_count}.")
