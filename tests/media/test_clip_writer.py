import errno
from fractions import Fraction

import numpy as np
import pytest
from clips import copy, frames_of, full, length, make_video, packets, picture, shade, times_of, video

from facetrain.core.errors import OutputError, UsageError
from facetrain.core.images import Reduced
from facetrain.media.animations import Animation
from facetrain.media.clip_writer import open_clip
from facetrain.media.cut import Cut
from facetrain.media.frame import Frame

av = pytest.importorskip("av", reason="needs PyAV: pip install 'facetrain[video]'")

VARIED = [sum(Fraction(1 + step % 3, 30) for step in range(number)) for number in range(60)]
TICK = Fraction(1, 15360)


@pytest.mark.parametrize("suffix", ["mp4", "m4v", "mov"])
def test_a_varying_rate_is_written_as_it_was(tmp_path, suffix):
    make_video(tmp_path / "a.mp4", VARIED)
    copy(video(tmp_path / "a.mp4"), tmp_path / f"b.{suffix}")
    assert times_of(tmp_path / f"b.{suffix}") == VARIED
    assert abs(length(tmp_path / f"b.{suffix}") - length(tmp_path / "a.mp4")) <= Fraction(1, 30)
    seen = [int(frame.image.image[24:, 32:].mean().round()) for frame in frames_of(tmp_path / f"b.{suffix}")]
    assert (
        max(abs(value - shade(number)) for number, value in enumerate(seen)) < 7
    )  # by which a frame differs from the next


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_matroska_counts_in_milliseconds(tmp_path, suffix):
    make_video(tmp_path / "a.mp4", VARIED)
    copy(video(tmp_path / "a.mp4"), tmp_path / f"b.{suffix}")
    times = times_of(tmp_path / f"b.{suffix}")
    assert [abs(one - two) <= Fraction(1, 1000) for one, two in zip(times, VARIED, strict=True)] == [True] * 60
    with av.open(str(tmp_path / f"b.{suffix}")) as container:
        assert abs(container.duration / 1e6 - float(length(tmp_path / "a.mp4"))) <= 1 / 30


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_sound_is_copied(tmp_path, suffix):
    make_video(tmp_path / "a.mp4", sound="aac")
    copy(video(tmp_path / "a.mp4"), tmp_path / f"b.{suffix}")
    before, after = packets(tmp_path / "a.mp4"), packets(tmp_path / f"b.{suffix}")
    assert [content for _, content in before] == [content for _, content in after]
    moved = packets(tmp_path / f"b.{suffix}", "video")[0][0]  # Matroska moves all where something begins before 0
    assert max(abs(two[0] - moved - one[0]) for one, two in zip(before, after, strict=True)) <= Fraction(1, 1000)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
@pytest.mark.parametrize(("sound", "layout"), [("pcm_s16le", "stereo"), ("pcm_s16le", "mono"), ("mp2", "stereo")])
@pytest.mark.parametrize("start", [None, "0.5"])
def test_the_sound_of_a_cameras_avi(tmp_path, suffix, sound, layout, start):
    make_video(tmp_path / "a.avi", sound=sound, layout=layout, codec="mpeg4")
    cut = Cut(start=Fraction(start)) if start else Cut()
    copy(video(tmp_path / "a.avi", cut), tmp_path / f"b.{suffix}")
    assert len(times_of(tmp_path / f"b.{suffix}")) == len(frames_of(tmp_path / "a.avi", cut)) >= 15
    heard = packets(tmp_path / f"b.{suffix}")
    assert float(heard[-1][0] - heard[0][0]) == pytest.approx(0.5 if start else 1, abs=0.1)


