// Prints the faces of an image. Made by facetrain.
//     example image.ppm [score]              a binary PPM (P6)
//     example image.bgr width height [score] rows of blue, green, red bytes
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "@name@.hpp"

int main(int count, char** arguments) {
    const bool raw = count > 3;
    int width = raw ? std::atoi(arguments[2]) : 0, height = raw ? std::atoi(arguments[3]) : 0, most = 255;
    std::FILE* const file = count > 1 ? std::fopen(arguments[1], "rb") : nullptr;
    if (!file || (!raw && std::fscanf(file, "P6 %d %d %d%*1[ \n]", &width, &height, &most) != 3)) {
        std::fprintf(stderr, "usage: %s image.ppm [score] | image.bgr width height [score]\n", arguments[0]);
        return 2;
    }
    std::vector<std::uint8_t> pixels(std::size_t(std::max(width, 0)) * std::size_t(std::max(height, 0)) * 3);
    const std::size_t read = std::fread(pixels.data(), 1, pixels.size(), file);
    std::fclose(file);
    if (read != pixels.size() || pixels.empty() || most != 255) {
        std::fprintf(stderr, "%s: not a whole image of 8 bits\n", arguments[1]);
        return 1;
    }
    for (std::size_t i = 0; !raw && i < pixels.size(); i += 3) std::swap(pixels[i], pixels[i + 2]);  // PPM has red first

    @name@::Detector detector(width, height);
    const float score = count == 3 || count > 4 ? float(std::atof(arguments[raw ? 4 : 2])) : 0.5f;
    for (const @name@::Face& face : detector.detect(pixels.data(), width, height, 0, score)) {
        std::printf("%.4f  box %.1f %.1f %.1f %.1f", face.score, face.x1, face.y1, face.x2, face.y2);
        for (const @name@::Point& point : face.landmarks) std::printf("  %.1f %.1f", point.x, point.y);
        std::printf("\n");
    }
    std::printf("%s, %zu bytes of working memory\n", detector.instruction_set(), detector.working_memory());
    return 0;
}
