// Vectors of floats behind one set of names: `Vec`, of `kLanes` floats, and what the kernels do with it.
// Part of a detector made by facetrain.
//
// Included by @name@.cpp once for every instruction set, each time inside a namespace of its own and with @NAME@_SIMD
// set to one of these. For a new one add a section here and a namespace and a choice in @name@.cpp.
//
//   @NAME@_SIMD_AVX512   AVX-512F
//   @NAME@_SIMD_AVX2     AVX2 and FMA
//   @NAME@_SIMD_NEON     64-bit ARM
//   @NAME@_SIMD_VECTOR   GCC's and Clang's own vectors of four: whatever the processor has for them, such as SSE2
//   @NAME@_SIMD_PLAIN    C++ only
//
// kTilePixels(v): how many pixels times v vectors of output channels the pointwise kernel holds in registers.

#if @NAME@_SIMD == @NAME@_SIMD_AVX512

using Vec = __m512;
constexpr int kLanes = 16;
constexpr int kTileVectors = 4;
constexpr int kTilePixels(int vectors) { return vectors == 4 ? 6 : 12; }
// Adds have execution units of their own beside the FMAs on some cores: fewer multiplications pay, see depthwise.
constexpr bool kFewerProducts = true;

@NAME@_INLINE Vec load(const float* p) { return _mm512_loadu_ps(p); }
@NAME@_INLINE void store(float* p, Vec a) { _mm512_storeu_ps(p, a); }
@NAME@_INLINE Vec broadcast(float a) { return _mm512_set1_ps(a); }
@NAME@_INLINE Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
@NAME@_INLINE Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
@NAME@_INLINE Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
@NAME@_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
// GCC 12's own _mm512_max_ps starts from an undefined vector and warns about it
@NAME@_INLINE Vec max(Vec a, Vec b) { return _mm512_maskz_max_ps(0xffff, a, b); }
@NAME@_INLINE Vec load_bytes(const std::uint8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepu8_epi32(0xffff, bytes));
}

#elif @NAME@_SIMD == @NAME@_SIMD_AVX2

using Vec = __m256;
constexpr int kLanes = 8;
constexpr int kTileVectors = 2;
constexpr int kTilePixels(int) { return 6; }
constexpr bool kFewerProducts = false;

@NAME@_INLINE Vec load(const float* p) { return _mm256_loadu_ps(p); }
@NAME@_INLINE void store(float* p, Vec a) { _mm256_storeu_ps(p, a); }
@NAME@_INLINE Vec broadcast(float a) { return _mm256_set1_ps(a); }
@NAME@_INLINE Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
@NAME@_INLINE Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
@NAME@_INLINE Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
@NAME@_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
@NAME@_INLINE Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
@NAME@_INLINE Vec load_bytes(const std::uint8_t* p) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
}

#elif @NAME@_SIMD == @NAME@_SIMD_NEON

using Vec = float32x4_t;
constexpr int kLanes = 4;
constexpr int kTileVectors = 4;
constexpr int kTilePixels(int) { return 6; }
constexpr bool kFewerProducts = false;

@NAME@_INLINE Vec load(const float* p) { return vld1q_f32(p); }
@NAME@_INLINE void store(float* p, Vec a) { vst1q_f32(p, a); }
@NAME@_INLINE Vec broadcast(float a) { return vdupq_n_f32(a); }
@NAME@_INLINE Vec add(Vec a, Vec b) { return vaddq_f32(a, b); }
@NAME@_INLINE Vec sub(Vec a, Vec b) { return vsubq_f32(a, b); }
@NAME@_INLINE Vec mul(Vec a, Vec b) { return vmulq_f32(a, b); }
@NAME@_INLINE Vec fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }
@NAME@_INLINE Vec max(Vec a, Vec b) { return vmaxq_f32(a, b); }
@NAME@_INLINE Vec load_bytes(const std::uint8_t* p) {
    const uint8x8_t bytes = vcreate_u8(p[0] | p[1] << 8 | p[2] << 16 | std::uint64_t(p[3]) << 24);
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))));
}

#elif @NAME@_SIMD == @NAME@_SIMD_VECTOR

typedef float Vec __attribute__((vector_size(16)));
constexpr int kLanes = 4;
constexpr int kTileVectors = 4;
constexpr int kTilePixels(int) { return 2; }
constexpr bool kFewerProducts = false;

@NAME@_INLINE Vec load(const float* p) {
    Vec a;
    __builtin_memcpy(&a, p, sizeof a);
    return a;
}
@NAME@_INLINE void store(float* p, Vec a) { __builtin_memcpy(p, &a, sizeof a); }
@NAME@_INLINE Vec broadcast(float a) { return Vec{a, a, a, a}; }
@NAME@_INLINE Vec add(Vec a, Vec b) { return a + b; }
@NAME@_INLINE Vec sub(Vec a, Vec b) { return a - b; }
@NAME@_INLINE Vec mul(Vec a, Vec b) { return a * b; }
@NAME@_INLINE Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
@NAME@_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
@NAME@_INLINE Vec load_bytes(const std::uint8_t* p) {
    return Vec{float(p[0]), float(p[1]), float(p[2]), float(p[3])};
}

#else

using Vec = float;
constexpr int kLanes = 1;
constexpr int kTileVectors = 4;
constexpr int kTilePixels(int) { return 2; }
constexpr bool kFewerProducts = false;

@NAME@_INLINE Vec load(const float* p) { return *p; }
@NAME@_INLINE void store(float* p, Vec a) { *p = a; }
@NAME@_INLINE Vec broadcast(float a) { return a; }
@NAME@_INLINE Vec add(Vec a, Vec b) { return a + b; }
@NAME@_INLINE Vec sub(Vec a, Vec b) { return a - b; }
@NAME@_INLINE Vec mul(Vec a, Vec b) { return a * b; }
@NAME@_INLINE Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
@NAME@_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
@NAME@_INLINE Vec load_bytes(const std::uint8_t* p) { return float(*p); }

#endif
