"""The three programs of `benchmarks.graphcmr` compute the same, from the same random weights: PyTorch from the description."""

import numpy as np
import pytest

from benchmarks import graphcmr
from multibodies_jax.convert import layouts
from tests.helpers import sphere_body


@pytest.mark.slow
def test_both_pytorch_programs_agree_with_ours_behind_the_trunk(monkeypatch):
    pytest.importorskip("torch")
    from benchmarks import graphcmr_torch

    for name, value in {"WIDTH": 1, "HIDDEN": 16, "CHANNELS": 32, "BLOCKS": 1}.items():
        monkeypatch.setattr(layouts, name, value)
    made = graphcmr.prepare_ours(sphere_body.body(), 2)["graph"]()
    ours = {name: np.asarray(value) for name, value in made.items()}
    assert ours["vertices"].shape == (2, 162, 3)
    assert ours["vertices"].std(axis=0).max() > 0.01 and ours["vertices"].std(axis=1).max() > 0.01
    for program in graphcmr_torch.PROGRAMS:
        theirs = graphcmr.prepare_torch(program, sphere_body.body())(graphcmr.features(2))
        for name in ("vertices", "cam", "betas"):
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-5 * np.abs(theirs[name]).max(), err_msg=name)
        np.testing.assert_allclose(ours["six"], theirs["rotmats"][..., :2], atol=1e-3)


def test_what_is_printed():
    results = {"ours": {"whole": 0.4, "graph": 0.16}, "dense": {"whole": 1.0, "graph": 0.8}}
    lines = graphcmr.table(8, results).splitlines()
    assert lines[1].split(maxsplit=1)[1] == "50.0 ms per image, without the trunk 20.0"
    assert lines[2].endswith("125.0 ms per image, without the trunk 100.0: ours is 2.50 and 5.00 x as fast")
