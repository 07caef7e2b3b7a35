// Kernels of the fused network on a CPU: what stands between the 1x1 convolutions, in as few passes as there can be.
//
// One call does all of it, the small sums over channels included: each call from Python costs as much as a few images of
// a small map, and of several threads only one at a time can make it.

#include <cmath>

#include "cpu_passes.h"

// As in cpu.py. The statistics are moved by what a batch has; norm: (5, channels), see Norm.
struct BatchNorm {
    const float *weight, *bias;
    float *mean, *var, *norm;
    double *inverse;  // (channels), 1 / deviation
    double eps, momentum;
};

namespace {

// Sums of all tasks, added in their order: sums (tasks, rows, channels) -> (rows, channels).
std::vector<double> totals(const Shape& s, const std::vector<float>& sums, int64_t rows) {
    const int64_t size = rows * s.channels;
    std::vector<double> total(size);
    for (int64_t task = 0; task < s.tasks(); task++)
        for (int64_t i = 0; i < size; i++) total[i] += sums[task * size + i];
    return total;
}

// The weights of a depthwise convolution, (channels, 9), as the passes read them: (9, channels).
std::vector<float> taps(const Shape& s, const float* weight) {
    std::vector<float> turned(9 * s.channels);
    for (int64_t c = 0; c < s.channels; c++)
        for (int64_t i = 0; i < 9; i++) turned[i * s.channels + c] = weight[9 * c + i];
    return turned;
}

inline float value(const float* at) { return *at; }
inline float value(const bfloat16* at) {
    const uint32_t bits = (uint32_t)at->bits << 16;
    float found;
    std::memcpy(&found, &bits, sizeof found);
    return found;
}

// About what the depthwise convolution gives in the middle of the first image: near the mean, roughly. Sums of squares
// are taken around it: around zero they lose all digits where the deviation is small.
template <class T>
std::vector<float> value_within(const Shape& s, const T* in, const float* weight, const float* bias) {
    std::vector<float> found(bias, bias + s.channels);
    const int64_t top = std::max<int64_t>(0, s.height / 2 - 1), left = std::max<int64_t>(0, s.width / 2 - 1);
    for (int64_t y = top; y < std::min(top + 3, s.height); y++)
        for (int64_t x = left; x < std::min(left + 3, s.width); x++)
            for (int64_t c = 0; c < s.channels; c++)
                found[c] += value(in + y * s.row() + x * s.channels + c) * weight[9 * c + 3 * (y - top) + x - left];
    return found;
}

// From the sums of value - pivot and of its square to scale, shift and mean; moves the running statistics.
void settle(const Shape& s, const std::vector<float>& sums, const std::vector<float>& pivot, const BatchNorm& n) {
    const std::vector<double> total = totals(s, sums, 2);
    const double count = (double)s.images * s.height * s.width;
    const int64_t channels = s.channels;
    const float momentum = (float)n.momentum;
    for (int64_t c = 0; c < channels; c++) {
        const double first = total[c] / count, spread = total[channels + c] / count - first * first;
        const double var = spread < 0 ? 0 : spread, mean = pivot[c] + first;  // NaN stays NaN
        n.mean[c] += momentum * ((float)mean - n.mean[c]);
        n.var[c] += momentum * ((float)(var * (count / (count - 1))) - n.var[c]);
        n.inverse[c] = 1 / std::sqrt(var + n.eps);
        const double scale = n.weight[c] * n.inverse[c];
        n.norm[c] = (float)scale;
        n.norm[channels + c] = (float)(n.bias[c] - mean * scale);
        n.norm[2 * channels + c] = (float)mean;
    }
}

// Completes the norm for its backward pass, and gives the gradients of its weight and bias.
template <class T>
void settle_backward(const Shape& s, const T* gradient, const T* in, float* norm, const double* inverse, float* weight,
                     float* bias) {
    std::vector<float> sums(s.tasks() * 2 * s.channels);
    reduce(s, gradient, in, norm, sums.data());
    const std::vector<double> total = totals(s, sums, 2);
    const double count = (double)s.images * s.height * s.width;
    for (int64_t c = 0; c < s.channels; c++) {
        const double of_scale = total[s.channels + c];
        norm[3 * s.channels + c] = (float)(-norm[c] * inverse[c] * inverse[c] * of_scale / count);
        norm[4 * s.channels + c] = (float)(-norm[c] * total[c] / count);
        weight[c] = (float)(of_scale * inverse[c]);
        bias[c] = (float)total[c];
    }
}

// Depthwise convolution, batch norm of the batch, ReLU. wide: its input; middle: before the norm.
template <class T>
void separable(const Shape& s, const BatchNorm& n, const T* wide, const float* depth, const float* bias, T* middle,
               T* out) {
    const std::vector<float> pivot = value_within(s, wide, depth, bias);
    std::vector<float> sums(s.tasks() * 2 * s.channels);
    depthwise(s, wide, taps(s, depth).data(), bias, pivot.data(), middle, sums.data());
    settle(s, sums, pivot, n);
    normalise(s, middle, n.norm, n.norm + s.channels, out);
}

// inner: the gradient of `wide`; depth (channels, 9), weight and bias of the norm, point: the sum of `inner`.
template <class T>
void separable_backward(const Shape& s, const T* gradient, const T* middle, const T* wide, const float* weights,
                        float* norm, const double* inverse, T* inner, float* depth, float* weight, float* bias,
                        float* point) {
    settle_backward(s, gradient, middle, norm, inverse, weight, bias);
    std::vector<float> sums(s.tasks() * 10 * s.channels);
    depthwise_backward(s, gradient, middle, wide, taps(s, weights).data(), norm, inner, sums.data());
    const std::vector<double> total = totals(s, sums, 10);
    for (int64_t c = 0; c < s.channels; c++) {
        for (int64_t i = 0; i < 9; i++) depth[9 * c + i] = (float)total[i * s.channels + c];
        point[c] = (float)total[9 * s.channels + c];
    }
}

template <class T>
void norm_relu(const Shape& s, const BatchNorm& n, const T* in, T* out) {
    std::vector<float> pivot(s.channels), sums(s.tasks() * 2 * s.channels);
    for (int64_t c = 0; c < s.channels; c++)
        pivot[c] = value(in + s.height / 2 * s.row() + s.width / 2 * s.channels + c);
    moments(s, in, pivot.data(), sums.data());
    settle(s, sums, pivot, n);
    normalise(s, in, n.norm, n.norm + s.channels, out);
}

template <class T>
void norm_relu_backward(const Shape& s, const T* gradient, const T* in, float* norm, const double* inverse, T* out,
                        float* weight, float* bias) {
    settle_backward(s, gradient, in, norm, inverse, weight, bias);
    normalise_backward(s, gradient, in, norm, out);
}

}  // namespace

