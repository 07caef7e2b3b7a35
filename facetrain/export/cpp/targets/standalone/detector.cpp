// Finds faces in images: a trained network in plain C++17. Written by facetrain; see README.md beside this file.
//
// From top to bottom: what the network consists of, its layers for every instruction set, threads, and what is made of
// the last layers' numbers. How rows flow through the layers is in @name@_flow.hpp.
#include "@name@.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

// -------------------------------------------------------------------------------------------------- instruction sets

// Define @NAME@_PLAIN for C++ without SIMD. Otherwise x86-64 compilers that know function targets build for AVX-512 and
// AVX2 too, whatever the compiler's options are, and the detector takes the best that the processor has; define
// @NAME@_NO_AVX512 or @NAME@_NO_AVX2 to leave one out.
#define @NAME@_SIMD_PLAIN 0
#define @NAME@_SIMD_AVX2 1
#define @NAME@_SIMD_AVX512 2
#define @NAME@_SIMD_NEON 3
#define @NAME@_SIMD_VECTOR 4

#if !defined(@NAME@_PLAIN) && defined(__GNUC__) && !defined(_MSC_VER)
// GCC for Windows puts vectors of more than four floats on a stack that it does not align for them.
#if defined(__x86_64__) && (defined(__clang__) || !defined(_WIN32))
#include <immintrin.h>
#if !defined(@NAME@_NO_AVX512)
#define @NAME@_AVX512
#endif
#if !defined(@NAME@_NO_AVX2)
#define @NAME@_AVX2
#endif
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#define @NAME@_NEON
#endif
#endif

// The kernels hold their sums in registers, for which their loops of constant length must be unrolled.
#if defined(__clang__)
#define @NAME@_UNROLL _Pragma("clang loop unroll(full)")
#define @NAME@_INLINE inline __attribute__((always_inline))
#elif defined(__GNUC__)
#define @NAME@_UNROLL _Pragma("GCC unroll 16")
#define @NAME@_INLINE inline __attribute__((always_inline))
#else
#define @NAME@_UNROLL
#define @NAME@_INLINE inline
#endif

