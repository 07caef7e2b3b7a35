"""The names of images in label files: relative paths with forward slashes that stay inside the image folder."""

from pathlib import PurePosixPath, PureWindowsPath

from facetrain.data.label_text import MalformedError


def checked_name(token: str) -> str:
    """An image's path with forward slashes, which a file from Windows may not have, and without `.` and `//`.

    Raises MalformedError where it is none, or could leave the image folder.
    """
    path = PurePosixPath(token.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(token).drive:
        raise MalformedError(token, "an absolute path; it must be relative to the image folder")
    if ".." in path.parts:
        raise MalformedError(token, "a path with `..`; it must stay inside the image folder")
    if not path.parts or "\0" in token:
        raise MalformedError(token, "not a path")
    try:
        token.encode()
    except UnicodeEncodeError as error:  # shown as Latin-1, the likeliest thing that it is instead
        shown = token.encode("utf-8", "surrogateescape").decode("latin-1")
        raise MalformedError(shown, "the path is not UTF-8") from error
    return str(path)
