"""What the networks give for one batch: computed once, and shared by all rows of a table."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from multibodies_jax import devices
from multibodies_jax.batch import Inputs
from multibodies_jax.evaluation import batches, protocols, set_errors
from multibodies_jax.hypotheses import hypotheses, quantize, weight_kinds
from multibodies_jax.hypotheses.quantize import Quantized
from multibodies_jax.training import inference, prior

T = TypeVar("T")

# What the random key of an example is for.
QUANTIZER, SUBSET, NOISE = 0, 1, 2


class Networks(flax.struct.PyTreeNode):
    """What is evaluated, and what measures it.

    Attributes:
      main: the network of the work directory.
      density: the prior p(X), which scores its hypotheses.
      scorer: the bodies of the metrics.
      hmr: the single-hypothesis HMR of the controls; None without it.
      read: what happens to inputs before `main` reads them (`inference.with_onnx_trunk`); None: nothing.
    """

    main: inference.Regressor
    density: prior.Prior
    scorer: set_errors.Scorer
    hmr: inference.Regressor | None = None
    read: Callable[[Inputs], Inputs] | None = flax.struct.field(pytree_node=False, default=None)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How sets are made and scored.

    Attributes:
      ns: sizes of the sets.
      protocol: what is compared with what.
      label: name of the main row.
      exchangeable: the hypotheses have no order (`models.build.Network`): the main row takes the first n of them, where
        that of ordered hypotheses quantizes them.
      reading, weights, starts, iterations: of the quantizer (`quantize.select`).
      temperature: factor on the log-prior in the weights of eq (2).
      temperatures: those of other kinds of weights, by kind; of a kind that is not there it is `temperature`.
      sharpness: what `calibration.fit` found of the clusters under a kind of weights, by kind, where something was fitted.
      curve: the errors of the quantized sets are measured at every n from 1 to this (at most M); None: at none.
    """

    ns: tuple[int, ...]
    protocol: protocols.Protocol
    label: str
    exchangeable: bool
    reading: str
    weights: str
    starts: int
    iterations: int
    temperature: float
    curve: int | None = None
    temperatures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    sharpness: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    @property
    def factor(self) -> float:
        """The factor on the log-prior in the weights under which the quantizer clusters; 0 where they do not read it."""
        return self.temperature if weight_kinds.reads_prior(self.weights) else 0.0


