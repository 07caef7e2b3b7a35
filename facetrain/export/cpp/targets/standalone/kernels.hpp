// The network's layers on single rows, written with the vectors of @name@_simd.hpp.
// Part of a detector made by facetrain.
//
// Included by @name@.cpp once for every instruction set, inside a namespace of its own. A row of a map is stored as
// (blocks, width, 16): its channels in blocks of 16, padded with channels that are 0.

// ------------------------------------------------------------------------------------------------- dense layers

// out(x, c) = max(floor, bias[c] + sum over i of in(x, i) * weights[i][c]) for P pixels and V vectors of channels c.
// The inputs of a pixel lie in pieces of `length` floats, `piece` floats apart; the next pixel is Step floats away.
template <int P, int V, int Step>
void tile(const Dense& layer, const float* in, const float* weights, const float* bias, float* out) {
    Vec sum[P][V];
    @NAME@_UNROLL
    for (int v = 0; v < V; ++v) {
        const Vec start = load(bias + v * kLanes);
        @NAME@_UNROLL
        for (int p = 0; p < P; ++p) sum[p][v] = start;
    }
    for (int left = layer.inputs; left > 0; left -= layer.length, in += layer.piece) {
        const int length = left < layer.length ? left : layer.length;
        for (int i = 0; i < length; ++i, weights += layer.outputs) {
            Vec weight[V];
            @NAME@_UNROLL
            for (int v = 0; v < V; ++v) weight[v] = load(weights + v * kLanes);
            @NAME@_UNROLL
            for (int p = 0; p < P; ++p) {
                const Vec value = broadcast(in[p * Step + i]);
                @NAME@_UNROLL
                for (int v = 0; v < V; ++v) sum[p][v] = fma(value, weight[v], sum[p][v]);
            }
        }
    }
    const Vec floor = broadcast(layer.floor);
    @NAME@_UNROLL
    for (int v = 0; v < V; ++v) {
        float* const to = out + v * kLanes / kBlock * layer.width * kBlock + v * kLanes % kBlock;
        @NAME@_UNROLL
        for (int p = 0; p < P; ++p) store(to + p * kBlock, max(sum[p][v], floor));
    }
}

using Tile = void (*)(const Dense&, const float*, const float*, const float*, float*);

// One function for each number of pixels from 1 to kTilePixels(V), so that a row is cut into pieces of nearly equal size.
template <int V, int Step, int... P>
void dense_columns(const Dense& layer, const float* in, const float* weights, const float* bias, float* out,
                   std::integer_sequence<int, P...>) {
    static constexpr Tile kTiles[] = {tile<P + 1, V, Step>...};
    const int tiles = (layer.width + int(sizeof...(P)) - 1) / int(sizeof...(P));
    for (int t = 0, x = 0; t < tiles; ++t) {
        const int pixels = (layer.width - x) / (tiles - t);
        kTiles[pixels - 1](layer, in + std::ptrdiff_t(x) * Step, weights, bias, out + std::ptrdiff_t(x) * kBlock);
        x += pixels;
    }
}

// A row of all output channels, kTileVectors vectors at a time, then fewer.
template <int V, int Step>
void dense(const Dense& layer, const float* in, const float* weights, int channel, float* out) {
    const float* const bias = weights + std::ptrdiff_t(layer.inputs) * layer.outputs;
    for (; channel + V * kLanes <= layer.outputs; channel += V * kLanes) {
        const std::ptrdiff_t to = std::ptrdiff_t(channel / kBlock) * layer.width * kBlock + channel % kBlock;
        dense_columns<V, Step>(layer, in, weights + channel, bias + channel, out + to,
                               std::make_integer_sequence<int, kTilePixels(V)>());
    }
    if constexpr (V * kLanes > kBlock) dense<V / 2, Step>(layer, in, weights, channel, out);
}

void pointwise(const Dense& layer, const float* in, const float* weights, float* out) {
    dense<kTileVectors, kBlock>(layer, in, weights, 0, out);
}

// The 3x3 convolution with stride 2 as a dense layer over three rows of three channels, which lie one pixel apart.
void stem(const Dense& layer, const float* in, const float* weights, float* out) {
    dense<(kTileVectors * kLanes < kBlock ? kTileVectors : kBlock / kLanes), 2 * kColours>(layer, in, weights, 0, out);
}

