"""SPIN's loop (Kolotouros et al., 2019), a baseline of the paper: bodies fitted to keypoints become labels."""
