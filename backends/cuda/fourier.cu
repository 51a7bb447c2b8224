// Fourier transforms along the last axis by cuFFT, and the cyclic convolution: in one kernel where
// spectral_filter.cuh has it, else by cuFFT between two transpositions.
#include <bit>

#include <triad/backends/cuda/cufft.h>
#include <triad/backends/cuda/reduce.h>
#include <triad/backends/cuda/spectral_filter.cuh>

namespace triad::kernels {
namespace {

using namespace cuda;

// ---------------------------------------------------------------------- transforms

// x, or a copy of it, contiguous and aligned to a complex number.
Tensor packed(Cuda device, const Tensor& x) {
  const bool aligned = is_aligned(x.first_byte(), item_size(complex_type(x.dtype())));
  return x.is_contiguous() && aligned ? x : contiguous_copy(device, x);
}

// Of n points, from contiguous rows to contiguous rows; real_inverse overwrites `in`.
void transform(Cuda device, Transform kind, Index n, const Tensor& in, const Tensor& out) {
  if (n == 1) return copy(device, in, out);
  cuda::fft(device, kind, real_type(in.dtype()), n, out.numel() / out.shape().back(),
            in.first_byte(), out.first_byte());
}

// z *= scale, z complex and contiguous.
void rescale(Cuda device, const Tensor& z, double scale) {
  if (scale == 1) return;
  const Tensor numbers(z.storage(), {{z.numel() * 2}, {1}, z.layout().offset * 2},
                       real_type(z.dtype()));
  binary_scalar(device, Binary::mul, numbers, scale, false, numbers);
}

TRIAD_HD Index divided(Index a, Index b) {  // by a division of 32 bits where that does
  return (a | b) >> 32 ? a / b : Index(unsigned(a) / unsigned(b));
}

TRIAD_HD bool is_real_bin(Index k, Index n) { return k == 0 || 2 * k == n; }

// What spectra [...,H,D,width] are multiplied by: a number, and a spectrum [H,width] if there is
// one, conjugated for the adjoint.
struct Factor {
  double scale;
  const Complex<double>* spectrum = nullptr;
  bool adjoint = false;
  Index H = 1, D = 1;

