// The filter along time in one kernel, for n = 16, 32, ..., 16384 points of f32, bf16, f16, or 2n.
//
// Two neighbouring channels are one complex sequence z = v_a + i v_b: the filter is real in time,
// so that the real and the imaginary part of its output are theirs again. A block loads some pairs
// of channels of one (b, h), transforms each pair, multiplies its spectrum, transforms back,
// stores: v is read once, y written once, and all between happens in registers and shared memory.
//
// A thread holds 16 points. Decimation in frequency goes down by passes in place, the first of
// radix 1 to 16, the rest of radix 16, and leaves the spectrum in an order of its own
// (frequency_at); decimation in time goes back up. What a pass reads it writes to the same places,
// so one barrier lies between two passes. See backends/cpu/fft.h, which does the same in cache.
//
// If the sequence has 2n points, the last n of them zeros, and only the first n results are wanted,
// as in a causal filter, two transforms of n points do, one after the other in the same memory: the
// even frequencies are those of z_t, the odd ones those of z_t exp(-pi i t / n), and y_t = (even_t
// + exp(pi i t / n) odd_t) / 2, the mean of a cyclic and a negacyclic convolution.
//
// The steps of all passes but the first are 16 or 256, and a gap of one point after every 16 keeps
// them, and the last one's runs of 16, off each other's banks of shared memory.
#pragma once

#include <triad/backends/cuda/elements.h>

namespace triad::cuda {

using Point = Complex<float>;

// ---------------------------------------------------------------------- the order of things

// A transform of n points for each of `pairs` channel pairs by pairs * n / 16 threads.
struct FilterPlan {
  int n, pairs, first_bits;  // the first pass has radix 2^first_bits
  int halves;                // 2 where the sequence has 2n points, the last n of them zeros
  bool parks;                // threads keep 16 points each in shared memory, behind all pairs'

  TRIAD_HD int threads_of_pair() const { return n / 16; }
  unsigned threads() const { return unsigned(pairs * threads_of_pair()); }
  std::size_t shared_bytes() const { return pairs * (room() + (parks ? n : 0)) * sizeof(Point); }
  TRIAD_HD int first_step() const { return n >> first_bits; }
  TRIAD_HD bool has_gaps() const { return n >= 256; }
  TRIAD_HD int first_apart() const { return n / 16 + n / 256; }
  // From one pair to the next in shared memory, a few points more than a multiple of 16: lanes
  // of several pairs then lie in different banks.
  TRIAD_HD int room() const {
    const int points = n + n / 16, shift = pairs < 16 ? 16 / pairs : 1;
    return points + (16 + shift - points % 16) % 16;
  }

  // Row p of a half's spectrum holds this frequency of the sequence; those of a thread's 16 rows
  // are halves * n / 16 apart.
  TRIAD_HD int frequency_at(int half, int p) const {
    int step = first_step(), k = p / step, unit = 1 << first_bits;
    for (; step > 1; unit *= 16) {
      p %= step;
      step /= 16;
      k += p / step * unit;
    }
    return halves * k + half;
  }
  // Filters lie in memory as 16 threads read them: a matrix of 16 x 16 rows transposed.
  TRIAD_HD int slots() const { return n < 256 ? 256 : n; }
  TRIAD_HD static int slot_of(int p) { return p / 256 * 256 + p % 16 * 16 + p / 16 % 16; }

