"""How many threads numeric libraries take: they read it from the environment when they are loaded."""

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

FIT_THREADS = 8
"""The most that a training with a GPU is given: it decodes images with them before its steps, and draws batches."""


def thread_variables(count: int) -> dict[str, str]:
    """What to set, before NumPy or torch is imported, for this many threads."""
    return dict.fromkeys(VARIABLES, str(count))
