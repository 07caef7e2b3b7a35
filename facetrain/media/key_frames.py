"""Where decoding has to begin for a part of a video: at the key frame before it."""

from array import array
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from facetrain.media.ffmpeg import fraction, zero_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream


@dataclass(frozen=True)
class KeyFrame:
    """shown, decoded: when, in units of the stream; stamps: when each frame of the file up to the part is shown."""

    shown: int
    decoded: int
    stamps: "array[int]"

    def number(self, shown: int) -> int:
        """The number in the file of a frame that is shown then."""
        return sum(stamp < shown for stamp in self.stamps)


def key_frame_before(start: Fraction, container: "InputContainer", stream: "VideoStream") -> KeyFrame | None:
    """The last key frame that is shown at `start` seconds or before.

    All packets up to it are read, and none decoded, so that frames keep the numbers they have in the whole video, also
    where the rate varies. None where the file does not tell times well enough: then all is decoded from its start.
    """
    unit, zero = fraction(stream.time_base), zero_of(stream)
    if unit is None or zero is None:
        return None
    wanted = int((zero + start) / unit)
    found: tuple[int, int] | None = None
    stamps = array("q")
    before: int | None = None
    for packet in container.demux(stream):
        shown, decoded = packet.pts, packet.dts
        if packet.size == 0:
            break
        if shown is None or decoded is None or (before is not None and decoded < before):
            return None
        before = decoded
        stamps.append(shown)
        if packet.is_keyframe and shown <= wanted and (found is None or shown >= found[0]):
            found = shown, decoded
        if decoded > wanted:
            break  # what follows is shown later
    return None if found is None else KeyFrame(*found, stamps)
