"""Shards written with Apache Beam: on as many machines as its runner has, all of which see the archive and `data_dir`."""

from collections.abc import Callable, Sequence
from typing import Any

from tfds_builders.building import BuildError


def run(function: Callable[[Any], Any], items: Sequence[Any], runner: str, options: str = "") -> None:
    """Calls an importable function with every item, in any order and place; what it returns is lost.

    Args:
      function: what it does twice (a runner may try again) must be as if done once.
      items: picklable.
      runner: one of Beam's: "DirectRunner" (this machine), "FlinkRunner", "SparkRunner", "DataflowRunner", ...
      options: of the runner, "name=value,name=value".

    Raises:
      BuildError: Beam is not installed, or the runner gave up.
    """
    try:
        import apache_beam as beam  # pyright: ignore[reportMissingImports]
        from apache_beam.options.pipeline_options import PipelineOptions  # pyright: ignore[reportMissingImports]
    except ImportError as e:
        raise BuildError(
            "--beam_runner needs Apache Beam, whose dependencies exclude some of this project's: "
            "`pip install --require-hashes -r requirements-beam.txt` in an environment of its own."
        ) from e
    flags = [f"--{option}" for option in options.split(",") if option]
    try:
        with beam.Pipeline(options=PipelineOptions([f"--runner={runner}", *flags])) as pipeline:
            _ = pipeline | beam.Create(list(items)) | beam.Reshuffle() | beam.Map(function)
    except Exception as e:  # Of the function, in the runner's wrapping, or of the runner.
        raise BuildError(f"Beam's {runner} did not finish: {e}") from e
