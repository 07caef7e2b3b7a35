// Prints the faces of images for a comparison with the model's own: score threshold, IoU threshold, then width,
// height and a file of raw BGR bytes for each image. Per image a line with the number of faces, and a line each.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "@name@.hpp"

int main(int count, char** arguments) {
    if (count < 3) return 2;
    const float score = std::strtof(arguments[1], nullptr), iou = std::strtof(arguments[2], nullptr);
    @name@::Detector detector;
    for (int i = 3; i + 2 < count; i += 3) {
        const int width = std::atoi(arguments[i]), height = std::atoi(arguments[i + 1]);
        std::vector<std::uint8_t> pixels(std::size_t(width) * std::size_t(height) * 3);
        std::FILE* const file = std::fopen(arguments[i + 2], "rb");
        if (!file || std::fread(pixels.data(), 1, pixels.size(), file) != pixels.size()) return 1;
        std::fclose(file);
        const @name@::Faces faces = detector.detect(pixels.data(), width, height, 0, score, iou);
        std::printf("%zu\n", faces.size());
        for (const @name@::Face& face : faces) {
            std::printf("%.9g %.9g %.9g %.9g %.9g", face.score, face.x1, face.y1, face.x2, face.y2);
            for (const @name@::Point& point : face.landmarks) std::printf(" %.9g %.9g", point.x, point.y);
            std::printf("\n");
        }
    }
    return 0;
}