def test_sound_that_a_container_does_not_take_is_coded_anew(tmp_path):
    make_video(tmp_path / "a.mp4", VARIED, sound="aac")
    copy(video(tmp_path / "a.mp4"), tmp_path / "b.webm")
    with av.open(str(tmp_path / "b.webm")) as container:
        assert container.streams.audio[0].codec_context.name in ("opus", "libopus")
        samples = [frame.to_ndarray().reshape(-1)[-frame.samples :] for frame in container.decode(audio=0)]
    wave = np.concatenate(samples)
    assert len(wave) / 48000 == pytest.approx(float(length(tmp_path / "a.mp4", "audio")), abs=0.05)
    spectrum = np.abs(np.fft.rfft(wave[:48000]))
    assert abs(int(spectrum.argmax()) - 440) <= 1


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_part_with_its_sound(tmp_path, suffix):
    make_video(tmp_path / "a.mp4", VARIED, sound="aac")
    cut = Cut(start=Fraction(1), end=Fraction(5, 2))
    copy(video(tmp_path / "a.mp4", cut), tmp_path / f"b.{suffix}")
    expected = [time - 1 for time in VARIED if 1 <= time < Fraction(5, 2)]
    begin = expected[0]
    times = times_of(tmp_path / f"b.{suffix}")
    assert [abs(one - (two - begin)) < Fraction(1, 500) for one, two in zip(times, expected, strict=True)] == [
        True
    ] * len(times)
    kept = packets(tmp_path / f"b.{suffix}")
    places = {content: time for time, content in packets(tmp_path / "a.mp4")}
    assert max(abs(places[content] - 1 - begin - time) for time, content in kept) <= Fraction(2, 1000)  # in sync
    assert -0.03 < kept[0][0] < 0.03
    assert kept[-1][0] == pytest.approx(1.5 - float(begin), abs=0.05)


def test_each_third_frame_lasts_as_long_as_three(tmp_path):
    make_video(tmp_path / "a.mp4", sound="aac")
    copy(video(tmp_path / "a.mp4", Cut(3)), tmp_path / "b.mp4")
    assert times_of(tmp_path / "b.mp4") == [Fraction(i, 10) for i in range(10)]
    assert length(tmp_path / "b.mp4") == 1
    assert len(packets(tmp_path / "b.mp4")) == len(packets(tmp_path / "a.mp4"))


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_odd_sides_are_made_even_by_their_edge(tmp_path, suffix):
    source = video(tmp_path / "a.mp4")
    image = picture(0, 63, 47)
    clip = open_clip(tmp_path / f"b.{suffix}", source, frame(0), image)
    for number in range(5):
        clip.write(frame(number), image)
    clip.close()
    seen = frames_of(tmp_path / f"b.{suffix}")
    assert len(seen) == 5 and seen[0].image.image.shape == (48, 64, 3)
    assert np.abs(seen[0].image.image[:47, :63].astype(int) - image).mean() < 4
    assert np.abs(seen[0].image.image[47, 20:].astype(int) - shade(0)).max() < 8


def frame(number, rate=30):
    image = np.zeros((2, 2, 3), np.uint8)
    return Frame(Reduced(image, 1, 2, 2), number, Fraction(number, rate), Fraction(1, rate))


def test_frames_of_another_size_are_fitted(tmp_path):
    clip = open_clip(tmp_path / "b.mp4", video(tmp_path / "a.mp4"), frame(0), picture(0))
    for number, size in enumerate([(64, 48), (32, 48), (200, 100), (64, 48)]):
        clip.write(frame(number), np.full((size[1], size[0], 3), 200, np.uint8))
    clip.close()
    seen = [one.image.image for one in frames_of(tmp_path / "b.mp4")]
    assert {image.shape for image in seen} == {(48, 64, 3)}
    assert seen[1][24, 32].min() > 190 and seen[1][24, 4].max() < 12  # narrower: black at its sides
    assert seen[2][24, 32].min() > 190 and seen[2][2, 32].max() < 12
    assert seen[3].min() > 190


def test_left_by_ctrl_c_it_can_be_played(tmp_path):
    make_video(tmp_path / "a.mp4", [Fraction(i, 30) for i in range(90)], sound="aac")
    source = video(tmp_path / "a.mp4")
    clip = None
    for one in source.frames(full):
        clip = clip or open_clip(tmp_path / "b.mp4", source, one, one.image.image)
        assert not (tmp_path / "b.mp4").exists()
        clip.write(one, one.image.image)
        if one.index == 44:
            break
    clip.close()
    clip.close()
    assert times_of(tmp_path / "b.mp4") == [Fraction(i, 30) for i in range(45)]
    assert length(tmp_path / "b.mp4") == Fraction(3, 2)
    assert packets(tmp_path / "b.mp4")[-1][0] == pytest.approx(1.5, abs=0.04)