namespace @name@ {
namespace {

constexpr int kBlock = 16;   // channels that lie side by side; every layer's channels are padded to a multiple of it
constexpr int kColours = 3;  // blue, green, red
constexpr int kBandPixels = @band_pixels@;  // of a row or more that go through a layer at a time
constexpr std::size_t kMostCandidates = @most_candidates@;  // the best boxes that suppression looks at
constexpr float kLowest = std::numeric_limits<float>::lowest();

constexpr int padded(int channels) { return (channels + kBlock - 1) / kBlock * kBlock; }

// ---------------------------------------------------------------------------------------------------- the network

// A pointwise convolution and a 3x3 depthwise one. Weights, from `weights` in kWeights on: pointwise (in, padded out),
// its bias (padded out), then for each block of 16 channels the nine taps and the bias of the depthwise, (10, 16).
struct Unit {
    const char* name;
    int in, out;
    bool relu;
    int weights;
};

// A map that outlives the step that makes it. Maps of one slot share memory.
struct Map {
    int channels, stride, slot;
};

enum class Source { image, map, pooled_map, sum@sources@ };

// Layers that rows flow through one after the other: what they start from, a chain of units, perhaps a 2x2 max pool.
// sum: map `from` + map `enlarged` with every value repeated 2x2.
struct Step {
    Source source;
    int from, enlarged;
    int first, units;  // of kUnits
    bool pool;
    int to;
};

// Where the outputs of one stride lie: cls is channel 0 of its map; obj, box, landmarks follow each other in theirs.
struct Level {
    int stride;
    int cls_map, map, obj_channel;
};

#include "@name@_weights.hpp"

// -------------------------------------------------------------------------------------------------------- kernels

// A layer that sums over all inputs of a pixel: a row of `width` pixels, bias behind the (inputs, outputs) weights.
struct Dense {
    int width, inputs, outputs;
    int length;            // inputs that lie side by side
    std::ptrdiff_t piece;  // from one such piece to the next
    float floor;           // least value of an output: 0 is ReLU
};

// A layer that keeps channels apart.
struct Depthwise {
    int width, channels;
    float floor;
};

struct Kernels {
    const char* name;
    void (*stem)(const Dense&, const float* in, const float* weights, float* out);
    void (*pointwise)(const Dense&, const float* in, const float* weights, float* out);
    void (*depthwise)(const Depthwise&, const float* const rows[4], const float* weights, float* upper, float* lower);
    void (*depthwise_pool)(const Depthwise&, const float* const rows[4], const float* weights, float* out);
    void (*pool)(const float* upper, const float* lower, int width, int channels, float* out);
    void (*add_enlarged)(const float* fine, const float* coarse, int width, int channels, float* out);
    void (*to_floats)(const std::uint8_t* bytes, std::ptrdiff_t count, float* out);
};

#if defined(@NAME@_AVX512)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx2,fma")
#endif
namespace avx512 {
#define @NAME@_SIMD @NAME@_SIMD_AVX512
#define @NAME@_SIMD_NAME "AVX-512"
#include "@name@_simd.hpp"
#include "@name@_kernels.hpp"
#undef @NAME@_SIMD
#undef @NAME@_SIMD_NAME
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#if defined(@NAME@_AVX2)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#define @NAME@_SIMD @NAME@_SIMD_AVX2
#define @NAME@_SIMD_NAME "AVX2"
#include "@name@_simd.hpp"
#include "@name@_kernels.hpp"
#undef @NAME@_SIMD
#undef @NAME@_SIMD_NAME
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

namespace baseline {
#if defined(@NAME@_PLAIN) || !defined(__GNUC__)
#define @NAME@_SIMD @NAME@_SIMD_PLAIN
#define @NAME@_SIMD_NAME "plain"
#elif defined(@NAME@_NEON)
#define @NAME@_SIMD @NAME@_SIMD_NEON
#define @NAME@_SIMD_NAME "NEON"
#else
#define @NAME@_SIMD @NAME@_SIMD_VECTOR
#define @NAME@_SIMD_NAME "vectors of four"
#endif
#include "@name@_simd.hpp"
#include "@name@_kernels.hpp"
#undef @NAME@_SIMD
#undef @NAME@_SIMD_NAME
}  // namespace baseline

const Kernels& choose_kernels() {
#if defined(@NAME@_AVX512)
    if (__builtin_cpu_supports("avx512f")) return avx512::kKernels;
#endif
#if defined(@NAME@_AVX2)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::kKernels;
#endif
    return baseline::kKernels;
}

#include "@name@_flow.hpp"

// -------------------------------------------------------------------------------------------------------- threads

// Threads that wait for work. They look for it for a moment before they go to sleep: a step takes some ten
// microseconds, about as long as it takes to wake a thread.
class Team {
public:
    explicit Team(int helpers) {
        for (int i = 0; i < helpers; ++i) threads_.emplace_back([this, i] { help(i + 1); });
    }
    ~Team() {
        give(Work{nullptr, nullptr});
        for (std::thread& thread : threads_) thread.join();
    }
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int size() const { return int(threads_.size()) + 1; }

    // call(0), call(1), … at the same time, one for each member.
    template <class Call>
    void run(Call& call) {
        if (threads_.empty()) {
            call(0);
            return;
        }
        busy_.store(int(threads_.size()), std::memory_order_relaxed);
        give(Work{[](void* what, int member) { (*static_cast<Call*>(what))(member); }, &call});
        call(0);
        while (busy_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
    }

private:
    struct Work {
        void (*call)(void*, int);
        void* what;
    };

    void give(Work work) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            work_ = work;
            round_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
    }
    void help(int member) {
        for (unsigned round = 0;;) {
            for (int i = 0; i < 2000 && round_.load(std::memory_order_acquire) == round; ++i) std::this_thread::yield();
            Work work;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                while (round_.load(std::memory_order_relaxed) == round) wake_.wait(lock);
                round = round_.load(std::memory_order_relaxed);
                work = work_;
            }
            if (!work.call) return;
            work.call(work.what, member);
            busy_.fetch_sub(1, std::memory_order_release);
        }
    }

