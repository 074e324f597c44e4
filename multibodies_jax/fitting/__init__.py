"""Fits bodies to the 2D keypoints that are seen, under the pose prior."""
