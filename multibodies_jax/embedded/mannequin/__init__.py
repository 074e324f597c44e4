"""Builds the embedded body: a procedural mannequin in SMPL's file format, made without any licensed data.

    python -m multibodies_jax.embedded.mannequin --out=DIR   (needs the extra `generate`)

An implicit surface typed in from anthropometric tables is meshed, skinned and given shape components, regressors and
pose correctives. The joint tree and the landmark vertex ids are SMPL's public constants; no number comes from SMPL's
data. The result is shipped in `multibodies_jax/body/assets`, because the mesh decides what a trained network means.
"""