    std::vector<std::thread> threads_;
    std::mutex mutex_;
    std::condition_variable wake_;
    Work work_{nullptr, nullptr};
    std::atomic<unsigned> round_{0};
    std::atomic<int> busy_{0};
};

// ---------------------------------------------------------------------------------------------------------- faces

struct Candidate {
    float score;
    int prior;  // counted level by level, row by row
};

float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

// The smallest logit whose sigmoid can still reach a score that is a product of two; a little less, for rounding.
float least_logit(float score) {
    if (score <= 0) return -std::numeric_limits<float>::infinity();
    return score < 0.9999f ? std::log(score / (1 - score)) - 0.001f : 9;
}

float area(const Face& face) { return std::max(face.x2 - face.x1, 0.0f) * std::max(face.y2 - face.y1, 0.0f); }

bool overlap(const Face& a, const Face& b, float iou) {
    const float width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
    const float height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
    const float both = std::max(width, 0.0f) * std::max(height, 0.0f);
    return both > iou * (area(a) + area(b) - both);
}

bool finite(const Face& face) {
    bool all = std::isfinite(face.x1) && std::isfinite(face.y1) && std::isfinite(face.x2) && std::isfinite(face.y2);
    for (const Point& point : face.landmarks) all = all && std::isfinite(point.x) && std::isfinite(point.y);
    return all;
}

// The outputs of one level.
class Outputs {
public:
    Outputs(const Level& level, const Maps& maps)
        : level_(level), width_(maps.width / level.stride), height_(maps.height / level.stride),
          cls_(maps[level.cls_map]), rest_(maps[level.map]) {}

    int width() const { return width_; }
    int height() const { return height_; }
    float cls(int x, int y) const { return cls_[y][x * kBlock]; }
    float obj(int x, int y) const { return rest(x, y, 0); }

    Face decode(int x, int y, float score) const {
        const float stride = float(level_.stride);
        const float left = float(x) * stride, top = float(y) * stride;  // a prior is its cell's top left corner
        const float centre_x = left + rest(x, y, 1) * stride, centre_y = top + rest(x, y, 2) * stride;
        const float half_width = std::exp(rest(x, y, 3)) * (stride / 2);
        const float half_height = std::exp(rest(x, y, 4)) * (stride / 2);
        Face face{centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height,
                  score, {}};
        int channel = 5;
        for (Point& point : face.landmarks) {
            point.x = rest(x, y, channel) * stride + left;
            point.y = rest(x, y, channel + 1) * stride + top;
            channel += 2;
        }
        return face;
    }

private:
    float rest(int x, int y, int output) const {
        const int channel = level_.obj_channel + output;
        return rest_[y][std::ptrdiff_t(channel / kBlock) * width_ * kBlock + x * kBlock + channel % kBlock];
    }

    const Level& level_;
    int width_, height_;
    Rows cls_, rest_;
};

}  // namespace

// ------------------------------------------------------------------------------------------------------- detector

struct Detector::State {
    explicit State(int threads) : kernels(choose_kernels()), team(std::max(threads, 1) - 1) {}

    // Lays out the memory for an image of this size, and makes it larger where it does not suffice.
    void prepare(int image_width, int image_height) {
        const int width = (image_width + kMultiple - 1) / kMultiple * kMultiple;
        const int height = (image_height + kMultiple - 1) / kMultiple * kMultiple;
        if (width == layout.maps.width && height == layout.maps.height) return;
        Layout wanted(width, height, team.size(), Arena{});
        if (wanted.floats + kBlock > memory.size()) {
            // A narrower image takes more rows at a time: now is the time to allocate for each that may come.
            std::size_t most = wanted.scratch_size;
            for (int narrow = kMultiple; narrow < width; narrow += kMultiple) {
                most = std::max(most, Layout(narrow, height, team.size(), Arena{}).scratch_size);
            }
            const std::size_t more = (most - wanted.scratch_size) * std::size_t(team.size());
            memory = std::vector<float>(wanted.floats + more + kBlock);
        }
        if (candidates.capacity() < wanted.priors) candidates.reserve(wanted.priors);
        if (faces.capacity() < std::min(wanted.priors, kMostCandidates)) {
            faces.reserve(std::min(wanted.priors, kMostCandidates));
        }
        const std::size_t off = reinterpret_cast<std::uintptr_t>(memory.data()) / sizeof(float) % kBlock;
        layout = Layout(width, height, team.size(), Arena{memory.data() + (kBlock - off) % kBlock, 0});
        std::fill(layout.zeros, layout.zeros + layout.widest, 0.0f);
    }

