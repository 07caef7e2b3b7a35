// Passes over maps, of which cpu.cpp makes the kernels.
//
// Maps are channels-last, (images, height, width, channels), float or bfloat16; channels are a multiple of 16.
// Arithmetic is float. Work is cut into bands of rows by the map's shape alone, and each band has sums of its own, which
// are added in their order: the result is the same, bit for bit, with any number of threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

// The OpenMP library that torch has loaded. Its threads spin for a while after each of torch's operations, and threads
// of ours would have to share the cores with them. Where it is absent, threads are started for each call.
extern "C" void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned) __attribute__((weak));

// As in cpu.py.
struct Shape {
    int64_t images, height, width, channels, band;  // band: rows of one task
    int64_t threads;

    int64_t row() const { return width * channels; }
    int64_t bands() const { return (height + band - 1) / band; }
    int64_t tasks() const { return images * bands(); }
};

namespace {

constexpr int lanes = 16;     // channels at a time; the compiler cuts them into what the processor has
constexpr int64_t tile = 32;  // pixels of a row whose channels are gone through together: they stay in the first cache

typedef float Vec __attribute__((vector_size(4 * lanes)));
typedef int32_t Mask __attribute__((vector_size(4 * lanes)));
typedef uint32_t Bits __attribute__((vector_size(4 * lanes)));
typedef uint16_t Half __attribute__((vector_size(2 * lanes)));
typedef uint8_t Bytes __attribute__((vector_size(lanes)));

struct bfloat16 {
    uint16_t bits;
};

inline Vec load(const float* from) {
    Vec value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

inline Vec load(const bfloat16* from) {
    Half half;
    std::memcpy(&half, from, sizeof half);
#if defined(__AVX512F__)
    const Bits bits = (Bits)_mm512_cvtepu16_epi32((__m256i)half);  // gcc 12 makes four instructions of the line below
#else
    const Bits bits = __builtin_convertvector(half, Bits);
#endif
    return (Vec)(bits << 16);
}

inline void store(float* to, Vec value) { std::memcpy(to, &value, sizeof value); }

inline void store(bfloat16* to, Vec value) {
#if defined(__AVX512BF16__)
    const __m256bh half = _mm512_cvtneps_pbh((__m512)value);
#else
    const Bits bits = (Bits)value;
    const Bits nearest = bits + 0x7fff + ((bits >> 16) & 1);         // ties to even
    const Bits kept = value == value ? nearest : (bits | 0x400000);  // a NaN must not become infinite or zero
    const Half half = __builtin_convertvector(kept >> 16, Half);
#endif
    std::memcpy(to, &half, sizeof half);
}

// NaN stays NaN in both, as in torch: a network that broke is seen in its losses.
inline Vec relu(Vec value) { return value < 0 ? Vec{} : value; }
inline Vec passed(Vec gradient, Vec value) { return value <= 0 ? Vec{} : gradient; }

inline void add(float* to, Vec value) { store(to, load(to) + value); }

template <class Body>
struct Work {
    const Body& body;
    const int64_t tasks;
    std::atomic<int64_t> next{0};

    static void run(void* self) {
        Work& work = *static_cast<Work*>(self);
        for (int64_t task; (task = work.next++) < work.tasks;) work.body(task);
    }
};

// body(task, image, first row, row after the last) for each task.
template <class Body>
void for_bands(const Shape& s, const Body& body) {
    const auto one = [&](int64_t task) {
        const int64_t from = task % s.bands() * s.band;
        body(task, task / s.bands(), from, std::min(from + s.band, s.height));
    };
    Work<decltype(one)> work{one, s.tasks()};
    const int64_t threads = std::min(s.threads, work.tasks);
    if (threads > 1 && GOMP_parallel) {
        GOMP_parallel(work.run, &work, (unsigned)threads, 0);
        return;
    }
    std::vector<std::thread> others;
    for (int64_t i = 1; i < threads; i++) others.emplace_back(work.run, &work);
    work.run(&work);
    for (std::thread& other : others) other.join();
}

// body(first pixel, pixel after the last, first channel) for each tile of a row and each 16 channels of it.
template <class Body>
inline void for_tiles(const Shape& s, const Body& body) {
    for (int64_t x = 0; x < s.width; x += tile)
        for (int64_t c = 0; c < s.channels; c += lanes) body(x, std::min(x + tile, s.width), c);
}

// Three neighbouring columns of three rows go through a row together, so that each value is loaded once. fetch(x, column)
// loads column x, step(x, left, middle, right) uses three; the names rotate, the values stay in their registers.
template <class Fetch, class Step>
inline void along(int64_t from, int64_t to, const Fetch& fetch, const Step& step) {
    Vec a[3], b[3], c[3];
    fetch(from - 1, a);
    fetch(from, b);
    int64_t x = from;
    for (; x + 3 <= to; x += 3) {
        fetch(x + 1, c);
        step(x, a, b, c);
        fetch(x + 2, a);
        step(x + 1, b, c, a);
        fetch(x + 3, b);
        step(x + 2, c, a, b);
    }
    for (; x < to; x++) {
        fetch(x + 1, c);
        step(x, a, b, c);
        for (int i = 0; i < 3; i++) a[i] = b[i], b[i] = c[i];
    }
}

// Rows y-1, y and y+1 of a map, zeros around it.
template <class T>
struct Lines {
    const T* row[3];

    Lines(const Shape& s, const T* map, int64_t y, const T* zeros) {
        for (int i = 0; i < 3; i++) {
            const int64_t at = y + i - 1;
            row[i] = at < 0 || at >= s.height ? zeros : map + at * s.row();
        }
    }

    void fetch(const Shape& s, int64_t x, int64_t c, Vec* column) const {
        const bool inside = x >= 0 && x < s.width;
        for (int i = 0; i < 3; i++) column[i] = inside ? load(row[i] + x * s.channels + c) : Vec{};
    }
};

// Nine taps on three columns of three rows.
inline Vec convolved(Vec value, const Vec (*w)[3], const Vec* left, const Vec* middle, const Vec* right) {
    for (int i = 0; i < 3; i++) {
        value += left[i] * w[i][0];
        value += middle[i] * w[i][1];
        value += right[i] * w[i][2];
    }
    return value;
}

// out(y, x, c) = bias(c) + sum over i, j of in(y+i-1, x+j-1, c) * weight(i, j, c), zeros around.
// sums: (tasks, 2, channels), of out - pivot and of its square; pivot: (channels).
template <class T>
void depthwise(const Shape& s, const T* in, const float* weight, const float* bias, const float* pivot, T* out,
               float* sums) {
    const std::vector<T> zeros(s.row());
    for_bands(s, [&](int64_t task, int64_t image, int64_t from, int64_t to) {
        const T* map = in + image * s.height * s.row();
        float* sum = sums + task * 2 * s.channels;
        std::fill_n(sum, 2 * s.channels, 0.f);
        for (int64_t y = from; y < to; y++) {
            const Lines<T> line(s, map, y, zeros.data());
            T* result = out + (image * s.height + y) * s.row();
            for_tiles(s, [&](int64_t x0, int64_t x1, int64_t c) {
                Vec w[3][3], first{}, second{};
                for (int i = 0; i < 9; i++) w[i / 3][i % 3] = load(weight + i * s.channels + c);
                const Vec b = load(bias + c), p = load(pivot + c);
                const auto fetch = [&](int64_t x, Vec* column) { line.fetch(s, x, c, column); };
                along(x0, x1, fetch, [&](int64_t x, const Vec* left, const Vec* middle, const Vec* right) {
                    Vec value = convolved(b, w, left, middle, right);
                    T* at = result + x * s.channels + c;
                    store(at, value);
                    value = load(at) - p;  // as rounded: these are the numbers whose mean is taken away
                    first += value;
                    second += value * value;
                });
                add(sum + c, first);
                add(sum + s.channels + c, second);
            });
        }
    });
}

// out(y, x, c) = relu(bias(c) + sum over i, j of in(y+i-1, x+j-1, c) * weight(i, j, c)), zeros around.
template <class T>
void depthwise_relu(const Shape& s, const T* in, const float* weight, const float* bias, T* out) {
    const std::vector<T> zeros(s.row());
    for_bands(s, [&](int64_t, int64_t image, int64_t from, int64_t to) {
        const T* map = in + image * s.height * s.row();
        for (int64_t y = from; y < to; y++) {
            const Lines<T> line(s, map, y, zeros.data());
            T* result = out + (image * s.height + y) * s.row();
            for_tiles(s, [&](int64_t x0, int64_t x1, int64_t c) {
                Vec w[3][3];
                for (int i = 0; i < 9; i++) w[i / 3][i % 3] = load(weight + i * s.channels + c);
                const Vec b = load(bias + c);
                const auto fetch = [&](int64_t x, Vec* column) { line.fetch(s, x, c, column); };
                along(x0, x1, fetch, [&](int64_t x, const Vec* left, const Vec* middle, const Vec* right) {
                    store(result + x * s.channels + c, relu(convolved(b, w, left, middle, right)));
                });
            });
        }
    });
}

// The sums of `depthwise` for a map that is there already.
template <class T>
void moments(const Shape& s, const T* in, const float* pivot, float* sums) {
    for_bands(s, [&](int64_t task, int64_t image, int64_t from, int64_t to) {
        float* sum = sums + task * 2 * s.channels;
        std::fill_n(sum, 2 * s.channels, 0.f);
        for (int64_t y = from; y < to; y++) {
            const T* line = in + (image * s.height + y) * s.row();
            for_tiles(s, [&](int64_t x0, int64_t x1, int64_t c) {
                const Vec p = load(pivot + c);
                Vec first{}, second{};
                for (int64_t x = x0; x < x1; x++) {
                    const Vec value = load(line + x * s.channels + c) - p;
                    first += value;
                    second += value * value;
                }
                add(sum + c, first);
                add(sum + s.channels + c, second);
            });
        }
    });
}

// out = relu(in * scale + shift)
template <class T>
void normalise(const Shape& s, const T* in, const float* scale, const float* shift, T* out) {
    for_bands(s, [&](int64_t, int64_t image, int64_t from, int64_t to) {
        const int64_t start = (image * s.height + from) * s.row(), end = start + (to - from) * s.row();
        for (int64_t i = start; i < end; i += s.channels)
            for (int64_t c = 0; c < s.channels; c += lanes)
                store(out + i + c, relu(load(in + i + c) * load(scale + c) + load(shift + c)));
    });
}

// Batch norm as its backward pass needs it: (5, channels) of scale, shift, mean, and two factors that come later.
struct Norm {
    const float* rows;
    int64_t channels;
    Vec scale(int64_t c) const { return load(rows + c); }
    Vec shift(int64_t c) const { return load(rows + channels + c); }
    Vec mean(int64_t c) const { return load(rows + 2 * channels + c); }
    Vec slope(int64_t c) const { return load(rows + 3 * channels + c); }
    Vec level(int64_t c) const { return load(rows + 4 * channels + c); }
};

// sums: (tasks, 2, channels), of g and of g * (in - mean); g is the gradient of relu(in * scale + shift) where it passes.
template <class T>
void reduce(const Shape& s, const T* gradient, const T* in, const float* norm, float* sums) {
    const Norm n{norm, s.channels};
    for_bands(s, [&](int64_t task, int64_t image, int64_t from, int64_t to) {
        float* sum = sums + task * 2 * s.channels;
        std::fill_n(sum, 2 * s.channels, 0.f);
        for (int64_t y = from; y < to; y++) {
            const int64_t start = (image * s.height + y) * s.row();
            for_tiles(s, [&](int64_t x0, int64_t x1, int64_t c) {
                const Vec scale = n.scale(c), shift = n.shift(c), mean = n.mean(c);
                Vec first{}, second{};
                for (int64_t i = start + x0 * s.channels + c; i < start + x1 * s.channels; i += s.channels) {
                    const Vec value = load(in + i), g = passed(load(gradient + i), value * scale + shift);
                    first += g;
                    second += g * (value - mean);
                }
                add(sum + c, first);
                add(sum + s.channels + c, second);
            });
        }
    });
}

// out = scale * g + slope * (in - mean) + level, the gradient through ReLU and batch norm.
template <class T, class U>
inline void norm_backward(int64_t pixels, const Norm& n, const T* gradient, const T* in, U* out) {
    for (int64_t i = 0; i < pixels * n.channels; i += n.channels)
        for (int64_t c = 0; c < n.channels; c += lanes) {
            const Vec value = load(in + i + c), scale = n.scale(c);
            const Vec g = passed(load(gradient + i + c), value * scale + n.shift(c));
            store(out + i + c, scale * g + n.slope(c) * (value - n.mean(c)) + n.level(c));
        }
}

template <class T>
void normalise_backward(const Shape& s, const T* gradient, const T* in, const float* norm, T* out) {
    for_bands(s, [&](int64_t, int64_t image, int64_t from, int64_t to) {
        const int64_t start = (image * s.height + from) * s.row();
        norm_backward((to - from) * s.width, Norm{norm, s.channels}, gradient + start, in + start, out + start);
    });
}

// Gradient through ReLU, batch norm and depthwise convolution at once. in: the input of the depthwise convolution,
// middle: its output, gradient: that of the ReLU's output; out: the gradient of `in`.
// sums: (tasks, 10, channels), the gradients of the nine weights, and the sum of `out`.
template <class T>
void depthwise_backward(const Shape& s, const T* gradient, const T* middle, const T* in, const float* weight,
                        const float* norm, T* out, float* sums) {
    const Norm n{norm, s.channels};
    const int64_t wide = s.row() + 2 * s.channels;  // a row with a column of zeros at each end
    for_bands(s, [&](int64_t task, int64_t image, int64_t from, int64_t to) {
        const int64_t map = image * s.height * s.row();
        float* sum = sums + task * 10 * s.channels;
        std::fill_n(sum, 10 * s.channels, 0.f);
        std::vector<float> space(3 * wide + lanes);
        const int64_t off = (-(intptr_t)space.data() & (sizeof(Vec) - 1)) / sizeof(float);  // a load in two lines is slow
        float* ring = space.data() + off;  // gradients of `middle`, row y in place y mod 3
        const auto fill = [&](int64_t y) {
            float* line = ring + (y + 3) % 3 * wide + s.channels;
            const int64_t at = map + y * s.row();
            if (y < 0 || y >= s.height)
                std::fill_n(line, s.row(), 0.f);
            else
                norm_backward(s.width, n, gradient + at, middle + at, line);
        };
        fill(from - 1);
        fill(from);
        for (int64_t y = from; y < to; y++) {
            fill(y + 1);
            const float* line[3];  // rows y+1, y, y-1: what the rows of the weights made of row y
            for (int i = 0; i < 3; i++) line[i] = ring + (y + 4 - i) % 3 * wide + s.channels;
            const int64_t start = map + y * s.row();
            for_tiles(s, [&](int64_t x0, int64_t x1, int64_t c) {
                Vec w[3][3], found[3][3], total{};
                for (int i = 0; i < 9; i++) {
                    w[i / 3][i % 3] = load(weight + i * s.channels + c);
                    found[i / 3][i % 3] = Vec{};
                }
                const auto fetch = [&](int64_t x, Vec* column) {
                    for (int i = 0; i < 3; i++) column[i] = load(line[i] + x * s.channels + c);
                };
                along(x0, x1, fetch, [&](int64_t x, const Vec* left, const Vec* middle, const Vec* right) {
                    const int64_t at = start + x * s.channels + c;
                    const Vec input = load(in + at);
                    Vec value{};
                    for (int i = 0; i < 3; i++) {
                        value += right[i] * w[i][0];
                        value += middle[i] * w[i][1];
                        value += left[i] * w[i][2];
                        found[i][0] += right[i] * input;
                        found[i][1] += middle[i] * input;
                        found[i][2] += left[i] * input;
                    }
                    store(out + at, value);
                    total += value;
                });
                for (int i = 0; i < 9; i++) add(sum + i * s.channels + c, found[i / 3][i % 3]);
                add(sum + 9 * s.channels + c, total);
            });
        }
    });
}

// 2x2 max pooling of an even map; the shape is the small map's. which: the place of the largest in its window, row by
// row, the first of equals.
template <class T>
void pool(const Shape& s, const T* in, T* out, uint8_t* which) {
    for_bands(s, [&](int64_t, int64_t image, int64_t from, int64_t to) {
        for (int64_t y = from; y < to; y++)
            for (int64_t x = 0; x < s.width; x++)
                for (int64_t c = 0; c < s.channels; c += lanes) {
                    const int64_t line = (image * s.height + y) * s.row(), at = line + x * s.channels + c;
                    const T* corner = in + 4 * line + 2 * x * s.channels + c;
                    Vec best = load(corner);
                    Mask place{};
                    for (int i = 1; i < 4; i++) {
                        const Vec value = load(corner + (i / 2) * 2 * s.row() + (i % 2) * s.channels);
                        // a NaN is larger than all, and stays
                        const Mask larger = ((value > best) | (value != value)) & (best == best);
                        best = larger ? value : best;
                        place = larger ? Mask{} + i : place;
                    }
                    store(out + at, best);
                    const Bytes bytes = __builtin_convertvector(place, Bytes);
                    std::memcpy(which + at, &bytes, sizeof bytes);
                }
    });
}

template <class T>
void pool_backward(const Shape& s, const T* gradient, const uint8_t* which, T* out) {
    for_bands(s, [&](int64_t, int64_t image, int64_t from, int64_t to) {
        for (int64_t y = from; y < to; y++)
            for (int64_t x = 0; x < s.width; x++)
                for (int64_t c = 0; c < s.channels; c += lanes) {
                    const int64_t line = (image * s.height + y) * s.row(), at = line + x * s.channels + c;
                    Bytes bytes;
                    std::memcpy(&bytes, which + at, sizeof bytes);
                    const Mask place = __builtin_convertvector(bytes, Mask);
                    const Vec g = load(gradient + at);
                    T* corner = out + 4 * line + 2 * x * s.channels + c;
                    for (int i = 0; i < 4; i++)
                        store(corner + (i / 2) * 2 * s.row() + (i % 2) * s.channels, place == i ? g : Vec{});
                }
    });
}

}  // namespace
