"""The program that tries the files of the libfacedetection target, made of a checkout of the library."""

from collections.abc import Mapping
from pathlib import Path

from facetrain.export.cpp.targets.libfacedetection import SOURCES, library_folder
from facetrain.export.cpp.targets.options import CppOptions, Program, Rules

_PROGRAM_FILE = "facetrain_check.cpp"


def program(written: Mapping[str, str], options: CppOptions, library: Path | None) -> Program | str:
    """A program of the library with the files in place, or why it cannot be made."""
    if library is None:
        return "that needs a checkout of the library"
    folder = library_folder(library)
    others = [name for name in ("facedetectcnn.h", *SOURCES) if name not in written]
    texts = {name: (folder / name).read_text(encoding="utf-8", errors="replace") for name in others}
    texts["facedetection_export.h"] = "#define FACEDETECTION_EXPORT\n"
    texts[_PROGRAM_FILE] = _PROGRAM
    rules = Rules(score=0.04, nms=0.45, candidates=1000, truncated=True)  # its score is the square root of ours
    return Program(texts, (*SOURCES, _PROGRAM_FILE), ("-std=c++11", "-O3"), rules)


_PROGRAM = """\
#include "facedetectcnn.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

int main(int count, char** arguments)
{
    std::vector<unsigned char> buffer(FACEDETECTION_RESULT_BUFFER_SIZE);
    for (int i = 3; i + 2 < count; i += 3) {
        const int width = std::atoi(arguments[i]), height = std::atoi(arguments[i + 1]);
        std::vector<unsigned char> image(static_cast<size_t>(width) * height * 3);
        std::FILE* file = std::fopen(arguments[i + 2], "rb");
        if (file == nullptr || std::fread(image.data(), 1, image.size(), file) != image.size()) {
            return 2;
        }
        std::fclose(file);
        const int faces = *facedetect_cnn(buffer.data(), image.data(), width, height, 3 * width);
        std::printf("%d\\n", faces);
        for (int k = 0; k < faces; k++) {
            const short* face = reinterpret_cast<short*>(buffer.data() + 4) + FACEDETECTION_RESULT_STRIDE_SHORTS * k;
            for (int n = 0; n < 15; n++) {
                std::printf("%d ", face[n]);
            }
            std::printf("\\n");
        }
    }
    return 0;
}
"""
