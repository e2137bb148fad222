"""Which form of the kernels runs: plain Python until ``compiled.py`` puts the machine code in. · pure

The one piece of state that belongs to the process and not to an app: both forms give the same answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from common.lineprotocol import gather, kernel, memory


@dataclass(frozen=True, slots=True)
class Kernels:
    """The functions that are called from outside of the kernels, by name; signatures as in their modules."""

    compiled: bool
    parse_lines: Callable[..., Any]
    fill_table: Callable[..., Any]
    split_rows: Callable[..., Any]
    order_by: Callable[..., Any]
    check_entries: Callable[..., Any]
    lay_out: Callable[..., Any]
    plan_pieces: Callable[..., Any]
    fill_cells: Callable[..., Any]
    measure_strings: Callable[..., Any]
    copy_strings: Callable[..., Any]


PLAIN = Kernels(
    compiled=False,
    parse_lines=kernel.parse_lines,
    fill_table=memory.fill_table,
    split_rows=gather.split_rows,
    order_by=gather.order_by,
    check_entries=gather.check_entries,
    lay_out=gather.lay_out,
    plan_pieces=gather.plan_pieces,
    fill_cells=gather.fill_cells,
    measure_strings=gather.measure_strings,
    copy_strings=gather.copy_strings,
)

_current = [PLAIN]


def current() -> Kernels:
    """The form to call now; take it once for one piece of work."""
    return _current[0]


def use(kernels: Kernels) -> None:
    """Call *kernels* from now on."""
    _current[0] = kernels
