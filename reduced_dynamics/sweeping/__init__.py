"""Sweeps: many points of one system, kept in a Zarr store as they come; see `run.sweep`.

`axes` reads what is swept, `plan` says which points that makes, `work` computes a block of them,
`runners` does so on threads, processes or a cluster, `store` keeps the results, `reading` opens
them again.
"""
