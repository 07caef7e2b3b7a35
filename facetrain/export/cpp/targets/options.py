"""What a C++ target is told besides the network, and what it says of how its files are checked.

A target NAME is the module NAME.py of this folder with `files(net, options)`, relative path -> text of every file. It
may also have

    DIGITS                            significant digits of a weight where the user names none (9)
    files_into(net, options, folder)  the files for a folder in which something lies already
    library_folder(checkout)          where in a checkout of a library its files belong; raises InputError
    library_version(checkout)         what that checkout is, in words
    advice(files, in_place)           what to do with the files, in words, or None; in_place: they are in the library

and NAME_check.py beside it a function `program(files, options, library)`: a Program that runs what was written, or the
reason why there is none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

EXACT_DIGITS = 9  # of a decimal number that give a float32 back as it was


@dataclass(frozen=True)
class CppOptions:
    """How source files are to be written.

    name:   of the model, a C identifier
    digits: significant digits of every weight; 9 reproduce float32 exactly
    """

    name: str = "facetrain"
    digits: int = 9


@dataclass(frozen=True)
class Rules:
    """How a program chooses and prints its faces.

    score, nms, candidates: as FaceDetector's; a score of None is the checker's to choose
    truncated: a face is the ints 100·sqrt(score), x, y, width, height, landmarks, all cut towards zero; otherwise the
               floats score, x1, y1, x2, y2, landmarks
    """

    score: float | None = None
    nms: float = 0.45
    candidates: int = 5000
    truncated: bool = False


@dataclass(frozen=True)
class Program:
    """A C++ program that finds faces with what was written.

    Called with `score nms` and then `width height file` for each image of raw BGR bytes, it prints, for each, a line
    with the number of faces and a line of numbers per face.

    files:   further files, relative path -> text
    sources: what is compiled of all files
    flags:   for the compiler
    """

    files: Mapping[str, str]
    sources: tuple[str, ...]
    flags: tuple[str, ...] = ("-std=c++17", "-O2")
    rules: Rules = field(default_factory=Rules)
