"""What one process with eight virtual devices finds out; it writes all of it as JSON.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.helpers.many_devices TRAINED FOLDER

Starting and compiling cost seconds, so that one process serves all tests. "On one device" means what the same process
computes while `devices` knows one of the eight.
"""

import contextlib
import dataclasses
import functools
import json
import pathlib
import re
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from multibodies_jax import devices
from multibodies_jax.baselines import controls
from multibodies_jax.data import sources, virtual_views
from multibodies_jax.evaluation import batches, calibration, diagnostics, methods, outputs, set_errors
from multibodies_jax.export import camera
from multibodies_jax.models import flow
from multibodies_jax.prediction import people, prediction, predictor
from multibodies_jax.training import checkpoints, inference, initialization, logs, loop, setup, train_step
from tests.helpers import batches as small_batches
from tests.helpers import evaluation_fixture, tiny

COUNT = 8
_COLLECTIVES = re.compile(r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")


@contextlib.contextmanager
def using(count: int) -> Iterator[None]:
    """`devices` knows this many of the devices."""
    known = devices.mesh, devices.everywhere
    mesh = Mesh(np.array(jax.devices()[:count]), (devices.EXAMPLES,))
    devices.mesh = devices.everywhere = lambda: mesh
    try:
        yield
    finally:
        devices.mesh, devices.everywhere = known


def differences(one: Any, other: Any) -> dict[str, float]:
    """The largest difference of each array that is not the same bit for bit, by its place."""
    found = {}
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        if np.asarray(a).dtype.kind in "US":
            if not np.array_equal(a, b):
                found[jax.tree_util.keystr(path)] = f"{a} {b}"
        elif not np.array_equal(a, b, equal_nan=True):
            found[jax.tree_util.keystr(path)] = float(np.nanmax(np.abs(np.asarray(a, float) - np.asarray(b, float))))
    return found


def evaluation() -> dict[str, Any]:
    """Every row of some examples: in batches on one device, and all at once on eight."""
    parts = [evaluation_fixture.rows(seed, padding=seed == COUNT - 1) for seed in range(COUNT)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    with using(1):
        single = [_measured(part) for part in parts]
    with using(COUNT):
        together = _measured(whole)
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *single)
    return {"arrays": len(jax.tree.leaves(together)), "differences": differences(together, joined)}


def _measured(rows: dict[str, np.ndarray]) -> dict[str, Any]:
    settings = evaluation_fixture.settings(ns=(1, 2), starts=1, iterations=3)
    networks = devices.copied(evaluation_fixture.networks(hmr=False, scored=True))
    out = outputs.Outputs(networks, settings, batches.stacked(rows))
    assert out.per_device == evaluation_fixture.B
    its = methods.Evaluation(tiny.config(), networks, settings)
    made = [row for row in (methods.main(its), methods.centroids(its), controls.random_subset(its)) if row is not None]
    found = {row.name: set_errors.of_sets(row.sets(out, 2), settings.protocol) for row in made}
    clusters = {"2": out.quantize(2)}
    return jax.device_get(
        {
            "hypotheses": out.hyps,
            "errors": found,
            "clusters": clusters,
            "diagnostics": diagnostics.diagnose(out.hyps, out.batch, out.truth, jnp.float32(0.5)),
            "calibration": calibration.measure(
                out.log_weights, out.hyps.log_scores, clusters, out.truth, {"": 2.0, "_scores": 0.5}
            ),
        }
    )


def forward() -> dict[str, Any]:
    """The program of a network that sees images: its collectives, and the work of each device."""
    config = tiny.config(model__trunk="resnet_small", model__width=4, model__crop_size=32)
    bodies = setup.load_bodies(config)
    model = setup.build_model(config, 6, bodies)
    density = evaluation_fixture.Density(None, flow.Flow(layers=1, width=4, dropout=0.0), None)
    random = np.random.default_rng(0)

    def program(images: int) -> Any:
        pictures = random.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
        inputs = small_batches.inputs(kp2d_input=jnp.ones((images, 24)), image=jnp.asarray(pictures))
        variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
        variables = jax.tree.map(lambda shape: jnp.full(shape.shape, 0.01, shape.dtype), variables)
        regressor = inference.Regressor(variables, bodies, model, 6, 0, 0, None)
        networks = devices.copied((regressor, density))
        return inference.hypothesize.lower(*networks, devices.split(inputs)).compile()

    with using(1):
        one = program(2)
    with using(COUNT):
        many = program(2 * COUNT)
        numbers = devices.split(jnp.ones((COUNT, 3)))
        mean = jax.jit(jnp.mean).lower(numbers).compile()
        followed, apart = (
            make(_halved_until_small).lower(numbers).compile()
            for make in (jax.jit, lambda function: devices.jit(function, per_example="x"))
        )
    programs = {"forward": many, "mean": mean, "loop that follows": followed, "loop on each": apart}
    return {
        "collectives": {name: len(_COLLECTIVES.findall(its.as_text())) for name, its in programs.items()},
        "flops": [its.cost_analysis()["flops"] for its in (one, many)],
        "images": sorted(set(re.findall(r"u8\[(\d+),32,32,3\]", many.as_text()))),
    }


def _halved_until_small(x: jax.Array) -> jax.Array:
    """As many steps as each row needs; a batch takes as many as its largest row."""
    return jax.vmap(lambda row: jax.lax.while_loop(lambda y: jnp.max(y) > 0.1, lambda y: y / 2, row))(x)


def predictions(trained: pathlib.Path) -> dict[str, Any]:
    """Three people, of whom one cannot be used, on one device and on eight."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (100, 120, 3)).astype(np.uint8)
    lens = camera.lens((120, 100))

    def asked(index: int) -> predictor.Asked:
        keypoints = np.column_stack([random.uniform(20, 90, (24, 2)), np.arange(24) % 3 > 0]).astype(np.float32)
        return predictor.Asked(image, people.Person(keypoints * (index != 1)), "a", index, lens)

    everybody = [asked(index) for index in range(3)]

    def answers(count: int) -> list[list[Any]]:
        """As the network predicts them, and fitted."""
        with using(count):
            model = predictor.load(trained, tiny.config(quantizer__temperature=0.5, fitting__steps=2))
            found = [model.persons(everybody, 2, refine) for refine in (False, True)]
        return [
            [dict(one.record) if isinstance(one, prediction.Prediction) else str(one) for one in its] for its in found
        ]

    (one, refined), (many, refined_on_many) = answers(1), answers(COUNT)
    changed = differences(refined, refined_on_many)
    moved = differences(one[0]["all_joints24"], refined[0]["all_joints24"])
    return {"problem": many[1], "differences": differences(one, many), "refined": changed, "fit": moved}


def training(trained: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
    """The losses of a training on eight devices, and of one that goes on with its checkpoints on other devices.

    It starts from the finished stage one of `trained`, and fits a prior of its own.
    """
    config = tiny.config(train__baseline=False)
    sources.load_people = tiny.load_people
    checkpoints.save = functools.partial(checkpoints.save, keep=3)  # All of them: steps 2, 4 and 6.

    def train(name: str, count: int) -> None:
        with using(count):
            loop.train(config, folder / name)

    shutil.copytree(trained / "stage1", folder / "whole" / "stage1")
    train("whole", COUNT)
    shutil.copytree(folder / "whole", folder / "changing")
    for count, dropped in ((1, (4, 6)), (2, (6,))):  # One device from step 2 on, and two from step 4 on.
        for step in dropped:  # As if it had been stopped before.
            shutil.rmtree(folder / "changing" / "checkpoints" / str(step))
        train("changing", count)
    names = ("whole", "changing")
    losses = {name: [line["loss"] for line in logs.read(folder / name / "checkpoints")] for name in names}
    prior = [line["loss_nf"] for line in logs.read(folder / "whole" / "prior")]
    kernels = [
        checkpoints.restore(folder / name / "checkpoints")[0]["state"]["params"]["head"]["dec"]["kernel"]
        for name in names
    ]
    return losses | {"prior": prior, "kernel": float(np.abs(kernels[0] - kernels[1]).max())}


def image_steps() -> dict[str, Any]:
    """Two steps of a network that sees images, whose batch norms take the statistics of the whole batch: on one, on eight."""
    config = tiny.config(
        data__sets=("synthetic_bodies/clean",), model__trunk="resnet_small", model__width=4, model__crop_size=32
    )
    bodies, examples = setup.load_bodies(config), 2 * COUNT
    poses, betas = tiny.load_people(config, "train")
    keys = jax.random.split(jax.random.key(0), examples)
    batch = virtual_views.synthesize(jnp.asarray(poses[:examples]), jnp.asarray(betas[:examples]), keys, bodies.j24)
    pictures = np.random.default_rng(0).integers(0, 256, (examples, 32, 32, 3), dtype=np.uint8)
    # The first device has dark pictures and the last one bright: statistics of a part would not be those of the batch.
    pictures = (pictures * np.linspace(0.1, 1, examples)[:, None, None, None]).astype(np.uint8)
    batch = dataclasses.replace(batch, inputs=dataclasses.replace(batch.inputs, image=jnp.asarray(pictures)))
    model = setup.build_model(config, 6, bodies)
    variables = initialization.variables(config, model, 6, None, batch.inputs, jax.random.key(1))
    params, descent = variables["params"], optax.sgd(1e-3)

    def stepped(count: int) -> tuple[list[float], Any]:
        row = Mesh(np.array(jax.devices()[:count]), (devices.EXAMPLES,))
        split, copied = (NamedSharding(row, PartitionSpec(*axes)) for axes in ((devices.EXAMPLES,), ()))
        step = train_step.make_train_step(config, model, bodies, descent, 6, lambda batch, key: batch, split)
        step = jax.jit(step, out_shardings=copied)
        state = train_step.TrainState(
            jnp.zeros((), jnp.int32), params, variables["batch_stats"], {}, descent.init(params)
        )
        given = state, jax.random.key(2), setup.loss_bodies(config, bodies)
        (state, key, of_loss), losses = jax.device_put(given, copied), []
        for _ in range(2):
            state, metrics = step(state, jax.device_put(batch, split), key, of_loss)
            losses.append(float(metrics["loss"]))
        return losses, jax.device_get(state.batch_stats)

    (one, statistics), (many, statistics_of_many) = stepped(1), stepped(COUNT)
    return {"one": one, "many": many, "statistics": differences(statistics, statistics_of_many)}


def main(trained: pathlib.Path, folder: pathlib.Path) -> None:
    """Writes FOLDER/found.json."""
    assert jax.local_device_count() == COUNT
    found = {"evaluation": evaluation(), "forward": forward(), "predictions": predictions(trained)}
    found |= {"training": training(trained, folder), "image steps": image_steps()}
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