// --------------------------------------------------------------------------------------------- depthwise layers

// Two rows of a 3x3 depthwise convolution, one vector of channels: rows y and y + 1 come from the rows y - 1 … y + 2.
struct Pair {
    Vec upper, lower;
};

// Slides over a row pair from left to right. weights: (10, 16), the nine taps row by row, then the bias.
// at<first, last>(x) gives the outputs of column x; the flags say that it has no neighbour on the left or the right.
template <bool FewerProducts>
struct Window {
    Vec tap[9], bias;
    const float* rows[4];

    @NAME@_INLINE Window(const float* const in[4], const float* weights) : bias(load(weights + 9 * kBlock)) {
        @NAME@_UNROLL
        for (int i = 0; i < 9; ++i) tap[i] = load(weights + i * kBlock);
        @NAME@_UNROLL
        for (int row = 0; row < 4; ++row) rows[row] = in[row];
    }

    template <bool First, bool Last>
    @NAME@_INLINE Pair at(std::ptrdiff_t x) {
        Pair sum{bias, bias};
        @NAME@_UNROLL
        for (int i = First ? 1 : 0; i < (Last ? 2 : 3); ++i) {
            @NAME@_UNROLL
            for (int row = 0; row < 4; ++row) {
                const Vec value = load(rows[row] + (x + i - 1) * kBlock);
                if (row < 3) sum.upper = fma(value, tap[row * 3 + i], sum.upper);
                if (row > 0) sum.lower = fma(value, tap[row * 3 - 3 + i], sum.lower);
            }
        }
        return sum;
    }
};

// The same with 12 instead of 18 products for a pair (Winograd's F(2, 3) down the columns): with the rows a b c d and
// the taps k of one kernel column, the outputs are
//   upper = p + q + r, lower = q - r - s of the products
//   p = (a - c) k0, q = (b + c) (k0 + k1 + k2) / 2, r = (c - b) (k0 - k1 + k2) / 2, s = (b - d) k2
// summed over the three kernel columns before p … s are put together.
template <>
struct Window<true> {
    Vec factor[4][3], bias;
    Vec left[4], middle[4];
    const float* rows[4];

    @NAME@_INLINE Window(const float* const in[4], const float* weights) : bias(load(weights + 9 * kBlock)) {
        const Vec half = broadcast(0.5f);
        @NAME@_UNROLL
        for (int i = 0; i < 3; ++i) {
            const Vec k0 = load(weights + i * kBlock);
            const Vec k1 = load(weights + (3 + i) * kBlock);
            const Vec k2 = load(weights + (6 + i) * kBlock);
            factor[0][i] = k0;
            factor[1][i] = mul(add(add(k0, k2), k1), half);
            factor[2][i] = mul(sub(add(k0, k2), k1), half);
            factor[3][i] = k2;
        }
        @NAME@_UNROLL
        for (int row = 0; row < 4; ++row) rows[row] = in[row];
    }

    @NAME@_INLINE void read(std::ptrdiff_t x, Vec (&column)[4]) const {
        const Vec a = load(rows[0] + x * kBlock), b = load(rows[1] + x * kBlock);
        const Vec c = load(rows[2] + x * kBlock), d = load(rows[3] + x * kBlock);
        column[0] = sub(a, c);
        column[1] = add(b, c);
        column[2] = sub(c, b);
        column[3] = sub(b, d);
    }

    template <bool First, bool Last>
    @NAME@_INLINE Pair at(std::ptrdiff_t x) {
        Vec right[4], sum[4];
        if constexpr (First) read(x, middle);
        if constexpr (!Last) read(x + 1, right);
        @NAME@_UNROLL
        for (int i = 0; i < 4; ++i) {
            sum[i] = i == 1 ? fma(middle[i], factor[i][1], bias) : mul(middle[i], factor[i][1]);
            if constexpr (!First) sum[i] = fma(left[i], factor[i][0], sum[i]);
            if constexpr (!Last) sum[i] = fma(right[i], factor[i][2], sum[i]);
        }
        @NAME@_UNROLL
        for (int i = 0; i < 4; ++i) {
            left[i] = middle[i];
            if constexpr (!Last) middle[i] = right[i];
        }
        return {add(sum[1], add(sum[0], sum[2])), sub(sum[1], add(sum[2], sum[3]))};
    }
};

