"""The builder of `pose2sim_demo`: see README.md."""
