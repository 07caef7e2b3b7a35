// Times whole calls of the standalone detector, and the processor's peak of multiply-adds, for cpp_time.py.
//     cpp_time width height file.bgr score
// Reads orders from stdin: `calls N` prints N lines `wall cpu` in nanoseconds, `peak` prints multiply-adds a second.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include "facetrain.hpp"

static double nanoseconds(clockid_t clock) {
    timespec time;
    clock_gettime(clock, &time);
    return 1e9 * double(time.tv_sec) + double(time.tv_nsec);
}

// Twelve independent chains hide the latency of a multiply-add on every processor that has one or two units for it.
// The empty asm keeps a value in a register and the compiler from knowing it.
#define CHAINS(Vector, multiply_add, start)                                                                           \
    Vector a0 = start, a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0, a8 = a0, a9 = a0, a10 = a0,     \
           a11 = a0, factor = a0;                                                                                     \
    for (long i = 0; i < rounds; ++i) {                                                                               \
        Vector* const all[] = {&a0, &a1, &a2, &a3, &a4, &a5, &a6, &a7, &a8, &a9, &a10, &a11};                         \
        _Pragma("GCC unroll 12") for (Vector* a : all) {                                                              \
            *a = multiply_add(*a, factor, factor);                                                                    \
            asm volatile("" : "+" KEPT(*a));                                                                          \
        }                                                                                                             \
    }

#if defined(__x86_64__)
#include <immintrin.h>
#define KEPT "v"
__attribute__((target("avx512f"), noinline)) static void chains_512(long rounds) {
    CHAINS(__m512, _mm512_fmadd_ps, _mm512_set1_ps(0.5f))
}
#undef KEPT
#define KEPT "x"
__attribute__((target("avx2,fma"), noinline)) static void chains_256(long rounds) {
    CHAINS(__m256, _mm256_fmadd_ps, _mm256_set1_ps(0.5f))
}
static int chains(long rounds) {
    if (__builtin_cpu_supports("avx512f")) return chains_512(rounds), 16;
    return chains_256(rounds), 8;
}
#elif defined(__aarch64__)
#include <arm_neon.h>
#define KEPT "w"
static int chains(long rounds) {
    CHAINS(float32x4_t, vfmaq_f32, vdupq_n_f32(0.5f))
    return 4;
}
#else
static int chains(long) { return 0; }
#endif

static double peak() {
    const long rounds = 200000;
    double best = 0;
    for (int repeat = 0; repeat < 10; ++repeat) {
        const double start = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
        const int lanes = chains(rounds);
        best = std::max(best, 12.0 * lanes * rounds / (nanoseconds(CLOCK_THREAD_CPUTIME_ID) - start) * 1e9);
    }
    return best;
}

int main(int count, char** arguments) {
    if (count != 5) return 2;
    const int width = std::atoi(arguments[1]), height = std::atoi(arguments[2]);
    std::vector<unsigned char> image(std::size_t(width) * std::size_t(height) * 3);
    std::FILE* const file = std::fopen(arguments[3], "rb");
    if (!file || std::fread(image.data(), 1, image.size(), file) != image.size()) return 1;
    std::fclose(file);
    const float score = std::strtof(arguments[4], nullptr);
    facetrain::Detector detector(width, height);
    char order[16];
    int calls;
    while (std::scanf("%15s", order) == 1) {
        if (std::strcmp(order, "peak") == 0) {
            std::printf("%.0f\n", peak());
        } else if (std::strcmp(order, "calls") == 0 && std::scanf("%d", &calls) == 1) {
            for (int i = 0; i < calls; ++i) {
                const double wall = nanoseconds(CLOCK_MONOTONIC), cpu = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
                detector.detect(image.data(), width, height, 0, score);
                const double cpu_after = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
                std::printf("%.0f %.0f\n", nanoseconds(CLOCK_MONOTONIC) - wall, cpu_after - cpu);
            }
        } else {
            return 2;
        }
        std::fflush(stdout);
    }
    return 0;
}
