"""The body and what belongs to it: regressors and mean parameters, embedded or from a folder of licensed files."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from multibodies_jax import io, untrusted
from multibodies_jax.body import mesh_points, smpl
from multibodies_jax.body.smpl import SmplModel

ASSETS = Path(__file__).parent / "assets"
_EMBEDDED_BODY, _EMBEDDED_COMPANIONS, _CHECKSUMS = "mannequin.npz", "companions.npz", "SHA256SUMS"

# File names of the SMPL site and of the packages that renamed them; the first that exists is read.
_MODEL_NAMES = {
    "neutral": (
        "SMPL_NEUTRAL.pkl",
        "SMPL_NEUTRAL.npz",
        "basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl",
        "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl",
    ),
    "male": (
        "SMPL_MALE.pkl",
        "SMPL_MALE.npz",
        "basicmodel_m_lbs_10_207_0_v1.1.0.pkl",
        "basicModel_m_lbs_10_207_0_v1.0.0.pkl",
    ),
    "female": (
        "SMPL_FEMALE.pkl",
        "SMPL_FEMALE.npz",
        "basicmodel_f_lbs_10_207_0_v1.1.0.pkl",
        "basicModel_f_lbs_10_207_0_v1.0.0.pkl",
    ),
}
_EXTRA_FILE, _H36M_FILE, _MEAN_FILE = "J_regressor_extra.npy", "J_regressor_h36m.npy", "smpl_mean_params.npz"
_SMPL_SITE = "https://smpl.is.tue.mpg.de (registration; neutral: the SMPLify package or version 1.1.0)"
_SPIN_PACKAGE = "SPIN's data package (https://github.com/nkolot/SPIN, fetch_data.sh)"
_NUM_VERTS = 6890


@dataclasses.dataclass(frozen=True, eq=False)  # Equal only to itself: comparing arrays is not a yes or no.
class BodyFiles:
    """Everything that decides what a network's output means.

    Attributes:
      smpl: the neutral body.
      j49_regressor: SPIN's 49 joints from posed vertices (OpenPose's 25, then J24).
      h36m_regressor: the 17 joints of Human3.6M from posed vertices, in the order of `joints.H36M17`.
      mean_rot6d: mean pose, rotations in 6D with interleaved columns; the root faces the camera.
      mean_betas: mean shape.
      mean_cam: mean crop camera (s, tx, ty).
      directory: where the files are; None is the embedded body.
      description: for people.
      fingerprint: SHA-256 over the neutral body, the regressors and the mean parameters.
    """

    smpl: SmplModel
    j49_regressor: Float[np.ndarray, "49 V"]
    h36m_regressor: Float[np.ndarray, "17 V"]
    mean_rot6d: Float[np.ndarray, "144"]
    mean_betas: Float[np.ndarray, "S"]
    mean_cam: Float[np.ndarray, "3"]
    directory: Path | None
    description: str
    fingerprint: str

    @property
    def j24_regressor(self) -> Float[np.ndarray, "24 V"]:
        """The joints of `joints.J24` from posed vertices."""
        return self.j49_regressor[-24:]

    @property
    def regressed_vertices(self) -> Int[np.ndarray, "N"]:
        """The vertices that any of SPIN's points is regressed from (weight above 1e-9): SMPL's joints, landmarks, the 49.

        The authors' code builds only these in training; its vertex loss is their mean.
        """
        weights = np.concatenate([np.asarray(self.smpl.J_regressor), self.j49_regressor])
        return np.union1d(np.nonzero(weights > 1e-9)[1], list(mesh_points.LANDMARK_VERTICES.values()))

    def gendered(self, gender: str) -> SmplModel:
        """The male, female or neutral body, read when it is asked for; the embedded mannequin has one for all.

        Raises:
          ValueError: for another gender.
          FileNotFoundError: if the folder has no such body.
        """
        if gender not in _MODEL_NAMES:
            raise ValueError(f"Unknown gender {gender!r}; the known ones are {', '.join(_MODEL_NAMES)}.")
        if self.directory is None or gender == "neutral":
            return self.smpl
        path = _find_model(self.directory, gender)
        if path is None:
            raise FileNotFoundError(_missing_message(self.directory, [_model_wanted(gender)]))
        return _load_model(path, self.mean_betas.shape[0])


def load(directory: str | Path = "", shape_components: int = 10) -> BodyFiles:
    """Loads the embedded body, or licensed files.

    Args:
      directory: a folder with the neutral SMPL body (`SMPL_NEUTRAL.pkl`, `.npz` or the original names),
        `J_regressor_extra.npy`, `J_regressor_h36m.npy` and `smpl_mean_params.npz`; empty for the embedded mannequin.
      shape_components: shape coefficients to keep.

    Raises:
      FileNotFoundError: what is missing, what was found, and where to get it.
      ValueError: a file that is damaged, or not what its name says.
    """
    if str(directory) == "":
        return _load_embedded(shape_components)
    folder = Path(directory)
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder {folder} with body files. Leave body.dir empty to use the embedded body.")
    path = _find_model(folder, "neutral")
    missing = [] if path else [_model_wanted("neutral")]
    missing += [
        f"{name}, from {_SPIN_PACKAGE}"
        for name in (_EXTRA_FILE, _H36M_FILE, _MEAN_FILE)
        if not (folder / name).is_file()
    ]
    if missing or path is None:
        raise FileNotFoundError(_missing_message(folder, missing))
    mean = _read_arrays(folder / _MEAN_FILE, ("pose", "shape", "cam"))
    return _assemble(
        model=_load_model(path, shape_components),
        extra=untrusted.read_npy(folder / _EXTRA_FILE, "Download it again."),
        h36m=untrusted.read_npy(folder / _H36M_FILE, "Download it again."),
        mean=(mean["pose"], mean["shape"], mean["cam"]),
        directory=folder,
        description=f"{path.name} from {folder}",
    )


def _load_embedded(shape_components: int) -> BodyFiles:
    _verify_checksums(ASSETS)
    keys = ("J_regressor_extra", "J_regressor_h36m", "mean_pose", "mean_shape", "mean_cam")
    companions = _read_arrays(ASSETS / _EMBEDDED_COMPANIONS, keys)
    return _assemble(
        model=_load_model(ASSETS / _EMBEDDED_BODY, shape_components),
        extra=companions["J_regressor_extra"],
        h36m=companions["J_regressor_h36m"],
        mean=(companions["mean_pose"], companions["mean_shape"], companions["mean_cam"]),
        directory=None,
        description="embedded mannequin (no licence needed)",
    )


def _assemble(
    model: SmplModel,
    extra: np.ndarray,
    h36m: np.ndarray,
    mean: tuple[np.ndarray, np.ndarray, np.ndarray],
    directory: Path | None,
    description: str,
) -> BodyFiles:
    extra, h36m = _regressor(_EXTRA_FILE, extra, 9), _regressor(_H36M_FILE, h36m, 17)
    landmarks = np.eye(_NUM_VERTS, dtype=np.float32)[list(mesh_points.LANDMARK_VERTICES.values())]
    j49 = np.concatenate([np.asarray(model.J_regressor), landmarks, extra])[mesh_points.J49_FROM_54]
    pose, shape, cam = (
        _vector(f"{name} of {_MEAN_FILE}", value, size)
        for name, value, size in zip(("pose", "shape", "cam"), mean, (144, 10, 3), strict=True)
    )
    betas = np.zeros(model.shapedirs.shape[-1], np.float32)
    betas[:10] = shape[: len(betas)]
    return BodyFiles(
        smpl=model,
        j49_regressor=j49,
        h36m_regressor=h36m,
        mean_rot6d=pose,
        mean_betas=betas,
        mean_cam=cam,
        directory=directory,
        description=description,
        fingerprint=_fingerprint(model, {"j49": j49, "h36m": h36m, "pose": pose, "betas": betas, "cam": cam}),
    )


def _fingerprint(model: SmplModel, arrays: dict[str, np.ndarray]) -> str:
    """A digest of names, shapes and values. Derived fields, whose last bit may differ between machines, stay out."""
    fields = ("v_template", "shapedirs", "posedirs", "weights", "J_regressor", "faces")
    everything = {name: np.asarray(getattr(model, name)) for name in fields}
    everything |= {"parents": np.array(model.parents, np.int32)} | arrays
    return io.sha256_of_arrays(everything)


def _find_model(folder: Path, gender: str) -> Path | None:
    return next((folder / name for name in _MODEL_NAMES[gender] if (folder / name).is_file()), None)


def _model_wanted(gender: str) -> str:
    return f"the {gender} body ({' or '.join(_MODEL_NAMES[gender])}), from {_SMPL_SITE}"


def _missing_message(folder: Path, missing: list[str]) -> str:
    found = sorted(path.name for path in folder.iterdir())
    listing = ", ".join(found[:20]) + (", ..." if len(found) > 20 else "") or "nothing"
    lines = "".join(f"\n  {what}" for what in missing)
    return (
        f"The body folder {folder} lacks:{lines}\nFound there: {listing}.\n"
        "Leave body.dir empty to use the embedded body, which needs none of them."
    )


def _load_model(path: Path, shape_components: int) -> SmplModel:
    model = smpl.load(path, shape_components)
    if model.v_template.shape[0] != _NUM_VERTS or len(model.parents) != 24:
        raise ValueError(
            f"{path} has {model.v_template.shape[0]} vertices and {len(model.parents)} joints; SMPL has {_NUM_VERTS} "
            "and 24. SMPL-H and SMPL-X are other models: download SMPL itself."
        )
    return model


def _read_arrays(path: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    with untrusted.open_npz(path, "Download it again.") as file:
        return {key: file[key] for key in keys}


def _regressor(name: str, regressor: np.ndarray, rows: int) -> Float[np.ndarray, "X V"]:
    """A checked regressor: its rows sum to 1, or a body that is moved would not take its joints with it."""
    if regressor.shape != (rows, _NUM_VERTS):
        raise ValueError(f"{name} has the shape {regressor.shape}; ({rows}, {_NUM_VERTS}) was expected.")
    if regressor.dtype.kind not in "fiu":
        raise ValueError(f"{name} is an array of {regressor.dtype}; numbers were expected.")
    sums = np.asarray(regressor, np.float64).sum(1)
    wrong = np.flatnonzero(~(np.abs(sums - 1) < 0.01))
    if len(wrong):
        raise ValueError(f"Row {wrong[0]} of {name} sums to {sums[wrong[0]]:g}; rows of a regressor sum to 1.")
    return np.asarray(regressor, np.float32)


def _vector(name: str, value: np.ndarray, size: int) -> Float[np.ndarray, "n"]:
    if value.size != size or value.dtype.kind not in "fiu" or not np.all(np.isfinite(value)):
        raise ValueError(f"{name} has the shape {value.shape}; {size} finite numbers were expected.")
    return np.asarray(value, np.float32).reshape(size)


def _verify_checksums(folder: Path) -> None:
    """Compares the shipped files with their checksums: another mesh would silently mean another body."""
    for line in (folder / _CHECKSUMS).read_text(encoding="utf-8").splitlines():
        expected, name = line.split("  ", 1)
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(f"The embedded body lacks {path}. Reinstall the package.")
        if io.sha256_of_file(path) != expected:
            raise ValueError(f"{path} is not the file that was shipped (its SHA-256 differs). Reinstall the package.")
