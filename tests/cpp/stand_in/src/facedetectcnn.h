// A stand-in for libfacedetection: what generated files use of its header, declared alike, written from its description.
#pragma once

#include "facedetection_export.h"

#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#define FACEDETECTION_RESULT_BUFFER_SIZE 0x9000
#define FACEDETECTION_RESULT_MAX_FACES 1024
#define FACEDETECTION_RESULT_STRIDE_SHORTS 16

FACEDETECTION_EXPORT int* facedetect_cnn(unsigned char* result_buffer, unsigned char* bgr, int width, int height,
                                         int step);

struct FaceRect {
    float score;
    int x, y, w, h;
    int lm[10];
};

struct ConvInfoStruct {
    int channels, num_filters;
    bool is_depthwise, is_pointwise, with_relu;
    float* pWeights;
    float* pBiases;
};

// (rows, cols, channels). As in the library a pixel's channels are padded to the vector width, here always 16, and
// `create` sets nothing: here it leaves NaN, so that whoever counts on zeros there is found out.
template <typename T>
class CDataBlob {
public:
    int rows = 0, cols = 0, channels = 0, channelStep = 0;
    T* data = nullptr;

    CDataBlob() = default;
    CDataBlob(int r, int c, int ch)
    {
        create(r, c, ch);
        setZero();
    }
    CDataBlob(CDataBlob&& other) noexcept { *this = std::move(other); }
    CDataBlob& operator=(CDataBlob&& other) noexcept
    {
        rows = other.rows, cols = other.cols, channels = other.channels, channelStep = other.channelStep;
        memory_ = std::move(other.memory_);
        data = memory_.data();
        other.data = nullptr;
        return *this;
    }

    bool create(int r, int c, int ch)
    {
        const int padded = (ch + 15) / 16 * 16;
        rows = r, cols = c, channels = ch, channelStep = padded * static_cast<int>(sizeof(T));
        memory_.assign(static_cast<std::size_t>(r) * c * padded, std::numeric_limits<T>::quiet_NaN());
        data = memory_.data();
        return true;
    }
    void setZero() { memory_.assign(memory_.size(), T(0)); }
    bool isEmpty() const { return data == nullptr; }
    T* ptr(int r, int c) { return data + (static_cast<std::size_t>(r) * cols + c) * (channelStep / sizeof(T)); }
    const T* ptr(int r, int c) const { return const_cast<CDataBlob*>(this)->ptr(r, c); }

private:
    std::vector<T> memory_;
};

template <typename T>
class Filters {
public:
    int channels = 0, num_filters = 0;
    bool is_depthwise = false, is_pointwise = false, with_relu = true;
    CDataBlob<T> weights, biases;
};

using Blob_ = CDataBlob<float>;

std::vector<FaceRect> objectdetect_cnn(const unsigned char* bgr, int width, int height, int step);
Blob_ setDataFrom3x3S2P1to1x1S1P0FromImage(const unsigned char* bgr, int width, int height, int channels, int step,
                                           int divisor = 32);
Blob_ convolution(const Blob_& x, const Filters<float>& filters, bool relu = true);
Blob_ convolutionDP(const Blob_& x, const Filters<float>& pointwise, const Filters<float>& depthwise, bool relu = true);
Blob_ maxpooling2x2S2(const Blob_& x);
Blob_ elementAdd(const Blob_& a, const Blob_& b);
Blob_ upsampleX2(const Blob_& x);
Blob_ meshgrid(int width, int height, int stride, float offset = 0);
void bbox_decode(Blob_& boxes, const Blob_& priors, int stride);
void kps_decode(Blob_& points, const Blob_& priors, int stride);
template <typename T>
CDataBlob<T> blob2vector(const CDataBlob<T>& x);
template <typename T>
CDataBlob<T> concat3(const CDataBlob<T>& a, const CDataBlob<T>& b, const CDataBlob<T>& c);
void sigmoid(Blob_& x);
std::vector<FaceRect> detection_output(const Blob_& cls, const Blob_& box, const Blob_& points, const Blob_& obj,
                                       float overlap, float score, int candidates, int faces);
