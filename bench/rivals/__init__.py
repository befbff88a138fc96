"""What a user would run instead of noria; only the data of the workloads is shared."""