  // A pass of radix R = 2^bits from blocks of R * step points takes exp(-2 pi i 2^bit j / (R
  // step)), j < step, for every bit; those of the passes lie one behind the other. Behind them, for
  // two halves, come exp(-pi i t / n), t < n.
  TRIAD_HD int pass_roots() const {
    int count = first_bits * first_step();
    for (int step = first_step() / 16; step > 1; step /= 16) count += 4 * step;
    return count;
  }
  TRIAD_HD int roots() const { return pass_roots() + (halves == 2 ? n : 0); }
  TRIAD_HD math::CosSin<double> root(int i) const {
    if (i >= pass_roots()) return math::cos_sin_turns(double(i - pass_roots()) / (2 * n));
    int bits = first_bits, step = first_step(), size = n;
    for (; i >= bits * step; bits = 4, size = step, step /= 16) i -= bits * step;
    const int turn = (i % step << i / step) & (size - 1);
    return math::cos_sin_turns(double(turn) / size);
  }
};

// ---------------------------------------------------------------------- butterflies

// exp(-2 pi i k / 16) z, conjugated on the way up; k is known when loops are unrolled.
template <bool up> __device__ Point turned(Point z, int k) {
  constexpr float c1 = 0.923879532511286756f, s1 = 0.382683432365089772f;
  constexpr float c2 = 0.707106781186547524f;
  constexpr float cosines[] = {1, c1, c2, s1, 0, -s1, -c2, -c1, -1, -c1};
  constexpr float sines[] = {0, s1, c2, c1, 1, c1, c2, s1, 0, -s1};
  if (k == 0) return z;
  if (k == 4) return up ? Point{-z.im, z.re} : Point{z.im, -z.re};
  return math::times(z, Point{cosines[k], up ? sines[k] : -sines[k]});
}

// x[k] <- sum over t of x[t] exp(-+2 pi i k t / R); more than 4 points as 4 x R/4.
template <bool up, int R> __device__ void butterfly(Point (&x)[R]) {
  if constexpr (R == 2) {
    const Point a = x[0], b = x[1];
    x[0] = a + b, x[1] = a - b;
  } else if constexpr (R == 4) {
    const Point a = x[0] + x[2], b = x[0] - x[2], c = x[1] + x[3];
    const Point d = turned<up>(x[1] - x[3], 4);
    x[0] = a + c, x[1] = b + d, x[2] = a - c, x[3] = b - d;
  } else if constexpr (R > 4) {
    constexpr int S = R / 4;
    Point rows[4][S];
    for (int s = 0; s < S; ++s) {
      Point column[4] = {x[s], x[S + s], x[2 * S + s], x[3 * S + s]};
      butterfly<up>(column);
      for (int k = 0; k < 4; ++k) rows[k][s] = turned<up>(column[k], 16 / R * k * s);
    }
    for (int k = 0; k < 4; ++k) {
      butterfly<up>(rows[k]);
      for (int s = 0; s < S; ++s) x[k + 4 * s] = rows[k][s];
    }
  }
}

// x[q] times the q-th power of a root, or of its conjugate: a factor for every bit of q takes a few
// products more than to form the powers first, and many registers less.
template <bool up, int R> __device__ void turn(Point (&x)[R], const Point* roots, int step) {
  for (int bit = 1; bit < R; bit *= 2, roots += step) {
    const Point root = up ? conj(*roots) : *roots;
    for (int q = 0; q < R; ++q)
      if (q & bit) x[q] = math::times(x[q], root);
  }
}
template <bool up, int R>
__device__ void turn_and_add(Point (&x)[R], const Point* roots, int step) {
  if constexpr (up) turn<up>(x, roots, step);
  butterfly<up>(x);
  if constexpr (!up) turn<up>(x, roots, step);
}

// ---------------------------------------------------------------------- the transform of a pair

// Pairs of neighbouring channels of [B,T,H,D].
template <class T> struct Channels {
  T* data;
  Index along_b, along_t, along_h;
  int length, pairs;

  // Every pair must be one access of memory.
  static bool can_be(const Tensor& x) {
    const Index all = x.shape()[3] | x.strides()[0] | x.strides()[1] | x.strides()[2];
    return all % 2 == 0 && is_aligned(x.first_byte(), 2 * sizeof(T));
  }
  static Channels of(Cuda device, const Tensor& x) {
    const Shape &shape = x.shape(), &along = x.strides();
    T* data = data_of<std::remove_const_t<T>>(device, x);
    return {data, along[0], along[1], along[2], int(shape[1]), int(shape[3] / 2)};
  }

  // One of them, of which no more than data, along_t and length is read.
  __device__ Channels pair(Index b, Index h, int i) const {
    const Index at = b * along_b + h * along_h + 2 * i;
    return {data + at, 0, along_t, 0, i < pairs ? length : 0, 1};
  }
  // Points t, t + step, ... of a pair; zeros behind the end.
  __device__ void load(Point (&z)[16], int t, int step) const {
    const T* from = data + t * along_t;
    for (int i = 0; i < 16; ++i, t += step, from += step * along_t) {
      z[i] = {0, 0};
      if (t >= length) continue;
      const auto pair = load_vector<2>(from);
      z[i] = {float(pair.at[0]), float(pair.at[1])};
    }
  }
  __device__ void store(const Point (&z)[16], int t, int step) const {
    T* to = data + t * along_t;
    for (int i = 0; i < 16; ++i, t += step, to += step * along_t)
      if (t < length) store_wide(to, Vector<float, 2>{z[i].re, z[i].im});
  }
};

// Calls f.operator()<2^bits>(), of up to 4 bits.
template <int R = 1, class F> __device__ void with_radix(int bits, const F& f) {
  if constexpr (R < 16)
    if (bits > 0) return with_radix<2 * R>(bits - 1, f);
  f.template operator()<R>();
}

struct PairTransform {
  Point* points;       // of this pair, in shared memory
  const Point* roots;  // the plan's
  FilterPlan plan;
  int thread;  // of those of the pair

