"""Eight doubles that compiled code holds in one register: `Lanes`, with `+ - *`, `load`, `store` and `spread`.

For kernels that do the same to eight numbers at once and must not leave it to the compiler to see that: its loop
vectoriser has to prove that no array overlaps another, and gives up (the same kernel written as loops took 2.7 times as
long, 424 against 157 us). LLVM splits the eight for processors with narrower registers. Each lane is computed as a
double by itself, rounded after every operation and never fused, so the bits are the same on every processor.

`load` and `store` address the i-th WIDTH numbers of a C-contiguous float64 array, whatever its shape, and check
nothing; they are fastest where those are one cache line.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

# mypy: disable-error-code="import-untyped,untyped-decorator,no-untyped-def,no-untyped-call,misc,type-arg"

WIDTH: Final = 8
_VECTOR: Final = ir.VectorType(ir.DoubleType(), WIDTH)
_INT: Final = ir.IntType(32)


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__("Lanes")


LANES: Final = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, of: Any) -> None:
        super().__init__(manager, of, _VECTOR)


def _define(operation: Callable[[Any, Any], Any], instruction: str) -> None:
    """Let compiled code apply an operator of Python's to two Lanes."""

    @infer_global(operation)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            return signature(LANES, LANES, LANES) if tuple(args) == (LANES, LANES) else None

    @lower_builtin(operation, LANES, LANES)
    def _lower(context, builder, sig, args):
        return getattr(builder, instruction)(*args)


_define(operator.add, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")


def _row(context, builder, sig, args):
    """Where a row of an array stands in memory."""
    array = context.make_array(sig.args[0])(context, builder, args[0])
    first = builder.mul(args[1], ir.Constant(args[1].type, WIDTH))
    return builder.bitcast(builder.gep(array.data, [first]), _VECTOR.as_pointer())


@intrinsic
def load(_context, rows, i):
    """Row `i` of `rows`."""

    def generate(context, builder, sig, args):
        return builder.load(_row(context, builder, sig, args), align=8)

    return LANES(rows, types.intp), generate


@intrinsic
def store(_context, rows, i, lanes):
    """Write `lanes` to row `i` of `rows`."""

    def generate(context, builder, sig, args):
        builder.store(args[2], _row(context, builder, sig, args), align=8)
        return context.get_dummy_value()

    return types.void(rows, types.intp, lanes), generate


@intrinsic
def spread(_context, x):
    """`x` in every lane."""

    def generate(_context, builder, _sig, args):
        nothing = ir.Constant(_VECTOR, ir.Undefined)
        one = builder.insert_element(nothing, args[0], ir.Constant(_INT, 0))
        return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(_INT, WIDTH), [0] * WIDTH))

    return LANES(types.float64), generate
