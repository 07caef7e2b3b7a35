// How an image's rows flow through the network, part of @name@.cpp. Written by facetrain.
//
// The network is cut into steps, each a chain of units. Only their results are kept whole; within a step every layer
// has the few rows that the next one still needs. So nearly all that is read has been written shortly before and lies
// in the first or second cache.

// --------------------------------------------------------------------------------------------------------- memory

// Rows of one size, each (blocks, width, 16), of which the last `count` are kept.
struct Rows {
    float* data = nullptr;
    std::ptrdiff_t size = 0;
    int count = 1;

    float* operator[](int y) const { return data + y % count * size; }
};

// Hands out parts of one piece of memory, or only counts them while there is none.
struct Arena {
    float* data = nullptr;
    std::size_t used = 0;

    float* take(std::size_t floats) {
        float* const part = data ? data + used : nullptr;
        used += (floats + kBlock - 1) / kBlock * kBlock;
        return part;
    }
    Rows rows(int width, int channels, int count) {
        const std::ptrdiff_t size = std::ptrdiff_t(width) * padded(channels);
        return {take(std::size_t(size) * std::size_t(count)), size, count};
    }
};

// The maps of an image of (height, width), both multiples of the largest stride.
struct Maps {
    int width = 0, height = 0;
    float* slots[kSlots] = {};

    void place(int image_width, int image_height, Arena& arena) {
        width = image_width, height = image_height;
        std::size_t sizes[kSlots] = {};
        for (const Map& map : kMaps) {
            const std::size_t area = std::size_t(width / map.stride) * std::size_t(height / map.stride);
            sizes[map.slot] = std::max(sizes[map.slot], area * std::size_t(padded(map.channels)));
        }
        for (int slot = 0; slot < kSlots; ++slot) slots[slot] = arena.take(sizes[slot]);
    }
    Rows operator[](int index) const {
        const Map& map = kMaps[index];
        return {slots[map.slot], std::ptrdiff_t(width / map.stride) * padded(map.channels), height / map.stride};
    }
};

// ----------------------------------------------------------------------------------------------- the flow of rows

struct Image {
    const std::uint8_t* bgr;
    int width, height;
    std::ptrdiff_t stride;
};

// A step for some rows of its result. Every layer makes what it can of the rows that the layer before it has made, and
// keeps only those that the next one still needs: they stay in the cache.
class Flow {
public:
    Flow(const Step& step, const Maps& maps, Arena& arena) : step_(step), maps_(maps) {
        const bool image = step.source == Source::image;
        const int stride = image ? 1 : kMaps[step.from].stride;
        const bool half = image || step.source == Source::pooled_map;
        width_ = maps.width / stride / (half ? 2 : 1);
        height_ = maps.height / stride / (half ? 2 : 1);
        // so many rows at a time that a layer's weights, once in the cache, are used for some hundred pixels
        band_ = std::min((kBandPixels / width_ + 2) / 2 * 2, height_);
        if (image) colours_ = arena.take(std::size_t(3) * std::size_t(piece()));
        if (step.source == Source::map) {
            source_ = maps[step.from];
        }@bare@ else {
            source_ = arena.rows(width_, image ? kStem.out : kMaps[step.from].channels, band_);
        }
        int arriving = band_;
        for (int i = 0; i < step.units; ++i) {
            const Unit& unit = kUnits[step.first + i];
            widest_ = std::max(widest_, std::size_t(width_) * std::size_t(padded(unit.out)));
            nodes_[i].unit = &unit;
            nodes_[i].in = i == 0 ? source_ : nodes_[i - 1].out;
            nodes_[i].middle = arena.rows(width_, unit.out, std::min(arriving + 3, height_));
            arriving += 2;  // rows that waited for the one below them
            const bool last = i == step.units - 1;
            nodes_[i].out = last ? maps[step.to] : arena.rows(width_, unit.out, std::min(arriving, height_));
        }
        spare_ = arena.take(widest_);
    }

    // The most floats in a row of any layer.
    std::size_t widest() const { return widest_; }

    // The rows [begin, end) of the result; begin is even, end too or the height. zeros: a row outside of a map
    void run(const Kernels& kernels, const Image& image, const float* zeros, int begin, int end) {
        if (step_.pool) begin *= 2, end *= 2;
        for (int i = step_.units - 1; i >= 0; --i) {
            nodes_[i].made = begin / 2 * 2;
            nodes_[i].end = end = std::min((end + 1) / 2 * 2, height_);
            begin = std::max(nodes_[i].made - 1, 0);
            end = std::min(end + 1, height_);
            nodes_[i].read = begin;
            nodes_[i].read_end = end;
        }
        while (begin < end) {
            const int top = std::min(begin + band_, end);
            if (step_.source != Source::map) {
                for (int y = begin; y < top; ++y) make_source_row(kernels, image, y);
            }
            begin = top;
            int ready = top;
            for (int i = 0; i < step_.units; ++i) ready = advance(kernels, nodes_[i], zeros, ready);
        }
    }

private:
    struct Node {
        const Unit* unit;
        Rows in, middle, out;  // middle: between pointwise and depthwise
        int read, read_end;    // rows [.., read) went through the pointwise
        int made, end;         // rows [.., made) went through the depthwise
    };

