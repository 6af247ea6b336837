"""Memory that the C library keeps after much was freed."""

import ctypes
import sys


def return_free_memory() -> None:
    """Give freed heap pages back to the system, where the C library can (glibc).

    Opening a session frees about as much as it keeps: the file, and the weights before they
    were packed. Decoding a large image frees more than it keeps. glibc would hold on to it.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
