// Finds faces in images: a trained network in plain C++17. Written by facetrain; see README.md beside this file.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace @name@ {

constexpr int kLandmarks = @landmarks@;@landmark_names@

struct Point {
    float x, y;
};

// Pixels of the image; a box may reach beyond its border.
struct Face {
    float x1, y1, x2, y2;
    float score;  // 0 to 1
    std::array<Point, kLandmarks> landmarks;
};

// The faces of one image, best first: a view into the detector, valid until its next call or its end.
class Faces {
public:
    Faces() = default;
    Faces(const Face* first, std::size_t count) : first_(first), count_(count) {}

    const Face* begin() const { return first_; }
    const Face* end() const { return first_ + count_; }
    const Face* data() const { return first_; }
    std::size_t size() const { return count_; }
    bool empty() const { return count_ == 0; }
    const Face& operator[](std::size_t i) const { return first_[i]; }

private:
    const Face* first_ = nullptr;
    std::size_t count_ = 0;
};

// A network with its working memory. One detector serves one thread at a time; several detectors share nothing.
class Detector {
public:
    // Sets aside what images up to this size need. A larger one is taken too, and memory is allocated for it then.
    // threads: how many work on one image, the caller's among them
    explicit Detector(int max_width = 640, int max_height = 480, int threads = 1);
    ~Detector();
    Detector(Detector&&) noexcept;
    Detector& operator=(Detector&&) noexcept;

    // bgr:    rows of blue, green, red bytes, from the top
    // stride: bytes from one row to the next; 0: the rows follow each other
    // score:  the least score that counts
    // iou:    a face that overlaps a better one by more (intersection over union) is dropped
    // No image (a null pointer, an empty side) has no faces.
    Faces detect(const std::uint8_t* bgr, int width, int height, std::ptrdiff_t stride = 0, float score = 0.5f,
                 float iou = 0.45f);

    // Bytes of working memory held now, weights not counted.
    std::size_t working_memory() const;

    // The instruction set in use: "AVX-512", "AVX2", "NEON", "vectors of four" or "plain".
    const char* instruction_set() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace @name@
