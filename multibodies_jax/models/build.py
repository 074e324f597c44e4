"""The trainable models, trunks and heads of ours, by name; a model is built of a trunk, a head and the mean body.

A model that is not in this package (a baseline, say) describes itself in a `Network` and registers it in `NETWORKS`; so
does a head in `HEADS` and a trunk in `TRUNKS`. Nothing else has to change for `config.model` to choose it by name.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float, Key

from multibodies_jax import exact
from multibodies_jax.batch import Batch, Inputs
from multibodies_jax.body import smpl
from multibodies_jax.hypotheses.hypotheses import Hypotheses
from multibodies_jax.models import folding, hmr, hmr_preactivated, scores
from multibodies_jax.models.keypoint_trunk import KeypointTrunk
from multibodies_jax.models.resnet import ResNet50, ResNetSmall
from multibodies_jax.registry import Registry

Variables = Mapping[str, Any]  # "params" and, where a trunk has batch norms, "batch_stats".
MakeInputs = Callable[[Batch], Inputs]


@runtime_checkable
class HeadBuilder(Protocol):
    """Makes the flax module of M hypotheses; the fields are those of `hmr.HMR`."""

    def __call__(self, *, trunk: nn.Module, settings: hmr.HeadSettings, frozen: str) -> nn.Module: ...


@runtime_checkable
class NetworkBuilder(Protocol):
    """Makes the flax module of a model that is not ours: the fields of `HeadBuilder`, and two.

    `own` is the part of the config that only this model has (`Network.config_part`); `body` is the experiment's. A module
    that predicts a mesh beside the state sows it into "extras" as `hypotheses.VERTICES`, (B, M, V, 3).
    """

    def __call__(
        self, *, trunk: nn.Module, settings: hmr.HeadSettings, frozen: str, own: Any, body: smpl.SmplModel | None
    ) -> nn.Module: ...


@runtime_checkable
class Expand(Protocol):
    """Makes the variables of M hypotheses from those of a trained single-hypothesis `HMR` (appendix D)."""

    def __call__(
        self, variables: Variables, num_hypotheses: int, noise: float, key: Key[Array, ""]
    ) -> dict[str, Any]: ...


@runtime_checkable
class StatesAndExtraTerms(Protocol):
    """What a model trains beside the total loss (eq 8).

    Args:
      own: the model's part of the config.
      states: what its module returned in training, (B, M, 157).
      extras: what the module sowed into the collection "extras", the last value of each name.
      batch: the training batch.
      step: of the training, for weights that change.

    Returns:
      The states (B, K, 157) that the total loss takes; terms by name, (B,) each; and the weight of each term.
    """

    def __call__(
        self,
        own: Any,
        states: Float[Array, "B M 157"],
        extras: Mapping[str, Array],
        batch: Batch,
        step: Array,
    ) -> tuple[Float[Array, "B K 157"], Mapping[str, Float[Array, "B"]], Mapping[str, float | Array]]: ...


def no_extra_terms(
    own: Any,
    states: Float[Array, "B M 157"],
    extras: Mapping[str, Array],
    batch: Batch,
    step: Array,
) -> tuple[Float[Array, "B M 157"], Mapping[str, Float[Array, "B"]], Mapping[str, float | Array]]:
    """`StatesAndExtraTerms` of a model that trains the total loss alone."""
    del own, extras, batch, step
    return states, {}, {}


@runtime_checkable
class Targets(Protocol):
    """Chooses what batches are trained towards, from what the network says of them and from a memory of earlier steps.

    The memory is a pytree of arrays that is a part of the training state: one copy for all devices, in every checkpoint.
    """

    @property
    def about(self) -> Mapping[str, Any]:
        """What the memory is of, for JSON in checkpoints; a training goes on only if it is the same."""
        ...

    def template(self) -> Any:
        """A memory of the right shapes and types, for restoring."""
        ...

    def check(self) -> None:
        """Refuses what `first` would refuse, before anything trains."""
        ...

    def first(self) -> Any:
        """The memory before the first step."""
        ...

    def __call__(
        self, memory: Any, hyps: Hypotheses, batch: Batch, joint_model: smpl.JointModel
    ) -> tuple[Any, Batch, Mapping[str, Array]]:
        """The memory after a batch, the batch with the targets that count in the loss, and numbers to log; traced.

        Args:
          memory: before the batch.
          hyps: of the network in training (B, M); no gradient passes.
          batch: with its `origin`.
          joint_model: the body contracted with the J24 regressor.
        """
        ...

    def finish(self, memory: Any) -> None:
        """Is called with the memory when a stage has ended."""
        ...


@runtime_checkable
class TrunkBuilder(Protocol):
    """Makes the flax module of a trunk; a field that it lacks is ignored."""

    def __call__(self, *, width: int, dtype: Any) -> nn.Module: ...


@dataclasses.dataclass(frozen=True)
class Trunk:
    """One kind of trunk, registered in `TRUNKS`.

    Attributes:
      build: makes the module, which maps `(inputs, train)` to a feature.
      width: its usual one, where `config.model.width` is None.
      multiple: of how many pixels the side of a crop has to be; None: it reads no image.
      published: makes the parameters of a trunk that was trained elsewhere and does not learn; None: it learns.
    """

    build: TrunkBuilder
    width: int
    multiple: int | None
    published: Callable[[], Mapping[str, Any]] | None = None


@dataclasses.dataclass(frozen=True)
class Head:
    """One way of predicting M hypotheses in model.name="multibodies", registered in `HEADS`.

    Attributes:
      build: makes the module.
      expand: makes its variables from those of a trained single hypothesis.
      fold: (module, variables) -> the same states in evaluation from fewer products; see `folding.fold`.
      own_parameters: prefixes of the parameters that a single hypothesis lacks or has M times smaller ("head/dec/");
        with `freeze="loaded"` they alone are trained.
      trunk: the only `config.model.trunk` that the head can read; None: any.
    """

    build: HeadBuilder
    expand: Expand
    fold: Callable[[nn.Module, Variables], tuple[nn.Module, dict[str, Any]]]
    own_parameters: tuple[str, ...]
    trunk: str | None = None


@dataclasses.dataclass(frozen=True)
class Network:
    """One trainable model, registered in `NETWORKS`.

    Attributes:
      label: its row in tables.
      exchangeable: its hypotheses have no order of their own, so that its set of n is the first n of them, without
        quantization, and per-index statistics are not reported.
      single: it has one hypothesis, whatever M is.
      build: makes the module; None: the head of `config.model.head` does, and only then can that be another head than
        the paper's. With one hypothesis all models are HMR, except those that are `single` and have a `build`.
      expand: as `Head.expand`; None: the head's. A model that is `single` and has a `build` takes from it what it can use
        of a trained HMR or of a trunk.
      own_parameters: as in `Head`, beside those of the head.
      config_part: name of the part of the config that only this model reads; None: it has no such part.
      free_fields: fields of that part that decide evaluation alone, and may differ from those of the training.
      check: raises ValueError where a field of that part is out of range; called with the whole config.
      training_inputs: (own part of the config, body, its J24 joints) -> a function that makes what the module reads in
        training from the batch; None: it reads the inputs of the batch.
      states_and_extra_terms: what it trains.
      targets: (config, bodies of the experiment, work directory) -> what replaces the targets of batches, with any number
        of hypotheses; needs image sets (`config.data.sets`). None: the targets of the data.
      inspect: (config, regressor, batches of the validation split with their hypotheses (B, M)) -> what evaluation
        reports of this model alone, under the name of `config_part` or, without one, of the model.
      describe_inspection: what `inspect` returned in a sentence for results.md; "" where nothing was measured.
    """

    label: str
    exchangeable: bool = False
    single: bool = False
    build: NetworkBuilder | None = None
    expand: Expand | None = None
    own_parameters: tuple[str, ...] = ()
    config_part: str | None = None
    free_fields: tuple[str, ...] = ()
    check: Callable[[Any], None] | None = None
    training_inputs: Callable[[Any, smpl.SmplModel, smpl.JointModel], MakeInputs] | None = None
    states_and_extra_terms: StatesAndExtraTerms = no_extra_terms
    targets: Callable[[Any, Any, pathlib.Path], Targets] | None = None
    inspect: Callable[[Any, Any, Iterable[tuple[Batch, Hypotheses]]], dict[str, Any]] | None = None
    describe_inspection: Callable[[Mapping[str, Any]], str] | None = None

    def builds(self, num_hypotheses: int) -> bool:
        """Whether its own `build` makes the module with M = `num_hypotheses`."""
        return self.build is not None and (self.single or num_hypotheses > 1)

    def is_own(self, num_hypotheses: int) -> bool:
        """Whether a network with M = `num_hypotheses` is this model; with one hypothesis most models are HMR."""
        return num_hypotheses > 1 or self.single or self.targets is not None

    def own(self, config: Any) -> Any:
        """The part of a config that only this model reads; None where there is none."""
        return config.get(self.config_part) if self.config_part else None


NETWORKS: Registry[Network] = Registry("model.name")
HEADS: Registry[Head] = Registry("model.head")
TRUNKS: Registry[Trunk] = Registry("model.trunk")


def build_trunk(*, name: str, crop_size: int, width: int | None, dtype: str) -> nn.Module:
    """The trunk `name` for crops of `crop_size` pixels, `width` channels wide (None: its usual width).

    A field that a trunk lacks is ignored.

    Raises:
      ValueError: no such trunk or type, with the choices, or crops that the trunk cannot take; `Trunk.build` says more.
    """
    _check_choice("model.dtype", dtype, exact.TRUNK_DTYPES)
    multiple = TRUNKS[name].multiple
    if multiple is not None and (crop_size < multiple or crop_size % multiple):
        raise ValueError(f"model.crop_size of {name} must be a multiple of {multiple} pixels, got {crop_size}.")
    return TRUNKS[name].build(width=trunk_width(name, width), dtype=exact.TRUNK_DTYPES[dtype])


def trunk_width(name: str, width: int | None) -> int:
    """The width of a trunk: of every layer of "keypoints", of the first stage of "resnet_small".

    Args:
      name: of the trunk.
      width: as in the config; None: the usual one of that trunk.
    """
    return width if width is not None else TRUNKS[name].width


def build(
    *,
    mean_state: Float[np.ndarray, "157"],
    name: str = "multibodies",
    trunk: str = "resnet50",
    head: str = "paper",
    num_hypotheses: int = 100,
    iterations: int = 3,
    hidden: int = 1024,
    dropout: float = 0.5,
    activation: str = "none",
    init_noise: float = 0.1,
    frozen: str = "",
    crop_size: int = 224,
    width: int | None = None,
    dtype: str = "float32",
    own: Any = None,
    body: smpl.SmplModel | None = None,
) -> nn.Module:
    """The model `name`, which maps `(inputs, train)` to states (B, M, 157); fields have the names of `config.model`.

    With one hypothesis every model and head is HMR on a whole trunk: SPIN's network, from which all start. A model that
    is `single` with a `build` of its own is not.

    Args:
      mean_state: the mean body and camera (144 rot6d, 10 betas, 3 camera) from which every hypothesis starts.
      name, trunk, head: which model, trunk and head.
      num_hypotheses, iterations, hidden, dropout, activation, init_noise: as in `hmr.HeadSettings`.
      frozen: as in `hmr.HMR`.
      crop_size, width, dtype: as in `build_trunk`.
      own: the part of the config that only this model has (`Network.config_part`).
      body: of the experiment, for models whose sizes depend on its mesh.

    Raises:
      ValueError: a name that does not exist, with the choices; a head with a model or trunk that it does not fit; see
        also `build_trunk`.
    """
    network, chosen = NETWORKS[name], HEADS[head]
    module = build_trunk(name=trunk, crop_size=crop_size, width=width, dtype=dtype)
    single = network.single or num_hypotheses == 1
    settings = hmr.HeadSettings(
        mean_state=tuple(np.asarray(mean_state, float).tolist()),
        num_hypotheses=1 if single else num_hypotheses,
        iterations=iterations,
        hidden=hidden,
        dropout=dropout,
        activation=activation,
        init_noise=init_noise,
    )
    if network.builds(num_hypotheses) and head != "paper":
        raise ValueError(f"model.head={head!r} is of model.name='multibodies', got {name!r}: use head='paper'.")
    if chosen.trunk not in (None, trunk):
        raise ValueError(f"model.head={head!r} reads a map of model.trunk={chosen.trunk!r}, got model.trunk={trunk!r}.")
    if network.build is not None and network.builds(num_hypotheses):
        return network.build(trunk=module, settings=settings, frozen=frozen, own=own, body=body)
    make = _build_hmr if single else chosen.build
    return make(trunk=module, settings=settings, frozen=frozen)


def expand(
    variables: Variables,
    num_hypotheses: int,
    noise: float,
    key: Key[Array, ""],
    *,
    name: str = "multibodies",
    head: str = "paper",
) -> dict[str, Any]:
    """Makes the variables of a network with M hypotheses from those of a trained HMR (appendix D).

    Layers that an HMR lacks (those of a baseline alone) are left out.

    Args:
      variables: "params" and "batch_stats" of an `HMR` with one hypothesis.
      num_hypotheses: M.
      noise: how much hypotheses differ; at 0, and without dropout, each equals the source.
      key: of the noise.
      name, head: of the model and its head.

    Raises:
      ValueError: the source is no single-hypothesis HMR, or of another trunk than the head needs.
    """
    how = NETWORKS[name].expand or HEADS[head].expand
    return how(variables, num_hypotheses, noise, key)


def trained(params: Mapping[str, Any], freeze: str, *, name: str = "multibodies", head: str = "paper") -> Any:
    """Which parameters learn, as a tree of booleans.

    Args:
      params: "params" of a network.
      freeze: "" all learn; "trunk": all but the trunk; "loaded": only the scores and what the model or head calls its own.
      name, head: of the model and its head.
    """
    own = (*NETWORKS[name].own_parameters, *HEADS[head].own_parameters, f"{scores.NAME}/")

    def learns(path: tuple, _: Any) -> bool:
        parameter = "".join(f"{entry.key}/" for entry in path)
        if freeze == "loaded":
            return parameter.startswith(own)
        return not (freeze and parameter.startswith("trunk/"))

    return jax.tree_util.tree_map_with_path(learns, params)


def _build_hmr(*, trunk: nn.Module, settings: hmr.HeadSettings, frozen: str) -> hmr.HMR:
    return hmr.HMR(trunk, settings, frozen, head_class=hmr_preactivated.PreactivatedHead)


def _expand_hmr(variables: Variables, num_hypotheses: int, noise: float, key: Key[Array, ""]) -> dict[str, Any]:
    return {**variables, "params": hmr.expand_to_hypotheses(variables["params"], num_hypotheses, noise, key)}


def _check_choice(field: str, name: str, choices: Collection[str]) -> None:
    if name not in choices:
        raise ValueError(f"Unknown {field} {name!r}; choose one of {', '.join(choices)}.")


HEADS.register("paper", Head(build=_build_hmr, expand=_expand_hmr, fold=folding.fold, own_parameters=("head/dec/",)))
NETWORKS.register("multibodies", Network(label="ours"))
NETWORKS.register("hmr", Network(label="HMR (M = 1)", single=True))
TRUNKS.register("resnet50", Trunk(lambda *, width, dtype: ResNet50(dtype=dtype), width=64, multiple=32))
TRUNKS.register(
    "resnet_small", Trunk(lambda *, width, dtype: ResNetSmall(width=width, dtype=dtype), width=16, multiple=16)
)
TRUNKS.register("keypoints", Trunk(lambda *, width, dtype: KeypointTrunk(width=width), width=1024, multiple=None))
