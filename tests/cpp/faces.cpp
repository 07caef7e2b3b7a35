// Finds faces for the tests: `faces max_width max_height threads < orders`, where an order is a line
// `width height stride score iou file`, the file holding stride * height bytes of BGR rows.
// Prints for each a line `faces allocations` and a line per face: score, box, landmarks. Ends with the working memory.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

#include "facetrain.hpp"

static std::atomic<long> allocations{0};

void* operator new(std::size_t size) {
    ++allocations;
    if (void* const memory = std::malloc(size ? size : 1)) return memory;
    std::abort();
}
void* operator new[](std::size_t size) { return operator new(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return operator new(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return operator new(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

int main(int count, char** arguments) {
    if (count != 4) return 2;
    facetrain::Detector detector(std::atoi(arguments[1]), std::atoi(arguments[2]), std::atoi(arguments[3]));
    int width, height;
    long stride;
    float score, iou;
    char path[1000];
    while (std::scanf("%d %d %ld %f %f %999s", &width, &height, &stride, &score, &iou, path) == 6) {
        // exactly as many bytes as the detector may read, so that a sanitizer sees one too many
        const long row = stride ? stride : 3L * width;
        std::vector<unsigned char> pixels(std::size_t(row) * (height - 1) + 3 * std::size_t(width));
        std::FILE* const file = std::fopen(path, "rb");
        if (!file || std::fread(pixels.data(), 1, pixels.size(), file) != pixels.size()) return 1;
        std::fclose(file);
        const long before = allocations;
        const facetrain::Faces faces = detector.detect(pixels.data(), width, height, stride, score, iou);
        std::printf("%zu %ld\n", faces.size(), allocations - before);
        for (const facetrain::Face& face : faces) {
            std::printf("%.9g %.9g %.9g %.9g %.9g", face.score, face.x1, face.y1, face.x2, face.y2);
            for (const facetrain::Point& point : face.landmarks) std::printf(" %.9g %.9g", point.x, point.y);
            std::printf("\n");
        }
    }
    std::printf("%s\n%zu\n", detector.instruction_set(), detector.working_memory());
    return 0;
}
