"""Whether what is over goes by itself: memory that only a collector gives back is kept until one runs, and a collector
counts objects, not how large they are.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nothing_to_collect() -> Iterator[None]:
    """Demand that no object of the program's own that this block lets go of is part of a cycle."""
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found = sorted({type(one).__qualname__ for one in gc.garbage if type(one).__module__.startswith("proxy.")})
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert found == []
