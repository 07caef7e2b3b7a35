import io
import struct

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from facetrain.core.errors import DataError, OutputError
from facetrain.core.images import SUFFIXES, decode_image, fit_image, read_image, write_image


def encoded(suffix, image):
    # OpenCV 4.8 would compress floating point as logarithms, with losses
    options = [cv2.IMWRITE_TIFF_COMPRESSION, 1] if suffix == ".tif" else []
    done, content = cv2.imencode(suffix, image, options)
    assert done
    return content.tobytes()


def with_exif_orientation(jpeg, orientation):
    """A JPEG with an EXIF block that says how to turn it."""
    tiff = b"II*\x00" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    block = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_and_not_clipped(suffix, channels):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    content = encoded(suffix, ramp if channels == 1 else np.dstack([ramp] * 3))
    image = decode_image(content, "ramp")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.dstack([(ramp >> 8).astype(np.uint8)] * 3))


def test_grey_alpha_and_one_pixel():
    grey = decode_image(encoded(".png", np.full((5, 7), 90, np.uint8)), "grey")
    np.testing.assert_array_equal(grey, np.full((5, 7, 3), 90))
    colour = np.random.default_rng(1).integers(0, 256, (5, 7, 4), np.uint8)
    np.testing.assert_array_equal(decode_image(encoded(".png", colour), "alpha"), colour[..., :3])
    assert decode_image(encoded(".png", np.zeros((1, 1, 3), np.uint8)), "one").shape == (1, 1, 3)


@pytest.mark.parametrize("mode", ["P", "CMYK", "L", "LA", "RGBA", "1"])
def test_modes_of_other_programs(mode):
    pil = pytest.importorskip("PIL.Image", reason="needs Pillow to write such files")
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, 8:] = 255
    stream = io.BytesIO()
    pil.fromarray(pixels).convert(mode).save(stream, "TIFF" if mode == "CMYK" else "PNG")
    image = decode_image(stream.getvalue(), mode)
    np.testing.assert_array_equal(image, pixels)


def test_a_cmyk_jpeg_keeps_its_colours():
    pil = pytest.importorskip("PIL.Image", reason="needs Pillow to write such files")
    stream = io.BytesIO()
    pil.fromarray(np.full((16, 16, 3), (200, 100, 50), np.uint8)).convert("CMYK").save(stream, "JPEG", quality=95)
    np.testing.assert_allclose(decode_image(stream.getvalue(), "cmyk"), np.full((16, 16, 3), (50, 100, 200)), atol=4)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (6, lambda a: np.rot90(a, -1)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_exif_turns_the_image_upright(orientation, turn):
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:8, :8] = 255
    jpeg = encoded(".jpg", stored)
    image = decode_image(with_exif_orientation(jpeg, orientation), "turned")
    np.testing.assert_array_equal(image, turn(decode_image(jpeg, "stored")))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"just text", "not an image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "git-lfs pointer"),
        (b"\xff\xd8\xff\xe0" + b"0" * 100, "a JPEG that was cut off"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 50, "not an image"),
        (b"\0\0\0\x18ftypheic" + b"0" * 50, "a HEIC image, which is not decoded"),
        (b"P6\n100000 100000\n255\n", "10,000,000,000 pixels are too many"),
    ],
)
def test_what_is_no_image_is_named(content, said, capfd):
    with pytest.raises(DataError, match=said) as caught:
        decode_image(content, "folder/name.jpg")
    assert "folder/name.jpg" in caught.value.message
    out, err = capfd.readouterr()
    assert out == ""
    assert "WARN" not in err  # OpenCV keeps its words to itself; the libpng of OpenCV 4 does not
    assert "ERROR" not in err