class Outputs:
    """Hypotheses of one batch, their errors and their quantized sets, each computed at the first use and kept.

    Whatever is not finite (a body, its log p(X), the truth, an error) raises FloatingPointError with the name of the
    example, before anything is chosen by it or averaged over it.

    Attributes:
      networks: what was run.
      settings: of the sets.
      examples: the evaluation batch as it was read.
      batch: its inputs and target on the device; split over several where these can share the examples equally.
    """

    def __init__(self, networks: Networks, settings: Settings, examples: batches.EvaluationBatch):
        self.networks, self.settings = networks, settings
        self.examples = examples
        self.batch = jax.tree.map(jnp.asarray, devices.split(examples.batch))
        self._quantized: dict[tuple[int, str, str, float], Quantized] = {}
        self._others: dict[Any, Any] = {}

    @property
    def valid(self) -> Bool[np.ndarray, "B"]:
        """False where an example is padding."""
        return np.asarray(self.batch.valid) > 0

    @property
    def shape(self) -> tuple[int, int]:
        """B and M."""
        return len(self.batch.valid), self.networks.main.num_hypotheses

    @property
    def per_device(self) -> int:
        """Examples of the batch on each of the devices that share it."""
        return self.shape[0] // devices.shares(self.batch)

    @functools.cached_property
    def hyps(self) -> hypotheses.Hypotheses:
        """The scored hypotheses (B, M) of the network."""
        its, inputs = self.networks, self.batch.inputs
        found = inference.hypothesize(its.main, its.density, inputs if its.read is None else its.read(inputs))
        return self.checked("the bodies of the network", found)

    @functools.cached_property
    def hmr(self) -> hypotheses.Hypotheses:
        """The bodies (B, 1) of the single-hypothesis HMR, not scored.

        Raises:
          ValueError: there is none.
        """
        if self.networks.hmr is None:
            raise ValueError("There is no single-hypothesis HMR: name one with config.eval.hmr.")
        return self.checked(
            "the body of the single-hypothesis HMR", inference.respond(self.networks.hmr, self.batch.inputs)
        )

    @functools.cached_property
    def truth(self) -> set_errors.Truth:
        gender = jnp.asarray(self.examples.gender)
        its, protocol = self.examples, self.settings.protocol
        found = set_errors.truth_of(self.networks.scorer, self.batch.target, gender, protocol, its.lens, its.views)
        return self.checked("the truth", found)

    @functools.cached_property
    def errors(self) -> set_errors.Measured:
        """The errors (B, M) of all hypotheses."""
        return self.measure(self.hyps)

    @functools.cached_property
    def compared_joints(self) -> Float[Array, "B M J 3"]:
        """The joints of all hypotheses that the protocol compares, metres, rooted at the pelvis."""
        return set_errors.compared_joints(self.networks.scorer, self.hyps, self.settings.protocol)

    @functools.cached_property
    def log_weights(self) -> Float[Array, "B M"]:
        """The weights under which the quantizer clusters, unnormalised, as logarithms."""
        its, settings = self.hyps, self.settings
        return weight_kinds.log_weights_of(
            settings.weights, its.log_prior, its.log_scores, jnp.float32(settings.temperature)
        )

    def measure(self, bodies: hypotheses.Hypotheses) -> set_errors.Measured:
        """The errors of other bodies (B, n) against the truth of the batch."""
        return self.checked(
            "the errors", set_errors.measure(self.networks.scorer, bodies, self.truth, self.settings.protocol)
        )

    def members(self, index: Int[Array, "B n"]) -> set_errors.Measured:
        """The errors of the hypotheses that `index` names."""
        return set_errors.members(self.errors, index)

    def first(self, n: int) -> Int[Array, "B n"]:
        """Indices of the first n hypotheses."""
        return jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32)[None], (self.shape[0], n))

    def keys(self, purpose: int) -> Array:
        """One random key (B,) per example, from its hash alone: no result depends on the batch or its order."""
        return _example_keys(self.batch.inputs.example_hash, purpose)

    def quantize(
        self, n: int, *, reading: str | None = None, weights: str | None = None, temperature: float | None = None
    ) -> Quantized:
        """`quantize.select` of the hypotheses under the settings; what is given replaces that of the settings.

        Other weights have the temperature of `settings.temperatures`, unless one is given.
        """
        settings = self.settings
        if temperature is None:
            usual = settings.temperature
            temperature = usual if weights is None else settings.temperatures.get(weights, usual)
        reading, weights = reading or settings.reading, weights or settings.weights
        if not weight_kinds.reads_prior(weights):
            temperature = 1.0  # Has no effect.
        place = (n, reading, weights, temperature)
        if place not in self._quantized:
            self._quantized[place] = quantize.select(
                self.hyps,
                n,
                self.keys(QUANTIZER),
                reading=reading,
                weights=weights,
                temperature=temperature,
                starts=settings.starts,
                iterations=settings.iterations,
            )
        return self._quantized[place]

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` gave for this batch at the first call with this key; for rows whose sets share something."""
        if key not in self._others:
            self._others[key] = make()
        return self._others[key]

    def with_hypotheses(self, hyps: hypotheses.Hypotheses, **settings: Any) -> "Outputs":
        """The same examples, with other bodies (B, M) in place of the network's, and with other settings if they are given."""
        other = Outputs(self.networks, dataclasses.replace(self.settings, **settings), self.examples)
        other.hyps = self.checked("the bodies made of the network's", hyps)
        return other

    def checked(self, what: str, values: T) -> T:
        """The same values, if those of every example that counts are finite.

        Args:
          what: the values are, for the message.
          values: a tree of arrays with leading axis B.

        Raises:
          FloatingPointError: one is not, with the name of the example and of the value.
        """
        for path, leaf in jax.tree_util.tree_leaves_with_path(values):
            numbers = np.asarray(leaf)
            bad = self.valid & ~np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1)
            if bad.any():
                raise FloatingPointError(
                    f"example {self.examples.example_id[np.argmax(bad)]}: {what} ({_named(path)}) are not finite, as of "
                    f"{bad.sum()} of the {self.valid.sum()} examples in this batch. Nothing was written. Check the "
                    "checkpoint (a weight may be NaN) and the annotations of the example."
                )
        return values

    def of_others(self) -> "Outputs":
        """The same examples, with the evidence of another one each (`batches.examples` with `others`)."""
        batch = dataclasses.replace(self.examples.batch, inputs=self.examples.others)
        return Outputs(self.networks, self.settings, dataclasses.replace(self.examples, batch=batch))


def _named(path: Any) -> str:
    """A place in a tree: names of fields and keys with dots."""
    return ".".join(str(getattr(step, "name", getattr(step, "key", step))) for step in path)


@functools.partial(jax.jit, static_argnames="purpose")
def _example_keys(example_hash: Array, purpose: int) -> Array:
    key = jax.random.key(purpose)
    return jax.vmap(lambda h: jax.random.fold_in(key, h))(example_hash)
