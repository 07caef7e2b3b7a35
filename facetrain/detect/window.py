"""`--show`: a window with the frames as they are looked at. q or Esc ends."""

import os
import re
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from facetrain.core.drawing import draw_faces
from facetrain.core.errors import UsageError
from facetrain.core.faces import Faces, Image
from facetrain.core.images import fit_image, opencv
from facetrain.detect.looked import Ending, Looked
from facetrain.media.frame import Source

_TITLE = "facetrain"
_WIDTH, _HEIGHT = 1280, 720  # pixels; what is larger is shown smaller
_LEAVE = frozenset((ord("q"), ord("Q"), 27))
_WAIT = 50  # ms between two looks at the keyboard while a photograph is shown
_DISPLAY = re.compile(r"(?P<host>[^:]*):(?P<number>\d+)(?:\.\d+)?")
_X11_PORT = 6000


class Window:
    """Shows drawn frames; a photograph until a key is pressed. Raises UsageError where there is no screen."""

    any_order = False
    waits = True

    def __init__(self, names: Sequence[str] = ()) -> None:
        """names: of the landmarks, which say the side of the face."""
        check_display()
        self._names = names
        self._open = False

    def add(self, looked: Looked) -> None:
        """Show a frame. Raises KeyboardInterrupt when the user leaves."""
        cv2 = opencv()
        pixels, factor = looked.frame.image.image, looked.frame.image.factor
        faces = looked.faces
        if factor > 1:
            faces = Faces(faces.boxes / factor, faces.scores, faces.landmarks / factor, faces.ids)
        drawn = _fitted(draw_faces(pixels, faces, self._names))
        try:
            if not self._open:
                cv2.namedWindow(_TITLE, cv2.WINDOW_AUTOSIZE)
                self._open = True
            cv2.imshow(_TITLE, drawn)
            self._wait(until_key=looked.frame.time is None)
        except cv2.error as error:
            raise UsageError("`show`: no window can be opened", "leave it out") from error

    def end(self, source: Source) -> None:
        """The next source is shown in the same window."""

    def finish(self, ending: Ending) -> None:
        """Close the window."""
        cv2 = opencv()
        if self._open:
            self._open = False
            with suppress(cv2.error):
                cv2.destroyWindow(_TITLE)

    def _wait(self, *, until_key: bool) -> None:
        cv2 = opencv()
        while True:
            key = cv2.waitKey(_WAIT if until_key else 1)
            if (key >= 0 and key & 0xFF in _LEAVE) or cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1:
                raise KeyboardInterrupt
            if key >= 0 or not until_key:
                return


def check_display() -> None:
    """Raise UsageError where no window can be opened: OpenCV without windows, or Linux without a screen.

    Asked beforehand, because Qt ends the whole program where it finds no screen.
    """
    cv2 = opencv()
    gui = re.search(r"^ *GUI: *(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    if gui is not None and gui[1].upper() == "NONE":
        raise UsageError(
            "`show`: this OpenCV has no windows",
            "pip uninstall -y opencv-python-headless && pip install opencv-python",
        )
    if not sys.platform.startswith("linux") or os.environ.get("QT_QPA_PLATFORM", "xcb") != "xcb":
        return
    display = os.environ.get("DISPLAY", "")
    if not display:
        # the wheels' Qt speaks to X11 alone, which a Wayland desktop offers too
        wayland = " for X11 programs (XWayland)" if os.environ.get("WAYLAND_DISPLAY") else ""
        raise UsageError(f"`show`: there is no screen{wayland} here", "leave it out; `save` drawn=FOLDER keeps images")
    if not _answers(display):
        raise UsageError(f"`show`: the screen DISPLAY={display} does not answer", "leave it out, or set DISPLAY")


def _answers(display: str) -> bool:
    """Whether something listens where an X server of that name does; True for names that are not understood."""
    found = _DISPLAY.fullmatch(display)
    if found is None:
        return True
    host, number = found["host"], int(found["number"])
    if host in ("", "unix"):
        name = f"/tmp/.X11-unix/X{number}"
        return Path(name).exists() or _connects(socket.AF_UNIX, f"\0{name}")
    return _connects(socket.AF_INET, (host, _X11_PORT + number))


def _connects(family: socket.AddressFamily, address: str | tuple[str, int]) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as link:
        link.settimeout(3)
        try:
            link.connect(address)
        except OSError:
            return False
    return True


def _fitted(image: Image) -> Image:
    if image.shape[0] <= _HEIGHT and image.shape[1] <= _WIDTH:
        return image
    return fit_image(image, _WIDTH, _HEIGHT)[0]
