// The functions of facedetectcnn.h, slow and plain.
#include "facedetectcnn.h"

#include <algorithm>
#include <cmath>

namespace {

int vector_of(const Blob_& x)
{
    return x.channelStep / static_cast<int>(sizeof(float));
}

}  // namespace

Blob_ setDataFrom3x3S2P1to1x1S1P0FromImage(const unsigned char* bgr, int width, int height, int channels, int step,
                                           int divisor)
{
    Blob_ out((height + divisor - 1) / divisor * divisor / 2, (width + divisor - 1) / divisor * divisor / 2, 32);
    for (int r = 0; r < out.rows; r++)
        for (int c = 0; c < out.cols; c++)
            for (int k = 0; k < 9 * channels; k++) {
                const int y = 2 * r + k / (3 * channels) - 1, x = 2 * c + k / channels % 3 - 1;
                if (y >= 0 && y < height && x >= 0 && x < width)
                    out.ptr(r, c)[k] = bgr[static_cast<std::size_t>(y) * step + channels * x + k % channels];
            }
    return out;
}

Blob_ convolution(const Blob_& x, const Filters<float>& filters, bool relu)
{
    Blob_ out(x.rows, x.cols, filters.num_filters);
    const int padded = filters.is_depthwise ? vector_of(out) : out.channels;
    for (int r = 0; r < out.rows; r++)
        for (int c = 0; c < out.cols; c++) {
            float* const to = out.ptr(r, c);
            for (int n = 0; n < padded; n++) {
                // the padding takes part, as it does in vectors
                float sum = filters.biases.ptr(0, 0)[n];
                if (filters.is_pointwise)
                    for (int i = 0; i < vector_of(x); i++)
                        sum += x.ptr(r, c)[i] * filters.weights.ptr(0, n)[i];
                else
                    for (int k = 0; k < 9; k++) {
                        const int y = r + k / 3 - 1, z = c + k % 3 - 1;
                        if (y >= 0 && y < x.rows && z >= 0 && z < x.cols)
                            sum += x.ptr(y, z)[n] * filters.weights.ptr(0, k)[n];
                    }
                to[n] = relu ? std::max(sum, 0.f) : sum;
            }
        }
    return out;
}

Blob_ convolutionDP(const Blob_& x, const Filters<float>& pointwise, const Filters<float>& depthwise, bool relu)
{
    return convolution(convolution(x, pointwise, false), depthwise, relu);
}

Blob_ maxpooling2x2S2(const Blob_& x)
{
    Blob_ out(x.rows / 2, x.cols / 2, x.channels);
    for (int r = 0; r < out.rows; r++)
        for (int c = 0; c < out.cols; c++)
            for (int n = 0; n < vector_of(x); n++)
                out.ptr(r, c)[n] = std::max(std::max(x.ptr(2 * r, 2 * c)[n], x.ptr(2 * r, 2 * c + 1)[n]),
                                            std::max(x.ptr(2 * r + 1, 2 * c)[n], x.ptr(2 * r + 1, 2 * c + 1)[n]));
    return out;
}

Blob_ elementAdd(const Blob_& a, const Blob_& b)
{
    Blob_ out(a.rows, a.cols, a.channels);
    for (int i = 0; i < a.rows * a.cols * vector_of(a); i++)
        out.data[i] = a.data[i] + b.data[i];
    return out;
}

Blob_ upsampleX2(const Blob_& x)
{
    Blob_ out(2 * x.rows, 2 * x.cols, x.channels);
    for (int r = 0; r < out.rows; r++)
        for (int c = 0; c < out.cols; c++)
            std::copy_n(x.ptr(r / 2, c / 2), vector_of(x), out.ptr(r, c));
    return out;
}

Blob_ meshgrid(int width, int height, int stride, float offset)
{
    Blob_ out(height, width, 2);
    for (int r = 0; r < height; r++)
        for (int c = 0; c < width; c++)
            out.ptr(r, c)[0] = c * stride + offset, out.ptr(r, c)[1] = r * stride + offset;
    return out;
}

void bbox_decode(Blob_& boxes, const Blob_& priors, int stride)
{
    for (int r = 0; r < boxes.rows; r++)
        for (int c = 0; c < boxes.cols; c++) {
            float* const box = boxes.ptr(r, c);
            for (int k = 0; k < 2; k++) {
                const float centre = box[k] * stride + priors.ptr(r, c)[k], half = std::exp(box[2 + k]) * stride / 2;
                box[k] = centre - half;
                box[2 + k] = centre + half;
            }
        }
}

void kps_decode(Blob_& points, const Blob_& priors, int stride)
{
    for (int r = 0; r < points.rows; r++)
        for (int c = 0; c < points.cols; c++)
            for (int k = 0; k < points.channels; k++)
                points.ptr(r, c)[k] = points.ptr(r, c)[k] * stride + priors.ptr(r, c)[k % 2];
}

template <typename T>
CDataBlob<T> blob2vector(const CDataBlob<T>& x)
{
    CDataBlob<T> out(1, 1, x.rows * x.cols * x.channels);
    T* to = out.data;
    for (int r = 0; r < x.rows; r++)
        for (int c = 0; c < x.cols; c++)
            to = std::copy_n(x.ptr(r, c), x.channels, to);
    return out;
}
template Blob_ blob2vector(const Blob_& x);

template <typename T>
CDataBlob<T> concat3(const CDataBlob<T>& a, const CDataBlob<T>& b, const CDataBlob<T>& c)
{
    CDataBlob<T> out(1, 1, a.channels + b.channels + c.channels);
    std::copy_n(c.data, c.channels, std::copy_n(b.data, b.channels, std::copy_n(a.data, a.channels, out.data)));
    return out;
}
template Blob_ concat3(const Blob_& a, const Blob_& b, const Blob_& c);

void sigmoid(Blob_& x)
{
    for (int i = 0; i < x.channels; i++)
        x.data[i] = 1 / (1 + std::exp(-x.data[i]));
}

std::vector<FaceRect> detection_output(const Blob_& cls, const Blob_& box, const Blob_& points, const Blob_& obj,
                                       float overlap, float score, int candidates, int faces)
{
    std::vector<float> scores(cls.channels);
    std::vector<int> order;
    for (int i = 0; i < cls.channels; i++) {
        scores[i] = std::sqrt(cls.data[i] * obj.data[i]);
        if (scores[i] >= score)
            order.push_back(i);
    }
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return scores[a] > scores[b]; });
    order.resize(std::min<std::size_t>(order.size(), candidates));
    std::vector<const float*> kept;
    std::vector<FaceRect> found;
    for (const int i : order) {
        const float* const b = box.data + 4 * i;
        const auto area = [](const float* a) { return (a[2] - a[0]) * (a[3] - a[1]); };
        const bool hidden = std::any_of(kept.begin(), kept.end(), [&](const float* a) {
            const float w = std::min(a[2], b[2]) - std::max(a[0], b[0]), h = std::min(a[3], b[3]) - std::max(a[1], b[1]);
            return w > 0 && h > 0 && w * h / (area(a) + area(b) - w * h) > overlap;
        });
        if (hidden || static_cast<int>(found.size()) == faces)
            continue;
        kept.push_back(b);
        FaceRect face = {scores[i], static_cast<int>(b[0]), static_cast<int>(b[1]), static_cast<int>(b[2] - b[0]),
                         static_cast<int>(b[3] - b[1]), {}};
        std::copy_n(points.data + 10 * i, 10, face.lm);
        found.push_back(face);
    }
    return found;
}
