"""Stands in for `onnx_trunk.take_over` without its packages, and for any trunk: it runs in JAX, ahead of the network."""

import jax

from multibodies_jax.models import onnx_trunk


def use(monkeypatch):
    """Replaces it; returns a list of the batch sizes that the trunk read."""
    sizes = []

    def take_over(model, params):
        run = jax.jit(lambda params, inputs: model.trunk.apply({"params": params}, inputs, False))

        def read(inputs):
            sizes.append(len(inputs.evidence))
            return inputs.replace(image=None, feature=run(params["trunk"], inputs))

        return read, {name: tree for name, tree in params.items() if name != "trunk"}

    monkeypatch.setattr(onnx_trunk, "take_over", take_over)
    return sizes
