"""Converts PyTorch checkpoints of SPIN, 3D-Multibodies, GraphCMR and torchvision to work directories, and back."""

KINDS = ("spin", "multibodies", "graphcmr", "resnet50")
"""What can be converted: files of SPIN, of 3D-Multibodies, of GraphCMR, and torchvision's ResNet-50."""