    void make_source_row(const Kernels& kernels, const Image& image, int y) {
        if (step_.source == Source::image) {
            for (int i = 0; i < 3; ++i) read_image_row(kernels, image, 2 * y - 1 + i, colours_ + i * piece());
            const Dense layer{width_, 9 * kColours, padded(kStem.out), 3 * kColours, piece(), kStem.relu ? 0 : kLowest};
            kernels.stem(layer, colours_ + kBlock - kColours, kWeights + kStem.weights, source_[y]);
            return;
        }
        const Rows from = maps_[step_.from];
        const int channels = padded(kMaps[step_.from].channels);
        if (step_.source == Source::pooled_map) {
            kernels.pool(from[2 * y], from[2 * y + 1], 2 * width_, channels, source_[y]);
        } else@rows@ {
            kernels.add_enlarged(from[y], maps_[step_.enlarged][y / 2], width_, channels, source_[y]);
        }
    }

    // Floats of a row of the image: the one pixel left of it, so that the row itself is aligned, and all its pixels.
    std::ptrdiff_t piece() const { return kBlock + padded(maps_.width * kColours); }

    // A row of the image with zeros around it; nothing but zeros outside of the image.
    void read_image_row(const Kernels& kernels, const Image& image, int y, float* to) const {
        std::ptrdiff_t filled = 0;
        if (y >= 0 && y < image.height) {
            std::fill(to, to + kBlock, 0.0f);
            const std::ptrdiff_t bytes = std::ptrdiff_t(image.width) * kColours;
            kernels.to_floats(image.bgr + y * image.stride, bytes, to + kBlock);
            filled = kBlock + bytes;
        }
        std::fill(to + filled, to + piece(), 0.0f);
    }

    // Takes the rows up to `ready` and makes what can be made of them; returns up to where the result is ready.
    int advance(const Kernels& kernels, Node& node, const float* zeros, int ready) {
        const Unit& unit = *node.unit;
        const int outputs = padded(unit.out);
        const float* const weights = kWeights + unit.weights;
        const Dense dense{width_, unit.in, outputs, kBlock, std::ptrdiff_t(width_) * kBlock, kLowest};
        for (ready = std::min(ready, node.read_end); node.read < ready; ++node.read) {
            kernels.pointwise(dense, node.in[node.read], weights, node.middle[node.read]);
        }
        const float* const taps = weights + (unit.in + 1) * outputs;
        const Depthwise depthwise{width_, outputs, unit.relu ? 0 : kLowest};
        const bool pool = step_.pool && &node == &nodes_[step_.units - 1];
        for (int& y = node.made; y < node.end && std::min(y + 3, height_) <= node.read; y += 2) {
            const float* rows[4];
            for (int i = 0; i < 4; ++i) {
                const int from = y - 1 + i;
                rows[i] = from < 0 || from >= height_ ? zeros : node.middle[from];
            }
            if (pool) {
                kernels.depthwise_pool(depthwise, rows, taps, node.out[y / 2]);
            } else {
                kernels.depthwise(depthwise, rows, taps, node.out[y], y + 1 < height_ ? node.out[y + 1] : spare_);
            }
        }
        return std::min(node.made, height_);
    }

    const Step& step_;
    const Maps& maps_;
    Node nodes_[kMostUnits] = {};
    Rows source_;
    int width_ = 0, height_ = 0;  // of every layer; a pool comes behind the last
    int band_ = 0;                // rows that the first layer takes at a time
    std::size_t widest_ = 0;
    float* colours_ = nullptr;  // three rows of the image
    float* spare_ = nullptr;    // where the row below the last goes when their number is odd
};

// What a detector needs for an image of (height, width), both multiples of the largest stride: in an arena, or only
// counted with one that has no memory.
struct Layout {
    Maps maps;
    std::size_t widest = 0, scratch_size = 0;  // floats of a row of zeros, and for the flow of one thread
    std::size_t floats = 0, priors = 0;        // in all
    float* zeros = nullptr;
    float* scratch = nullptr;  // of each thread in turn

    Layout() = default;
    Layout(int width, int height, int threads, Arena arena) {
        maps.place(width, height, arena);
        for (const Step& step : kSteps) {
            Arena one;
            widest = std::max(widest, Flow(step, maps, one).widest());
            scratch_size = std::max(scratch_size, one.used);
        }
        zeros = arena.take(widest);
        scratch = arena.take(scratch_size * std::size_t(threads));
        floats = arena.used;
        for (const Level& level : kLevels) {
            priors += std::size_t(width / level.stride) * std::size_t(height / level.stride);
        }
    }
};