@pytest.mark.parametrize("place", ["mux_one", "close"])
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, place):
    make_video(tmp_path / "in.mp4", sound="aac")
    out = tmp_path / "out"
    real = av.open

    class Full:
        """A container of which a call fails."""

        def __init__(self, container):
            self._container = container

        def __getattr__(self, name):
            if name == place:
                raise av.error.OSError(errno.ENOSPC, "No space left on device")
            return getattr(self._container, name)

    def opening(file, mode="r", **options):
        return Full(real(file, mode, **options)) if mode == "w" else real(file, mode, **options)

    monkeypatch.setattr(av, "open", opening)
    with pytest.raises(OutputError, match=r"b\.mp4: cannot be written: No space left on device"):
        copy(video(tmp_path / "in.mp4"), out / "b.mp4")
    assert list(out.iterdir()) == []


def test_after_an_error_it_stays_quiet(tmp_path, monkeypatch):
    clip = open_clip(tmp_path / "b.mp4", video(tmp_path / "a.mp4"), frame(0), picture(0))

    def broken(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(clip, "_encode", broken)
    clip.write(frame(0), picture(0))
    with pytest.raises(OutputError):
        clip.write(frame(1), picture(1))
    clip.write(frame(2), picture(2))
    clip.close()
    assert list(tmp_path.iterdir()) == []


def test_what_the_source_says_of_itself_is_not_kept(tmp_path):
    make_video(tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as before, av.open(str(tmp_path / "told.mp4"), "w") as after:
        after.metadata.update({"location": "+48.1173+011.5167/", "comment": "at home"})
        stream = after.add_stream_from_template(before.streams.video[0])
        for packet in before.demux(video=0):
            if packet.size:
                packet.stream = stream
                after.mux(packet)
    copy(video(tmp_path / "told.mp4"), tmp_path / "b.mp4")
    assert b"at home" in (tmp_path / "told.mp4").read_bytes()
    for name in (b"at home", b"48.1173"):
        assert name not in (tmp_path / "b.mp4").read_bytes()


def test_two_of_one_source_at_once(tmp_path):
    make_video(tmp_path / "a.mp4", sound="aac")
    source = video(tmp_path / "a.mp4")
    clips = []
    for one in source.frames(full):
        pixels = one.image.image
        clips = clips or [open_clip(tmp_path / name, source, one, pixels) for name in ("b.mp4", "c.webm")]
        for clip in clips:
            clip.write(one, pixels)
    for clip in clips:
        clip.close()
    for name in ("b.mp4", "c.webm"):
        assert len(frames_of(tmp_path / name)) == 30
        assert packets(tmp_path / name)


@pytest.mark.parametrize("suffix", ["gif", "webp", "avif"])
def test_animations_keep_their_times(tmp_path, suffix):
    from PIL import Image

    Image.init()
    if suffix.upper() not in Image.SAVE_ALL:
        pytest.skip(f"this Pillow writes no {suffix}")
    make_video(tmp_path / "a.mp4", [time * 2 for time in VARIED[:20]])
    copy(video(tmp_path / "a.mp4"), tmp_path / f"b.{suffix}")
    frames = list(Animation(tmp_path / f"b.{suffix}", tmp_path).frames(full))
    whole = frames_of(tmp_path / "a.mp4")
    assert len(frames) == 20
    off = Fraction(1, 100) if suffix == "gif" else Fraction(1, 1000)
    assert max(abs(one.time - two.time) for one, two in zip(frames, whole, strict=True)) <= off
    assert abs(frames[-1].time + frames[-1].duration - whole[-1].time - whole[-1].duration) <= off


def test_a_gif_leaves_out_what_browsers_would_slow_down(tmp_path):
    clip = open_clip(tmp_path / "b.gif", video(tmp_path / "a.mp4"), frame(0, 100), picture(0))
    for number in range(50):
        clip.write(frame(number, 100), picture(number))
    clip.close()
    frames = list(Animation(tmp_path / "b.gif", tmp_path).frames(full))
    assert {one.duration for one in frames} == {Fraction(1, 50)}
    assert frames[-1].time + frames[-1].duration == Fraction(1, 2)


def test_a_name_of_no_video(tmp_path):
    with pytest.raises(UsageError, match=r"b\.jpg: not the name of a video"):
        open_clip(tmp_path / "b.jpg", video(tmp_path / "a.mp4"), frame(0), picture(0))


def test_mpeg4_where_the_build_has_no_x264(tmp_path, monkeypatch):
    make_video(tmp_path / "a.mp4", VARIED, unit=Fraction(1, 90_000))
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    copy(video(tmp_path / "a.mp4"), tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    assert max(abs(one - two) for one, two in zip(times_of(tmp_path / "b.mp4"), VARIED, strict=True)) <= Fraction(
        1, 20_000
    )
