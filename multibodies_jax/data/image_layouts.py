"""Where the images of SPIN-format lists lie: the datasets' folders as SPIN and other projects unpack them.

A list names images by one scheme; a folder may follow another. Names are parsed into what they say (subject, camera,
frame, ...), and the layouts of their dataset are tried in turn. Frame numbers are taken over as they are: SPIN's test
images of Human3.6M show the video frame after the one of most other extractions (20 ms).
"""

import dataclasses
import pathlib
import re
from collections.abc import Sequence

_H36M_ACTIONS = (
    "Directions", "Discussion", "Eating", "Greeting", "Phoning", "Posing", "Purchases", "Sitting", "SittingDown",
    "Smoking", "TakingPhoto", "Waiting", "Walking", "WalkingDog", "WalkingTogether",
)  # fmt: skip
_H36M_FIRST_ACTION = 2  # Number 1 is _ALL.
_H36M_SHORT = {
    "TakingPhoto": "Photo",
    "WalkingDog": "WalkDog",
    "WalkingTogether": "WalkTogether",
}  # Except the first two of S1.
_H36M_CAMERAS = ("54138969", "55011271", "58860488", "60457274")  # ca_01 to ca_04.
# What the files of an action's two takes are called behind its name, where it is not "_1" and "" (metadata.xml).
_H36M_TAKES = {
    1: {"Eating": ("_2", ""), "Sitting": ("_1", "_2"), "SittingDown": ("_2", "")},
    5: {
        **{"Directions": ("_1", "_2"), "Discussion": ("_2", "_3"), "Greeting": ("_1", "_2")},
        **{"SittingDown": ("", "_1"), "TakingPhoto": ("", "_2"), "Waiting": ("_1", "_2")},
    },
    6: {
        **{"Eating": ("_1", "_2"), "Posing": ("_2", ""), "Sitting": ("_1", "_2")},
        **{"TakingPhoto": ("", "_1"), "Waiting": ("_3", "")},
    },
    7: {
        **{"Phoning": ("_2", ""), "SittingDown": ("", "_1"), "TakingPhoto": ("", "_1")},
        **{"Waiting": ("_1", "_2"), "Walking": ("_1", "_2")},
    },
    8: {"SittingDown": ("", "_1"), "WalkingTogether": ("_1", "_2")},
    9: {"Discussion": ("_1", "_2"), "SittingDown": ("", "_1")},
    11: {
        **{"Discussion": ("_1", "_2"), "Greeting": ("_2", ""), "Phoning": ("_3", "_2")},
        **{"SittingDown": ("", "_1"), "Smoking": ("_2", "")},
    },
}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The naming schemes of one dataset.

    Attributes:
      stem: what the names of its lists start with.
      folders: names its root goes by, where several datasets lie side by side.
      patterns: of the end of an image's name; the groups are what it says.
      layouts: templates of paths below the root, from those groups.
    """

    stem: str
    folders: tuple[str, ...]
    patterns: tuple[str, ...] = ()
    layouts: tuple[str, ...] = ()


_H36M_NAME = "S{subject}_{take}.{camera}/S{subject}_{take}.{camera}_{frame:06d}.jpg"
_H36M_NUMBERS = "s_{subject:02d}_act_{action:02d}_subact_{subaction:02d}_ca_{view:02d}"

DATASETS = (
    Dataset(
        stem="h36m",
        folders=("h36m", "human36m", "Human3.6M", "Human36M"),
        patterns=(
            r"S(?P<subject>\d+)_(?P<take>[A-Za-z]+(?:_\d)?)\.(?P<camera>\d{8})_(?P<frame>\d+)\.jpg",
            r"s_(?P<subject>\d+)_act_(?P<action>\d+)_subact_(?P<subaction>\d+)_ca_(?P<view>\d+)_(?P<frame>\d+)\.jpg",
            r"S(?P<subject>\d+)/(?P<action_name>[A-Za-z]+)-(?P<subaction>\d)/imageSequence/(?P<camera>\d{8})/img_(?P<frame>\d+)\.jpg",
            r"S(?P<subject>\d+)/(?:Images/)?(?P<stem>[A-Za-z]+(?: \d)?)\.(?P<camera>\d{8})/(?:frame_)?(?P<index>\d+)\.jpg",
        ),
        layouts=(
            "images/S{subject}_{take}.{camera}_{frame:06d}.jpg",
            "S{subject}_{take}.{camera}_{frame:06d}.jpg",
            f"S{{subject}}/images/{_H36M_NAME}",
            f"S{{subject}}/{_H36M_NAME}",
            f"images/{_H36M_NUMBERS}/{_H36M_NUMBERS}_{{frame:06d}}.jpg",
            f"{_H36M_NUMBERS}/{_H36M_NUMBERS}_{{frame:06d}}.jpg",
            "S{subject}/{action_name}-{subaction}/imageSequence/{camera}/img_{frame:06d}.jpg",
            "S{subject}/{stem}.{camera}/{index}.jpg",
            "S{subject}/Images/{stem}.{camera}/frame_{index}.jpg",
        ),
    ),
    Dataset(
        stem="3dpw",
        folders=("3dpw", "3DPW", "threedpw"),
        patterns=(r"(?P<sequence>[^/]+)/image_(?P<frame>\d+)\.jpg",),
        layouts=(
            "imageFiles/{sequence}/image_{frame:05d}.jpg",
            "imageFiles/imageFiles/{sequence}/image_{frame:05d}.jpg",
            "{sequence}/image_{frame:05d}.jpg",
        ),
    ),
    Dataset(
        stem="mpi_inf_3dhp",
        folders=("mpi_inf_3dhp", "mpi-inf-3dhp", "MPI-INF-3DHP"),
        patterns=(
            r"TS(?P<test>\d)/imageSequence/img_(?P<frame>\d+)\.jpg",
            r"S(?P<subject>\d)/Seq(?P<sequence>\d)/(?:imageFrames/)?video_(?P<camera>\d+)/(?:frame_)?(?P<frame>\d+)\.jpg",
            r"S(?P<subject>\d)/Seq(?P<sequence>\d)/imageFrames/img_(?P<camera>\d+)_(?P<frame>\d+)\.jpg",
            r"S(?P<subject>\d)_Seq(?P<sequence>\d)_Cam(?P<camera>\d+)_(?P<frame>\d+)\.jpg",
            r"img_S(?P<subject>\d)_Seq(?P<sequence>\d)_V(?P<camera>\d+)_(?P<frame>\d+)\.jpg",
        ),
        layouts=(
            "mpi_inf_3dhp_test_set/TS{test}/imageSequence/img_{frame:06d}.jpg",
            "mpi_inf_3dhp_test_set/mpi_inf_3dhp_test_set/TS{test}/imageSequence/img_{frame:06d}.jpg",
            "TS{test}/imageSequence/img_{frame:06d}.jpg",
            "S{subject}/Seq{sequence}/imageFrames/video_{camera}/frame_{frame:06d}.jpg",
            "S{subject}/Seq{sequence}/video_{camera}/{frame:06d}.jpg",
            "S{subject}/Seq{sequence}/imageFrames/img_{camera}_{frame:06d}.jpg",
            "S{subject}_Seq{sequence}_Cam{camera}_{frame:06d}.jpg",
            "S{subject}/Seq{sequence}/images/S{subject}_Seq{sequence}_V{camera}"
            "/img_S{subject}_Seq{sequence}_V{camera}_{frame:06d}.jpg",
        ),
    ),
    Dataset(stem="lsp", folders=("lsp", "lsp_dataset_original", "lsp_dataset")),
    Dataset(stem="hr-lspet", folders=("hr-lspet", "hr_lspet", "lspet")),
    Dataset(stem="mpii", folders=("mpii", "MPII", "mpii_human_pose_v1")),
    Dataset(stem="coco", folders=("coco", "COCO", "coco2014")),
)
_UNKNOWN = Dataset(stem="", folders=())
_AS_NAMED = "the names of the list"


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the images of a list were found.

    Attributes:
      root: the folder that holds them.
      template: of the paths below it; or that they are as the list has them.
      dataset: whose naming schemes the list follows.
    """

    root: pathlib.Path
    template: str
    dataset: Dataset

    def path(self, name: str) -> pathlib.Path | None:
        """The file of an image; None where the name does not say what the layout is made of.

        Raises:
          ValueError: a name that leads out of the folder.
        """
        _check(name)
        if self.template == _AS_NAMED:
            return self.root / name
        said = parse(name, self.dataset)
        try:
            return self.root / self.template.format(**said)
        except KeyError:
            return None


