"""Controls: what each of them chooses, and how the noise of the single-hypothesis HMR is tuned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multibodies_jax.baselines import controls
from multibodies_jax.data import sources
from multibodies_jax.evaluation import methods, outputs, protocols, set_errors
from tests.helpers import evaluation_fixture as fixture
from tests.helpers import tiny

NAMES = ("random", "hmr_noise", "codebook", "shuffled")
perturb = jax.jit(controls.perturb, static_argnames="n")


@pytest.fixture(scope="module", autouse=True)
def people():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "load_people", tiny.load_people)
        yield


@pytest.fixture(scope="module")
def out():
    return fixture.made()


def row(name, out):
    made = methods.METHODS[name](fixture.evaluation(out))
    assert made is not None
    return made


@pytest.mark.slow
def test_which_controls_an_evaluation_has(out):
    def names(out):
        return [made.name for made in methods.rows(fixture.evaluation(out, eval__methods=NAMES))]

    assert names(out) == [*controls.COMPARED, "ours, evidence shuffled"]
    assert names(fixture.made(hmr=False)) == [controls.RANDOM, controls.CODEBOOK, "ours, evidence shuffled"]
    assert names(fixture.made(m=1, hmr=False)) == []
    exchangeable = fixture.made(hmr=False, label="SMPL-MDN", exchangeable=True)
    assert names(exchangeable) == [controls.CODEBOOK, "SMPL-MDN, evidence shuffled"]  # Random n are its main row.
    made = methods.rows(fixture.evaluation(out, eval__methods=NAMES))
    assert [one.compared for one in made] == [True, True, True, False]
    assert [one.reads_others for one in made] == [False, False, False, True]


@pytest.mark.slow
def test_random_subsets_are_nested_members_without_repetition(out):
    random = row("random", out)
    five, two = (np.asarray(random.sets(out, n)["mpjpe"]) for n in (5, 2))
    every = np.asarray(out.errors["mpjpe"])
    for b in range(fixture.B):
        assert len(set(five[b])) == 5 and set(five[b]) <= set(every[b])
    np.testing.assert_array_equal(five[:, :2], two)
    assert any(set(five[b]) != set(every[b, :5]) for b in range(fixture.B))


@pytest.mark.slow
def test_perturbed_bodies_begin_with_the_body_itself_and_are_nested():
    out = fixture.made()
    keys, joint_model = out.keys(outputs.NOISE), out.networks.scorer.j24
    few, many = (perturb(out.hmr, n, keys, jnp.float32(0.2), jnp.float32(0.0), joint_model) for n in (2, 4))
    np.testing.assert_allclose(many.joints24[:, :1], out.hmr.joints24, atol=1e-5)
    np.testing.assert_allclose(many.rotmats[:, :2], few.rotmats, atol=1e-6)
    np.testing.assert_allclose(many.rotmats[:, 3, 1:], out.hmr.rotmats[:, 0, 1:], atol=1e-5)  # Noise on the root alone.
    assert np.abs(many.rotmats[:, 3, 0] - out.hmr.rotmats[:, 0, 0]).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["strict", "released"])
def test_the_noise_of_hmr_has_the_least_error_on_validation_and_is_used_for_its_metric(protocol):
    parts = [fixture.made(seed=seed, padding=seed, protocol=protocols.PROTOCOLS[protocol]) for seed in (0, 1)]
    noisy = row("hmr_noise", parts[0])
    assert isinstance(noisy, methods.Tuned)
    for out in parts:
        noisy.observe(out)
    chosen = noisy.choose()["noise_deg"]
    assert list(chosen) == [f"{metric}-{n}" for metric in ("mpjpe", "pa_mpjpe") for n in (1, 2, 5)]
    tuned = {
        n: {metric: (v := chosen[f"{metric}-{n}"], (v["root"], v["pose"]))[1] for metric in ("mpjpe", "pa_mpjpe")}
        for n in (2, 5)
    }

    def sets(out, pair, n):
        root, pose = (jnp.float32(np.deg2rad(degrees)) for degrees in pair)
        bodies = perturb(out.hmr, n, out.keys(outputs.NOISE), root, pose, out.networks.scorer.j24)
        return set_errors.of_sets(out.measure(bodies), out.settings.protocol)

    def mean(pair, metric, n):
        return np.concatenate([np.asarray(sets(out, pair, n)[metric])[out.valid] for out in parts]).mean()

    some = ((0.0, 0.0), (2.5, 4.0), (10.0, 7.0), (25.0, 16.0))
    for metric in ("mpjpe", "pa_mpjpe"):
        assert mean(tuned[5][metric], metric, 5) <= min(mean(pair, metric, 5) for pair in some) + 1e-3
    out = parts[0]
    for n in (2, 5):
        found = set_errors.of_sets(noisy.sets(out, n), out.settings.protocol)
        for name, errors in found.items():
            metric = "pa_mpjpe" if name.startswith("pa_mpjpe") else "mpjpe"
            np.testing.assert_allclose(errors, sets(out, tuned[n][metric], n)[name], rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_code_books_are_the_same_bodies_for_every_image(out):
    book = row("codebook", out)
    bodies = controls.codebooks(tiny.config(), out.networks.main.bodies, (1, 5))
    for n in (1, 5):
        everywhere = jax.tree.map(lambda x: jnp.broadcast_to(x, (fixture.B, *x.shape[1:])), bodies[n])
        expected = out.measure(everywhere)
        for metric, errors in book.sets(out, n).items():
            np.testing.assert_allclose(errors, expected[metric], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("exchangeable", [False, True])
def test_shuffled_evidence_gives_the_set_of_another_example(exchangeable):
    out = fixture.made(exchangeable=exchangeable)
    shuffled = row("shuffled", out)
    assert shuffled.ns == (1,)
    index = out.first(1) if exchangeable else out.quantize(1).medoid
    betas = np.take_along_axis(np.asarray(out.hyps.betas), np.asarray(index)[..., None], axis=1)
    other = out.of_others()
    own = np.asarray(other.measure(other.hyps)["mpjpe"])
    found = np.asarray(shuffled.sets(out, 1)["mpjpe"])
    for b in range(fixture.B):
        assert np.isclose(own[b], found[b, 0], rtol=1e-5).any()
    if exchangeable:
        np.testing.assert_allclose(found, own[:, :1], rtol=1e-5)
        np.testing.assert_allclose(other.hyps.betas[:, :1], np.roll(betas, 1, axis=0), rtol=1e-5)
    assert (np.abs(found - out.members(index)["mpjpe"]) > 1e-3).all()


@pytest.mark.slow
def test_noisy_bodies_are_refined_and_their_sets_are_nested(out):
    evaluation = fixture.evaluation(out, fitting__steps=1, fitting__prior=0.3, fitting__anchor=5.0)
    made = methods.METHODS["hmr_noise_refined"](evaluation)
    assert made is not None
    sets = {n: np.asarray(made.sets(out, n)["mpjpe"]) for n in (1, 5)}
    np.testing.assert_array_equal(sets[5][:, :1], sets[1])
    assert (sets[1] != np.asarray(out.measure(out.hmr)["mpjpe"])).any()  # Refined, ...
    assert (np.ptp(sets[5], axis=1) > 0).all()  # ... and noisy.