  __device__ Complex<double> operator()(Index row, Index k, Index width) const {
    if (!spectrum) return {scale, 0};
    const Index head = divided(row, D), h = head - divided(head, H) * H;
    const Complex<double> z = spectrum[h * width + k];
    return {z.re * scale, (adjoint ? -z.im : z.im) * scale};
  }
};
// y = factor * x without the imaginary parts that no spectrum of a real row of n has.
template <class T>
__global__ void multiply(Factor factor, Axes<1> axes, const Complex<T>* x, Index n, Complex<T>* y) {
  const Index width = n / 2 + 1;
  for (Index i = first_index(); i < axes.count; i += stride()) {
    const Index row = divided(i, width), k = i - row * width;
    const Complex<double> by = factor(row, k, width);
    const Complex<T> z = x[axes.place(i, 0)];
    if (is_real_bin(k, n)) y[i] = {z.re * T(by.re), 0};
    else y[i] = z * Complex<T>{T(by.re), T(by.im)};
  }
}
void multiply(Cuda device, const Factor& factor, const Tensor& x, Index n, const Tensor& y) {
  const Axes<1> axes(x.shape(), {&x.strides()});
  visit_float("fft", real_type(x.dtype()), [&]<class T>(T) {
    launch(grid_for(device, axes.count), multiply<T>, factor, axes, x, n, y);
  });
}

// ---------------------------------------------------------------------- between two transpositions

// x [B,T,H,D] as [B,H,D,T].
Tensor rows_along_time(const Tensor& x) {
  return x.with_layout(permuted(x.layout(), {0, 2, 3, 1}));
}
Tensor slice_last(const Tensor& x, Index start, Index end) {
  return x.with_layout(sliced(x.layout(), x.dim() - 1, start, end, 1));
}

// Summands of dspectrum[h,k]: dy conj(v) of an item (b, d), both [B,H,D,n/2+1],
template <class R> struct Correlation {
  Index H, D, width;
  const Complex<R>*dy, *v;
  __device__ Complex<double> operator()(Index h, Index item, Index k) const {
    const Index b = divided(item, D), at = ((b * H + h) * D + item - b * D) * width + k;
    return Complex<double>{dy[at].re, dy[at].im} * Complex<double>{v[at].re, -v[at].im};
  }
};
// and sums [H,parts,n] for pairs of channels, z = a + i b: what belongs to the real channels is the
// Hermitian part, and the rest cancels.
struct PairCorrelation {
  Index parts, n;
  const Point* sums;
  __device__ Complex<double> operator()(Index h, Index part, Index k) const {
    const Point* own = sums + (h * parts + part) * n;
    const Point a = own[k], b = own[k == 0 ? 0 : n - k];
    return {(double(a.re) + b.re) / 2, (double(a.im) - b.im) / 2};
  }
};
// dspectrum is their sum times how often a real row has this frequency, over n.
struct Weighted {
  Index n;
  Complex<double>* dspectrum;
  __device__ void operator()(Index h, Index k, Complex<double> sum) const {
    const bool is_real = is_real_bin(k, n);
    const double weight = (is_real ? 1 : 2) / double(n);
    dspectrum[h * (n / 2 + 1) + k] = {sum.re * weight, is_real ? 0 : sum.im * weight};
  }
};

// The transforms [B,H,D,n/2+1] of v [B,T,H,D], padded with zeros to n.
Tensor spectra(Cuda device, const Tensor& v, Index n) {
  const Index T = v.shape()[1];
  Shape shape = rows_along_time(v).shape();
  shape[3] = n;
  const Tensor rows = empty(shape, wide_type(v.dtype()), v.device());
  copy(device, rows_along_time(v), slice_last(rows, 0, T));
  if (T < n) fill(device, 0, slice_last(rows, T, n));
  shape[3] = n / 2 + 1;
  const Tensor bins = empty(shape, complex_type(rows.dtype()), v.device());
  transform(device, Transform::real_forward, n, rows, bins);
  return bins;
}

// y from the spectra, which are lost, of what is to be filtered.
void filter_spectra(Cuda device, const Tensor& bins, const Tensor& spectrum, bool adjoint, Index n,
                    const Tensor& y) {
  Shape shape = bins.shape();
  multiply(device,
           {1 / double(n), data_of<Complex<double>>(device, spectrum), adjoint, shape[1], shape[2]},
           bins, n, bins);
  shape[3] = n;
  const Tensor rows = empty(shape, real_type(bins.dtype()), y.device());
  transform(device, Transform::real_inverse, n, bins, rows);
  copy(device, slice_last(rows, 0, y.shape()[1]), rows_along_time(y));
}

void correlate_spectra(Cuda device, const Tensor& dy, const Tensor& v, Index n,
                       const Tensor& dspectrum) {
  const Index B = v.shape()[0], H = v.shape()[1], D = v.shape()[2], width = n / 2 + 1;
  visit_float("cyclic_convolution", real_type(v.dtype()), [&]<class R>(R) {
    reduce_columns<Complex<double>>(device, H, B * D, width,
                                    Correlation<R>{H, D, width, data_of<Complex<R>>(device, dy),
                                                   data_of<Complex<R>>(device, v)},
                                    Weighted{n, data_of<Complex<double>>(device, dspectrum)});
  });
}

// ---------------------------------------------------------------------- in one kernel

// f for the type of v where that is one of the kernels', else false.
bool in_one_kernel(const Tensor& v, auto f) {
  const auto of_type = [&]<class T>(T) { return v.dtype() == dtype_of<T>() && f(T()); };
  return of_type(float()) || of_type(bfloat16()) || of_type(float16());
}

// Of v [B,T,H,D] over `points`, in two halves where v fills no more than one; without pairs where
// no kernel does it all. A block is to have 256 threads, more for accesses of 16 bytes (a guess).
template <class T>
FilterPlan make_plan(Cuda device, const Tensor& v, const Tensor& y, Index points, bool correlates) {
  const int halves = points >= 32 && v.shape()[1] <= points / 2 ? 2 : 1;
  const Index n = points / halves;
  FilterPlan plan{int(n), 0, 0, halves, correlates || (halves == 2 && n <= 8192)};
  const Index most_threads = plan.parks ? 512 : 1024;
  if (n < 16 || n > 16 * most_threads || !std::has_single_bit(std::uint64_t(n))) return plan;
  if (!Channels<T>::can_be(v) || !Channels<T>::can_be(y)) return plan;
  const Index wide = std::min<Index>(16 / sizeof(T), most_threads * 16 / n);
  const Index most = std::min(v.shape()[3] / 2, std::clamp<Index>(4096 / n, wide, 32));
  const int bits = std::countr_zero(std::uint64_t(n)), rest = bits % 4;
  plan.first_bits = rest == 0 && bits > 4 ? 4 : rest;
  for (plan.pairs = 1; plan.pairs < most;) plan.pairs *= 2;
  while (plan.pairs > 0 && plan.shared_bytes() > shared_memory(device)) plan.pairs /= 2;
  return plan;
}

// The plan's roots, and behind them the filter, if there is one.
Tensor prepared(Cuda device, const FilterPlan& plan, const Tensor& spectrum, bool adjoint) {
  const int heads = spectrum.defined() ? int(spectrum.shape()[0]) : 0;
  const Index count = plan.roots() + Index(heads) * plan.halves * plan.slots();
  const Tensor all = empty({count}, c64, Device::cuda(device.index));
  launch(grid_for(device, count), prepare_filter, plan, heads, spectrum, adjoint, all);
  return all;
}

// y = v filtered; false, with nothing done, where no kernel does it all.
bool filter_in_one(Cuda device, const Tensor& v, const Tensor& spectrum, Index n, bool adjoint,
                   const Tensor& y) {
  return in_one_kernel(v, [&]<class T>(T) {
    const FilterPlan plan = make_plan<T>(device, v, y, n, false);
    if (plan.pairs == 0) return false;
    const Tensor all = prepared(device, plan, packed(device, spectrum), adjoint);
    const Index tiles = ceil_div(v.shape()[3] / 2, plan.pairs), heads = v.shape()[2];
    const Grid grid{device, blocks_of(v.shape()[0] * heads * tiles), dim3(plan.threads()),
                    plan.shared_bytes()};
    const auto kernel = plan.parks              ? filter_channels<512, 2, T>
                        : plan.halves == 2      ? filter_channels<1024, 2, T>
                        : plan.threads() <= 512 ? filter_channels<512, 1, T>
                                                : filter_channels<1024, 1, T>;
    launch(grid, kernel, plan, heads, tiles, Channels<const T>::of(device, v),
           Channels<T>::of(device, y), all);
    return true;
  });
}

// dspectrum from dy and v, or false. A block takes some of the batch one after the other where
// there are blocks enough without; more than 8 would round more in f32.
bool correlate_in_one(Cuda device, const Tensor& dy, const Tensor& v, Index n,
                      const Tensor& dspectrum) {
  return in_one_kernel(v, [&]<class T>(T) {
    const FilterPlan plan = make_plan<T>(device, dy, v, n, true);
    if (plan.pairs == 0) return false;
    const Tensor roots = prepared(device, plan, {}, false);
    const Index batch = v.shape()[0], heads = v.shape()[2], D = v.shape()[3];
    const Index tiles = ceil_div(D / 2, plan.pairs), blocks = heads * plan.halves * tiles;
    const Index chunk = std::clamp<Index>(batch * blocks / 4 / multiprocessors(device), 1, 8);
    const Index chunks = ceil_div(batch, chunk), parts = tiles * chunks * plan.pairs;
    const Tensor sums = empty({heads, parts, n}, c64, v.device());
    launch({device, blocks_of(blocks * chunks), dim3(plan.threads()), plan.shared_bytes()},
           correlate_channels<T>, plan, tiles, batch, chunk, Channels<const T>::of(device, v),
           Channels<const T>::of(device, dy), roots, sums);
    reduce_columns<Complex<double>>(device, heads, parts, n / 2 + 1,
                                    PairCorrelation{parts, n, data_of<Point>(device, sums)},
                                    Weighted{n, data_of<Complex<double>>(device, dspectrum)});
    return true;
  });
}

}  // namespace

void fft(Cuda device, const Tensor& x, bool inverse, double scale, const Tensor& y) {
  transform(device, inverse ? Transform::complex_inverse : Transform::complex_forward,
            y.shape().back(), packed(device, x), y);
  rescale(device, y, scale);
}

void rfft(Cuda device, const Tensor& x, double scale, const Tensor& y) {
  transform(device, Transform::real_forward, x.shape().back(), packed(device, x), y);
  rescale(device, y, scale);
}

void irfft(Cuda device, const Tensor& x, double scale, const Tensor& y) {
  const Index n = y.shape().back();
  const Tensor half = empty(x.shape(), x.dtype(), x.device());
  multiply(device, {scale}, x, n, half);
  transform(device, Transform::real_inverse, n, half, y);
}

// In one kernel, a power of two beats every smaller size by far.
std::int64_t fast_fft_size(Cuda, std::int64_t n) {
  return n <= 32768 ? std::int64_t(std::bit_ceil(std::uint64_t(n))) : fast_fft_size(Cpu{}, n);
}

void cyclic_convolution(Cuda device, const Tensor& v, const Tensor& spectrum, std::int64_t n,
                        const Tensor& y) {
  if (!filter_in_one(device, v, spectrum, n, false, y))
    filter_spectra(device, spectra(device, v, n), packed(device, spectrum), false, n, y);
}

void cyclic_convolution_backward(Cuda device, const Tensor& dy, const Tensor& v,
                                 const Tensor& spectrum, std::int64_t n, const Tensor& dv,
                                 const Tensor& dspectrum) {
  const bool filtered = !dv.defined() || filter_in_one(device, dy, spectrum, n, true, dv);
  const bool correlated = !dspectrum.defined() || correlate_in_one(device, dy, v, n, dspectrum);
  if (filtered && correlated) return;
  const Tensor bins = spectra(device, dy, n);
  if (!correlated) correlate_spectra(device, bins, spectra(device, v, n), n, dspectrum);
  if (!filtered) filter_spectra(device, bins, packed(device, spectrum), true, n, dv);
}

}  // namespace triad::kernels