def find(image_dir: pathlib.Path, stem: str, names: Sequence[str]) -> Layout:
    """Finds out how a folder of images is laid out, by looking for some images of a list.

    Args:
      image_dir: root of the images, or a folder with one root for each dataset.
      stem: name of the list without its extension; its start tells the dataset.
      names: of images, as the list has them; the first that is there in any layout decides.

    Raises:
      ValueError: a name that leaves the folder, or none of the images is there in any of the layouts. The message says
        what was looked for and what there is.
    """
    dataset = next((d for d in DATASETS if stem.lower().startswith(d.stem)), _UNKNOWN)
    roots = [image_dir, *(image_dir / folder for folder in dataset.folders if (image_dir / folder).is_dir())]
    tried = []
    for name in names:
        for root in roots:
            for template in (_AS_NAMED, *dataset.layouts):
                layout = Layout(root, template, dataset)
                path = layout.path(name)
                if path is not None and path.is_file():
                    return layout
                if path is not None and name == names[0]:
                    tried.append(str(path))
    looked = "\n".join(f"  {path}" for path in dict.fromkeys(tried))
    raise ValueError(
        f"None of {len(names)} images of {stem}.npz that were looked for is below config.data.image_dir = {image_dir}.\n"
        f"The first, {names[0]}, was expected as one of\n{looked}\nbut {_listing(image_dir)}"
    )


