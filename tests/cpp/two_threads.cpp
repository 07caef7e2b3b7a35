// Two detectors in two threads, one of them with helpers of its own, must find what one alone finds.
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "facetrain.hpp"

using Found = std::vector<facetrain::Face>;

static Found find(facetrain::Detector& detector, const std::vector<unsigned char>& image, int width, int height) {
    const facetrain::Faces faces = detector.detect(image.data(), width, height, 0, 0.0f, 0.3f);
    return Found(faces.begin(), faces.end());
}

static bool equal(const Found& a, const Found& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(facetrain::Face)) == 0;
}

int main() {
    const int width = 150, height = 130;
    std::vector<unsigned char> image(3 * width * height);
    unsigned state = 1;
    for (unsigned char& value : image) value = static_cast<unsigned char>((state = state * 1664525 + 1013904223) >> 24);
    facetrain::Detector alone(width, height);
    const Found expected = find(alone, image, width, height);
    bool good[2] = {};
    const auto work = [&](int number, int threads) {
        facetrain::Detector detector(width, height, threads);
        good[number] = true;
        for (int round = 0; round < 5; ++round) {
            good[number] = good[number] && equal(find(detector, image, width, height), expected);
        }
    };
    std::thread first(work, 0, 1), second(work, 1, 3);
    first.join();
    second.join();
    std::printf("%zu faces, %s\n", expected.size(), good[0] && good[1] ? "equal" : "different");
    return good[0] && good[1] && !expected.empty() ? 0 : 1;
}
