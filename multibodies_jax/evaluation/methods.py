"""The rows of a table: small objects that choose a set of n bodies for each example of a batch.

`METHODS` has a maker of each row, under the name by which `config.eval.methods` lists it. A baseline or a control in a
folder of its own registers more of them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from multibodies_jax.evaluation import expected, fitted, set_errors
from multibodies_jax.evaluation.outputs import Networks, Outputs, Settings
from multibodies_jax.hypotheses import weight_kinds
from multibodies_jax.registry import Registry

MAIN = "main"
"""Name in `METHODS` of the row under test."""

OURS = "ours"
PRIOR, EXPECTED = f"{OURS}, prior", f"{OURS}, expected body"
SCORES, SCORES_AND_PRIOR = f"{OURS}, learned scores", f"{OURS}, learned scores and prior"
UNIFORM, PRINTED, CENTROIDS = f"{OURS}, uniform weights", f"{OURS}, prior at temperature 1", f"{OURS}, centroids"
HMR = "HMR (M = 1)"


@runtime_checkable
class Method(Protocol):
    """One row of a table.

    Attributes:
      name: of the row, in tables and in files.
      ns: sizes of its sets.
      compared: the main row is compared with it, image by image.
      reads_others: its batches need the evidence of other examples (`batches.examples` with `others`).
    """

    @property
    def name(self) -> str: ...

    @property
    def ns(self) -> tuple[int, ...]: ...

    @property
    def compared(self) -> bool: ...

    @property
    def reads_others(self) -> bool: ...

    def sets(self, out: Outputs, n: int) -> set_errors.Measured:
        """Chooses a set of n bodies for each example, and returns the errors of the members."""
        ...


@runtime_checkable
class Tuned(Protocol):
    """A row that chooses something on the validation split of a set before it is evaluated on another split."""

    def observe(self, out: Outputs) -> None:
        """Reads one batch of the validation split."""
        ...

    def choose(self) -> dict[str, Any]:
        """Ends the split: chooses from all batches since the last choice, and returns what results.json says of it.

        What was chosen is bound anew, not changed in place: copies of the row keep earlier choices.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One work directory under evaluation: what the makers of rows read."""

    config: Any
    networks: Networks
    settings: Settings

    @property
    def several(self) -> bool:
        """Whether there are sets to choose: M > 1."""
        return self.networks.main.num_hypotheses > 1


def refined_of(label: str) -> str:
    """The row of another one after its bodies were fitted to the visible keypoints."""
    return f"{label}, refined"


def shuffled_of(label: str) -> str:
    """The row of a main row with the evidence of another example."""
    return f"{label}, evidence shuffled"


Maker = Callable[[Evaluation], Method | None]
"""Makes a row; None where this evaluation lacks it."""

METHODS: Registry[Maker] = Registry("eval.methods")


@dataclasses.dataclass(frozen=True)
class Row:
    """A `Method` that is a function.

    Attributes:
      choose_sets: `Method.sets`.
    """

    name: str
    ns: tuple[int, ...]
    choose_sets: Callable[[Outputs, int], set_errors.Measured]
    compared: bool = False
    reads_others: bool = False

    def sets(self, out: Outputs, n: int) -> set_errors.Measured:
        return self.choose_sets(out, n)


def rows(evaluation: Evaluation) -> list[Method]:
    """The rows that the config lists and that this evaluation has, in their order.

    Raises:
      ValueError: one of the names is not in `METHODS`.
    """
    made = (METHODS[name](evaluation) for name in evaluation.config.eval.methods)
    return [row for row in made if row is not None]


def main(evaluation: Evaluation) -> Method:
    """The row under test: the quantized sets; of exchangeable hypotheses the first n; of M = 1 the hypothesis."""
    settings = evaluation.settings
    if evaluation.several and not settings.exchangeable:
        return Row(settings.label, settings.ns, _quantized)
    return Row(settings.label, settings.ns if evaluation.several else (1,), _first)


def quantized(evaluation: Evaluation) -> Method | None:
    """The quantized sets of exchangeable hypotheses."""
    settings = evaluation.settings
    if not evaluation.several or not settings.exchangeable:
        return None
    return Row(f"{settings.label}, quantized", settings.ns, _quantized)


def variant(name: str, **other: Any) -> Maker:
    """Maker of a row of quantized sets under other options of the quantizer (`Outputs.quantize`)."""

    def make(evaluation: Evaluation) -> Method | None:
        if not evaluation.several or evaluation.settings.exchangeable:
            return None
        return Row(name, evaluation.settings.ns, lambda out, n: out.members(out.quantize(n, **other).medoid))

    return make


def weighted(name: str, kind: str) -> Maker:
    """Maker of a row of quantized sets under other weights; None where these are the main row's, or need scores that are
    not there."""

    def make(evaluation: Evaluation) -> Method | None:
        return variant(name, weights=kind)(evaluation) if _has_other(evaluation, kind) else None

    return make


def tempered_kinds(evaluation: Evaluation) -> tuple[str, ...]:
    """The kinds of weights that read the prior and stand in the table: first that of the main row, or else the prior."""
    main = evaluation.settings.weights
    kinds = [main if weight_kinds.reads_prior(main) else "prior"]
    listed = [kind for kind in weighted_kinds(evaluation) if weight_kinds.reads_prior(kind)]
    return (*kinds, *(kind for kind in listed if kind not in kinds))


def weighted_kinds(evaluation: Evaluation) -> tuple[str, ...]:
    """The kinds of weights of the main row and of rows of the table."""
    listed = [
        kind for kind in evaluation.config.eval.methods if kind in weight_kinds.KINDS and _has_other(evaluation, kind)
    ]
    return (evaluation.settings.weights, *listed)


def _has_other(evaluation: Evaluation, kind: str) -> bool:
    """Whether hypotheses can be weighted so, and are not in the main row."""
    scored = evaluation.networks.main.score_head is not None
    return kind != evaluation.settings.weights and (scored or not weight_kinds.reads_scores(kind))


def centroids(evaluation: Evaluation) -> Method | None:
    """The centroids of the clusters instead of their medoids."""
    settings = evaluation.settings
    if not evaluation.several or settings.exchangeable:
        return None
    return Row(CENTROIDS, settings.ns, _centroids)


def expected_body(evaluation: Evaluation) -> Method | None:
    """The expected body under the weights of the main row: one body, whatever n is."""
    settings = evaluation.settings
    if not evaluation.several or settings.exchangeable:
        return None
    return Row(EXPECTED, (1,), _expected)


def every(evaluation: Evaluation) -> Method | None:
    """All M hypotheses."""
    m = evaluation.networks.main.num_hypotheses
    return Row(f"all M = {m}", (m,), _first) if evaluation.several else None


def hmr(evaluation: Evaluation) -> Method | None:
    """The single-hypothesis HMR."""
    if evaluation.networks.hmr is None:
        return None
    return Row(HMR, (1,), lambda out, _: out.measure(out.hmr))


def refined(evaluation: Evaluation) -> Method | None:
    """Quantized sets of the hypotheses after they were fitted to the visible keypoints, under the weights of the main row."""
    return _refined(evaluation, "refined", evaluation.settings.weights) if evaluation.several else None


def refined_expected(evaluation: Evaluation) -> Method | None:
    """The expected body of the refined hypotheses, fitted as those of `refined` are."""
    if not evaluation.several:
        return None
    return _refined(evaluation, "refined_expected", evaluation.settings.weights, ", expected body", expects=True)


def refined_under(name: str, kind: str) -> Maker:
    """Maker of a row of refined sets under other weights; None as of `weighted`."""

    def make(evaluation: Evaluation) -> Method | None:
        if not evaluation.several or not _has_other(evaluation, kind):
            return None
        return _refined(evaluation, name, kind, f", {weight_kinds.KINDS[kind]}")

    return make


def _refined(evaluation: Evaluation, key: str, kind: str, words: str = "", expects: bool = False) -> Method:
    name, config = refined_of(evaluation.settings.label) + words, evaluation.config
    fit = fitted.refined(lambda out, _: out.hyps, config)
    return fitted.Fitted(key, name, evaluation.settings.ns, fit, config, kind=kind, shared="refined", expects=expects)


def hmr_refined(evaluation: Evaluation) -> Method | None:
    """The single-hypothesis HMR, fitted to the visible keypoints."""
    if evaluation.networks.hmr is None:
        return None
    fit = fitted.refined(lambda out, _: out.hmr, evaluation.config)
    return fitted.Fitted("hmr_refined", refined_of(HMR), (1,), fit, evaluation.config, in_order=True)


def smplify(evaluation: Evaluation) -> Method:
    """One body fitted from the mean pose, without a network."""
    return fitted.Fitted("smplify", "SMPLify", (1,), fitted.from_mean_pose, evaluation.config, in_order=True)


def _quantized(out: Outputs, n: int) -> set_errors.Measured:
    return out.members(out.quantize(n).medoid)


def _first(out: Outputs, n: int) -> set_errors.Measured:
    return out.members(out.first(n))


def _expected(out: Outputs, n: int) -> set_errors.Measured:
    del n
    return out.measure(expected.expected_body(out.hyps, out.log_weights, out.networks.scorer.j24))


def _centroids(out: Outputs, n: int) -> set_errors.Measured:
    return set_errors.measure_centroids(
        out.compared_joints, out.log_weights, out.quantize(n), out.truth, out.settings.protocol
    )


for _name, _maker in {
    MAIN: main,
    "uniform": variant(UNIFORM, weights="uniform"),
    "temperature_1": variant(PRINTED, weights="prior", temperature=1.0),
    "prior": weighted(PRIOR, "prior"),
    "scores": weighted(SCORES, "scores"),
    "scores_and_prior": weighted(SCORES_AND_PRIOR, "scores_and_prior"),
    "quantized": quantized,
    "all": every,
    "centroids": centroids,
    "expected": expected_body,
    "hmr": hmr,
    "refined": refined,
    "refined_prior": refined_under("refined_prior", "prior"),
    "refined_expected": refined_expected,
    "refined_scores": refined_under("refined_scores", "scores"),
    "hmr_refined": hmr_refined,
    "smplify": smplify,
}.items():
    METHODS.register(_name, _maker)