    void run_network(const Image& image) {
        for (const Step& step : kSteps) {
            const int height = layout.maps.height / kMaps[step.to].stride;
            auto part = [&](int member) {
                const int begin = std::min((height * member / team.size() + 1) / 2 * 2, height);
                const int end = std::min((height * (member + 1) / team.size() + 1) / 2 * 2, height);
                if (begin == end) return;
                Arena arena{layout.scratch + layout.scratch_size * std::size_t(member), 0};
                Flow(step, layout.maps, arena).run(kernels, image, layout.zeros, begin, end);
            };
            team.run(part);
        }
    }

    // Everything that scores enough, best first; equal scores by prior.
    void find_candidates(float score) {
        candidates.clear();
        const float logit = least_logit(score);
        int prior = 0;
        for (const Level& level : kLevels) {
            const Outputs outputs(level, layout.maps);
            for (int y = 0; y < outputs.height(); ++y) {
                for (int x = 0; x < outputs.width(); ++x, ++prior) {
                    const float cls = outputs.cls(x, y), obj = outputs.obj(x, y);
                    if (!(cls >= logit && obj >= logit)) continue;
                    const float value = sigmoid(cls) * sigmoid(obj);
                    if (value >= score && finite(outputs.decode(x, y, value))) candidates.push_back({value, prior});
                }
            }
        }
        const auto better = [](const Candidate& a, const Candidate& b) {
            return a.score > b.score || (a.score == b.score && a.prior < b.prior);
        };
        if (candidates.size() > kMostCandidates) {
            const auto last = candidates.begin() + std::ptrdiff_t(kMostCandidates);
            std::nth_element(candidates.begin(), last, candidates.end(), better);
            candidates.erase(last, candidates.end());
        }
        std::sort(candidates.begin(), candidates.end(), better);
    }

    Face decode(const Candidate& candidate) const {
        int prior = candidate.prior;
        const Level* level = kLevels;
        for (;; ++level) {
            const int priors = (layout.maps.width / level->stride) * (layout.maps.height / level->stride);
            if (prior < priors) break;
            prior -= priors;
        }
        const Outputs outputs(*level, layout.maps);
        return outputs.decode(prior % outputs.width(), prior / outputs.width(), candidate.score);
    }

    // Greedy suppression: a candidate is a face unless it overlaps a better one.
    void keep_best(float iou) {
        faces.clear();
        for (const Candidate& candidate : candidates) {
            const Face face = decode(candidate);
            const auto hides = [&](const Face& better) { return overlap(better, face, iou); };
            if (std::none_of(faces.begin(), faces.end(), hides)) faces.push_back(face);
        }
    }

    const Kernels& kernels;
    Team team;
    Layout layout;
    std::vector<float> memory;
    std::vector<Candidate> candidates;
    std::vector<Face> faces;
};

Detector::Detector(int max_width, int max_height, int threads) : state_(std::make_unique<State>(threads)) {
    state_->prepare(std::max(max_width, 1), std::max(max_height, 1));
}

Detector::~Detector() = default;
Detector::Detector(Detector&&) noexcept = default;
Detector& Detector::operator=(Detector&&) noexcept = default;

Faces Detector::detect(const std::uint8_t* bgr, int width, int height, std::ptrdiff_t stride, float score, float iou) {
    if (!bgr || width < 1 || height < 1) return {};
    state_->prepare(width, height);
    state_->run_network({bgr, width, height, stride == 0 ? std::ptrdiff_t(width) * kColours : stride});
    state_->find_candidates(score);
    state_->keep_best(iou);
    return {state_->faces.data(), state_->faces.size()};
}

std::size_t Detector::working_memory() const {
    return state_->memory.capacity() * sizeof(float) + state_->candidates.capacity() * sizeof(Candidate) +
           state_->faces.capacity() * sizeof(Face);
}

const char* Detector::instruction_set() const { return state_->kernels.name; }

}  // namespace @name@
