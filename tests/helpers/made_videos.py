"""Small videos made on the spot, and their MP4 headers rewritten as phones and screen recorders write them."""

import struct

import cv2
import numpy as np

SIZE = (64, 48)


def write(path, images, fps=25.0, codec="mp4v"):
    """Writes RGB images as a video."""
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def counted(num, size=SIZE):
    """Images whose brightness says which one it is; the top left quarter is red in all."""
    images = []
    for k in range(num):
        image = np.full((size[1], size[0], 3), 20 + 7 * k, np.uint8)
        image[: size[1] // 2, : size[0] // 2] = (220, 20, 20)
        images.append(image)
    return images


def number(image):
    """Which of the `counted` images this is."""
    return round((float(np.median(image[-8:, -8:])) - 20) / 7)


def turn(path, quarters):
    """Stores that the camera was held turned: a player turns the frames clockwise by as many quarters."""
    content = bytearray(path.read_bytes())
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarters % 4]
    at = content.index(b"tkhd") + 4 + 40  # Version and flags, 20 bytes of times and number, 16 of layout.
    content[at : at + 36] = struct.pack(">9i", cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def vary_rate(path, durations):
    """Stores a duration for each frame, in units of the file's time scale.

    The table of durations grows, and with it the boxes that hold it; the frames stand before them and stay.
    """
    content = path.read_bytes()
    assert content.index(b"mdat") < content.index(b"moov")
    start = content.index(b"stts") - 4
    size = struct.unpack(">I", content[start : start + 4])[0]
    table = b"".join(struct.pack(">II", 1, duration) for duration in durations)
    box = struct.pack(">I4sII", 16 + len(table), b"stts", 0, len(durations)) + table
    changed = bytearray(content[:start] + box + content[start + size :])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        at = changed.index(name, content.index(b"moov")) - 4
        old = struct.unpack(">I", changed[at : at + 4])[0]
        changed[at : at + 4] = struct.pack(">I", old + len(box) - size)
    # The list of edits says how much of the frames is shown: all.
    at = changed.index(b"elst") + 4 + 8
    changed[at : at + 4] = struct.pack(">I", 1 << 30)
    path.write_bytes(changed)
    return path


def time_scale(path):
    """Units per second of the durations."""
    content = path.read_bytes()
    at = content.index(b"mdhd") + 4 + 12  # Version and flags, two times.
    return struct.unpack(">I", content[at : at + 4])[0]
