"""What a file of weights says of what its network finds, handed on to files that are made of it."""

from collections.abc import Mapping

from facetrain.detect import face_range, operating_points


def said_of(info: Mapping[str, object], *, same_scores: bool = True) -> dict[str, str]:
    """The sizes of faces that it finds and its operating points, as far as a file says them in a readable way.

    same_scores: whether the other file's network gives the same scores: of one that is quantised the operating points
                 are not known
    """
    said = dict(face_range.as_metadata(face_range.parse_range(info.get(face_range.METADATA))))
    if same_scores:
        said |= operating_points.as_metadata(operating_points.parse_points(info.get(operating_points.METADATA)))
    return said
