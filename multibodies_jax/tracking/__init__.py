"""People over time: frames of a video, who is who from frame to frame, and sets of bodies that keep their order.

`frames` decodes, `tracks` gives each person a number, `linking` keeps body k the same explanation, `smoothing` filters
rotations and places and bridges gaps, and `spool` keeps rows on disk, so that memory does not grow with the video.
"""
