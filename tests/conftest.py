"""Settings shared by all tests: CPU only, one compilation cache, little optimisation, few garbage collections, strict rank
promotion, a fixed hypothesis profile, and a temporary folder below the checkout."""

import gc
import os
import pathlib
import sys

import jaxlib.version

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Several tests train the same tiny networks, some in processes of their own: compiled once.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Programs without the places in the source that their operations come from are lowered faster.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
os.environ.setdefault("JAX_INCLUDE_FULL_TRACEBACKS_IN_LOCATIONS", "0")
# Threads of scikit-learn, which some results are compared with, wait for each other longer than its few points take.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Most of the time of the tests is compilation of programs that run once on tiny data. Without its fusion emitters XLA
# compiles a training step three times faster on a CPU; from jaxlib 0.11 on it has no such flag and ends the process.
if os.environ["JAX_PLATFORMS"] == "cpu":
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_parallel_codegen_split_count=1"
    if tuple(map(int, jaxlib.version.__version__.split(".")[:2])) < (0, 11):
        flags += " --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = flags
else:
    # Equal programs give equal numbers. Without autotuning, which tries many kernels for each product, a GPU compiles faster;
    # Triton's products cannot be compiled without it.
    if os.environ["JAX_PLATFORMS"] != "tpu":
        flags = "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
        os.environ.setdefault("XLA_FLAGS", flags)

import hypothesis
import jax
import pytest

from tests.helpers import checked_types, lowering, scratch

checked_types.install("multibodies_jax")
lowering.share_contexts()

_SCRATCH = None  # Of the whole run; the workers of pytest-xdist are children and write into it.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _SCRATCH = scratch.Scratch(scratch.FOLDER)

# Byte code is kept whatever the environment says: each worker, and each of the processes that tests start, would compile
# all modules anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile("project", deadline=None, max_examples=20, derandomize=True)
hypothesis.settings.load_profile("project")

# The longest files, which go first so that the workers finish together (`--no-loadscope-reorder`: otherwise pytest-xdist
# starts with the files that have the most tests), and are left out by `make test-fast`. The first one trains what others
# use (`helpers.trained`): the next ones do not, so that no worker waits for it.
_LONGEST = (
    *(
        "evaluation.evaluate",
        "baselines.training",
        "training.multihost",
        "devices",
        "training.loop",
        "released.evaluation",
    ),
    *("prediction.predictor", "embedded.mannequin"),
)
# Before them: copies of the whole process, which are made the faster the less it holds.
_FIRST = ("torture.harness",)
# After them, the next ones; of these some tests are fast.
_LONG = (
    *(
        "prediction.session",
        "prediction.viewer",
        "baselines.controls",
        "fitting.solver",
        "fitting.objective",
        "models.flow",
    ),
    *("tfds_builders.building", "reporting.report", "detection.movenet", "convert.convert", "export.page"),
)
# What a device computes, against references: JAX_PLATFORMS=cuda python -m pytest -m gpu. Without a GPU, `helpers.tf32`.
_BY_FOLDER = {
    "baselines.graphcmr": "hierarchy layers network objective rows",
    "baselines.smpl_cvae": "latents network objective",
    "baselines.smpl_mdn": "network objective",
    "baselines.spin": "fit_mixture objective",
    "body": "mesh_points smpl",
    "data": "resident virtual_views",
    "evaluation": "calibration diagnostics metrics set_errors",
    "fitting": "jacobian objective pose_mixture refine smplify solver",
    "geometry": "boxes cameras centring distances image_cameras nearest_rotation procrustes rotations",
    "hypotheses": "empty_clusters hypotheses kmeans quantize sharpening weight_kinds weights",
    "losses": "best_of_m objective squares terms total",
    "models": "flow folded_flow folding hmr hmr_preactivated resnet scores",
    "released": "folding lloyd losses network quantizer",
}
OF_A_DEVICE = {f"tests.{folder}.{name}_test" for folder, names in _BY_FOLDER.items() for name in names.split()}
# Of these, what runs trunks, which ask for no precision, and compares them with references.
TRUNKS = {f"tests.{name}_test" for name in ("models.folding", "models.resnet", "released.folding", "released.network")}


def pytest_collection_modifyitems(items):
    order = {f"tests.{name}_test": place for place, name in enumerate((*_FIRST, *_LONGEST, *_LONG))}
    longest = {f"tests.{name}_test" for name in _LONGEST}
    for item in items:
        if item.module.__name__ in OF_A_DEVICE:
            item.add_marker(pytest.mark.gpu)
        if item.module.__name__ in longest:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: order.get(item.module.__name__, len(order)))


@pytest.fixture(scope="module", autouse=True)
def exact_trunks(request):
    """Trunks are compared with references at full precision, which they do not ask for; everything else asks for it."""
    with jax.default_matmul_precision("highest" if request.module.__name__ in TRUNKS else None):
        yield


@pytest.fixture(scope="session", autouse=True)
def few_rows():
    """Fits of fewer bodies at once: every fit is padded to this number, and without optimisation each body costs time."""
    from multibodies_jax.fitting import refine  # Not before the plug-in that checks types.

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refine, "ROWS", 24)
        yield


def pytest_runtest_teardown():
    if (
        "multibodies_jax.traced" in sys.modules
    ):  # A command that a test ran keeps its programs: no other test may get them.
        sys.modules["multibodies_jax.traced"].keep_in(None)


def pytest_collection_finish(session):
    """Collections are rare: each visits millions of JAX's objects and frees almost none of them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def pytest_unconfigure(config):
    if _SCRATCH is not None:
        _SCRATCH.remove()
