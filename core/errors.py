"""One clear sentence for the person at the keyboard."""

from __future__ import annotations

import difflib
import re
import sys
import traceback
from collections.abc import Callable, Iterable

OUT_OF_MEMORY = 137
"""Exit status of a process that the kernel killed for its memory, as a shell gives it; ours where Python had none."""


DEVICE_FAULT = 134
"""Exit status after a fault of a GPU that its process does not survive: what a shell gives for one that aborts."""


def out_of_device_memory(error: BaseException) -> bool:
    """Whether it is torch's error for a GPU's memory that is full; torch is not imported for it."""
    return isinstance(error, _of_torch("OutOfMemoryError")) or (_of_cuda(error) and "ALLOC_FAILED" in str(error))


def device_fault(error: BaseException) -> bool:
    """Whether it is torch's error for a GPU that has failed; every later use of that GPU fails too in this process.

    So is one of CUDA's libraries, whatever it complains of: a fault of the code's own comes again when it is retried.
    """
    return isinstance(error, _of_torch("AcceleratorError")) or (_of_cuda(error) and not out_of_device_memory(error))


def lacks_compiler(error: BaseException) -> bool:
    """Whether torch.compile (Inductor, or Triton for it) found no compiler on this machine."""
    return bool(re.search(r"Failed to find C compiler|No working C\+\+ compiler", str(error)))


def _of_cuda(error: BaseException) -> bool:
    """Whether it is one for which torch has no class of its own, such as `CUBLAS_STATUS_ALLOC_FAILED`."""
    return type(error) is RuntimeError and bool(re.search("CUDA|CUBLAS|CUDNN|cuDNN", str(error)))


def _of_torch(name: str) -> type | tuple[()]:
    return getattr(sys.modules.get("torch"), name, ())  # where torch is not loaded, none of its errors was raised


class UserError(Exception):
    """Something the user can mend; its message says what to do, in one sentence."""


def known(kind: str, name: str, names: Iterable[str]) -> UserError:
    """The error for an unknown name: what is known and, if one is close, what was probably meant."""
    names = list(names)
    close = difflib.get_close_matches(str(name), names, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return UserError(f"there is no {kind} {name!r} (known: {', '.join(names) or 'none'}){meant}")


def run_cli(main: Callable[[], int | None]) -> None:
    """Run a command line; print a `UserError` as one line and exit with status 2, out of memory with OUT_OF_MEMORY.

    That is the host's memory or a GPU's; after another fault of a GPU the status is DEVICE_FAULT.
    """
    try:
        sys.exit(main() or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except MemoryError as error:
        print(f"error: there is not enough memory ({error or 'no more is said'})", file=sys.stderr)
        sys.exit(OUT_OF_MEMORY)
    except Exception as error:
        if not (out_of_device_memory(error) or device_fault(error)):
            raise
        traceback.print_exc()
        sys.exit(OUT_OF_MEMORY if out_of_device_memory(error) else DEVICE_FAULT)
