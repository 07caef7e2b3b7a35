import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import frames_of, full, make_video, overwrite, packets, picture, shade, times_of, video

from facetrain.core.errors import DataError, InputError
from facetrain.core.images import MAX_PIXELS
from facetrain.media.cut import Cut

av = pytest.importorskip("av", reason="needs PyAV: pip install 'facetrain[video]'")

VARIED = [sum(Fraction(1 + step % 3, 30) for step in range(number)) for number in range(30)]


def brightness(frame):
    return int(frame.image.image[24:, 32:].mean().round())


def end_of(path, cut=Cut()):  # noqa: B008
    """The times that came, and the error that followed."""
    times = []
    with pytest.raises(DataError) as error:
        for frame in video(path, cut).frames(full):
            times.append(frame.time)
    return times, str(error.value)


@pytest.mark.parametrize(("suffix", "codec", "unit"), [("mp4", "libx264", 15360), ("avi", "mpeg4", 30)])
def test_a_constant_rate(tmp_path, suffix, codec, unit):
    path = tmp_path / f"a.{suffix}"
    times = make_video(
        path,
        codec=codec,
        unit=Fraction(1, unit),
        options={"bf": "0", "qmin": "2", "qmax": "3"} if suffix == "avi" else {},
    )
    frames = frames_of(path)
    assert [frame.time for frame in frames] == times
    assert [frame.index for frame in frames] == list(range(30))
    assert {frame.duration for frame in frames} == {Fraction(1, 30)}
    assert [abs(brightness(frame) - shade(frame.index)) < 7 for frame in frames] == [True] * 30
    assert frames[0].image.image.shape == (48, 64, 3) and frames[0].image.image.dtype == np.uint8
    assert video(path).count() == pytest.approx(30, abs=1)


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_varying_rate_keeps_its_times(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    make_video(path, VARIED)
    frames = frames_of(path)
    assert [frame.time for frame in frames] == VARIED
    assert frames[4].duration == Fraction(2, 30)


def test_times_begin_at_the_streams_start(tmp_path):
    make_video(tmp_path / "a.ts", unit=Fraction(1, 90_000), sound="aac")  # its clock starts later, its sound earlier
    assert packets(tmp_path / "a.ts", "video")[0][0] > 0
    assert times_of(tmp_path / "a.ts") == [Fraction(i, 30) for i in range(30)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_part_has_the_numbers_and_pixels_of_the_whole(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    make_video(path, [time * 2 for time in VARIED], unit=Fraction(1, 90_000) if suffix == "ts" else Fraction(1, 15360))
    whole = frames_of(path)
    for cut in (Cut(start=Fraction(1)), Cut(start=Fraction(5, 2)), Cut(3, Fraction(1, 2), Fraction(3)), Cut(7)):
        part = frames_of(path, cut)
        expected = [one for one in whole if one.time >= cut.start and (cut.end is None or one.time < cut.end)]
        expected = expected[:: cut.every]
        assert [(one.index, one.time) for one in part] == [(one.index, one.time) for one in expected]
        assert all(np.array_equal(one.image.image, two.image.image) for one, two in zip(part, expected, strict=True))


def test_a_part_is_reached_without_decoding_what_is_before(tmp_path):
    path = tmp_path / "a.mp4"
    make_video(path, [Fraction(i, 30) for i in range(90)], options={"crf": "0"})
    overwrite(path, 0.3, 60)  # in the first of three seconds
    assert end_of(path)[1]
    assert len(frames_of(path, Cut(start=Fraction(2)))) == 30


def test_a_part_behind_the_end(tmp_path):
    make_video(tmp_path / "a.mp4")
    assert "no frame in the part asked for (it ends at 1.0 s)" in end_of(tmp_path / "a.mp4", Cut(start=Fraction(9)))[1]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_makes_frames_upright(tmp_path, degrees):
    path = tmp_path / "a.mp4"
    make_video(path)
    content = bytearray(path.read_bytes())
    one, minus = 1 << 16, -(1 << 16)
    matrix = {90: (0, one, 0, minus, 0, 0), 180: (minus, 0, 0, 0, minus, 0), 270: (0, minus, 0, one, 0, 0)}[degrees]
    place = content.index(b"tkhd") + 4 + 40  # of the matrix in a track's head: clockwise turns
    content[place : place + 24] = struct.pack(">6i", *matrix)
    path.write_bytes(content)
    expected = np.rot90(picture(0), -degrees // 90)
    image = frames_of(path)[0].image.image
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("height", [240, 720])
def test_colours_of_small_and_large_videos(tmp_path, height):
    """A video that does not say its colours has those of BT.709 from 720 lines on, of BT.601 below."""
    image = np.zeros((height, 320, 3), np.uint8)
    colours = [(255, 255, 255), (0, 0, 255), (255, 0, 0), (0, 255, 0)]
    for place, colour in enumerate(colours):
        image[:, place * 80 : place * 80 + 80] = colour
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 320, height, "yuv420p"
        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        space = 1 if height >= 720 else 5
        frame = frame.reformat(format="yuv420p", dst_colorspace=space, src_color_range=2, dst_color_range=1)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    seen = frames_of(tmp_path / "a.mp4")[0].image.image
    assert np.abs(seen[10, 40::80].astype(int) - colours).max() <= 8


def test_a_broken_middle(tmp_path):
    path = tmp_path / "a.mp4"
    make_video(path, [Fraction(i, 30) for i in range(90)], options={"crf": "0"})
    overwrite(path, 0.4, 60)
    times, error = end_of(path)
    assert times[0] == 0 and times[-1] == Fraction(89, 30) and len(times) > 70
    assert "1 place could not be decoded from" in error
    second = float(error.partition("from ")[2].split(" s")[0])
    assert 0.5 < second < 2


def test_cut_off(tmp_path):
    path = tmp_path / "a.mkv"
    make_video(path, [Fraction(i, 30) for i in range(90)], sound="aac")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    times, error = end_of(path)
    assert 30 <= len(times) < 80
    assert "cut off at" in error and "of 3.0 s" in error
    make_video(tmp_path / "b.mp4")  # what its head says stands at its end
    (tmp_path / "b.mp4").write_bytes((tmp_path / "b.mp4").read_bytes()[:-500])
    assert end_of(tmp_path / "b.mp4")[1].endswith("not a video, or one that is damaged or was cut off (copy it again)")


def test_what_is_no_video(tmp_path):
    for name, content in (
        ("text.mp4", b"dear diary\n" * 99),
        ("empty.mkv", b""),
        ("list.mp4", b"#EXTM3U\n#EXTINF:1\na.ts"),
    ):
        (tmp_path / name).write_bytes(content)
        times, error = end_of(tmp_path / name)
        assert times == [] and error.startswith(f"{tmp_path / name}: not a video")
        assert video(tmp_path / name).count() is None
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        from clips import add_tone

        add_tone(container, container.add_stream("aac", rate=48000, layout="mono"), 1)
    assert end_of(tmp_path / "sound.mp4")[1].endswith("no video in this file, only sound")
    assert "No such file" in end_of(tmp_path / "absent.mp4")[1]


def test_frames_of_several_sizes(tmp_path):
    for name, size in (("a.ts", (64, 48)), ("b.ts", (96, 80))):
        make_video(tmp_path / name, size=size, unit=Fraction(1, 90_000))
    path = tmp_path / "both.ts"
    path.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    frames = frames_of(path)
    assert [frame.image.image.shape[:2] for frame in frames] == [(48, 64)] * 30 + [(80, 96)] * 30
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))  # the second begins anew, the whole does not
    assert 1.9 < times[-1] < 2.1
    assert all(frame.image.width == frame.image.image.shape[1] for frame in frames)


def test_too_many_pixels(tmp_path, monkeypatch):
    make_video(tmp_path / "a.mp4")
    monkeypatch.setattr("facetrain.media.ffmpeg.MAX_PIXELS", 1000)
    assert "too large" in end_of(tmp_path / "a.mp4")[1]
    assert MAX_PIXELS > 1000


def test_a_file_reads_nothing_from_the_network(tmp_path):
    (tmp_path / "a.mp4").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    )
    assert end_of(tmp_path / "a.mp4")[0] == []


def test_a_stream_that_says_nothing(tmp_path, monkeypatch):
    import socket

    from facetrain.media.videos import Video

    monkeypatch.setattr("facetrain.media.ffmpeg._SILENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/live"
        with pytest.raises(DataError, match=r"live: no answer for 0\.5 s"):
            next(Video(address, address, Path("live.mp4")).frames(full))
    assert Video(address, address, Path("live.mp4")).count() is None


def test_nothing_of_ffmpegs_is_said(tmp_path):
    make_video(tmp_path / "a.mp4", [Fraction(i, 30) for i in range(90)])
    overwrite(tmp_path / "a.mp4", 0.4, 60)
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\nfrom clips import frames_of\n"
        "try: frames_of(sys.argv[1])\nexcept Exception: print('done')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.mp4"), str(Path(__file__).parent)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("done\n", "")


def test_left_early_it_is_closed(tmp_path):
    make_video(tmp_path / "a.mp4")
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("needs /proc")

    def is_open():
        return any(str(tmp_path) in str(one.readlink()) for one in open_files.iterdir() if one.is_symlink())

    frames = video(tmp_path / "a.mp4").frames(full)
    next(frames)
    assert is_open()
    frames.close()
    assert not is_open()


def test_memory_stays_flat(tmp_path):
    make_video(tmp_path / "a.mp4", [Fraction(i, 30) for i in range(2000)], options={"preset": "ultrafast"})
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("needs /proc")

    def resident():
        return int(status.read_text().partition("VmRSS:")[2].split()[0]) / 1024

    frames = video(tmp_path / "a.mp4").frames(full)
    for _ in range(200):
        next(frames)
    before = resident()
    assert sum(1 for _ in frames) == 1800
    assert resident() - before < 20  # MiB; kept, the frames would take 16, and their originals twice as many


def test_without_pyav(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    with pytest.raises(InputError) as error:
        next(video(path).frames(full))
    assert str(error.value) == f"{path}: videos need PyAV, which is missing (pip install 'facetrain[video]')"
