// The network's layers and weights, part of @name@.cpp. Written by facetrain.

constexpr int kMultiple = @multiple@;   // the largest stride
constexpr int kMostUnits = @most_units@;   // of one step
constexpr int kSlots = @slots@;

constexpr Unit kStem = @stem@;  // 3x3, stride 2: weights (3, 3, colours, padded out), bias

constexpr Unit kUnits[] = {
@units@
};

constexpr Map kMaps[] = {
@maps@
};

constexpr Step kSteps[] = {
@steps@
};

constexpr Level kLevels[] = {
@levels@
};

alignas(64) constexpr float kWeights[] = {
@weights@
};
