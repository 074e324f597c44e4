"""SMPLify in float64 for one body: loops over keypoints and components, and Adam on differences of the objective."""

import functools

import numpy as np
from scipy import stats
from scipy.spatial.transform import Rotation

from multibodies_jax.body import smpl
from multibodies_jax.fitting import pose_mixture
from tests.helpers import fitting_reference

FOCAL, CENTRE = 5000.0, 112.0  # Pixels.
IGNORED = (1, 9, 12, 27, 28)  # Of the 49.
ANNOTATED_TORSO = (27, 28, 33, 34)


@functools.cache
def regressor():
    """Of 49 made-up joints."""
    rng = np.random.default_rng(1)
    return np.array([rng.dirichlet(np.full(40, 0.1)) for _ in range(49)])


@functools.cache
def joint_model():
    return smpl.contract(smpl.build(**fitting_reference.body_arrays()), regressor())


@functools.cache
def mixture_arrays(K=3):
    """A mixture of poses near rest."""
    rng = np.random.default_rng(2)
    factors = 0.05 * rng.normal(size=(K, 69, 69)) + 0.4 * np.eye(69)
    return {
        "means": 0.2 * rng.normal(size=(K, 69)),
        "covars": np.einsum("kij,klj->kil", factors, factors),
        "weights": rng.dirichlet(np.ones(K)),
    }


@functools.cache
def mixture():
    return pose_mixture.build(**mixture_arrays())


@functools.cache
def densities():
    """SciPy's, of `mixture_arrays`, with the logarithm of each weight."""
    arrays = mixture_arrays()
    return [
        (stats.multivariate_normal(mean, covar), np.log(weight))
        for mean, covar, weight in zip(*arrays.values(), strict=True)
    ]


def energy(pose):
    """E_mixture of `mixture_arrays`; the constant is that of the component with the smallest determinant."""
    smallest = min(density.cov_object.log_pdet for density, _ in densities())
    return min(-log_weight - density.logpdf(pose) for density, log_weight in densities()) - smallest / 2


def projected(pose, betas, translation):
    """Pixels of the 49 joints."""
    arrays = fitting_reference.body_arrays()
    rotmats = Rotation.from_rotvec(np.reshape(pose, (24, 3))).as_matrix()
    points = fitting_reference.points(arrays, rotmats, betas, regressor()) + translation
    return FOCAL * points[:, :2] / points[:, 2:] + CENTRE


def errors(pose, betas, translation, points_px, confidence):
    """c^2 [g(dx) + g(dy)] of each of the 49."""
    shown, found = projected(pose, betas, translation), np.zeros(49)
    for k in range(49):
        if k not in IGNORED:
            squares = (shown[k] - points_px[k]) ** 2
            found[k] = confidence[k] ** 2 * sum(100.0**2 * e / (100.0**2 + e) for e in squares)
    return found


def camera_objective(root, translation, pose, betas, depth, points_px, torso=ANNOTATED_TORSO):
    shown = projected(np.concatenate([root, pose[3:]]), betas, translation)
    away = sum(np.sum((shown[k] - points_px[k]) ** 2) for k in torso)
    return away + 100.0**2 * (translation[2] - depth) ** 2


def body_objective(pose, betas, translation, points_px, confidence):
    angles = sum(np.exp(2 * sign * pose[place]) for place, sign in ((55, 1), (58, -1), (12, -1), (15, -1)))
    return (
        errors(pose, betas, translation, points_px, confidence).sum()
        + 4.78**2 * energy(pose[3:])
        + 15.2**2 * angles
        + 5.0**2 * np.sum(betas**2)
    )


def gradient(function, x, h=1e-5):
    return np.array([(function(x + h * axis) - function(x - h * axis)) / (2 * h) for axis in np.eye(len(x))])


def adam(function, x, steps):
    """Adam as PyTorch writes it: rate 0.01, 0.9, 0.999, epsilon 1e-8."""
    m = v = np.zeros(len(x))
    for t in range(1, steps + 1):
        g = gradient(function, x)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return x


def fit(pose, betas, translation, points_px, confidence, steps):
    """Both stages: the pose, the shape and the translation."""
    depth = translation[2]

    def stage1(x):
        return camera_objective(x[:3], x[3:], pose, betas, depth, points_px)

    moved = adam(stage1, np.concatenate([pose[:3], translation]), steps)
    pose, translation = np.concatenate([moved[:3], pose[3:]]), moved[3:]

    def stage2(x):
        return body_objective(x[:72], x[72:], translation, points_px, confidence)

    moved = adam(stage2, np.concatenate([pose, betas]), steps)
    return moved[:72], moved[72:], translation
