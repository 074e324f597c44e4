"""A calibration in the format of Qualisys, as the wheel of Pose2Sim has one."""

import numpy as np

_CAMERA = """<camera serial="cam0{number}"><transform {rotation} x="{x}" y="{y}" z="0"/>
<intrinsic focallength="9" focalLengthU="12800" focalLengthV="12800" centerPointU="7680" centerPointV="10240"
 radialDistortion1="-0.05" radialDistortion2="0.1" tangentalDistortion1="0.001" tangentalDistortion2="0"/></camera>"""


def calibration(numbers: tuple[int, ...] = (1, 2, 3, 4)) -> bytes:
    """Cameras 3 m from the origin, a quarter turn apart, which look at it; z is up."""
    cameras = []
    for number in numbers:
        angle = np.pi / 2 * number
        to_origin = -np.array([np.cos(angle), np.sin(angle), 0])
        # In the file y is up and the camera looks along -z.
        R = np.stack([np.cross([0, 0, 1], -to_origin), [0, 0, 1], -to_origin])
        rotation = " ".join(f'r{i + 1}{j + 1}="{R[i, j]}"' for i in range(3) for j in range(3))
        x, y = -3000 * to_origin[:2]
        cameras.append(_CAMERA.format(number=number, rotation=rotation, x=x, y=y))
    return f"<calibration><cameras>{''.join(cameras)}</cameras></calibration>".encode()
