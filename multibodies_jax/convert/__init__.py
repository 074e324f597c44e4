"""Converts PyTorch checkpoints of SPIN, 3D-Multibodies and torchvision to work directories, and back."""

KINDS = ("spin", "multibodies", "resnet50")
"""What can be converted: files of SPIN, of 3D-Multibodies, and torchvision's ResNet-50."""
