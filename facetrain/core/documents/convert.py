"""`facetrain data convert --json`."""

from typing import Annotated, TypedDict


class ConvertedPart(TypedDict):
    """One part of a data set that was converted."""

    part: Annotated[str, "train, val, or all of a set that is not divided"]
    from_format: Annotated[str, "as it was recognised or forced"]
    from_labels: Annotated[str, "label file, or folder of label files"]
    from_images: Annotated[str, "folder of the images"]
    labels: Annotated[str, "label file or folder that was written"]
    images_folder: Annotated[str | None, "where the images are now; null where they stayed"]
    images: Annotated[int, "in the new labels"]
    faces: Annotated[int, "in the new labels"]
    with_landmarks: Annotated[int, "of these"]
    ignored: Annotated[int, "of these"]
    lost: Annotated[dict[str, int], "what the new format has no room for, and how many of each"]
    notes: Annotated[list[str], "what else was left out, or is not there"]


class ConvertedDocument(TypedDict):
    """A data set in another label format."""

    folder: Annotated[str, "that was made"]
    format: Annotated[str, "of its labels"]
    image_files: Annotated[str, "link, copy or none"]
    parts: Annotated[list[ConvertedPart], "train and val, or all"]