// Rows y and y + 1 of a depthwise layer with its ReLU, from the four rows around them.
void depthwise(const Depthwise& layer, const float* const rows[4], const float* weights, float* upper, float* lower) {
    const Vec floor = broadcast(layer.floor);
    const std::ptrdiff_t last = layer.width - 1;
    for (int channel = 0; channel < layer.channels; channel += kLanes) {
        const std::ptrdiff_t start = std::ptrdiff_t(channel / kBlock) * layer.width * kBlock + channel % kBlock;
        const float* const in[4] = {rows[0] + start, rows[1] + start, rows[2] + start, rows[3] + start};
        Window<kFewerProducts> window(in, weights + channel / kBlock * 10 * kBlock + channel % kBlock);
        float* const to[2] = {upper + start, lower + start};
        const auto put = [&](std::ptrdiff_t x, const Pair& pair) {
            store(to[0] + x * kBlock, max(pair.upper, floor));
            store(to[1] + x * kBlock, max(pair.lower, floor));
        };
        if (last == 0) {
            put(0, window.template at<true, true>(0));
            continue;
        }
        put(0, window.template at<true, false>(0));
        for (std::ptrdiff_t x = 1; x < last; ++x) put(x, window.template at<false, false>(x));
        put(last, window.template at<false, true>(last));
    }
}

// The same, followed by a 2x2 max pool: one row of half the width, which must be even.
void depthwise_pool(const Depthwise& layer, const float* const rows[4], const float* weights, float* out) {
    const Vec floor = broadcast(layer.floor);
    const std::ptrdiff_t last = layer.width - 1;
    for (int channel = 0; channel < layer.channels; channel += kLanes) {
        const std::ptrdiff_t start = std::ptrdiff_t(channel / kBlock) * layer.width * kBlock + channel % kBlock;
        const float* const in[4] = {rows[0] + start, rows[1] + start, rows[2] + start, rows[3] + start};
        Window<kFewerProducts> window(in, weights + channel / kBlock * 10 * kBlock + channel % kBlock);
        float* to = out + std::ptrdiff_t(channel / kBlock) * layer.width / 2 * kBlock + channel % kBlock;
        Pair even = window.template at<true, false>(0);
        for (std::ptrdiff_t x = 1; x < last; x += 2, to += kBlock) {
            const Pair odd = window.template at<false, false>(x);
            store(to, max(max(max(even.upper, even.lower), max(odd.upper, odd.lower)), floor));
            even = window.template at<false, false>(x + 1);
        }
        const Pair odd = window.template at<false, true>(last);
        store(to, max(max(max(even.upper, even.lower), max(odd.upper, odd.lower)), floor));
    }
}

// -------------------------------------------------------------------------------------------------- other layers

// 2x2 max pool of two rows of the given width, which must be even.
void pool(const float* upper, const float* lower, int width, int channels, float* out) {
    for (std::ptrdiff_t i = 0, count = std::ptrdiff_t(width / 2) * channels; i < count; i += kLanes) {
        const std::ptrdiff_t at = i / kBlock * 2 * kBlock + i % kBlock;
        const Vec left = max(load(upper + at), load(lower + at));
        const Vec right = max(load(upper + at + kBlock), load(lower + at + kBlock));
        store(out + i, max(left, right));
    }
}

// out(x, c) = fine(x, c) + coarse(x / 2, c) for a row of the given width, which must be even.
void add_enlarged(const float* fine, const float* coarse, int width, int channels, float* out) {
    for (std::ptrdiff_t i = 0, count = std::ptrdiff_t(width / 2) * channels; i < count; i += kLanes) {
        const std::ptrdiff_t at = i / kBlock * 2 * kBlock + i % kBlock;
        const Vec value = load(coarse + i);
        store(out + at, add(load(fine + at), value));
        store(out + at + kBlock, add(load(fine + at + kBlock), value));
    }
}

// A row of an image as floats.
void to_floats(const std::uint8_t* bytes, std::ptrdiff_t count, float* out) {
    std::ptrdiff_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store(out + i, load_bytes(bytes + i));
    for (; i < count; ++i) out[i] = float(bytes[i]);
}

constexpr Kernels kKernels = {@NAME@_SIMD_NAME, stem, pointwise, depthwise, depthwise_pool, pool, add_enlarged, to_floats};
