"""The builder of `mpi_inf_3dhp`: see README.md."""
