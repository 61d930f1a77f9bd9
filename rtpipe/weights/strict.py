"""Whether tensors are those of a network: every one that it has, of its shape, and no other."""

from __future__ import annotations

from collections.abc import Mapping

from rtpipe.errors import InputError
from rtpipe.types import Array
from rtpipe.weights.words import first_few


def matched(tensors: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], what: str) -> dict[str, Array]:
    """``tensors`` in the order of ``shapes``, which are those of the network ``what``.

    Raises ``InputError`` in two lines: how many fit, and the first few that are missing, superfluous or of another
    shape.
    """
    there = shapes.keys() & tensors.keys()
    odd = {name: tuple(tensors[name].shape) for name in there if tuple(tensors[name].shape) != tuple(shapes[name])}
    absent, foreign = shapes.keys() - there, tensors.keys() - there
    if not (odd or absent or foreign):
        return {name: tensors[name] for name in shapes}
    wrong = []
    if absent:
        wrong.append(f"missing: {first_few(absent)}")
    if foreign:
        wrong.append(f"superfluous: {first_few(foreign)}")
    if odd:
        others = {f"{name} {_by(shape)} instead of {_by(shapes[name])}" for name, shape in odd.items()}
        wrong.append(f"of another shape: {first_few(others)}")
    fit = len(there) - len(odd)
    raise InputError(f"not the weights of {what}: {fit} of its {len(shapes)} tensors fit\n{'; '.join(wrong)}")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