  // The thread's 16 points `step` apart: in a block of 16 steps those from thread % step on.
  template <int step> __device__ Point* own() const {
    if (step == 1) return points + thread * (plan.has_gaps() ? 17 : 16);
    return points + (thread & -step) * 17 + (thread & (step - 1)) * 17 / 16;
  }
  template <int step> __device__ void take(Point (&z)[16]) const {
    const Point* from = own<step>();
    for (int q = 0; q < 16; ++q) z[q] = from[q * (step + step / 16)];
  }
  template <int step> __device__ void put(const Point (&z)[16]) const {
    Point* to = own<step>();
    for (int q = 0; q < 16; ++q) to[q * (step + step / 16)] = z[q];
  }

  // A pass of radix 16 between two barriers.
  template <bool up, int step> __device__ void pass(Point (&z)[16], const Point* root) const {
    take<step>(z);
    turn_and_add<up>(z, root + (thread & (step - 1)), step);
    put<step>(z);
    __syncthreads();
  }
  // The pass with the largest steps. It finds the thread's points n / 16 apart, whatever its radix.
  template <bool up> __device__ void first_pass(Point (&z)[16]) const {
    with_radix(plan.first_bits, [&]<int R>() {
      constexpr int blocks = 16 / R;
      for (int k = 0; k < blocks; ++k) {
        Point x[R];
        for (int q = 0; q < R; ++q) x[q] = z[k + q * blocks];
        turn_and_add<up>(x, roots + thread + k * plan.threads_of_pair(), plan.first_step());
        for (int q = 0; q < R; ++q) z[k + q * blocks] = x[q];
      }
    });
  }

  // z, the thread's points n / 16 apart, becomes its 16 rows of the spectrum, from 16 * thread on.
  // All other threads must have put what they took before.
  __device__ void forward(Point (&z)[16]) const {
    first_pass<false>(z);
    Point* to = points + thread + thread / 16;
    for (int i = 0; i < 16; ++i, to += plan.first_apart()) *to = z[i];
    __syncthreads();
    const Point* root = roots + plan.first_bits * plan.first_step();
    if (plan.first_step() > 256) pass<false, 256>(z, root);
    if (plan.first_step() > 16) pass<false, 16>(z, root + (plan.first_step() > 256 ? 4 * 256 : 0));
    take<1>(z);
    butterfly<false>(z);
  }

  // And back, times n. After it the thread alone has to do with the places where forward begins.
  __device__ void inverse(Point (&z)[16]) const {
    const Point* root = roots + plan.first_bits * plan.first_step();
    butterfly<true>(z);
    put<1>(z);
    __syncthreads();
    if (plan.first_step() > 16) pass<true, 16>(z, root + (plan.first_step() > 256 ? 4 * 256 : 0));
    if (plan.first_step() > 256) pass<true, 256>(z, root);
    const Point* from = points + thread + thread / 16;
    for (int i = 0; i < 16; ++i, from += plan.first_apart()) z[i] = *from;
    first_pass<true>(z);
  }

