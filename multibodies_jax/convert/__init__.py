"""Converts PyTorch checkpoints of SPIN, 3D-Multibodies and torchvision to work directories, and back."""
