"""Names of ablations: known fields in words, every other one as FIELD=VALUE."""

import pytest

from multibodies_jax.evaluation import ablations


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("loss.reprojection_all", 0.0, "no hypothesis re-projection"),
        ("loss.reading", "released", "released losses"),
        ("mdn.draw", "samples", "samples of the mixture"),
        ("model.num_hypotheses", 25, "M = 25"),
        ("loss.best", 3.0, "loss.best=3.0"),
        ("loss.mode0", True, "loss.mode0=True"),
    ],
)
def test_fields_in_words(field, value, words):
    assert ablations.in_words(field, value) == words


def test_known_ablations_are_named_and_hypothesis_0_only_beside_others():
    fields = {"loss.mode0": False, "flow.noise_mm": 0, "loss.best": 1.0, "model.num_hypotheses": 6}
    assert ablations.known_words(fields) == ["hypothesis 0 not supervised", "prior without noise"]
    assert ablations.known_words(fields | {"model.num_hypotheses": 1}) == ["prior without noise"]


def test_what_is_drawn_is_a_field_of_its_model_alone():
    config = {"mdn": {"draw": "samples", "root": "mean"}}
    assert ablations.drawn(config, "smpl_mdn") == {"mdn.draw": "samples"}
    assert ablations.drawn(config, "multibodies") == {} and ablations.drawn(config, "of a later version") == {}
