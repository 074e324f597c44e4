"""The pose prior: a RealNVP on body joints (paper, eq (4) and appendix F). The only module that needs distrax."""

from collections.abc import Callable
from typing import Any

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from multibodies_jax.models import exact_layers

_FEATURES = 72
LEAK = 0.01  # PyTorch's default slope, as in the authors' code.


class Flow(nn.Module):
    """Density of X: J24 joints, mid-hip centred, with identity root rotation, in metres, flattened joint-major.

    Couplings over fixed random masks (p = 0.5 per coordinate), each with separate networks for scale and shift, on
    standardised coordinates; the log-determinant includes the standardisation. The density direction undoes the
    couplings from the last to the first. With Y the standardised X and b a mask, one of them is
    z = b Y + (1 - b) (Y - t(b Y)) exp(-s(b Y)).

    Variables: "params" (of all couplings, stacked), "masks" (drawn once by `init`, stored, never trained) and "stats"
    ("mean" and "std" of the training X: `standardization`; 0 and 1 until set).

    Attributes:
      layers: number of couplings.
      width: of the two hidden layers of each network.
      dropout: rate after each hidden layer in training.
      size: number of coordinates.
    """

    layers: int = 20
    width: int = 512
    dropout: float = 0.2
    size: int = _FEATURES

    def setup(self) -> None:
        conditioner = Conditioner(self.width, self.dropout, parent=None)

        def init_couplings(key: Key[Array, ""]) -> PyTree:
            keys = jax.random.split(key, self.layers)
            return jax.vmap(lambda k: conditioner.init(k, jnp.zeros(self.size))["params"])(keys)

        def init_masks() -> Bool[Array, "L D"]:
            return jax.random.bernoulli(self.make_rng("params"), 0.5, (self.layers, self.size))

        self.couplings = self.param("couplings", init_couplings)
        self.masks = self.variable("masks", "couplings", init_masks)
        self.mean = self.variable("stats", "mean", jnp.zeros, (self.size,))
        self.std = self.variable("stats", "std", jnp.ones, (self.size,))

    def __call__(self, X: Float[Array, "*batch D"], train: bool = False) -> Float[Array, "*batch"]:
        return self.log_prob(X, train)

    def log_prob(self, X: Float[Array, "*batch D"], train: bool = False) -> Float[Array, "*batch"]:
        """Eq (4): log p(X) = log N(f(X); 0, I) + log |det df(X)/dX|, in nats, per cubic metre of every joint.

        f standardises X and undoes the couplings (`Couplings`); the log-determinants of its layers add up.

        Args:
          X: see the class; training data need noise, for centred joints are singular without it.
          train: drops hidden units (needs the rng "dropout").

        Raises:
          ValueError: X has another number of coordinates.
        """
        check_size(X, self.size)
        flat = X.reshape(-1, self.size)
        if not train:
            density = self.distribution(None)
            return jax.vmap(density.log_prob)(flat).reshape(X.shape[:-1])
        keys = jax.random.split(self.make_rng("dropout"), len(flat))
        log_prob = jax.vmap(lambda x, key: self.distribution(key).log_prob(x))(flat, keys)
        return log_prob.reshape(X.shape[:-1])

    def sample(self, key: Key[Array, ""], num: int) -> Float[Array, "num D"]:
        """Draws `num` skeletons X, metres."""
        return self.distribution(None).sample(seed=key, sample_shape=(num,))

    def distribution(self, dropout_key: Key[Array, ""] | None) -> Any:
        """The distrax density of one X; mapped over batches, for distrax broadcasts where ranks must agree."""
        conditioner = Conditioner(self.width, self.dropout, parent=None)
        couplings = Couplings(conditioner, self.couplings, self.masks.value, dropout_key)
        standardize = distrax.Block(distrax.ScalarAffine(self.mean.value, self.std.value), 1)
        base = distrax.MultivariateNormalDiag(jnp.zeros(self.size), jnp.ones(self.size))
        return distrax.Transformed(base, distrax.Chain([standardize, couplings]))


