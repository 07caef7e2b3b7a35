"""Small videos, made by PyAV itself."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from facetrain.media.clip_writer import open_clip
from facetrain.media.cut import Cut
from facetrain.media.videos import Video

RATE = 48000


def shade(number):
    return 20 + 7 * (number % 30)


def picture(number, width=64, height=48):
    """A grey frame whose brightness tells its number, with a white corner at the upper left."""
    image = np.full((height, width, 3), shade(number), np.uint8)
    image[: height // 4, : width // 4] = 255
    return image


def make_video(
    path,
    times=None,
    *,
    size=(64, 48),
    sound=None,
    layout="mono",
    codec="libx264",
    unit=Fraction(1, 15360),
    options=None,
):
    """A video whose frames are shown at these times; 30 frames of a second without. Returns the times.

    sound: a codec, of a tone as long as the video
    """
    import av

    times = [Fraction(i, 30) for i in range(30)] if times is None else times
    steps = [after - before for before, after in pairwise(times)] or [Fraction(1, 30)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options={"g": "10", "bf": "2", **(options or {})})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = unit
        audio = container.add_stream(sound, rate=RATE) if sound else None
        if audio is not None:
            audio.codec_context.layout = layout
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="bgr24")
            frame.pts, frame.time_base = round(time / unit), unit
            for packet in stream.encode(frame):
                packet.duration = round(steps[min(number, len(steps) - 1)] / unit)
                container.mux(packet)
        for packet in stream.encode(None):
            if packet.pts is not None and packet.pts == round(times[-1] / unit):
                packet.duration = round(steps[-1] / unit)
            container.mux(packet)
        if audio is not None:
            add_tone(container, audio, float(times[-1] + steps[-1]))
    return times


def add_tone(container, stream, seconds):
    import av

    for place in range(0, round(seconds * RATE), 1024):
        layout = stream.codec_context.layout
        wave = np.repeat(np.sin((place + np.arange(1024)) * 2 * np.pi * 440 / RATE) * 8000, layout.nb_channels)
        frame = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], format="s16", layout=layout.name)
        frame.sample_rate, frame.pts, frame.time_base = RATE, place, Fraction(1, RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def video(path, cut=Cut()):  # noqa: B008
    path = Path(path)
    return Video(str(path), str(path.absolute()), Path(path.name), cut, path)


def full(width, height):
    """Nothing is reduced."""
    return 1.0


def frames_of(path, cut=Cut()):  # noqa: B008
    return list(video(path, cut).frames(full))


def times_of(path, cut=Cut()):  # noqa: B008
    return [frame.time for frame in frames_of(path, cut)]


def copy(source, path):
    """Write a source's frames as they are."""
    clip = None
    for frame in source.frames(full):
        clip = clip or open_clip(path, source, frame, frame.image.image)
        clip.write(frame, frame.image.image)
    clip.close()


def packets(path, kind="audio"):
    """(time, bytes) of a file's packets of a kind."""
    import av

    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(stream) if packet.size]


def length(path, kind="video"):
    """Seconds that a stream lasts, by the file."""
    import av

    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return stream.duration * stream.time_base


def overwrite(path, start, count, seed=0):
    """Put random bytes into a file; start: a part of its length."""
    content = bytearray(Path(path).read_bytes())
    place = int(len(content) * start)
    content[place : place + count] = np.random.default_rng(seed).bytes(count)
    Path(path).write_bytes(content)