def parse(name: str, dataset: Dataset) -> dict[str, int | str]:
    """What an image's name says (subject, take, camera, frame, ...), numbers as integers, except takes and cameras; {} if nothing."""
    for pattern in dataset.patterns:
        if match := re.search(rf"(?:^|/){pattern}$", name):
            said: dict[str, int | str] = {
                key: value if key in ("take", "camera") or not value.isdigit() else int(value)
                for key, value in match.groupdict().items()
            }
            return _h36m(said) if dataset.stem == "h36m" else said
    return {}


def _h36m(said: dict) -> dict[str, int | str]:
    """The same image in all of Human3.6M's notations, where the official metadata has its recording."""
    if "index" in said:  # Files are named after the video, and their numbers count from 0.
        said = said | {"take": said["stem"].replace(" ", "_"), "frame": said["index"] + 1}
    numbers = _h36m_numbers(said)
    if numbers is None:
        return said
    action, subaction, view = numbers
    name = _H36M_ACTIONS[action - _H36M_FIRST_ACTION]
    take = _h36m_takes(said["subject"], name)[subaction - 1]
    return said | {
        **{"action": action, "action_name": name, "subaction": subaction, "view": view},
        **{"take": take, "camera": _H36M_CAMERAS[view - 1], "stem": take.replace("_", " "), "index": said["frame"] - 1},
    }


def _h36m_numbers(said: dict) -> tuple[int, int, int] | None:
    """Action, subaction and camera as the metadata counts them; None where it has no such recording."""
    if "camera" in said and said["camera"] not in _H36M_CAMERAS:
        return None
    view = _H36M_CAMERAS.index(said["camera"]) + 1 if "camera" in said else said["view"]
    if "take" in said:
        for action, name in enumerate(_H36M_ACTIONS, start=_H36M_FIRST_ACTION):
            takes = _h36m_takes(said["subject"], name)
            if said["take"] in takes:
                return action, takes.index(said["take"]) + 1, view
        return None
    names = dict(enumerate(_H36M_ACTIONS, start=_H36M_FIRST_ACTION))
    action = said["action"] if "action" in said else next((n for n, a in names.items() if a == said["action_name"]), 0)
    return (
        (action, said["subaction"], view)
        if action in names and said["subaction"] in (1, 2) and 1 <= view <= 4
        else None
    )


def _h36m_takes(subject: int, action: str) -> tuple[str, str]:
    """How the files of an action's two takes are called, with "_" for the space."""
    long = subject == 1 and action in ("TakingPhoto", "WalkingDog")
    name = action if long else _H36M_SHORT.get(action, action)
    first, second = _H36M_TAKES.get(subject, {}).get(action, ("_1", ""))
    return name + first, name + second


def _check(name: str) -> None:
    """Names come from files of others: none may lead out of the folder."""
    path = pathlib.PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ValueError(
            f"{name!r} is no path below a folder of images; imgname has paths relative to the dataset's root."
        )


def _listing(folder: pathlib.Path) -> str:
    if not folder.is_dir():
        return "there is no such folder."
    entries = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f" and {len(entries) - 12} more" if len(entries) > 12 else ""
    return f"that folder has {', '.join(entries[:12]) + more if entries else 'nothing in it'}."
