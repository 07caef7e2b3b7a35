"""What of a photograph's EXIF is kept, and that nothing of it can hold the photograph again."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags
from PIL import Image as Pillow

from facetrain.core.exif import exif_of, holds_exif, write_with_exif
from facetrain.core.images import read_image, write_image

SECRET = b"the uncovered face"  # stands in whatever may hold a second picture
MAKER = b"NIKON " + SECRET


def small_jpeg() -> bytes:
    stream = io.BytesIO()
    Pillow.new("RGB", (16, 16), (9, 200, 9)).save(stream, "JPEG", comment=SECRET)
    return stream.getvalue()


def tiff(orientation: int = 6) -> bytes:
    """EXIF as cameras write it: main fields, details with a maker's note, a place, and a thumbnail."""
    exif = Pillow.Exif()
    exif[ExifTags.Base.Make] = "Nikon"
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.ImageDescription] = SECRET.decode()
    exif[ExifTags.Base.XPComment] = SECRET * 30
    exif[ExifTags.Base.PrintImageMatching] = SECRET
    exif[ExifTags.IFD.Exif] = {
        ExifTags.Base.DateTimeOriginal: "2024:05:06 07:08:09",
        ExifTags.Base.ExposureTime: 0.01,
        ExifTags.Base.MakerNote: MAKER,
        ExifTags.Base.UserComment: b"ASCII\0\0\0" + SECRET,
        ExifTags.Base.LensModel: "x" * 5000,
        ExifTags.Base.SubjectLocation: (3, 4),
    }
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (51.0, 28.0, 40.0)}
    body = exif.tobytes()[6:]  # behind `Exif\0\0`
    order = "<" if body.startswith(b"II") else ">"
    first = struct.unpack(order + "I", body[4:8])[0]
    entries = struct.unpack(order + "H", body[first : first + 2])[0]
    link = first + 2 + 12 * entries  # where the first directory says where the second is
    thumbnail = small_jpeg()
    second = len(body)
    data = second + 2 + 3 * 12 + 4
    directory = struct.pack(order + "H", 3)
    directory += struct.pack(order + "HHIHH", 0x0103, 3, 1, 6, 0)
    directory += struct.pack(order + "HHII", 0x0201, 4, 1, data)
    directory += struct.pack(order + "HHII", 0x0202, 4, 1, len(thumbnail))
    directory += struct.pack(order + "I", 0)
    return body[:link] + struct.pack(order + "I", second) + body[link + 4 :] + directory + thumbnail


def photograph(path: Path, orientation: int = 6) -> Path:
    """40x30 pixels as stored, with all that a file may say of itself."""
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:10] = 250
    image = Pillow.fromarray(pixels)
    exif = b"Exif\0\0" + tiff(orientation)
    xmp = b"<x:xmpmeta>" + SECRET + b"</x:xmpmeta>"
    if path.suffix == ".jpg":
        image.save(path, quality=100, exif=exif, xmp=xmp, comment=SECRET, icc_profile=SECRET)
        content = path.read_bytes()
        index = b"MPF\0" + SECRET  # of further pictures behind this one
        segment = b"\xff\xe2" + struct.pack(">H", len(index) + 2) + index
        path.write_bytes(content[:2] + segment + content[2:] + small_jpeg())
    else:
        image.save(path, exif=exif, xmp=xmp, lossless=True)
    assert SECRET in path.read_bytes()
    return path


def test_the_photograph_has_a_thumbnail(tmp_path: Path) -> None:
    # what the tests below miss has to be there
    with Pillow.open(photograph(tmp_path / "a.jpg")) as image:
        exif = image.getexif()
        assert exif.get_ifd(ExifTags.IFD.IFD1)[0x0202] == len(small_jpeg())
        assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] == MAKER
        assert {"comment", "xmp", "icc_profile"} <= image.info.keys()


def test_images_are_written_without_any(tmp_path: Path) -> None:
    image = read_image(photograph(tmp_path / "a.jpg"))
    for suffix in (".jpg", ".png", ".webp", ".tif"):
        write_image(tmp_path / f"b{suffix}", image)
        with Pillow.open(tmp_path / f"b{suffix}") as written:
            # what a TIFF says of its own pixels are EXIF's fields too
            structure = {tag for tag in written.getexif() if tag not in range(0x0100, 0x0154)}
            assert structure == set()
            assert not {"exif", "xmp", "comment", "icc_profile", "mp", "photoshop"} & written.info.keys()
    content = (tmp_path / "b.jpg").read_bytes()
    assert [place for place in range(len(content)) if content[place : place + 2] in (b"\xff\xe1", b"\xff\xe2")] == []


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("to", [".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"])
def test_what_is_kept_holds_no_picture(tmp_path: Path, suffix: str, to: str) -> None:
    source = photograph(tmp_path / f"a{suffix}")
    exif = exif_of(source)
    assert exif is not None
    image = read_image(source)
    assert image.shape == (40, 30, 3)
    path = tmp_path / f"b{to}"
    assert holds_exif(path)
    write_with_exif(path, image, exif, 95)
    content = path.read_bytes()
    for part in (SECRET, SECRET[4:], MAKER, small_jpeg()[:40] if to != ".jpg" else MAKER, b"x" * 300):
        assert part not in content
    with Pillow.open(path) as written:
        kept = written.getexif()
        assert kept[ExifTags.Base.Make] == "Nikon"
        assert kept[ExifTags.Base.Orientation] == 1
        details = kept.get_ifd(ExifTags.IFD.Exif)
        assert details[ExifTags.Base.DateTimeOriginal] == "2024:05:06 07:08:09"
        assert float(details[ExifTags.Base.ExposureTime]) == pytest.approx(0.01)
        assert kept.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] == (51.0, 28.0, 40.0)
        assert not details.keys() & {0x927C, 0x9286, 0x9214, 0xA214, 0xA434}
        assert kept.get_ifd(ExifTags.IFD.IFD1) == {}
        assert not {"xmp", "comment", "icc_profile"} & written.info.keys()
    # as it is shown: turned once, and not twice
    assert np.abs(read_image(path).astype(int) - image).mean() < 3


def test_nothing_to_keep(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    assert exif_of(tmp_path / "a.png") is None
    assert not holds_exif(tmp_path / "a.bmp")


def test_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = photograph(tmp_path / "a.jpg").read_bytes()
    place = content.index(b"Exif\0\0")
    (tmp_path / "b.jpg").write_bytes(content[: place + 10] + b"\xff" * 60 + content[place + 70 :])
    exif = exif_of(tmp_path / "b.jpg")
    assert exif is None or all(isinstance(tag, int) for tag in exif)
    (tmp_path / "c.jpg").write_bytes(b"no image")
    assert exif_of(tmp_path / "c.jpg") is None
    assert "c.jpg" in caplog.text