def by_pillow(kind, orientation=1, **options):
    """An image of 64 x 48 whose upper left quarter is red, the upper right green, the lower left blue."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32, 0] = pixels[:24, 32:, 1] = pixels[24:, :32, 2] = 255
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, kind, **options, **({"exif": exif} if orientation > 1 else {}))
    return pixels[..., ::-1], stream.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_every_format_that_can_be_turned_comes_upright(kind, orientation):
    lossy = {"quality": 100} if kind in ("JPEG", "WEBP", "AVIF") else {}
    _, content = by_pillow(kind, orientation, **lossy)
    upright = np.array(PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(content))).convert("RGB"))[..., ::-1]
    image = decode_image(content, "turned")
    assert image.shape == ((48, 64, 3) if orientation < 5 else (64, 48, 3))
    away = np.abs(image.astype(int) - upright)
    assert np.median(away) <= 4
    assert (away > 60).mean() < 0.1  # at the borders of the colours only


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0, "optimize": True}]
)
def test_a_jpeg_that_was_cut_off_is_no_image_but_its_last_two_bytes_may_lack(options):
    noise = np.random.default_rng(3).integers(0, 256, (120, 160, 3), np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(noise).save(stream, "JPEG", quality=80, **options)
    whole = stream.getvalue()
    wanted = decode_image(whole, "whole")
    np.testing.assert_array_equal(decode_image(whole[:-2], "without its end"), wanted)
    np.testing.assert_array_equal(decode_image(whole + b"\0" * 100, "with more behind"), wanted)
    for share in (0.1, 0.3, 0.5, 0.8, 0.99):
        with pytest.raises(DataError, match="cut off"):
            decode_image(whole[: int(len(whole) * share)], "cut")


def test_a_png_part_that_claims_gigabytes_is_not_believed(monkeypatch):
    whole = encoded(".png", np.random.default_rng(3).integers(0, 256, (40, 56, 3), np.uint8))
    at = whole.index(b"IDAT") - 4
    monkeypatch.setattr("facetrain.core.images._by_opencv", lambda content, flags: pytest.fail("was asked"))
    with pytest.raises(DataError, match="not an image, or a damaged one"):
        decode_image(whole[:at] + b"\xff\0 \0" + whole[at + 4 :], "claims.png")


def test_the_end_of_a_thumbnail_is_not_the_end_of_its_jpeg():
    thumbnail = encoded(".jpg", np.zeros((16, 16, 3), np.uint8))
    block = b"Exif\0\0" + thumbnail
    whole = encoded(".jpg", np.random.default_rng(3).integers(0, 256, (120, 160, 3), np.uint8))
    whole = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + whole[2:]
    assert decode_image(whole, "whole").shape == (120, 160, 3)
    with pytest.raises(DataError, match="cut off"):
        decode_image(whole[: len(whole) // 2], "half")


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_of_which_fewer_are_used_are_not_black(bits, suffix):
    eight = np.linspace(0, 255, 256).astype(np.uint16)[None].repeat(4, 0)
    image = decode_image(encoded(suffix, eight << (bits - 8)), "camera")
    np.testing.assert_array_equal(image[..., 1], eight)


@pytest.mark.parametrize("suffix", [".tif", ".pfm"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1, 255, 4000])
def test_floating_point_becomes_bytes(suffix, channels, scale):
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(4, 0)
    numbers = (ramp * scale).astype(np.float32)
    image = decode_image(encoded(suffix, numbers if channels == 1 else np.dstack([numbers] * 3)), "ramp")
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image, np.dstack([ramp * 255] * 3), atol=1)


def test_numbers_that_are_none_are_black():
    numbers = np.full((4, 4, 3), 0.5, np.float32)
    numbers[0, 0], numbers[1, 1], numbers[2, 2] = np.nan, np.inf, -np.inf
    image = decode_image(encoded(".tif", numbers), "broken")
    assert image[0, 0].tolist() == image[1, 1].tolist() == image[2, 2].tolist() == [0, 0, 0]
    assert image[3, 3].tolist() == [128, 128, 128]


@pytest.mark.parametrize("kind", ["GIF", "TGA", "AVIF", "JPEG2000", "BMP", "PPM"])
def test_other_formats_are_read_whether_opencv_knows_them_or_not(kind, monkeypatch):
    pixels, content = by_pillow(kind)
    name = f"a.{kind.lower()}"
    np.testing.assert_allclose(decode_image(content, name)[4:20, 4:28], pixels[4:20, 4:28], atol=8)
    if kind in ("GIF", "TGA", "AVIF"):  # as with OpenCV 4.8
        monkeypatch.setattr("facetrain.core.images._by_opencv", lambda content, flags: None)
        np.testing.assert_allclose(decode_image(content, name)[4:20, 4:28], pixels[4:20, 4:28], atol=8)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest takes our own filter away
def test_the_memory_is_asked_before_it_is_taken(monkeypatch):
    monkeypatch.setattr("facetrain.core.memory.free_memory", lambda: 100_000)
    assert decode_image(encoded(".png", np.zeros((50, 50, 3), np.uint8)), "small").shape == (50, 50, 3)
    with pytest.raises(DataError, match="200x100 pixels would take"):
        decode_image(encoded(".png", np.zeros((100, 200, 3), np.uint8)), "large.png")
    header = b"P6\n13377 13377\n255\n"  # nothing behind it
    monkeypatch.setattr("facetrain.core.memory.free_memory", lambda: 1 << 30)
    with pytest.raises(DataError, match="13377x13377 pixels would take"):
        decode_image(header, "bomb")


def test_unreadable_paths_are_named(tmp_path):
    for path in (tmp_path, tmp_path / "absent.jpg"):
        with pytest.raises(DataError, match="cannot be read") as caught:
            read_image(path)
        assert str(path) in caught.value.message


def test_a_file_too_large_is_not_read(tmp_path):
    path = tmp_path / "film.jpg"
    with path.open("wb") as file:
        file.truncate(3 << 30)  # sparse: takes no room
    with pytest.raises(DataError, match="too large"):
        read_image(path)


@pytest.mark.parametrize("name", ["ä b.png", "a.PNG", "a.webp", "a.tif", "a.bmp", "sub/a.jpg"])
def test_what_is_written_can_be_read(tmp_path, name):
    image = np.full((20, 30, 3), (10, 100, 200), np.uint8)
    write_image(tmp_path / name, image)
    np.testing.assert_allclose(read_image(tmp_path / name), image, atol=3)
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [name.split("/")[-1]]


def test_what_cannot_be_written_is_named(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(DataError, match=r"a\.xyz"):
        write_image(tmp_path / "a.xyz", image)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="file"):
        write_image(tmp_path / "file" / "a.png", image)


def test_suffixes_are_lower_case():
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)


@pytest.mark.parametrize(
    ("old", "room", "new"),
    [
        ((1024, 754), (640, 640), (640, 471)),
        ((100, 61), (64, 64), (64, 39)),
        ((61, 100), (64, 64), (39, 64)),
        ((30, 20), (320, 320), (320, 213)),
        ((5000, 3), (320, 320), (320, 1)),
        ((1, 1), (320, 240), (240, 240)),
        ((320, 240), (320, 320), (320, 240)),
    ],
)
def test_fit_keeps_the_ratio_and_truncates_the_other_side(old, room, new):
    image = np.random.default_rng(2).integers(0, 256, (old[1], old[0], 3), np.uint8)
    fitted, factors = fit_image(image, *room)
    assert fitted.shape == (new[1], new[0], 3)
    assert factors == (new[0] / old[0], new[1] / old[1])
    expected = image if old == new else cv2.resize(image, new, interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(fitted, expected)
