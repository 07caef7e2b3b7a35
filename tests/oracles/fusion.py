"""Weighted boxes fusion as its paper lists the steps (arXiv 1910.13302, section 3), one box at a time."""

Box = tuple[float, float, float, float]
Scored = tuple[Box, float]


def iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    overlap = width * height
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def weighted_boxes_fusion(models: list[list[Scored]], threshold: float) -> list[Scored]:
    # 1. all boxes of all models in one list, sorted by confidence
    everything = sorted((box for boxes in models for box in boxes), key=lambda box: -box[1])
    # 2. empty lists: clusters, and the fused box of each
    clusters: list[list[Scored]] = []
    fused: list[Box] = []
    for box in everything:
        # 3. find a fused box that matches
        matching, best = -1, threshold
        for place, candidate in enumerate(fused):
            if iou(box[0], candidate) > best:
                matching, best = place, iou(box[0], candidate)
        # 4. none: a new cluster; 5. else the box joins
        if matching < 0:
            clusters.append([box])
            fused.append(box[0])
            continue
        clusters[matching].append(box)
        # 6. coordinates of the fused box anew, from all boxes of the cluster
        total = sum(score for _, score in clusters[matching])
        fused[matching] = tuple(  # type: ignore[assignment]
            sum(score * coordinates[k] for coordinates, score in clusters[matching]) / total for k in range(4)
        )
    # 7. confidence: the mean, times min(T, N) / N
    count = len(models)
    scores = [sum(s for _, s in cluster) / len(cluster) * min(len(cluster), count) / count for cluster in clusters]
    return sorted(zip(fused, scores, strict=True), key=lambda box: -box[1])