#define KERNELS(T)                                                                                                    \
    extern "C" {                                                                                                      \
    void separable_##T(const Shape* s, const BatchNorm* n, const T* wide, const float* depth, const float* bias,      \
                       T* middle, T* out) {                                                                           \
        separable(*s, *n, wide, depth, bias, middle, out);                                                            \
    }                                                                                                                 \
    void separable_backward_##T(const Shape* s, const T* gradient, const T* middle, const T* wide,                    \
                                const float* weights, float* norm, const double* inverse, T* inner, float* depth,     \
                                float* weight, float* bias, float* point) {                                           \
        separable_backward(*s, gradient, middle, wide, weights, norm, inverse, inner, depth, weight, bias, point);    \
    }                                                                                                                 \
    void norm_relu_##T(const Shape* s, const BatchNorm* n, const T* in, T* out) { norm_relu(*s, *n, in, out); }       \
    void norm_relu_backward_##T(const Shape* s, const T* gradient, const T* in, float* norm, const double* inverse,   \
                                T* out, float* weight, float* bias) {                                                 \
        norm_relu_backward(*s, gradient, in, norm, inverse, out, weight, bias);                                       \
    }                                                                                                                 \
    void depthwise_relu_##T(const Shape* s, const T* in, const float* weight, const float* bias, T* out) {            \
        depthwise_relu(*s, in, taps(*s, weight).data(), bias, out);                                                   \
    }                                                                                                                 \
    void pool_##T(const Shape* s, const T* in, T* out, uint8_t* which) { pool(*s, in, out, which); }                  \
    void pool_backward_##T(const Shape* s, const T* gradient, const uint8_t* which, T* out) {                         \
        pool_backward(*s, gradient, which, out);                                                                      \
    }                                                                                                                 \
    }

using float32 = float;
KERNELS(float32)
KERNELS(bfloat16)
