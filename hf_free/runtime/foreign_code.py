"""Code of the user's own or of a library, which may raise anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hf_free.errors import HfFreeError
from hf_free.runtime.device import is_out_of_memory


@contextmanager
def told(make: Callable[[BaseException], HfFreeError]) -> Iterator[None]:
    """Within the block whatever such code raises, also what would end the process, becomes an error of ours; those of
    ours and a lack of memory stay what they are.

    Args:
        make: The error that stands for what was raised.

    Raises:
        HfFreeError: what `make` gives.
    """
    try:
        yield
    except HfFreeError:
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        raise make(error) from error