class Conditioner(nn.Module):
    """Networks of one coupling: (tanh-bounded log-scale, shift) from the coordinates that stay, as in the authors' code."""

    width: int
    dropout: float

    @nn.compact
    def __call__(self, kept: Float[Array, "D"], train: bool = False) -> tuple[Float[Array, "D"], Float[Array, "D"]]:
        return jnp.tanh(self._mlp("scale", kept, train)), self._mlp("shift", kept, train)

    def _mlp(self, name: str, x: Float[Array, "D"], train: bool) -> Float[Array, "D"]:
        size = x.shape[-1]
        for layer in range(2):
            x = exact_layers.Dense(self.width, name=f"{name}_{layer}")(x)
            x = nn.leaky_relu(nn.Dropout(self.dropout, deterministic=not train)(x), LEAK)
        # Every coupling starts as the identity, the flow as a Gaussian with the data's spread.
        return exact_layers.Dense(size, kernel_init=nn.initializers.zeros, name=f"{name}_2")(x)


class Couplings(distrax.Bijector):
    """Appendix F: x_l = b x + (1 - b) (x exp(s_l(b x)) + t_l(b x)), with x = x_{l-1} and b the mask of coupling l.

    The log-determinant of a coupling is the sum of (1 - b) s_l(b x). Forwards, from noise to data, the couplings run
    from the first to the last; the inverse runs from the last to the first: x = b y + (1 - b) (y - t(b y)) exp(-s(b y)).
    They are scanned, so that a chain compiles as one coupling.
    """

    def __init__(
        self,
        conditioner: Conditioner,
        params: PyTree[Float[Array, "L ..."]],
        masks: Bool[Array, "L D"],
        dropout_key: Key[Array, ""] | None,
    ):
        """Args: the networks, their stacked parameters, the masks (true stays), and a key that turns dropout on."""
        super().__init__(event_ndims_in=1)
        self._conditioner, self._params, self._masks, self._dropout_key = conditioner, params, masks, dropout_key

    def forward_and_log_det(self, x: Float[Array, "D"]) -> tuple[Float[Array, "D"], Float[Array, ""]]:
        """Runs the couplings from the first to the last."""
        return self._scan(distrax.MaskedCoupling.forward_and_log_det, x, reverse=False)

    def inverse_and_log_det(self, y: Float[Array, "D"]) -> tuple[Float[Array, "D"], Float[Array, ""]]:
        """Runs their inverses from the last to the first."""
        return self._scan(distrax.MaskedCoupling.inverse_and_log_det, y, reverse=True)

    def _scan(self, direction: Callable[..., Any], x: Float[Array, "D"], reverse: bool) -> Any:
        def step(carry: tuple[Array, Array], layer: tuple[PyTree, Array, Array]) -> tuple[tuple[Array, Array], None]:
            x, log_det = carry
            x, added = direction(self._coupling(*layer), x)
            return (x, log_det + added), None

        layers = (self._params, self._masks, jnp.arange(len(self._masks)))
        return jax.lax.scan(step, (x, jnp.zeros(())), layers, reverse=reverse)[0]

    def _coupling(self, params: PyTree, mask: Bool[Array, "D"], index: Array) -> distrax.MaskedCoupling:
        key = self._dropout_key
        rngs = {} if key is None else {"dropout": jax.random.fold_in(key, index)}

        def conditioner(kept: Any) -> Any:
            return self._conditioner.apply({"params": params}, kept, key is not None, rngs=rngs)

        def affine(scale_and_shift: Any) -> distrax.Bijector:
            log_scale, shift = scale_and_shift
            return distrax.ScalarAffine(shift, log_scale=log_scale)

        return distrax.MaskedCoupling(mask, conditioner, affine)


def check_size(X: Float[Array, "*batch D"], size: int) -> None:
    """Raises a ValueError where X has another number of coordinates than a flow."""
    if X.shape[-1] != size:
        raise ValueError(
            f"The prior is over {size} coordinates, got an X of shape {X.shape}: "
            "flatten the joints of `hypotheses.zero_root_joints` to (*batch, 72)."
        )


def standardization(X: Float[Array, "N D"], floor: float = 1e-3) -> tuple[Float[Array, "D"], Float[Array, "D"]]:
    """Mean and std per coordinate of the training X, for the flow's "stats".

    Args:
      X: metres.
      floor: least std, metres: some coordinates hardly move, and dividing by nothing would blow up their noise.
    """
    return X.mean(axis=0), jnp.maximum(X.std(axis=0), floor)
