"""`facetrain data check --json`, and what `eval --json` says of labels."""

from typing import Annotated, TypedDict


class FindingDocument(TypedDict):
    """A face, or an image, that cannot be right."""

    image: Annotated[str, "its name in the labels"]
    face: Annotated[int | None, "its place in the image, from 0; null where it is about the image"]
    value: Annotated[str, "what the labels say"]


class KindDocument(TypedDict):
    """A way in which labels cannot be right."""

    kind: Annotated[str, "its name"]
    words: Annotated[str, "what it means, behind the number"]
    count: Annotated[int, "how many are of it"]
    of: Annotated[int, "how many could be: faces, faces with landmarks, or images"]
    done: Annotated[str, "left out, clipped or kept"]
    first: Annotated[list[FindingDocument], "some of them"]


class LabelsDocument(TypedDict):
    """What was found in labels, and what was left out or clipped for it."""

    changed: Annotated[int, "faces or images that were left out or clipped"]
    kinds: Annotated[list[KindDocument], "that were found"]
