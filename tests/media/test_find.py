import os
from pathlib import Path

import pytest

from facetrain.core.errors import DataError, InputError, UsageError
from facetrain.media.find import Places, find_sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")


def targets(paths, output="out"):
    """{source: target below the output folder} of paths that all can be found."""
    found = find_sources(paths, Places([Path(output)]))
    assert found.failures == []
    return {source.path.as_posix(): source.target.as_posix() for source in found.sources}


def failed(paths, output="out"):
    found = find_sources(paths, Places([Path(output)]))
    return [source.path.as_posix() for source in found.sources], {one.path: one.error for one in found.failures}


def test_a_folder_keeps_its_shape(folder):
    touch("in/b.jpg", "in/a.PNG", "in/x/y/c.webp", "in/notes.txt", "in/.hidden.jpg", "in/.git/d.jpg")
    assert targets(["in"]) == {"in/a.PNG": "a.PNG", "in/b.jpg": "b.jpg", "in/x/y/c.webp": "x/y/c.webp"}
    assert targets(["in/", "in/../in"]).keys() == targets(["in"]).keys()


def test_the_current_folder(folder):
    touch("a.jpg", "sub/b.jpg")
    assert targets(["."]) == {"a.jpg": "a.jpg", "sub/b.jpg": "sub/b.jpg"}


def test_files_go_by_their_name_whatever_it_ends_in(folder):
    touch("deep/er/a.jpg", "b.dat", "c", "d.jp2", "e.pgm")
    expected = {"deep/er/a.jpg": "a.jpg", "b.dat": "b.png", "c": "c.png", "d.jp2": "d.png", "e.pgm": "e.png"}
    assert targets(["deep/er/a.jpg", "b.dat", "c", "d.jp2", "e.pgm"]) == expected


def test_the_same_file_counts_once(folder):
    touch("in/a.jpg")
    assert len(targets(["in/a.jpg", "./in/a.jpg", "in", str(folder / "in/a.jpg"), "in/*.jpg"])) == 1


def test_equal_targets_get_numbers(folder):
    touch("x/a.jpg", "y/a.jpg", "z/A.JPG", "z/a-2.jpg", "z/a.jp2", "z/a.png")
    found = targets(["x/a.jpg", "y/a.jpg", "z"])
    assert found == {
        "x/a.jpg": "a.jpg",
        "y/a.jpg": "a-2.jpg",
        "z/A.JPG": "A-3.JPG",  # upper and lower case are one to some file systems
        "z/a-2.jpg": "a-2-2.jpg",
        "z/a.jp2": "a-4.png",  # crops and labels go by the name without its suffix
        "z/a.png": "a-5.png",
    }


def test_patterns(folder):
    touch("in/a.jpg", "in/b.jpg", "in/c.png", "in/sub/d.jpg")
    assert list(targets(["in/*.jpg"])) == ["in/a.jpg", "in/b.jpg"]
    assert list(targets(["in/?.[jp]*g"])) == ["in/a.jpg", "in/b.jpg", "in/c.png"]
    assert sorted(targets(["in/**/*.jpg"])) == ["in/a.jpg", "in/b.jpg", "in/sub/d.jpg"]
    assert sorted(targets([str(folder / "i*" / "*.png")])) == [(folder / "in/c.png").as_posix()]
    assert targets(["in/s*"]) == {"in/sub/d.jpg": "d.jpg"}


@pytest.mark.skipif(os.name == "nt", reason="such names are not allowed on Windows")
def test_a_name_that_reads_like_a_pattern_wins(folder):
    touch("a[1].jpg", "a1.jpg", "what?.jpg", "p [x]/b*.jpg", "p [x]/bc.jpg", "p [x]/d.png", "p x/d.png")
    assert list(targets(["a[1].jpg"])) == ["a[1].jpg"]
    assert list(targets(["what?.jpg"])) == ["what?.jpg"]
    assert list(targets(["p [x]/b*.jpg"])) == ["p [x]/b*.jpg"]
    assert list(targets(["p [x]"])) == ["p [x]/b*.jpg", "p [x]/bc.jpg", "p [x]/d.png"]
    assert list(targets(["p [x]/*.png"])) == ["p [x]/d.png"]


