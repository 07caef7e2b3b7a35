"""How long the last frame of what is written is shown: its source says that of each other one by the next."""

from fractions import Fraction

from facetrain.media.cut import Cut
from facetrain.media.frame import Frame, Source

_USUAL = Fraction(1, 25)


def last_duration(source: Source, frame: Frame, gap: Fraction | None, end: Fraction | None) -> Fraction:
    """Seconds, so that the whole ends where the part that was looked at does.

    gap: between the last two frames, in seconds; end: of the source, in its seconds, where it is known
    """
    cut = getattr(source, "cut", Cut())
    lasts = frame.duration * cut.every if frame.duration is not None else gap or _USUAL
    time = frame.time or Fraction(0)
    for latest in (end, cut.end):
        if latest is not None and time < latest < time + lasts:
            lasts = latest - time
    return Fraction(lasts)
