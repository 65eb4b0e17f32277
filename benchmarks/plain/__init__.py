"""The same algorithms without the optimisations, written by us: what each path is compared with."""
