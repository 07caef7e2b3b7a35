// SimOTA of a batch as train/assign.py describes it, image by image, on its candidates alone.
//
// Where assign.py compares, this compares the same float32 numbers, made by the same operations in the same order (no
// contraction into fused operations: see build); logarithms and sums of overlaps may differ in their last bit.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

constexpr float eps = 1e-6f, tiny = 1e-7f;

// As in simota.py.
struct Shape {
    int64_t images, priors, rows, best;  // rows: of faces; best: overlaps that are summed
    float radius, iou_weight, penalty;
};

struct Box {
    float x1, y1, x2, y2;
    float area() const { return (x2 - x1) * (y2 - y1); }
};

float iou_of(const Box& a, const Box& b) {
    const float width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1), height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
    const float overlap = (width > 0 ? width : 0) * (height > 0 ? height : 0);
    const float both = a.area() + b.area() - overlap;
    return overlap / (both < eps ? eps : both);
}

// The priors of an image that lie in or near one of its faces, and for each face which lie in and near it.
struct Candidates {
    std::vector<int64_t> priors;
    std::vector<uint8_t> best;  // (faces, candidates): in the face, and near its centre
};

Candidates candidates_of(const Shape& s, const float* priors, const std::vector<Box>& faces) {
    std::vector<uint8_t> any(s.priors), both(s.priors * faces.size());
    for (size_t f = 0; f < faces.size(); f++) {
        const Box& face = faces[f];
        const float middle_x = (face.x1 + face.x2) / 2, middle_y = (face.y1 + face.y2) / 2;
        uint8_t* of_face = both.data() + f * s.priors;
        for (int64_t p = 0; p < s.priors; p++) {
            const float stride = priors[3 * p + 2], half = 0.5f * stride, reach = s.radius * stride;
            const float x = priors[3 * p] + half, y = priors[3 * p + 1] + half;
            const bool inside = (x > face.x1) & (y > face.y1) & (x < face.x2) & (y < face.y2);
            const bool near = (x > middle_x - reach) & (x < middle_x + reach) & (y > middle_y - reach) &
                              (y < middle_y + reach);
            of_face[p] = inside & near;
            any[p] |= inside | near;
        }
    }
    Candidates found;
    for (int64_t p = 0; p < s.priors; p++)
        if (any[p]) found.priors.push_back(p);
    found.best.reserve(found.priors.size() * faces.size());
    for (size_t f = 0; f < faces.size(); f++)
        for (const int64_t p : found.priors) found.best.push_back(both[f * s.priors + p]);
    return found;
}

// How many priors a face gets: the sum of its best overlaps, at least one.
int64_t wanted(const float* iou, int64_t count, int64_t best, std::vector<float>& space) {
    space.assign(iou, iou + count);
    const int64_t some = std::min(best, count);
    std::partial_sort(space.begin(), space.begin() + some, space.end(), std::greater<float>());
    float sum = 0;
    for (int64_t i = 0; i < some; i++) sum += space[i];
    return std::max<int64_t>(1, (int64_t)std::floor(sum));
}

// One image: faces with their rows in the batch. decoded: (P, 4), score_cost: (P); matched, quality: (P), to be filled.
void assign(const Shape& s, const float* priors, const Box* decoded, const float* score_cost,
            const std::vector<Box>& faces, const std::vector<int64_t>& rows, int64_t* matched, float* quality) {
    const Candidates candidates = candidates_of(s, priors, faces);
    const int64_t count = (int64_t)candidates.priors.size(), many = (int64_t)faces.size();
    std::vector<float> cost(many * count), iou(many * count), space;
    std::vector<int64_t> order, selections(count), last(count, -1);
    const float apart = -std::log(tiny);
    for (int64_t f = 0; f < many; f++) {
        float *costs = cost.data() + f * count, *ious = iou.data() + f * count;
        for (int64_t j = 0; j < count; j++) {
            const int64_t p = candidates.priors[j];
            const float overlap = iou_of(decoded[p], faces[f]);
            ious[j] = overlap;
            const float missing = overlap > 0 ? -std::log(overlap + tiny) : apart;
            costs[j] = score_cost[p] + s.iou_weight * missing + (candidates.best[f * count + j] ? 0 : s.penalty);
        }
        order.clear();
        for (int64_t j = 0; j < count; j++)
            if (std::isfinite(costs[j])) order.push_back(j);
        const int64_t most = std::min<int64_t>(std::min(s.best, s.priors), (int64_t)order.size());
        const int64_t k = std::min(wanted(ious, count, std::min(s.best, s.priors), space), most);
        std::partial_sort(order.begin(), order.begin() + k, order.end(),
                          [&](int64_t a, int64_t b) { return costs[a] != costs[b] ? costs[a] < costs[b] : a < b; });
        for (int64_t i = 0; i < k; i++) {
            selections[order[i]]++;
            last[order[i]] = f;
        }
    }
    for (int64_t j = 0; j < count; j++) {
        int64_t face = last[j];
        if (selections[j] > 1)  // the cheapest face of the image, even one that did not select it
            for (int64_t f = face = 0; f < many; f++)
                if (cost[f * count + j] < cost[face * count + j]) face = f;
        if (face < 0) continue;
        matched[candidates.priors[j]] = rows[face];
        quality[candidates.priors[j]] = iou[face * count + j];
    }
}

}  // namespace

// priors: (P, 3) x y stride; decoded: (B, P, 4) xyxy; score_cost: (B, P); boxes: (M, 4); image: (M); kind: (M), 0 a face
// matched: (B, P), filled with -1; quality: (B, P), filled with 0
extern "C" void simota(const Shape* s, const float* priors, const float* decoded, const float* score_cost,
                       const float* boxes, const int64_t* image, const int8_t* kind, int64_t* matched,
                       float* quality) {
    std::vector<std::vector<Box>> faces(s->images);
    std::vector<std::vector<int64_t>> rows(s->images);
    for (int64_t row = 0; row < s->rows; row++) {
        if (kind[row] != 0) continue;
        const float* box = boxes + 4 * row;
        faces[image[row]].push_back({box[0], box[1], box[2], box[3]});
        rows[image[row]].push_back(row);
    }
    for (int64_t b = 0; b < s->images; b++) {
        const int64_t at = b * s->priors;
        if (!faces[b].empty())
            assign(*s, priors, reinterpret_cast<const Box*>(decoded) + at, score_cost + at, faces[b], rows[b], matched + at,
                   quality + at);
    }
}
