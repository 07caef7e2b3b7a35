"""Labels of which too many cannot be right: an error that says what they look like and what converts them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from facetrain.core.commands import command_line
from facetrain.core.errors import DataError
from facetrain.data.plausibility.conventions import FORMS, Look, look_of, words_of
from facetrain.data.plausibility.judge import LIMIT, SIZE, SIZE_WORDS, Counted, Judgement
from facetrain.data.plausibility.kinds import BOX_KINDS, KINDS
from facetrain.data.plausibility.points import POINT_CONVENTIONS, Points, order_of, point_look_of

_TRUST = "`trust_labels` takes labels as they are"


def refusals(judgement: Judgement, points: Points, given: str, root: Path) -> list[DataError]:
    """An error for each kind that labels are refused for; none where they may be used.

    given: the convention that the boxes were read in, see `conventions`. root: the set's folder, for the command
    """
    many = {kind.kind: kind for kind in judgement.kinds if kind.share > LIMIT}
    errors = []
    boxes = [many[name] for name in BOX_KINDS if name in many]
    if boxes and (error := _boxes(judgement, boxes, given, root)) is not None:
        errors.append(error)
    errors += [_landmarks(judgement, kind, points, given, root) for name, kind in many.items() if _of_landmarks(name)]
    if "twice" in many:
        hint = f"are these two label files in one? Take the second of each out, or: {_TRUST}"
        errors.append(DataError(_said(many["twice"]), hint))
    if SIZE in many:
        command = _convert(root, rescale=True)
        hint = f"where boxes belong to that other size, this scales them to the images that are there: {command}"
        errors.append(DataError(_said(many[SIZE]), hint))
    return errors


def refused(judgement: Judgement, points: Points, given: str, root: Path) -> Judgement:
    """The same with a mark at the kinds that labels are refused for."""
    many = {kind.kind for kind in judgement.kinds if kind.share > LIMIT}
    boxes = [name for name in BOX_KINDS if name in many]
    if all(BOX_KINDS[name].needs_look for name in boxes) and _look(judgement, boxes, given) is None:
        many.difference_update(boxes)
    return replace(judgement, kinds=tuple(replace(kind, refused=kind.kind in many) for kind in judgement.kinds))


def _of_landmarks(name: str) -> bool:
    return name in KINDS and KINDS[name].of == "landmarks"


def _boxes(judgement: Judgement, many: list[Counted], given: str, root: Path) -> DataError | None:
    """What is said of boxes; None where faces of such a shape are all that there is, and nothing explains them."""
    look = _look(judgement, [kind.kind for kind in many], given)
    most = max((kind for kind in many if not BOX_KINDS[kind.kind].needs_look), key=_count, default=None)
    if most is None and look is None:
        return None
    said = _said(most or many[0])
    if look is None:
        larger = _times_larger(judgement)
        if larger is not None:
            hint = f"boxes reach up to {larger:.3g} times over their images: were they made on larger copies?"
        elif given == "xyxy":
            hint = f"a box is {words_of(given)}: are these x y width height, or shares of the image?"
        else:
            hint = f"a box is {words_of(given)}; none of the other conventions explains these"
        return DataError(said, f"{hint} Correct them, or: {_TRUST}")
    which = words_of(look.convention) + (f" (or {words_of(look.also)})" if look.also else "")
    hint = f"they look like {which}: {look.explained:,} of these {look.wrong:,} then fit into their images"
    if not look.whole:
        hint += ", but the others do not: two conventions in one set?"
    hint += f"\nconvert them: {_convert(root, boxes=look.convention)}"
    if most is None:
        hint += f"\nif faces really are like that: {_TRUST}"
    return DataError(said, hint)


def _look(judgement: Judgement, names: list[str], given: str) -> Look | None:
    """The convention that the boxes of some kinds look like.

    What some faces are like must be explained with all others: odd shapes in pixels, a set in the corner in percent.
    """
    assert judgement.table is not None
    if not names:
        return None
    wrong = np.any([judgement.masks[name] for name in names], axis=0)
    look = look_of(judgement.table, wrong, given)
    if look is None or not all(BOX_KINDS[name].needs_look for name in names):
        return look
    fits = look.convention.endswith("-percent") if "in_percent" in names else look.convention in FORMS
    return look if look.whole and fits else None


def _times_larger(judgement: Judgement) -> float | None:
    """How far boxes of a face's shape reach, in sides of their image; None where few of them are such boxes."""
    table = judgement.table
    assert table is not None
    over = judgement.masks["misses"] | judgement.masks["leaves"]
    if not over.any() or judgement.masks["no_area"].mean() > LIMIT:
        return None
    return float(np.max(table.boxes[over, 2:] / table.sizes[over]))


def _landmarks(judgement: Judgement, kind: Counted, points: Points, given: str, root: Path) -> DataError:
    table, mask = judgement.table, judgement.masks[kind.kind]
    assert table is not None
    said = _said(kind)
    looks, option = "", {}
    if kind.kind == "point_outside" and (convention := point_look_of(table, mask)) is not None:
        looks, option = POINT_CONVENTIONS[convention], {"landmarks": convention}
    elif kind.kind == "point_outside" and (look := look_of(table, mask, given)) is not None:
        looks, option = f"boxes as {words_of(look.convention)}", {"boxes": look.convention}
    elif (order := order_of(table, mask, points)) is not None:
        looks, option = f"points in the order {', '.join(order)}", {"order": ",".join(order)}
    if option:
        return DataError(said, f"they look like {looks}\nconvert them: {_convert(root, **option)}")
    return DataError(said, f"the points are {', '.join(points.names)}; correct the labels, or: {_TRUST}")


def _said(kind: Counted) -> str:
    words = SIZE_WORDS if kind.kind == SIZE else KINDS[kind.kind].words
    first = kind.first[0]
    return f"{kind.count:,} of {kind.of:,} {words[kind.of > 1]}, the first in {first.image}: {first.value}"


def _count(kind: Counted) -> int:
    return kind.count


def _convert(root: Path, **option: str | bool) -> str:
    return command_line("data convert", root, **option, to="NEW")