  // What the second half multiplies the thread's point i by, and, conjugated, its result.
  __device__ Point twist(int i) const {
    return roots[plan.pass_roots() + thread + i * plan.threads_of_pair()];
  }
};

// ---------------------------------------------------------------------- the kernels

// The plan's roots; and the filter over its number of points, [H,halves,slots], of the adjoint
// conjugated.
__global__ void prepare_filter(FilterPlan plan, int heads, const Complex<double>* spectrum,
                               bool adjoint, Point* roots) {
  const int halves = plan.halves, n = halves * plan.n;
  const Index bins = Index(heads) * n, all = bins + plan.roots();
  Point* const filter = roots + plan.roots();
  for (Index i = first_index(); i < all; i += stride()) {
    if (i < bins) {
      const int head = int(i / n), half = int(i / plan.n % halves), p = int(i % plan.n);
      const int k = plan.frequency_at(half, p), mirrored = n - k;
      const bool upper = k > mirrored;
      const Complex<double> z = spectrum[head * (n / 2 + 1) + (upper ? mirrored : k)];
      const bool is_real = k == 0 || k == mirrored;
      filter[Index(head * halves + half) * plan.slots() + plan.slot_of(p)] = {
          float(z.re / n), is_real ? 0 : float((upper != adjoint ? -z.im : z.im) / n)};
    } else {
      const auto root = plan.root(int(i - bins));
      roots[i - bins] = {float(root.cos), -float(root.sin)};
    }
  }
}

// y = x filtered, all of one (b, h) and some pairs in a block of at most so many threads.
template <int threads, int halves, class T>
__global__ void __launch_bounds__(threads)
    filter_channels(FilterPlan plan, int heads, int tiles, Channels<const T> x, Channels<T> y,
                    const Point* roots) {
  const int pair = int(threadIdx.x) % plan.pairs, thread = int(threadIdx.x) / plan.pairs;
  const int tile = int(blockIdx.x) % tiles, head = int(blockIdx.x) / tiles % heads;
  const Index batch = blockIdx.x / tiles / heads;
  Point* const shared = dynamic_shared<Point>();
  const PairTransform transform{shared + pair * plan.room(), roots, plan, thread};
  const Point* filter = roots + plan.roots() + plan.slot_of(16 * thread);
  filter += Index(head) * halves * plan.slots();
  // Of two halves a thread keeps 16 points beside z: x, until the second half begins, and then what
  // came of the first. 1,024 threads have no room for them in shared memory.
  constexpr bool parks = halves == 2 && threads == 512;  // plan.parks
  Point z[16], own[16];
  Point* const parked = parks ? shared + plan.pairs * plan.room() + threadIdx.x : own;
  const int apart = parks ? int(blockDim.x) : 1;
  x.pair(batch, head, tile * plan.pairs + pair).load(z, thread, plan.threads_of_pair());
  for (int half = 0; half < halves; ++half, filter += plan.slots()) {
    for (int i = 0; i < 16 && halves == 2; ++i) {
      const Point now = z[i];
      if (half == 1) z[i] = math::times(parked[i * apart], transform.twist(i));
      parked[i * apart] = now;
    }
    transform.forward(z);
    for (int q = 0; q < 16; ++q) z[q] = math::times(z[q], filter[16 * q]);
    transform.inverse(z);
  }
  for (int i = 0; i < 16 && halves == 2; ++i)
    z[i] = parked[i * apart] + math::times(z[i], conj(transform.twist(i)));
  y.pair(batch, head, tile * plan.pairs + pair).store(z, thread, plan.threads_of_pair());
}

// sums = over `chunk` of the batch, transform of dy times conjugate of that of v, for every pair of
// channels a row of all frequencies; a block has those of one half.
template <class T>
__global__ void __launch_bounds__(512)
    correlate_channels(FilterPlan plan, int tiles, int batch, int chunk, Channels<const T> v,
                       Channels<const T> dy, const Point* roots, Point* sums) {
  const int pair = int(threadIdx.x) % plan.pairs, thread = int(threadIdx.x) / plan.pairs;
  const int chunks = int(ceil_div(batch, chunk)), first = int(blockIdx.x) % chunks * chunk;
  const int rest = int(blockIdx.x) / chunks, tile = rest % tiles;
  const int half = rest / tiles % plan.halves, head = rest / tiles / plan.halves;
  Point* shared = dynamic_shared<Point>();
  Point* parked = shared + plan.pairs * plan.room() + threadIdx.x;  // the thread's own 16 points
  const PairTransform transform{shared + pair * plan.room(), roots, plan, thread};
  const auto transformed = [&](const Channels<const T>& x, Index b, Point(&z)[16]) {
    x.pair(b, head, tile * plan.pairs + pair).load(z, thread, plan.threads_of_pair());
    for (int i = 0; i < 16 && half == 1; ++i) z[i] = math::times(z[i], transform.twist(i));
    transform.forward(z);
  };
  Point total[16] = {};
  for (Index b = first; b < first + chunk && b < batch; ++b) {
    Point z[16];
    transformed(v, b, z);
    for (int q = 0; q < 16; ++q) parked[q * int(blockDim.x)] = z[q];
    __syncthreads();
    transformed(dy, b, z);
    for (int q = 0; q < 16; ++q)
      total[q] = total[q] + math::times(z[q], conj(parked[q * int(blockDim.x)]));
    __syncthreads();
  }
  const int row = ((head * tiles + tile) * chunks + first / chunk) * plan.pairs + pair;
  sums += Index(row) * plan.halves * plan.n + plan.frequency_at(half, 16 * thread);
  for (int q = 0; q < 16; ++q) sums[q * plan.halves * plan.threads_of_pair()] = total[q];
}

}  // namespace triad::cuda