def test_what_is_not_there(folder):
    touch("photos/kids.jpg")
    found, errors = failed(["nope.jpg", "photos/kid.jpg", "x*.jpg", "", "photos"])
    assert found == ["photos/kids.jpg"]
    assert all(isinstance(error, InputError) for error in errors.values())
    assert list(errors) == ["nope.jpg", "photos/kid.jpg", "x*.jpg", ""]
    assert "kids.jpg" in errors["photos/kid.jpg"].hint
    assert "pattern" in errors["x*.jpg"].message


def test_a_folder_without_images(folder):
    touch("in/sub/readme.txt", "photos/a.jpg")
    found, errors = failed(["in", "photos"])
    assert found == ["photos/a.jpg"]
    assert isinstance(errors["in"], DataError)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX files")
def test_special_files(folder):
    os.mkfifo("pipe.jpg")
    Path("dangling.jpg").symlink_to("absent")
    found, errors = failed(["pipe.jpg", "dangling.jpg", "/dev/null"])
    assert found == ["pipe.jpg"]
    assert sorted(errors) == ["/dev/null", "dangling.jpg"]


def test_a_closed_folder_is_named(folder, monkeypatch):
    touch("in/a.jpg", "in/closed/b.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found, errors = failed(["in"])
    assert found == ["in/a.jpg"]
    assert "Permission denied" in errors[str(Path("in/closed"))].message


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_to_folders_are_followed_but_not_in_circles(folder):
    touch("data/a.jpg", "in/b.jpg")
    Path("in/linked").symlink_to("../data")
    Path("data/up").symlink_to("../in")
    assert targets(["in"]) == {"in/b.jpg": "b.jpg", "in/linked/a.jpg": "linked/a.jpg"}


def test_results_of_an_earlier_run_are_no_input(folder):
    touch("in/a.jpg", "in/detections/a.jpg", "in/detections/sub/b.jpg")
    assert targets(["in"], "in/detections") == {"in/a.jpg": "a.jpg"}
    assert targets(["."], "in/detections") == {"in/a.jpg": "in/a.jpg"}


@pytest.mark.parametrize(
    ("paths", "output"),
    [
        (["in"], "in"),
        (["in"], "./in/../in"),
        (["in/a.jpg"], "in"),
        (["in/a.jpg"], "in/"),
        (["other/a.jpg", "in/sub/a.jpg", "in/a.jpg"], "in"),  # other's result would replace in/a.jpg
        (["in/*.jpg"], "in"),
        (["."], "."),
        (["sub/in/a.jpg"], "sub/in"),
        (["in", "other"], "in"),
    ],
)
def test_a_source_is_never_overwritten(folder, paths, output):
    touch("in/a.jpg", "in/sub/a.jpg", "other/a.jpg", "sub/in/a.jpg")
    with pytest.raises(UsageError) as caught:
        find_sources(paths, Places([Path(output)]))
    assert "`output`" in caught.value.hint


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_source_is_not_overwritten_by_way_of_a_link(folder):
    touch("in/a.jpg")
    Path("link").symlink_to("in")
    for paths in (["in/a.jpg"], ["in"]):
        with pytest.raises(UsageError):
            find_sources(paths, Places([Path("link")]))
    with pytest.raises(UsageError):
        find_sources(["link/a.jpg"], Places([Path("in")]))


def test_a_folder_inside_the_output_folder_is_ordinary_input(folder):
    touch("work/raw/a.jpg")
    assert targets(["work/raw"], "work") == {"work/raw/a.jpg": "a.jpg"}


def test_images_that_are_not_decoded_are_counted_and_named(folder):
    touch("in/a.jpg", "in/b.gif", "in/c.jfif", "in/x/d.HEIC", "in/e.heic", "in/f.svg", "in/notes.txt")
    found = find_sources(["in"], Places([Path("out")]))
    assert [source.path.as_posix() for source in found.sources] == ["in/a.jpg", "in/b.gif", "in/c.jfif"]
    assert [source.target.as_posix() for source in found.sources] == ["a.jpg", "b.png", "c.png"]
    assert found.skipped_text() == "skipped 3 images that are not decoded: 2 .heic, 1 .svg; convert to JPEG"


def test_a_pattern_waits_for_no_pipe_and_goes_round_no_loop(folder):
    touch("in/a.jpg", "in/sub/b.jpg")
    os.mkfifo("in/p.jpg")
    os.mkfifo("in/sub/q.jpg")
    for name in ("one", "two", "three"):  # with `glob` alone 3 to the 40th folders
        Path("in", name).symlink_to(".", target_is_directory=True)
    sources, failures = failed(["in/*.jpg", "in/**/*.jpg"])
    assert sources == ["in/a.jpg", "in/sub/b.jpg"]
    assert set(failures) == {"in/p.jpg", "in/sub/q.jpg"}
    assert "neither a file nor a folder" in failures["in/p.jpg"].message
    sources, failures = failed(["in/**"])
    assert sources == ["in/a.jpg", "in/sub/b.jpg"]
    assert set(failures) == {"in/p.jpg", "in/sub/q.jpg"}


def test_names_as_long_as_the_file_system_allows(folder):
    names = ["n" * 251, "é" * 125 + "n"]
    touch(*(f"in/{name}.jpg" for name in names), *(f"in/{name}.gif" for name in names), f"in/{'n' * 250}.jpeg")
    found = targets(["in"])
    assert len(set(found.values())) == 5
    assert all(len(os.fsencode(name)) <= 255 for name in found.values())
    assert found[f"in/{names[0]}.jpg"] == f"{'n' * 249}-2.jpg"  # the GIF comes first
    assert targets([f"in/{names[0]}.jpg", f"in/../in/{names[0]}.jpg", f"in/{names[1]}.jpg"], "o") == {
        f"in/{names[0]}.jpg": f"{names[0]}.jpg",
        f"in/{names[1]}.jpg": f"{names[1]}.jpg",
    }
    touch(f"other/{names[0]}.jpg")
    both = targets([f"in/{names[0]}.jpg", f"other/{names[0]}.jpg"])
    assert both[f"other/{names[0]}.jpg"] == f"{'n' * 249}-2.jpg"


def test_videos_animations_and_cameras(folder):
    from PIL import Image

    touch("in/a.MP4", "in/b.avi", "in/c.jpg", "in/d.mkv", "in/e.tsx", "in/f.gif", "in/sub/a.mp4")
    Path("in/code.ts").write_text("export const a = 1;\n" * 40)
    Path("in/film.ts").write_bytes((b"G" + bytes(187)) * 3)
    images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in ("in/g.gif", "in/h.png", "in/i.webp"):
        images[0].save(name, save_all=True, append_images=images[1:], duration=100)
    found = find_sources(["in", "0", "12", "0", "in/code.ts"], Places([Path("out")]))
    kinds = {source.name: (type(source).__name__, source.target.as_posix()) for source in found.sources}
    assert found.failures == []
    assert kinds == {
        "in/a.MP4": ("Video", "a.MP4"),
        "in/b.avi": ("Video", "b.mp4"),
        "in/c.jpg": ("Still", "c.jpg"),
        "in/d.mkv": ("Video", "d.mkv"),
        "in/f.gif": ("Still", "f.png"),
        "in/film.ts": ("Video", "film.mp4"),
        "in/g.gif": ("Animation", "g.gif"),
        "in/h.png": ("Animation", "h.webp"),
        "in/i.webp": ("Animation", "i.webp"),
        "in/sub/a.mp4": ("Video", "sub/a.mp4"),
        "camera 0": ("Camera", "camera-0.mp4"),
        "camera 12": ("Camera", "camera-12.mp4"),
        "in/code.ts": ("Video", "code.mp4"),  # because it was named
    }


def test_a_file_called_like_a_camera_wins(folder):
    touch("0")
    assert targets(["0"]) == {"0": "0.png"}


def test_stills_alone(folder):
    from PIL import Image

    touch("in/a.mp4", "in/b.mov", "in/c.jpg", "in/d.heic")
    images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    images[0].save("in/g.gif", save_all=True, append_images=images[1:], duration=100)
    found = find_sources(["in", "0"], Places([Path("out")]), stills=True)
    assert [(type(source).__name__, source.name) for source in found.sources] == [
        ("Still", "in/c.jpg"),
        ("Still", "in/g.gif"),
    ]
    text = "skipped 1 image that is not decoded: 1 .heic; convert to JPEG; skipped 2 videos: 1 .mov, 1 .mp4"
    assert found.skipped_text() == text
    assert [failure.path for failure in found.failures] == ["0"]


def test_a_folder_without_either(folder):
    touch("in/notes.txt")
    assert "in: no images or videos in this folder" in str(failed(["in"])[1]["in"])
    error = find_sources(["in"], stills=True).failures[0].error
    assert "in: no images in this folder" in str(error) and ".mp4" not in str(error)
